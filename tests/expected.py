#!/usr/bin/env python3
"""Tests that are gone are found: tests/EXPECTED lists, for each preset, every ctest entry and how
many cases it passed. One that is missing, skipped or passed fewer cases is a failure, and so is one
that is not listed or passed more: what nobody listed could go unseen. `NEED:N` at the end of a
line: N of the cases need something of the machine, and are not expected where it is absent: a flag
of /proc/cpuinfo, or `namespaces`, the right to make network namespaces.

  expected.py check PRESET JUNIT_FILE   against tests/EXPECTED
  expected.py write PRESET JUNIT_FILE   after adding tests: takes over what ran
"""
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

EXPECTED = pathlib.Path(__file__).resolve().parent / "EXPECTED"
NAMESPACES = EXPECTED.parent / "e2e" / "namespaces.py"
HEADER = ("# preset, ctest entry, cases passed, those of them that need something of the machine; "
          "`tests/expected.py write` after adding tests.\n")
PASSED = re.compile(r"^\[  PASSED  \] (\d+) tests?", re.M)


def read_expected():
    """{preset: {name: (cases, {need: how many of them have it})}}"""
    expected = {}
    if EXPECTED.exists():
        for line in EXPECTED.read_text().splitlines():
            if line and not line.startswith("#"):
                preset, name, cases, *needs = line.split()
                needs = {flag: int(n) for flag, n in (need.split(":") for need in needs)}
                expected.setdefault(preset, {})[name] = (int(cases), needs)
    return expected


def num_not_here(needs):
    """Cases that this machine cannot run."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    has = set(re.findall(r"^flags\s*:(.*)$", cpu, re.M)[0].split())
    if "namespaces" in needs and subprocess.run([sys.executable, NAMESPACES]).returncode == 0:
        has.add("namespaces")
    return sum(n for need, n in needs.items() if need not in has)


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
    expected = read_expected().get(preset, {})
    problems = [f"{preset}: {name} is not in tests/EXPECTED" for name in ran if name not in expected]
    for name, (cases, needs) in expected.items():
        cases -= num_not_here(needs)
        if cases == 0:
            print(f"{preset}: {name} is not for this machine")
        elif name not in ran:
            problems.append(f"{preset}: {name} did not run")
        elif ran[name] != cases:
            problems.append(f"{preset}: {name} passed {ran[name]} cases, not {cases}")
    for problem in problems:
        print(problem)
    if problems:
        print("`tests/expected.py write` lists what ran; a test that is meant to go is taken out of "
              "tests/EXPECTED by hand")
    return 1 if problems else 0


def write(preset, ran):
    expected = read_expected()
    before = expected.get(preset, {})
    needs_of = {name: needs for name, (_, needs) in before.items()}
    expected[preset] = {name: (cases + num_not_here(needs_of.get(name, {})), needs_of.get(name, {}))
                        for name, cases in ran.items()}
    expected[preset] |= {name: (cases, needs) for name, (cases, needs) in before.items()
                         if name not in ran and cases == num_not_here(needs)}
    lines = [" ".join([p, name, str(cases), *(f"{flag}:{n}" for flag, n in needs.items())]) + "\n"
             for p in sorted(expected) for name, (cases, needs) in sorted(expected[p].items())]
    EXPECTED.write_text(HEADER + "".join(lines))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    sys.exit({"check": check, "write": write}[sys.argv[1]](sys.argv[2], read_run(sys.argv[3])))
