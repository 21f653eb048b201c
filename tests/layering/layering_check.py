#!/usr/bin/env python3
"""Who may include whom. Walks the tree, applies the tables below to every #include and names each
one that is forbidden; a .cc includes its own header first; also reports files that have grown large (a report, not a wall).

  layering_check.py ROOT        exit 1 if an include is forbidden
  layering_check.py --self-test exit 1 if a rule does not find what it is for
"""
import pathlib
import re
import sys
import tempfile

# Room -> what its files may include beside their own room. A room is a folder; the longest one that
# matches a path decides, so "common" names the files of common/ itself and not common/gguf.
ALL_COMMON = ["common", "common/gguf", "common/grammar", "common/huggingface",
              "common/tokenizer", "common/config", "common/observe"]
ALL_KERNELS = ["kernels", "kernels/reference", "kernels/cpu", "kernels/cuda",
               "kernels/comm"]
ROOMS = {
    "common": [],
    "common/gguf": ["common"],
    "common/grammar": ["common"],
    "common/huggingface": ["common"],
    "common/tokenizer": ["common", "common/gguf"],
    "common/config": ["common"],
    "common/observe": ["common"],
    "proto": [],
    "kernels": ["common", "kernels/reference", "kernels/cpu"],  # make_ops.cc chooses among them
    "kernels/reference": ["common", "kernels"],
    "kernels/cpu": ["common", "kernels"],
    "kernels/cuda": ["common", "kernels"],
    "kernels/comm": ["common", "kernels"],
    "worker/engine": ["common", "worker/step_plan.h"],
    "worker/model": ["common", "common/gguf", "common/huggingface", "worker/step_plan.h", "kernels",
                     "kernels/comm"],
    "worker/model/cuda": ["common", "common/gguf", "common/huggingface", "worker/step_plan.h",
                          "kernels", "kernels/comm", "kernels/cuda", "worker/model"],
    "worker/link": ["common", "common/observe", "proto", "worker/step_plan.h",
                    "worker/engine/inbox.h"],
    "worker/grammar": ["common", "common/grammar"],
    "worker/sim": ["common", "common/gguf", "worker/step_plan.h", "worker/ranks.h"],
    # Programs: everything of their own side, never of the other.
    "worker": [*ALL_COMMON, *ALL_KERNELS, "worker/engine", "worker/grammar", "worker/model",
               "worker/model/cuda", "worker/link", "worker/sim"],
    "router/routing": ["common"],
    "router/text": ["common", "common/gguf", "common/tokenizer"],
    "router/link": ["common", "common/observe", "proto", "router/routing"],
    "router/http": ["common", "common/config", "common/grammar", "common/observe",
                    "common/tokenizer", "router/routing", "router/text"],
    "router": [*ALL_COMMON, "router/routing", "router/text", "router/link", "router/http"],
    "deploy/cli": ["common", "common/config", "common/gguf", "common/huggingface", "common/observe"],
    # The simulator: it alone drives the pure rooms of both sides.
    "bench/sim": ["common", "common/config", "worker/step_plan.h", "worker/engine", "worker/sim",
                  "router/routing", "bench/sim/peers", "bench/trace"],
    "bench/sim/peers": ["common", "router/routing"],
    "bench/trace": ["common"],
}
FREE = ["bench", "tests"]  # may include anything; nothing includes them

# A pure room is handed time and chance; it neither waits nor talks.
PURE = ["worker/engine", "router/routing"]
IMPURE_HEADERS = re.compile(
    r"^(common/clock\.h|common/mutex\.h|thread|chrono|mutex|condition_variable|future|fstream|"
    r"iostream|cstdio|stdio\.h|ctime|time\.h|unistd\.h|sys/.*|spdlog/.*|boost/asio.*)$")

