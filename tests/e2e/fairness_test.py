"""One API key that floods, beside others: real routers and workers, simulated devices, real time.

What is compared are durations: steps take up to 56 ms, beside which the few milliseconds of a busy
machine are little, and a run in which the others' load generators could not send on time says
nothing and is made again, at most twice.
"""
import json
import subprocess
import time
import unittest

from cluster import BIN, Cluster, wait_until

GROUPS = 4
SECONDS = 10
OTHERS = 5  # keys
RATE = 5  # a second each, of 100 to 1,000 tokens: two fifths of what the groups can do
FLOOD_RATE, FLOOD_TOKENS = 130, 800  # three times what they can do
MOST = 1.5  # times their p95 without the flood
LATE_MS = 20

PROFILE = """kv_tokens: 65536
launch: 5ms
weights_read: 0ms
gemm_per_token: 100us
attention_per_pair: 0ns
kv_read_per_token: 0ns
"""
CLUSTER = """
model: {{name: test-model, path: {model}, max_context: 4096}}
groups:
  - {{name: sim, count: %d, device: sim, profile: profile.yaml, max_step_tokens: 512}}
router:
  listen: "127.0.0.1:{port}"
  api_keys_file: keys
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
""" % GROUPS


class SimulatedCluster(Cluster):
    def __init__(self):
        super().__init__(text=CLUSTER)
        (self.dir / "profile.yaml").write_text(PROFILE)
        (self.dir / "keys").write_text("".join(f"other-{i}\n" for i in range(OTHERS)) + "flood\n")

    def bench(self, key, *options, report=None):
        return subprocess.Popen(
            [BIN / "tandem", "bench", "--url", f"http://127.0.0.1:{self.port}", "--api-key", key,
             "--endpoint", "completions", "--model", "test-model", *map(str, options),
             *([] if report is None else ["--json", report])],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def others(self):
        """(p95 of time to first token, p95 of how late they were sent) of all their requests, ms."""
        reports = [self.dir / f"other-{i}.json" for i in range(OTHERS)]
        runs = [
            self.bench(f"other-{i}", "--rate", RATE, "--duration", SECONDS, "--seed", i + 1,
                       "--input", "100:1000", "--output", 10, "--detailed", report=report)
            for i, report in enumerate(reports)
        ]
        assert [run.wait(SECONDS + 60) for run in runs] == [0] * OTHERS
        reports = [json.loads(report.read_text()) for report in reports]
        ttfts = sorted(1000 * t for report in reports for t in report["ttfts"])
        return ttfts[len(ttfts) * 95 // 100], max(r["p95_send_delay_ms"] for r in reports)


class Fairness(unittest.TestCase):
    def test_a_key_that_floods_waits_for_itself(self):
        for _ in range(3):
            with SimulatedCluster() as cluster:
                wait_until(
                    lambda: cluster.metric("tandem_router_group_up") == GROUPS, 30, "all are up"
                )
                before, late_before = cluster.others()
                flood = cluster.bench("flood", "--rate", FLOOD_RATE, "--input", FLOOD_TOKENS,
                                      "--output", 10, "--num-requests", 100_000)
                time.sleep(2)
                self.assertGreater(cluster.metric("tandem_router_queued_requests"), 50,
                                   "more than the groups can do")
                during, late_during = cluster.others()
                queued = cluster.metric("tandem_router_queued_requests")
                flood.kill()
                flood.wait()
                # It is gone, and what it left is cancelled.
                wait_until(lambda: cluster.metric("tandem_router_requests_in_flight") == 0, 30,
                           "nothing is left of the flood")
                print(f"p95 TTFT {before:.0f} ms, {during:.0f} ms with the flood, {queued:.0f} of "
                      f"its requests waiting; sent {late_before:.1f}, {late_during:.1f} ms late",
                      flush=True)
                self.assertGreater(queued, 50)
                if max(late_before, late_during) <= LATE_MS:
                    return self.assertLess(during, MOST * before)
        self.fail(f"three times this machine was too busy to send within {LATE_MS} ms of the time")


if __name__ == "__main__":
    unittest.main(verbosity=2)
