#!/usr/bin/env python3
"""Times are noisy, counts of instructions are not: runs a small random model of each type of weights through the
engine under callgrind, with the AVX2 kernels (valgrind knows no AVX-512), and compares how many instructions each
case takes with instructions.json. More than 3 % off either way is a failure: a case that became cheaper is to be
held to it.

    instructions.py check BENCH_ENGINE MAKE_TINY_MODEL COMPILER
    instructions.py write BENCH_ENGINE MAKE_TINY_MODEL COMPILER     takes over what was counted

COMPILER names what built the programs; counts of another are another's, so that `check` is then skipped, as it
is where valgrind or AVX2 is missing (exit code 77).
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

COUNTS = pathlib.Path(__file__).resolve().parent / "instructions.json"
TOLERANCE = 0.03
SKIPPED = 77
TYPES = ("Q4_1", "Q4_0", "Q8_0", "BF16")
MODEL = ("layers=1", "hidden=192", "heads=3", "kv_heads=1", "head_dim=64", "ffn=384")
CASES = ("prefill:96", "decode:1", "decode:4")


def main():
    if len(sys.argv) != 5 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    what, engine, make_model, compiler = sys.argv[1:]
    expected = json.loads(COUNTS.read_text()) if COUNTS.exists() else {"compiler": compiler, "instructions": {}}
    missing = why_not(expected["compiler"], compiler if what == "check" else expected["compiler"])
    if missing:
        print(f"skipped: {missing}")
        sys.exit(SKIPPED if what == "check" else 1)
    counts = {name: count for kind in TYPES for name, count in count_type(engine, make_model, kind).items()}
    if what == "write":
        COUNTS.write_text(json.dumps({"compiler": compiler, "instructions": counts}, indent=1) + "\n")
    sys.exit(compare(counts, expected["instructions"]) if what == "check" else 0)


def why_not(compiler_then, compiler_now):
    if shutil.which("valgrind") is None:
        return "valgrind is not installed; deploy/install-deps.sh --test installs it"
    if not re.search(r"^flags\s*:.*\bavx2\b", pathlib.Path("/proc/cpuinfo").read_text(), re.M):
        return "this CPU has no AVX2"
    if compiler_then != compiler_now:
        return f"{COUNTS.name} is of {compiler_then}, this build of {compiler_now}"
    return None


def count_type(engine, make_model, kind):
    """{"q4_1_prefill_96": instructions, ...}, without the load."""
    with tempfile.TemporaryDirectory() as folder:
        model, out = f"{folder}/model.gguf", f"{folder}/out"
        subprocess.run([make_model, model, *MODEL, f"type={kind}"], check=True)
        cases = [argument for case in CASES for argument in ("--case", case)]
        # Counts are cut where a case begins: the first part is the load, the others are the cases.
        run = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}",
                              "--dump-before=tandem::bench::RunCase*", engine, "--model", model,
                              "--instruction-set", "avx2", "--repeats", "1", "--threads", "1", *cases],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            sys.exit(run.stderr)
        parts = dict(read_part(path) for path in pathlib.Path(folder).glob("out*"))
    if sorted(parts) != list(range(1, len(CASES) + 2)):
        sys.exit(f"callgrind wrote parts {sorted(parts)}, not one for the load and each of {len(CASES)} cases; is "
                 f"tandem::bench::RunCase another's name now?")
    names = (case.replace(":", "_").replace("decode_", "decode_b") for case in CASES)
    return {f"{kind.lower()}_{name}": parts[2 + i] for i, name in enumerate(names)}


def read_part(path):
    text = path.read_text()
    return tuple(int(re.search(rf"^{key}: (\d+)", text, re.M)[1]) for key in ("part", "summary"))


def compare(counts, expected):
    failed = counts.keys() != expected.keys()
    if failed:
        print(f"cases counted: {', '.join(counts)}; expected: {', '.join(expected)}")
    for name in (name for name in counts if name in expected):
        change = counts[name] / expected[name] - 1
        wrong = abs(change) > TOLERANCE
        failed = failed or wrong
        print(f"{name:18}{counts[name]:13,}, expected {expected[name]:13,}: {100 * change:+.2f} %"
              f"{' WRONG' if wrong else ''}")
    if failed:
        print(f"where the change is meant, `instructions.py write` renews {COUNTS.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