# Headers of weight: only in .cc files, and only of these rooms.
HEAVY = {
    r"boost/beast": ["router/http"],
    r"zmq\.h": ["worker/link", "router/link"],
    r"google/protobuf/": ["worker/link", "router/link"],
    r".*\.pb\.h$": ["worker/link", "router/link"],
    r"yaml-cpp/": ["common/config"],
    r"prometheus/": ["common/observe"],
    r"spdlog/": ["common/observe"],
    r"nccl\.h": ["kernels/comm"],
    r"cublas": ["kernels/cuda"],
    r"gloo/": ["kernels/comm"],
    r"CLI/": ["deploy/cli", "router", "worker", "bench/sim"],
}

# Headers that do name types of a heavy one, because they translate them: for .cc files only.
TRANSLATORS = ["worker/link/codec.h"]

# Device code: what it may not say, and the one file that may. Launches and instructions go through
# functions that tests/cuda_emulation can replace; device variables would be shared by the ranks of
# one test.
DEVICE_SUFFIXES = (".cu", ".cuh")
DEVICE_WORDS = [
    (re.compile(r"<<<"), None, "launch with launch.cuh"),
    (re.compile(r"\basm\b"), "kernels/cuda/ptx.cuh", "instructions stand in ptx.cuh"),
    (re.compile(r"\b__constant__\b"), None, "pass a const __grid_constant__ struct"),
    (re.compile(r"\b__shared__\b"), "kernels/cuda/device.cuh", "TANDEM_SHARED of device.cuh"),
    (re.compile(r"\bcooperative_groups\b"), None, "not there under emulation"),
]

