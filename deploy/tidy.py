#!/usr/bin/env python3
"""What clang says: of every file that knows a Mutex with -Wthread-safety -Werror, then clang-tidy.

usage: tidy.py BUILD_FOLDER [SECONDS]

BUILD_FOLDER is configured by the preset `tidy`. clang-tidy looks at what ships, not at tests and
bench, whose macros it takes for leaks. It gets SECONDS (default 480): files that were changed come
first. What passed with the same contents is skipped. Coroutines are left out of both: clang 14
does not know those of libstdc++ 12.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
MUTEX = ROOT / "common/mutex.h"
COROUTINES = re.compile(r"^(coroutine|boost/asio/(awaitable|co_spawn|use_awaitable)\.hpp)$")


class Sources:
    """Own files and what they include, read once."""

    def __init__(self):
        self.includes = {}

    def closure(self, path):
        """Every own file that `path` includes, and itself, and the system headers of all."""
        own, system, todo = set(), set(), [path]
        while todo:
            file = todo.pop()
            if file in own:
                continue
            own.add(file)
            if file not in self.includes:
                self.includes[file] = INCLUDE.findall(file.read_text(errors="replace"))
            for name in self.includes[file]:
                if (ROOT / name).is_file():
                    todo.append(ROOT / name)
                else:
                    system.add(name)
        return own, system

    def has_coroutines(self, path):
        return any(COROUTINES.match(name) for name in self.closure(path)[1])

    def digest(self, path):
        digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
        for file in sorted(self.closure(path)[0]):
            digest.update(file.read_bytes())
        return digest.hexdigest()


def changed_files():
    """Of the last commit and the working tree."""
    changed = set()
    for command in (["git", "diff", "--name-only", "HEAD"], ["git", "diff", "--name-only", "HEAD~1"]):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        changed.update(ROOT / line for line in result.stdout.splitlines())
    return changed


def read_entries(build, sources):
    """Of the compile database: files of this repository that clang can parse."""
    entries = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        ours = ROOT in path.parents and ROOT / "build" not in path.parents
        if ours and not sources.has_coroutines(path):
            entries.append(entry)
    return entries


class Check:
    """One command a file. What passed leaves a stamp, named by the contents it passed with."""

    def __init__(self, name, build, sources, jobs):
        self.name, self.sources, self.jobs = name, sources, jobs
        self.passed = build / f"{name}-passed"
        self.passed.mkdir(exist_ok=True)

    def run(self, commands, seconds):
        """Of {path: command}. How many have findings; those left when time is over are counted."""
        end = time.monotonic() + seconds
        found = []

        def check(path):
            stamp = self.passed / self.sources.digest(path)
            if stamp.exists():
                return True
            if time.monotonic() > end:
                return False
            result = subprocess.run(commands[path], capture_output=True, text=True)
            if result.returncode == 0:
                stamp.touch()
            else:
                found.append(path)
                print(f"{path.relative_to(ROOT)}\n{result.stdout}{result.stderr}", flush=True)
            return True

        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            looked_at = sum(pool.map(check, commands))
        print(f"{self.name}: {looked_at} of {len(commands)} files, {len(found)} with findings",
              flush=True)
        return len(found)


def analysis_command(entry):
    """The analysis needs no code."""
    command = shlex.split(entry["command"])
    compiler = next(i for i, word in enumerate(command) if word.endswith("clang++"))
    output = command.index("-o")
    return command[compiler:output] + ["-fsyntax-only"] + command[output + 2:]


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 480
    jobs = os.cpu_count() or 1
    sources = Sources()
    entries = read_entries(build, sources)
    locking = {pathlib.Path(entry["file"]): analysis_command(entry) for entry in entries
               if MUTEX in sources.closure(pathlib.Path(entry["file"]))[0]}
    if not locking:
        sys.exit(f"tidy.py: no file includes {MUTEX.relative_to(ROOT)}; name what it is called now")
    findings = Check("thread-safety", build, sources, jobs).run(locking, float("inf"))
    # Files of the same age in an order that differs by commit: what time does not allow today is
    # looked at another day.
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).stdout
    changed = changed_files()
    shipped = {pathlib.Path(entry["file"]) for entry in entries}
    shipped = {f for f in shipped if f.relative_to(ROOT).parts[0] not in ("bench", "tests")}
    files = sorted(shipped,
                   key=lambda f: (not sources.closure(f)[0] & changed,
                                  hashlib.sha256(commit + str(f).encode()).digest()))
    tidy = {file: ["clang-tidy", "--quiet", "-p", build, str(file)] for file in files}
    findings += Check("clang-tidy", build, sources, jobs).run(tidy, seconds)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
