"""What comparisons with peers share: the Python they run in, the CPUs, where a result comes from."""

import atexit
import importlib.util
import json
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build" / "release" / "bin"
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
VENV = ROOT / "build" / "venv-golden"  # shared with tests/golden, which needs llama-cpp-python as well
LLAMA_CPP_PYTHON = "llama-cpp-python==0.3.36"


def ensure_llama_cpp():
    """Continues under the venv's Python, made and filled first where it is missing."""
    if all(importlib.util.find_spec(name) for name in ("llama_cpp", "numpy", "gguf")):
        return
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
    if not has_packages(python):
        print("building llama-cpp-python for this machine, some minutes", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy", "gguf", LLAMA_CPP_PYTHON,
                        "--no-binary", "llama-cpp-python"],
                       env={"CMAKE_ARGS": "-DGGML_NATIVE=ON"} | os.environ, check=True)
    os.execv(python, [python, *sys.argv])


def has_packages(python):
    return subprocess.run([python, "-c", "import llama_cpp, numpy, gguf"], stderr=subprocess.DEVNULL).returncode == 0


def pin(num_threads):
    """Keeps this process and its children on `num_threads` CPUs of different physical cores."""
    cores = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(siblings.read_text() if siblings.exists() else cpu, cpu)
    cpus = list(cores.values())[: num_threads or len(cores)]
    if num_threads and len(cpus) < num_threads:
        sys.exit(f"--threads {num_threads}: only {len(cpus)} physical cores here")
    os.sched_setaffinity(0, cpus)
    return cpus


def measure_limits(num_threads):
    """What this machine can do now: read GB/s, int8 GOP/s, float32 and bfloat16 GFLOP/s (or None)."""
    output = subprocess.run([BIN / "tandem-bench-kernels", "--limits", f"--threads={num_threads}"],
                            stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output)


def better_limits(a, b):
    """The greater of each rate: a limit is what the machine could do, not what it did while disturbed."""
    rates = [key for key in a if key.endswith("_per_s")]
    return a | {key: max(a[key], b[key]) if a[key] is not None else None for key in rates}


def limits_text(limits):
    bf16 = f", bfloat16 {limits['bf16_gflop_per_s']:.0f}" if limits["bf16_gflop_per_s"] else ""
    return (f"{limits['instruction_set']}, {limits['threads']} threads: read {limits['read_gb_per_s']:.1f} GB/s, "
            f"int8 {limits['int8_gop_per_s']:.0f} GOP/s, float32 {limits['f32_gflop_per_s']:.0f}{bf16} GFLOP/s")


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def load_average():
    return [round(load, 2) for load in os.getloadavg()]


def commit():
    def git(*command):
        return subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")


def write_json(report, path):
    """`path` may be - for standard output."""
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text) if path == "-" else pathlib.Path(path).write_text(text)


def spawn(command, cpus=None, **options):
    """A process that ends with this one; on `cpus`, if given."""
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                               preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None, **options)
    atexit.register(end, process)
    return process


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