TOP = ["common", "proto", "kernels", "worker", "router", "deploy", "bench", "tests"]
SOURCES = {".h", ".cc", ".inc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
GENERATED = re.compile(r"^proto/\w+\.pb\.h$")
LOOK_TWICE = {".cc": 500, ".h": 300}  # lines


def room_of(path, rooms=(*ROOMS, *FREE)):
    """The longest room that holds `path`, or None."""
    holding = [room for room in rooms if path == room or path.startswith(room + "/")]
    return max(holding, key=len, default=None)


def check_own(path, room, target, exists):
    """Of an include of ours: why it is forbidden, or None."""
    if "../" in target or target.startswith("./"):
        return "includes are written from the root of the repository"
    if not exists(target) and not GENERATED.match(target):
        return "no such file in the repository; system headers stand in <>"
    if room in FREE:
        return None
    owner = room_of(target)
    if owner in FREE:
        return f"nothing includes {owner}"
    if owner == room or owner in ROOMS[room] or target in ROOMS[room]:
        return None
    return f"{room} may include: itself, {', '.join(ROOMS[room]) or 'nothing else'}"


def check_heavy(path, room, target):
    if room in FREE:
        return None
    for pattern, allowed in HEAVY.items():
        if not re.match(pattern, target):
            continue
        if room not in allowed:
            return f"a heavy header that only {', '.join(allowed)} may include"
        if not path.endswith(".cc") and path not in TRANSLATORS:
            return "a heavy header stands in .cc files only"
    return None


def check_include(path, quote, target, exists):
    room = room_of(path)
    if room is None:
        return "the folder is in no room: add it to tests/layering/layering_check.py"
    if target.endswith(".cuh") and not path.endswith(DEVICE_SUFFIXES) and room not in FREE:
        return "device code is for .cu files"
    if room in PURE and IMPURE_HEADERS.match(target):
        return f"{room} is pure: no clock, thread, file, socket or log"
    if target in TRANSLATORS and not path.endswith(".cc"):
        return "it brings heavy headers along: include it in .cc files only"
    reason = check_heavy(path, room, target)
    if reason is None and quote == '"' and not target.startswith(("absl/", "boost/")):
        reason = check_own(path, room, target, exists)
    return reason


def check_words(path, line):
    """Of a line of device code: why it is forbidden, or None."""
    code = line.split("//")[0]
    for word, home, reason in DEVICE_WORDS:
        if word.search(code) and path != home:
            return reason
    return None


def sources(root):
    for top in TOP:
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCES and file.is_file():
                yield file


def check_tree(root):
    """(problems, number of includes looked at)."""
    problems, seen = [], 0
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        own, first = path.removesuffix(".cc") + ".h", True
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                word = check_words(path, line) if path.endswith(DEVICE_SUFFIXES) else None
                if word:
                    problems.append(f"{path}:{number}: {line.strip()}: {word}")
                continue
            seen += 1
            quote, target = match.groups()
            reason = check_include(path, quote, target, lambda t: (root / t).is_file())
            # cmake/tandem.cmake relies on it: such a header is not compiled alone once more.
            if first and path.endswith(".cc") and target != own and (root / own).is_file():
                reason = reason or f"{own} comes first, which shows that it compiles alone"
            first = False
            if reason:
                problems.append(f"{path}:{number}: #include {target}: {reason}")
    return problems, seen


def report_sizes(root):
    for file in sources(root):
        lines = len(file.read_text(errors="replace").splitlines())
        if lines > LOOK_TWICE.get(file.suffix, 1 << 30):
            print(f"note: {file.relative_to(root)} has {lines} lines: look twice")


# What must be found, and what must not: (file, include line, part of the reason or None).
CASES = [
    ("worker/engine/a.cc", '"worker/model/m.h"', "may include"),
    ("worker/engine/a.cc", '"worker/leader.h"', "may include"),
    ("worker/engine/a.cc", '"common/observe/o.h"', "may include"),
    ("worker/engine/a.cc", '"common/clock.h"', "is pure"),
    ("worker/engine/a.h", "<thread>", "is pure"),
    ("router/routing/a.cc", "<chrono>", "is pure"),
    ("router/routing/a.cc", "<sys/socket.h>", "is pure"),
    ("router/routing/a.cc", '"common/gguf/g.h"', "may include"),
    ("router/main.cc", '"worker/engine/inbox.h"', "may include"),
    ("worker/main.cc", '"router/http/h.h"', "may include"),
    ("worker/link/a.cc", '"worker/engine/engine.h"', "may include"),
    ("worker/model/a.cc", '"worker/engine/inbox.h"', "may include"),
    ("worker/sim/a.cc", '"worker/model/m.h"', "may include"),
    ("worker/sim/a.cc", '"worker/leader.h"', "may include"),
    ("kernels/cpu/a.cc", '"worker/step_plan.h"', "may include"),
    ("kernels/cpu/a.cc", '"proto/tandem.pb.h"', "heavy"),
    ("common/a.cc", '"common/config/c.h"', "may include"),
    ("common/a.cc", '"tests/t.h"', "nothing includes tests"),
    ("common/config/c.h", "<yaml-cpp/yaml.h>", ".cc files only"),
    ("common/a.cc", "<yaml-cpp/yaml.h>", "heavy"),
    ("worker/link/a.h", "<zmq.h>", ".cc files only"),
    ("worker/link/a.h", '"worker/link/codec.h"', ".cc files only"),
    ("router/text/a.cc", "<boost/beast/http.hpp>", "heavy"),
    ("router/http/a.cc", '"../text/t.h"', "from the root"),
    ("router/http/a.cc", '"t.h"', "no such file"),
    ("deploy/cli/a.cc", '"router/http/h.h"', "may include"),
    ("deploy/elsewhere/a.cc", "<vector>", "in no room"),
    ("worker/engine/a.cc", '"worker/step_plan.h"', None),
    ("worker/link/a.cc", '"worker/engine/inbox.h"', None),
    ("worker/sim/a.cc", '"worker/ranks.h"', None),
    ("worker/link/a.cc", '"proto/tandem.pb.h"', None),
    ("worker/link/codec.h", '"proto/tandem.pb.h"', None),
    ("worker/main.cc", '"worker/engine/engine.h"', None),
    ("router/http/a.cc", "<boost/beast/http.hpp>", None),
    ("router/http/a.cc", '"common/config/c.h"', None),
    ("tests/a.cc", '"worker/engine/engine.h"', None),
    ("bench/a.cc", '"router/http/h.h"', None),
    ("bench/sim/a.cc", '"router/http/h.h"', "may include"),
    ("bench/sim/peers/a.cc", '"worker/engine/inbox.h"', "may include"),
    ("worker/engine/a.cc", '"bench/sim/s.h"', "may include"),
    ("deploy/cli/a.cc", '"bench/sim/s.h"', "may include"),
    ("bench/sim/a.cc", '"router/routing/r.h"', None),
    ("bench/sim/a.cc", '"bench/trace/t.h"', None),
    ("bench/trace/a.cc", '"router/routing/r.h"', "may include"),
    ("router/routing/a.cc", '"bench/trace/t.h"', "may include"),
    ("bench/sim/a.cc", '"worker/engine/engine.h"', None),
    ("tests/a.cc", '"bench/sim/s.h"', None),
    ("kernels/cuda/a.cu", '"kernels/cuda/ptx.cuh"', None),
    ("kernels/cuda/a.cc", '"kernels/cuda/ptx.cuh"', "for .cu files"),
    ("kernels/cuda/a.h", '"kernels/cuda/ptx.cuh"', "for .cu files"),
    ("kernels/cuda/a.cu", '"kernels/comm/c.h"', "may include"),
    ("kernels/cpu/a.cc", '"kernels/cuda/o.h"', "may include"),
    ("kernels/comm/a.cc", "<cublasLt.h>", "heavy"),
    ("kernels/cuda/a.cc", "<cublasLt.h>", None),
    ("tests/cuda_emulation/a.h", '"kernels/cuda/ptx.cuh"', None),
    ("common/own.cc", "<vector>", "comes first"),
    ("common/own.cc", '"common/own.h"', None),
]

# Lines of device code: (file, line, part of the reason or None).
WORD_CASES = [
    ("kernels/cuda/a.cu", "  Kernel<<<1, 32>>>(x);", "launch.cuh"),
    ("kernels/cuda/a.cuh", '  asm volatile("nop;");', "ptx.cuh"),
    ("kernels/cuda/ptx.cuh", '  asm volatile("nop;");', None),
    ("kernels/cuda/a.cu", "__constant__ float table[4];", "__grid_constant__"),
    ("kernels/cuda/a.cu", "  __shared__ float sums[32];", "TANDEM_SHARED"),
    ("kernels/cuda/a.cu", "// `<<<>>>` and asm are not used.", None),
    ("kernels/cuda/a.cu", "  x <<= 1;", None),
]


def self_test():
    failed = 0
    for path, line, expected in WORD_CASES:
        reason = check_words(path, line)
        if (expected is None) != (reason is None) or (expected and expected not in reason):
            print(f"{path} with {line}: expected {expected!r}, got {reason!r}")
            failed += 1
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        targets = {root / include.strip('"') for _, include, _ in CASES
                   if include[0] == '"' and "/" in include and "../" not in include}
        for target in targets:  # every one that should exist does
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        for path, include, expected in CASES:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"// x\n#  include {include}\n")
            problems, _ = check_tree(root)
            file.unlink()
            if file in targets:
                file.touch()
            found = len(problems) == 1 and expected is not None and expected in problems[0]
            if not (found or (not problems and expected is None)):
                print(f"{path} with {include}: expected {expected!r}, got {problems}")
                failed += 1
    cases = len(CASES) + len(WORD_CASES)
    print(f"{cases - failed} of {cases} cases right")
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    root = pathlib.Path(sys.argv[1])
    problems, seen = check_tree(root)
    for problem in problems:
        print(problem)
    report_sizes(root)
    print(f"{seen} includes, {len(problems)} forbidden")
    return 1 if problems or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
