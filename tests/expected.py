#!/usr/bin/env python3
"""Tests that are gone are found: tests/EXPECTED lists, for each preset, every ctest entry and how
many cases it passed. One that is missing, skipped or passed fewer cases is a failure. `FLAG:N` at
the end of a line: N of the cases need a CPU with that flag of /proc/cpuinfo, and are not expected
where it is absent.

  expected.py check PRESET JUNIT_FILE   against tests/EXPECTED
  expected.py write PRESET JUNIT_FILE   after adding tests: takes over what ran
"""
import pathlib
import re
import sys
import xml.etree.ElementTree

EXPECTED = pathlib.Path(__file__).resolve().parent / "EXPECTED"
HEADER = ("# preset, ctest entry, cases passed, those of them that need a CPU flag; "
          "`tests/expected.py write` after adding tests.\n")
PASSED = re.compile(r"^\[  PASSED  \] (\d+) tests?", re.M)


def read_expected():
    """{preset: {name: (cases, {flag: how many of them need it})}}"""
    expected = {}
    if EXPECTED.exists():
        for line in EXPECTED.read_text().splitlines():
            if line and not line.startswith("#"):
                preset, name, cases, *needs = line.split()
                needs = {flag: int(n) for flag, n in (need.split(":") for need in needs)}
                expected.setdefault(preset, {})[name] = (int(cases), needs)
    return expected


def num_not_here(needs):
    """Cases that this CPU cannot run."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.findall(r"^flags\s*:(.*)$", cpu, re.M)[0].split())
    return sum(n for flag, n in needs.items() if flag not in flags)


def read_run(junit):
    """{name: cases} of the entries that ran and passed; an entry without GoogleTest is one case."""
    ran = {}
    for case in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        if case.get("status") != "run":
            continue
        cases = PASSED.findall(case.findtext("system-out") or "")
        ran[case.get("name")] = int(cases[-1]) if cases else 1
    return ran


def check(preset, ran):
    problems = []
    for name, (cases, needs) in read_expected().get(preset, {}).items():
        cases -= num_not_here(needs)
        if name not in ran:
            problems.append(f"{preset}: {name} did not run")
        elif ran[name] < cases:
            problems.append(f"{preset}: {name} passed {ran[name]} cases, not {cases}")
    if preset not in read_expected():
        problems.append(f"tests/EXPECTED has nothing for {preset}")
    for problem in problems:
        print(f"{problem}; a test that is meant to go is taken out of tests/EXPECTED")
    return 1 if problems else 0


def write(preset, ran):
    expected = read_expected()
    needs_of = {name: needs for name, (_, needs) in expected.get(preset, {}).items()}
    expected[preset] = {name: (cases + num_not_here(needs_of.get(name, {})), needs_of.get(name, {}))
                        for name, cases in ran.items()}
    lines = [" ".join([p, name, str(cases), *(f"{flag}:{n}" for flag, n in needs.items())]) + "\n"
             for p in sorted(expected) for name, (cases, needs) in sorted(expected[p].items())]
    EXPECTED.write_text(HEADER + "".join(lines))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    sys.exit({"check": check, "write": write}[sys.argv[1]](sys.argv[2], read_run(sys.argv[3])))
