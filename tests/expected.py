#!/usr/bin/env python3
"""Tests that are gone are found: tests/EXPECTED lists, for each preset, every ctest entry and how
many cases it passed. One that is missing, skipped or passed fewer cases is a failure.

  expected.py check PRESET JUNIT_FILE   against tests/EXPECTED
  expected.py write PRESET JUNIT_FILE   after adding tests: takes over what ran
"""
import pathlib
import re
import sys
import xml.etree.ElementTree

EXPECTED = pathlib.Path(__file__).resolve().parent / "EXPECTED"
HEADER = "# preset, ctest entry, cases passed; `tests/expected.py write` after adding tests.\n"
PASSED = re.compile(r"^\[  PASSED  \] (\d+) tests?", re.M)


def read_expected():
    """{preset: {name: cases}}"""
    expected = {}
    if EXPECTED.exists():
        for line in EXPECTED.read_text().splitlines():
            if line and not line.startswith("#"):
                preset, name, cases = line.split()
                expected.setdefault(preset, {})[name] = int(cases)
    return expected


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
    for name, cases in read_expected().get(preset, {}).items():
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
    expected[preset] = ran
    lines = [f"{p} {name} {cases}\n" for p in sorted(expected)
             for name, cases in sorted(expected[p].items())]
    EXPECTED.write_text(HEADER + "".join(lines))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    sys.exit({"check": check, "write": write}[sys.argv[1]](sys.argv[2], read_run(sys.argv[3])))
