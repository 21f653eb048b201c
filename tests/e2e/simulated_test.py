"""A router before simulated groups: one worker process, many groups, real streams."""
import concurrent.futures
import os
import signal
import subprocess
import sys
import unittest
import unittest.mock

from cluster import BIN, NAME, SLOW, Cluster, wait_until

GROUPS = 16
# Fast, so that the test is short; not instant, so that steps overlap requests.
PROFILE = """kv_tokens: 65536
launch: 300us
weights_read: 200us
gemm_per_token: 2us
attention_per_pair: 0ns
kv_read_per_token: 1ns
"""


class SimulatedCluster(Cluster):
    def __init__(self, groups=GROUPS, profile=PROFILE, model=None):
        super().__init__()
        (self.dir / "profile.yaml").write_text(profile)
        text = self.file.read_text()
        if model is not None:
            text = text.replace("model: {", f"model: {{{model}, ", 1)
        entry = text[text.index("  - {name: g0"):text.index("router:")]
        self.file.write_text(
            text.replace(
                entry,
                f"  - {{name: sim, count: {groups}, device: sim, profile: profile.yaml, "
                "max_step_tokens: 256}\n",
            )
        )


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class Simulated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = SimulatedCluster().__enter__()
        cls.client = cls.cluster.client()
        wait_until(
            lambda: cls.cluster.metric("tandem_router_group_up") == GROUPS, 30, "all groups are up"
        )

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)

    def stream(self, prompt, max_tokens, **options):
        """(text, chunks with text, finish reason, usage)."""
        text, chunks, finish, usage = "", 0, None, None
        for chunk in self.client.chat.completions.create(
            model=NAME,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            **options,
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                chunks += bool(choice.delta.content)
                finish = choice.finish_reason or finish
        return text, chunks, finish, usage

    def test_one_process_hosts_all_groups(self):
        workers = self.cluster.pids("tandem-worker")
        self.assertEqual(len(workers), 1)
        (argv,) = workers.values()
        self.assertIn("sim", argv)
        (pid,) = workers
        self.assertLess(threads(pid), 8, "threads do not grow with the groups")

    def test_replies_have_as_many_tokens_as_asked_for(self):
        for count in (1, 7, 64):
            text, chunks, finish, usage = self.stream(f"Say {count} words.", count)
            self.assertEqual(usage.completion_tokens, count)
            self.assertEqual(finish, "length")
            self.assertLessEqual(chunks, count)
            self.assertTrue(text.isprintable() and text, repr(text))

    def test_a_seed_repeats(self):
        one = self.stream("Tell a story.", 20, seed=5, temperature=1.0)
        two = self.stream("Tell a story.", 20, seed=5, temperature=1.0)
        other = self.stream("Tell a story.", 20, seed=6, temperature=1.0)
        self.assertEqual(one[0], two[0])
        self.assertNotEqual(one[0], other[0])

    def test_replies_in_a_form(self):
        for seed in range(4):
            text = self.stream("Yes?", 30, seed=seed, temperature=1.0,
                               extra_body={"guided_regex": "(yes|no), [a-f]{2,9}!"})[0]
            self.assertRegex(text, "^(yes|no), [a-f]{2,9}!$")

    def test_a_prompt_seen_before_is_cached(self):
        prompt = "The same long prompt, several blocks of it. " * 4
        first = self.stream(prompt, 4)[3]
        again = self.stream(prompt, 4)[3]
        self.assertEqual(first.prompt_tokens, again.prompt_tokens)
        # All full blocks but what the last token is in.
        cached = again.prompt_tokens_details.cached_tokens
        self.assertGreaterEqual(cached, (again.prompt_tokens - 1) // 16 * 16)

    def test_many_streams_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            replies = list(pool.map(lambda i: self.stream(f"Number {i}.", 32), range(96)))
        for _, _, finish, usage in replies:
            self.assertEqual((finish, usage.completion_tokens), ("length", 32))


class Draining(unittest.TestCase):
    def test_sigterm_to_the_worker_drains_all_groups(self):
        with SimulatedCluster() as cluster:
            (pid,) = cluster.pids("tandem-worker")
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: pid not in cluster.pids("tandem-worker"), 30, "the worker ends")
            self.assertIn("the simulated groups have shut down", cluster.log())

    def test_drain_takes_the_name_of_the_entry_and_says_so(self):
        def drain(name):
            run = subprocess.run([BIN / "tandem", "drain", cluster.file, name],
                                 capture_output=True, text=True, timeout=60 * SLOW)
            return run.returncode, run.stdout + run.stderr

        # Of the races that ThreadSanitizer sees in libzmq, which it does not know, none is an exit code.
        with unittest.mock.patch.dict(os.environ, {"TSAN_OPTIONS": "exitcode=0"}), \
                SimulatedCluster(groups=4) as cluster:
            self.assertEqual(drain("sim-3"), (
                2, f"{cluster.file}: 'sim-3' is one of 4 groups that one process simulates and "
                "does not leave alone; drain all of them by the name of their entry, 'sim'\n"))
            self.assertEqual(len(cluster.pids("tandem-worker")), 1)
            self.assertEqual(drain("sim"), (0, "all groups of 'sim' have left\n"))
            wait_until(lambda: "groups sim was told to leave" in cluster.log(), 30, "up knows")
            self.assertEqual(cluster.pids("tandem-worker"), {})
            cluster.up.send_signal(signal.SIGHUP)
            cluster.wait_ready()


# Every step is as good as over when it begins: what is tested is the router.
INSTANT = """kv_tokens: 65536
launch: 1us
weights_read: 0ns
gemm_per_token: 0ns
attention_per_pair: 0ns
kv_read_per_token: 0ns
"""


class Described(unittest.TestCase):
    """The server against its own description: bodies that are right and bodies that are not."""

    def test_nothing_that_the_description_allows_or_forbids_breaks_it(self):
        cluster = SimulatedCluster(groups=2, profile=INSTANT, model="max_context: 96")
        seed = int.from_bytes(os.urandom(4), "big")
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance",
            "--phases", "coverage,fuzzing", "--max-examples", "3" if SLOW > 1 else "12",
            "--seed", str(seed), "--request-timeout", str(20 * SLOW), "--no-shrink",
            "--warnings", "off", "--suppress-health-check", "all", "--max-failures", "5",
        ]
        with cluster:
            wait_until(
                lambda: cluster.metric("tandem_router_group_up") == 2, 30, "both groups are up"
            )
            run = subprocess.run(
                [*command, f"http://127.0.0.1:{cluster.port}/openapi.json"],
                cwd=cluster.dir, capture_output=True, text=True, timeout=200 * SLOW,
            )
            self.assertEqual(run.returncode, 0, f"seed {seed}\n{run.stdout[-6000:]}{run.stderr}")
            print(*run.stdout.splitlines()[-12:], sep="\n", flush=True)
            wait_until(
                lambda: cluster.metric("tandem_router_requests_in_flight") == 0, 20,
                "nothing is left of it",
            )


if __name__ == "__main__":
    unittest.main(verbosity=2)
