#!/usr/bin/env python3
"""Runs each fuzz target until it has used that many minutes of CPU time:

    tests/fuzz/long.py [--minutes M] [NAME...]      (default: 10; each folder of corpus/)

A fuzzer's own limit is wall time, which on a busy machine says little. A line for each target says
the CPU time, the inputs and the coverage, or what was found; then the exit code is 1.
"""
import argparse
import pathlib
import re
import resource
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SLICE_S = 120  # of wall time; what a slice finds is in the corpus of the next


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(name, minutes):
    """True if nothing was found."""
    # Built first, so that the compiler's time does not count.
    subprocess.run([HERE / "run.sh", "1", name], capture_output=True)
    used, inputs, coverage = 0.0, 0, "?"
    while used < 60 * minutes:
        before = cpu_seconds()
        seconds = max(1, min(SLICE_S, int(60 * minutes - used) + 1))
        done = subprocess.run([HERE / "run.sh", str(seconds), name], capture_output=True)
        used += cpu_seconds() - before
        log = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            print(log[-20000:])
            print(f"{name}: a finding after {used / 60:.1f} CPU minutes")
            return False
        inputs += int(re.search(r"number_of_executed_units:\s*(\d+)", log).group(1))
        coverage = re.findall(r"cov: (\d+)", log)[-1]
    print(f"{name}: {used / 60:.1f} CPU minutes, {inputs} inputs, {coverage} edges, no finding",
          flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    names = args.names or sorted(path.name for path in (HERE / "corpus").iterdir())
    # All are run, whatever one of them finds.
    found = [name for name in names if not run(name, args.minutes)]
    sys.exit(1 if found else 0)


main()
