"""Where the threads of workers may run: the affinity of each, as the kernel has it. And what memory
the cgroup of a process leaves it."""
import os
import pathlib
import shlex
import signal
import subprocess
import tempfile
import unittest

from cluster import BIN, MODEL, SLOW, Cluster, wait_until

# {model} and the like are for Cluster.
TEXT = """model: {{name: test-model, path: {model}}}
groups:
  - {{name: g0, tp: 1, threads: %s, pin: %s, kv_memory: 16MiB}}
router: {{listen: '127.0.0.1:{port}'}}
links:
  routers: ['tcp://127.0.0.1:{link}']
  runtime_dir: '{dir}/run'
"""


def text(threads="auto", pin="auto"):
    return TEXT % (threads, pin)


def allowed(pid):
    """{thread's name, or "main": [set of CPUs, one of each thread of that name]}"""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in
                      (task / "status").read_text().splitlines() if ":\t" in line)
        cpus = set()
        for part in status["Cpus_allowed_list"].split(","):
            first, _, last = part.partition("-")
            cpus |= set(range(int(first), int(last or first) + 1))
        name = "main" if task.name == str(pid) else status["Name"]
        found.setdefault(name, []).append(cpus)
    return found


def ask(c):
    status, reply, _ = c.post("/v1/completions", {
        "model": "test-model", "prompt": "The sea", "max_tokens": 8, "temperature": 0})
    assert status == 200, reply
    return reply["choices"][0]["text"]


class CpusTest(unittest.TestCase):
    def setUp(self):
        self.cpus = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, self.cpus)

    def test_one_cpu_is_enough(self):
        """As under `taskset -c N`: auto is one thread, and no thread runs elsewhere."""
        cpu = max(self.cpus)
        os.sched_setaffinity(0, {cpu})
        with Cluster(text=text()) as c:
            ask(c)
            threads = allowed(c.rank_pid(0))
            self.assertNotIn("compute", threads)  # the main thread is the only one
            self.assertEqual({frozenset(s) for sets in threads.values() for s in sets},
                             {frozenset({cpu})})
            self.assertIn("1 compute thread, not pinned", c.log())

    def test_threads_beyond_the_cpus_are_not_pinned(self):
        with Cluster(text=text(threads=len(self.cpus) + 1)) as c:
            ask(c)
            threads = allowed(c.rank_pid(0))
            self.assertEqual(threads["compute"], [self.cpus] * len(self.cpus))
            for name, sets in threads.items():
                self.assertTrue(all(s == self.cpus for s in sets), name)

    def test_pinned_threads_leave_a_cpu_to_the_others(self):
        if len(self.cpus) < 2:
            self.skipTest("one CPU")
        with Cluster(text=text(threads=1)) as c:
            reply = ask(c)
            threads = allowed(c.rank_pid(0))
            (mine,) = threads["main"]
            self.assertEqual(len(mine), 1)
            self.assertLess(mine, self.cpus)
            self.assertEqual(threads["engine"], [self.cpus])
            self.assertEqual(threads["link"], [self.cpus])
            # Another cluster has CPUs of its own, or is not pinned.
            with Cluster(text=text(threads=1)) as other:
                self.assertEqual(ask(other), reply)
                (theirs,) = allowed(other.rank_pid(0))["main"]
                self.assertTrue(theirs == self.cpus or not theirs & mine, theirs)
        with Cluster(text=text(threads=1, pin="off")) as c:
            self.assertEqual(ask(c), reply)
            for name, sets in allowed(c.rank_pid(0)).items():
                self.assertTrue(all(s == self.cpus for s in sets), name)


class MemoryTest(unittest.TestCase):
    """Under a /sys/fs/cgroup of the test's own, which says what the test writes."""

    MIB = 1 << 20

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.cgroup = pathlib.Path(self.folder.name, "cgroup")
        bin_dir = pathlib.Path(self.folder.name, "bin")
        for folder in (self.cgroup / "memory", bin_dir):
            folder.mkdir(parents=True)
        self.inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                       'mount --bind "$0" /sys/fs/cgroup && exec "$@"', str(self.cgroup)]
        if subprocess.run([*self.inside, "true"], capture_output=True).returncode != 0:
            self.skipTest("mount namespaces cannot be made here")
        for program in ("tandem-router", "tandem-worker"):
            (bin_dir / program).symlink_to(BIN / program)
        self.bin_dir = bin_dir

    def limit(self, size):
        for name in ("memory.max", "memory/memory.limit_in_bytes"):
            (self.cgroup / name).write_text(f"{size}\n")

    def start_worker(self, size, kv_memory):
        """(exit code, last line) of a rank that starts where it may use `size` bytes."""
        self.limit(size)
        file = pathlib.Path(self.folder.name, "cluster.yaml")
        file.write_text(text().replace("16MiB", kv_memory).format(
            model=MODEL, port=8000, link=1, dir=self.folder.name))
        run = subprocess.run(
            [*self.inside, BIN / "tandem-worker", "--config", file, "--group", "g0", "--rank", "0"],
            capture_output=True, text=True, timeout=60 * SLOW)
        return run.returncode, run.stderr.splitlines()[-1]

    def test_what_a_cgroup_cannot_hold_is_refused_with_its_limit(self):
        code, line = self.start_worker(128 * self.MIB, "129MiB")
        self.assertEqual(code, 2)
        self.assertIn("rank 0's part of kv_memory is 129 MiB, and this process's cgroup has 128 "
                      "MiB", line)
        self.assertTrue(line.endswith("; lower groups[].kv_memory"), line)
        code, line = self.start_worker(128 * self.MIB, "120MiB")
        self.assertEqual(code, 2)
        self.assertRegex(line, r"weights take \d+ MiB or more and its part of kv_memory 120 MiB, "
                               r"and this process's cgroup has 128 MiB")
        code, line = self.start_worker(32 * self.MIB, "16MiB")
        self.assertEqual(code, 2)
        self.assertRegex(line, r"rank 0's weights take \d+ MiB or more, and this process's cgroup "
                               r"has 32 MiB")

    def test_up_says_that_the_kernel_killed_for_memory(self):
        self.limit("max")
        up = self.bin_dir / "tandem"  # `tandem up` itself reads the counter
        inside = " ".join(shlex.quote(word) for word in self.inside)
        up.write_text(f'#!/bin/sh\nexec {inside} {BIN / "tandem"} "$@"\n')
        up.chmod(0o755)

        def count(kills):
            (self.cgroup / "memory.events").write_text(f"oom 1\noom_kill {kills}\n")

        count(1)
        with Cluster(text=text(), bin_dir=self.bin_dir, tandem=up) as c:
            os.kill(c.rank_pid(0), signal.SIGKILL)
            plain = "worker g0/0 was killed by signal 9 (Killed)\n"
            wait_until(lambda: plain in c.log(), 20, plain)
            wait_until(lambda: c.log().count("started worker g0/0") == 2, 20, "it starts again")
            count(2)
            os.kill(c.rank_pid(0), signal.SIGKILL)
            named = ("worker g0/0 was killed by signal 9 (Killed): the kernel, because the machine's or this "
                     "cgroup's memory is used up; lower groups[].kv_memory\n")
            wait_until(lambda: named in c.log(), 20, named)


if __name__ == "__main__":
    unittest.main(verbosity=2)
