"""Where the threads of workers may run: the affinity of each, as the kernel has it."""
import os
import pathlib
import unittest

from cluster import Cluster

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


if __name__ == "__main__":
    unittest.main(verbosity=2)
