"""Faults of real processes: killed and stopped ranks, draining, keys, orphans."""
import os
import signal
import threading
import time
import unittest

import openai
from cluster import NAME, SLOW, Cluster, wait_until


class Streams:
    """One endless stream in a thread: when its first token came, when and how it ended."""

    def __init__(self, cluster, max_tokens=1800):
        self.first = threading.Event()
        self.ended = threading.Event()
        self.error = None
        self.tokens = 0
        self.end_time = None
        self.client = cluster.client()
        self.max_tokens = max_tokens
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            for _ in self.client.completions.create(
                model=NAME, prompt="Once upon a time", max_tokens=self.max_tokens, stream=True,
                temperature=1, seed=11,
            ):
                self.tokens += 1
                self.first.set()
        except (openai.APIError, openai.APIConnectionError) as error:
            self.error = error
        self.end_time = time.monotonic()
        self.ended.set()
        self.first.set()

    def wait_first(self):
        assert self.first.wait(60 * SLOW), "no first token"


class Faults(unittest.TestCase):
    def lose_ranks(self, cluster, ranks, sig, bound):
        """Ends ranks under two streams: a clear error to each within `bound` seconds, then service."""
        streams = [Streams(cluster), Streams(cluster)]
        for s in streams:
            s.wait_first()
            self.assertFalse(s.ended.is_set(), "the stream ended before the fault")
        pids = [cluster.rank_pid(rank) for rank in ranks]
        start = time.monotonic()
        for pid in pids:
            os.kill(pid, sig)
        for s in streams:
            self.assertTrue(s.ended.wait(bound * SLOW + 10), "the client was left waiting")
            self.assertIsNotNone(s.error, "the stream ended without an error event")
            self.assertIn("group", str(s.error).lower())
            self.assertLess(s.end_time - start, bound * SLOW)
        print(f"ranks {ranks}, {sig.name}: clients heard after",
              ", ".join(f"{s.end_time - start:.2f} s" for s in streams))
        router = list(cluster.pids("tandem-router"))
        cluster.wait_ready(30)
        reply = cluster.client().completions.create(
            model=NAME, prompt="Hello", max_tokens=4, temperature=0
        )
        self.assertGreater(reply.usage.completion_tokens, 0)
        self.assertEqual(list(cluster.pids("tandem-router")), router, "the router restarted")
        self.assertEqual(len(cluster.pids("tandem-worker")), 2)

    def test_killed_ranks(self):
        with Cluster() as cluster:
            for rank in (1, 0):
                with self.subTest(rank=rank):
                    self.lose_ranks(cluster, [rank], signal.SIGKILL, 2)

    def test_stopped_ranks(self):
        # Clients hear within the limit, the larger of 5 s and ten predicted steps, whoever was
        # stopped; half a second is the test machine's.
        with Cluster(group="min_watchdog: 5s") as cluster:
            for ranks in ([1], [0], [0, 1]):
                with self.subTest(ranks=ranks):
                    self.lose_ranks(cluster, ranks, signal.SIGSTOP, 5 + 0.5)

    def stop_rank_while_loading(self, cluster):
        """Stops rank 1 of a starting cluster once it has joined, and returns its pid.

        A small model is loaded in less time than it takes to see in a log that the rank has
        joined, so until then the rank runs only for moments."""
        pid = cluster.rank_pid(1)
        os.kill(pid, signal.SIGSTOP)

        def joined():
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.001)
            os.kill(pid, signal.SIGSTOP)
            return " joined" in cluster.log()

        wait_until(joined, 30, "the rank has joined")
        return pid

    def test_rank_stopped_while_loading(self):
        with Cluster(group="min_watchdog: 1s", started_when="started worker g0/1") as cluster:
            stopped = self.stop_rank_while_loading(cluster)
            wait_until(
                lambda: stopped not in cluster.pids("tandem-worker"), 15, "the worker is killed"
            )
            self.assertNotIn("is complete", cluster.log())
            cluster.wait_ready()

    def test_told_to_stop_while_loading(self):
        with Cluster(started_when="started worker g0/1") as cluster:
            stopped = self.stop_rank_while_loading(cluster)
            cluster.up.send_signal(signal.SIGTERM)
            told = "told to stop before the group was complete"
            # Less than what the supervisor leaves to workers before it kills them.
            wait_until(lambda: told in cluster.log(), 4, "the leader has heard of it")
            os.kill(stopped, signal.SIGCONT)
            self.assertEqual(cluster.up.wait(4 * SLOW), 0)
            self.assertNotIn("is complete", cluster.log())

    def test_stopped_group_of_one_comes_back(self):
        with Cluster(tp=1, group="min_watchdog: 2s") as cluster:
            stopped = cluster.rank_pid(0)
            os.kill(stopped, signal.SIGSTOP)
            wait_until(
                lambda: stopped not in cluster.pids("tandem-worker"), 10, "the worker is killed"
            )

            def answers():
                body = {"model": NAME, "prompt": "Hello", "max_tokens": 2}
                return cluster.post("/v1/completions", body)[0] == 200

            wait_until(answers, 30, "the group serves again")

    def test_killed_supervisor_leaves_no_orphan(self):
        with Cluster() as cluster:
            children = list(cluster.pids("tandem-worker")) + list(cluster.pids("tandem-router"))
            self.assertEqual(len(children), 3)
            cluster.up.kill()
            cluster.up.wait()

            def gone(pid):
                try:
                    with open(f"/proc/{pid}/stat") as stat:
                        return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
                except OSError:
                    return True

            wait_until(lambda: all(gone(p) for p in children), 10, "the children end")

    def test_sigterm_finishes_streams(self):
        with Cluster() as cluster:
            stream = Streams(cluster, max_tokens=200)
            stream.wait_first()
            for pid in cluster.pids("tandem-router"):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: "draining" in cluster.log(), 10, "the router drains")
            for pid in cluster.pids("tandem-router"):
                os.kill(pid, signal.SIGTERM)  # as timeout(1) does: one wish, delivered twice

            def refused():
                if stream.ended.is_set():
                    return True
                try:
                    status, body, _ = cluster.post(
                        "/v1/completions", {"model": NAME, "prompt": "A", "max_tokens": 1}
                    )
                except OSError:
                    return True  # it no longer listens
                return status == 503 and "error" in body

            wait_until(refused, 10, "new requests are refused")
            self.assertTrue(stream.ended.wait(60 * SLOW))
            self.assertIsNone(stream.error)
            self.assertGreaterEqual(stream.tokens, 100)

    def test_keys(self):
        with Cluster(router="  api_keys_file: keys.txt") as cluster:
            self.assertEqual(cluster.get("/v1/models")[0], 401)
            status, body, _ = cluster.post(
                "/v1/completions", {"model": NAME, "prompt": "A"}, {"Authorization": "Bearer no"}
            )
            self.assertEqual((status, body["error"]["code"]), (401, "invalid_api_key"))
            self.assertEqual(
                cluster.get("/v1/models", {"Authorization": "Bearer secret-1"})[0], 200
            )
            self.assertEqual(cluster.get("/health")[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
