"""The simulator against the live system: one trace through a router and simulated groups in real
time, and through `tandem simulate`, must give the same time to first token.

What is compared are durations, so the machine has a say. Steps take 20 to 150 ms, beside which the
few milliseconds of a busy machine are little; and when the load generator itself, which does next
to nothing, could not send on time, the run says nothing about either side and is made again. Three
such runs are a failure: they are no agreement.
"""
import json
import os
import random
import subprocess
import time
import unittest

from cluster import BIN, Cluster, wait_until

SECONDS = 75
RATE = 20  # a second: what the groups compute is two thirds of what they could
GROUPS = 8
SEEDS = range(1, 6)  # of the simulation: its near-ties are drawn, and so are the live ones
MOST_APART = 0.10
LATE_MS = 20  # p95 of how late requests were sent; beyond it the machine was too busy

PROFILE = """kv_tokens: 32768
launch: 5ms
weights_read: 15ms
gemm_per_token: 250us
attention_per_pair: 20ns
kv_read_per_token: 1us
"""
CLUSTER = """
model: {{name: test-model, path: {model}, max_context: 16384}}
groups:
  - {{name: sim, count: %d, device: sim, profile: profile.yaml, max_step_tokens: 512}}
router: {{listen: "127.0.0.1:{port}"}}
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
""" % GROUPS


def write_trace(path, seed):
    """Mooncake's format: Poisson arrivals, log-normal lengths; half of the prompts begin with one to
    three blocks of one of 40 texts, some of these far more popular than others. Returns the tokens of
    all prompts."""
    rng = random.Random(seed)
    at, fresh = 0.0, 1000
    total = 0
    with open(path, "w") as out:
        while (at := at + rng.expovariate(RATE)) < SECONDS:
            tokens = min(6000, max(64, int(rng.lognormvariate(6.8, 0.7))))
            ids = []
            if rng.random() < 0.5:
                text = min(int(rng.paretovariate(0.8)), 40)
                ids = [text * 10 + i for i in range(min(rng.randrange(1, 4), tokens // 512))]
            while len(ids) * 512 < tokens:
                ids.append(fresh)
                fresh += 1
            total += tokens
            json.dump({"timestamp": int(at * 1000), "input_length": tokens,
                       "output_length": rng.randrange(4, 40), "hash_ids": ids}, out)
            out.write("\n")
    return total


def replay(cluster, trace):
    """The report of `tandem bench`."""
    report = cluster.dir / "live.json"
    subprocess.run(
        [BIN / "tandem", "bench", "--url", f"http://127.0.0.1:{cluster.port}",
         "--endpoint", "completions", "--trace", trace, "--replay", "--json", report],
        check=True, stderr=subprocess.DEVNULL,
    )
    return json.loads(report.read_text())


def simulate(cluster, trace, seed):
    report = cluster.dir / "simulated.json"
    subprocess.run(
        [BIN / "tandem", "simulate", "--trace", trace, "--cluster", cluster.file,
         "--seed", str(seed), "--json", report],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    (policy,) = json.loads(report.read_text())["policies"]
    return policy


class SimulatedCluster(Cluster):
    def __init__(self):
        super().__init__(text=CLUSTER)
        (self.dir / "profile.yaml").write_text(PROFILE)


class Agreement(unittest.TestCase):
    def test_live_and_simulated_time_to_first_token(self):
        seed = int(os.environ.get("TANDEM_SEED", time.time_ns() % 2**31))
        print(f"seed {seed} (TANDEM_SEED repeats it)", flush=True)
        for _ in range(3):
            with SimulatedCluster() as cluster:  # a new one: nothing is cached
                wait_until(
                    lambda: cluster.metric("tandem_router_group_up") == GROUPS, 30, "all are up"
                )
                trace = cluster.dir / "trace.jsonl"
                prompt_tokens = write_trace(trace, seed)
                live = replay(cluster, trace)
                self.assertEqual(live["total_input_tokens"], prompt_tokens)  # the same prompts
                late = live["p95_send_delay_ms"]
                if late <= LATE_MS:
                    return self.compare(live, [simulate(cluster, trace, s) for s in SEEDS])
            print(f"said nothing: requests were sent {late:.1f} ms late (p95)", flush=True)
        self.fail(f"three times this machine was too busy to send within {LATE_MS} ms of the time")

    def compare(self, live, simulated):
        def mean(value):
            return sum(value(s) for s in simulated) / len(simulated)

        figures = {
            "median TTFT, ms": (live["median_ttft_ms"], mean(lambda s: s["ttft_ms"]["p50"])),
            "p95 TTFT, ms": (live["p95_ttft_ms"], mean(lambda s: s["ttft_ms"]["p95"])),
            "median end to end, ms": (live["median_e2el_ms"], mean(lambda s: s["e2e_ms"]["p50"])),
            "p95 end to end, ms": (live["p95_e2el_ms"], mean(lambda s: s["e2e_ms"]["p95"])),
        }
        print(f"{live['completed']} requests, sent {live['p95_send_delay_ms']:.1f} ms late (p95)")
        for name, (ours, predicted) in figures.items():
            print(f"{name}: live {ours:.1f}, simulated {predicted:.1f}, {ours / predicted:.3f}",
                  flush=True)
        hits = live["total_cached_tokens"] / live["total_input_tokens"]
        hits_predicted = mean(lambda s: s["hit_rate"])
        print(f"hit rate: live {hits:.3f}, simulated {hits_predicted:.3f}")
        self.assertTrue(all(s["finished"] == live["completed"] for s in simulated))
        for name, (ours, predicted) in figures.items():
            self.assertLess(abs(ours / predicted - 1), MOST_APART, name)
        self.assertLess(abs(hits - hits_predicted), 0.02)


if __name__ == "__main__":
    unittest.main(verbosity=2)
