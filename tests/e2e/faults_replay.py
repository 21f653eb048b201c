"""A trace replayed through two routers and 16 simulated groups while groups are killed, drained,
added and removed, and the cluster file is read again.

No request may be lost without an error, no stream may miss or double a token, no fault but a kill
may cost a client anything, the prefix index stays bounded, and the ledgers end at zero.

    TANDEM_BIN=... TANDEM_MODEL=... faults_replay.py --trace FILE [--rate-scale 10] [--seed N]
                                                     [--fault-every 4] [--json FILE]
"""
import argparse
import collections
import gzip
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

from cluster import BIN, MODEL, NAME, SLOW, Cluster, free_port, wait_until
from sim_replies import Replies

ENTRIES = 8  # worker processes
GROUPS_EACH = 2
KV_TOKENS = 450_000  # of a group: an H100 with an 8B model
BLOCK = 16
MAX_CONTEXT = 262_144
# Steps of a few milliseconds: so fast that the groups keep up with the trace at 10 times its rate.
PROFILE = """kv_tokens: {kv_tokens}
launch: 1ms
weights_read: 2ms
gemm_per_token: 4us
attention_per_pair: 0ns
kv_read_per_token: 1ns
"""


def read_trace(path):
    """Its requests. Mooncake rounds times down to 3 s: they are spread over those again."""
    rng = random.Random(0)
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt") as lines:
        requests = [json.loads(line) for line in lines]
    if all(r["timestamp"] % 3000 == 0 for r in requests):
        for r in requests:
            r["timestamp"] += rng.randrange(3000)
    return sorted(requests, key=lambda r: r["timestamp"])


class TwoRouters(Cluster):
    """`tandem up` with one router, and a second one beside it; entries come and go."""

    def __init__(self, kv_tokens):
        self.second_port, self.second_link = free_port(), free_port()
        self.entries = [f"e{i}" for i in range(ENTRIES)]
        self.backlog = 8
        super().__init__(text=self.describe())
        (self.dir / "profile.yaml").write_text(PROFILE.format(kv_tokens=kv_tokens))

    def describe(self):
        """The cluster file, for Cluster.write()."""
        groups = "\n".join(
            f"  - {{{{name: {name}, count: {GROUPS_EACH}, device: sim, profile: profile.yaml, "
            "max_step_tokens: 2048, max_seqs: 256}}"
            for name in self.entries
        )
        return f"""
model: {{{{name: {NAME}, path: {{model}}, max_context: {MAX_CONTEXT}}}}}
groups:
{groups}
router:
  listen: 127.0.0.1:{{port}}
  limits: {{{{max_queued_requests: 100000}}}}
  admission: {{{{max_group_backlog: {self.backlog}s, max_queued: 100000}}}}
links:
  routers: [tcp://127.0.0.1:{{link}}, tcp://127.0.0.1:{self.second_link}]
  runtime_dir: {{dir}}/run
log: {{{{level: warn}}}}
"""

    def __enter__(self):
        with open(self.dir / "second.log", "wb") as log:
            self.second = subprocess.Popen(
                [BIN / "tandem-router", "--config", self.file, "--router-index", "1",
                 "--port", str(self.second_port)],
                stdout=log, stderr=subprocess.STDOUT,
            )
        try:
            return super().__enter__()
        except BaseException:
            self.second.kill()
            raise

    def __exit__(self, kind, value, trace):
        self.second.send_signal(signal.SIGTERM)
        try:
            self.second.wait(60 * SLOW)
        finally:
            self.second.kill()
            if kind is not None:
                log = (self.dir / "second.log").read_text(errors="replace")
                print("---- log of the second router\n" + log[-10000:], file=sys.stderr)
            super().__exit__(kind, value, trace)

    def reload(self):
        self.write(self.describe())
        self.up.send_signal(signal.SIGHUP)
        self.second.send_signal(signal.SIGHUP)

    def at(self, router):
        """The same cluster seen from that router."""
        return Seen(self, self.second_port if router else self.port)

    def routers(self):
        return [self.at(0), self.at(1)]

    def worker_of(self, entry):
        """The entry's process; None: none runs."""
        for pid, argv in self.pids("tandem-worker").items():
            if argv[argv.index("--group") + 1] == entry:
                return pid
        return None

    def router_pids(self):
        return [*self.pids("tandem-router"), self.second.pid]


class Seen(Cluster):
    def __init__(self, cluster, port):
        self.cluster, self.port = cluster, port

    def groups_up(self):
        status, body = self.get("/health")
        return {g["name"] for g in json.loads(body)["groups"] if g["state"] == "up"} if body else set()


class Faults(threading.Thread):
    """One fault after the other in an order of the seed, each kind as often as the others."""

    def __init__(self, cluster, seed, every):
        super().__init__(daemon=True)
        self.cluster, self.every = cluster, every
        self.rng = random.Random(seed)
        self.ending = threading.Event()
        self.counts = collections.Counter()
        self.failure = None
        self.added = 0
        self.most_entries = len(cluster.entries)  # at a time

    def run(self):
        kinds = []
        try:
            while not self.ending.wait(self.rng.uniform(0.5, 1.5) * self.every):
                if not kinds:
                    kinds = [self.kill, self.drain, self.add, self.remove, self.read_again]
                    self.rng.shuffle(kinds)
                kind = kinds.pop()
                kind()
                self.counts[kind.__name__] += 1
        except Exception as failure:  # shown by stop()
            self.failure = failure

    def stop(self):
        self.ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def entry(self):
        """One whose groups are all up at both routers."""
        entry = self.rng.choice(self.cluster.entries)
        self.wait_up(entry)
        return entry

    def wait_up(self, entry):
        names = {f"{entry}-{i}" for i in range(GROUPS_EACH)}
        for router in self.cluster.routers():
            wait_until(lambda: names <= router.groups_up(), 60, f"{names} are up")

    def wait_gone(self, entry):
        wait_until(lambda: self.cluster.worker_of(entry) is None, 60, f"{entry} has left")

    def kill(self):
        entry = self.entry()
        os.kill(self.cluster.worker_of(entry), signal.SIGKILL)
        self.wait_up(entry)

    def drain(self):
        entry = self.entry()
        subprocess.run([BIN / "tandem", "drain", self.cluster.file, entry], check=True,
                       stdout=subprocess.DEVNULL, timeout=120 * SLOW)
        self.cluster.reload()  # which brings it back
        self.wait_up(entry)

    def add(self):
        entry = f"added{self.added}"
        self.added += 1
        self.cluster.entries.append(entry)
        self.most_entries = max(self.most_entries, len(self.cluster.entries))
        self.cluster.reload()
        self.wait_up(entry)

    def remove(self):
        entry = self.entry()
        self.cluster.entries.remove(entry)
        self.cluster.reload()
        self.wait_gone(entry)

    def read_again(self):
        self.cluster.backlog = self.rng.randrange(4, 12)
        self.cluster.reload()


def resident_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


class Samples(threading.Thread):
    """What the routers hold in memory, once a second."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.ending = threading.Event()
        self.blocks = [[], []]    # of the routers
        self.resident = [[], []]  # KB

    def run(self):
        pids = self.cluster.router_pids()
        while not self.ending.wait(1):
            for i, router in enumerate(self.cluster.routers()):
                self.blocks[i].append(router.metric("tandem_router_index_blocks") or 0)
                self.resident[i].append(resident_kb(pids[i]))

    def stop(self):
        self.ending.set()
        self.join()


def replay(cluster, requests, rate_scale):
    """The requests in turn to both routers; (requests, report of `tandem bench`) of each."""
    halves, clients = [requests[0::2], requests[1::2]], []
    first = requests[0]["timestamp"]
    for i, (half, router) in enumerate(zip(halves, cluster.routers())):
        trace = cluster.dir / f"trace{i}.jsonl"
        with open(trace, "w") as out:
            for r in half:
                print(json.dumps({**r, "timestamp": r["timestamp"] - first}), file=out)
        log = open(cluster.dir / f"bench{i}.log", "wb")
        clients.append(subprocess.Popen(
            [BIN / "tandem", "bench", "--url", f"http://127.0.0.1:{router.port}",
             "--endpoint", "completions", "--trace", trace, "--replay",
             "--rate-scale", str(rate_scale), "--extra-body", '{"temperature": 0}',
             "--allow-errors", "--detailed", "--json", cluster.dir / f"bench{i}.json"],
            stdout=log, stderr=subprocess.STDOUT,
        ))
        log.close()
    assert [client.wait() for client in clients] == [0, 0], "tandem bench failed"
    return [(half, json.loads((cluster.dir / f"bench{i}.json").read_text()))
            for i, half in enumerate(halves)]


def check_streams(halves, replies):
    """Counts; every stream is what it had to be, or was cut by an error that a kill explains."""
    counts = collections.Counter()
    for half, report in halves:
        # The reports are in order of sending, which is the trace's.
        assert report["num_prompts"] == len(half) == len(report["outcomes"]), "a request has no record"
        for request, outcome, text, error, tokens in zip(
            half, report["outcomes"], report["generated_texts"], report["errors"],
            report["output_lens"],
        ):
            prompt, asked = request["input_length"], request["output_length"]
            counts["requests"] += 1
            counts["tokens"] += tokens
            if outcome == "ok":
                assert tokens == asked, f"{tokens} tokens, not {asked}, and no error"
                assert text == replies.expected(prompt, asked), (
                    f"a reply of {asked} tokens is wrong where both end:\n"
                    f"{os.path.commonprefix([text, replies.expected(prompt, asked)])!r}\n{text!r}"
                )
                counts["ok"] += 1
                continue
            assert outcome in ("error_event", "http_status"), f"{outcome}: {error}"
            came = replies.num_tokens(prompt, text)
            assert came is not None and came <= asked, f"before its error a reply was wrong: {text!r}"
            # A group that left in order loses nothing: what it says then is no excuse.
            assert "group_lost" in error and "told to stop" not in error, error
            counts["cut" if came else "failed before a token"] += 1
    return counts


def check_memory(samples, pool_blocks):
    """Blocks that groups hold, and as many again that are of groups that have gone."""
    bound = 2 * pool_blocks
    for blocks, resident in zip(samples.blocks, samples.resident):
        assert max(blocks) <= bound, f"the index has {max(blocks)} blocks, more than {bound}"
        third = len(resident) // 3
        warm, most = max(resident[:third + 1]), max(resident)
        assert most < warm * 1.25 + 65536, f"a router grew from {warm} to {most} KB"


def run(requests, rate_scale, seed, fault_every, kv_tokens):
    """Everything; a dictionary of what was seen."""
    replies = Replies(MODEL, max(r["input_length"] + r["output_length"] for r in requests) + 1)
    with TwoRouters(kv_tokens) as cluster:
        everyone = {f"{e}-{i}" for e in cluster.entries for i in range(GROUPS_EACH)}
        for router in cluster.routers():
            wait_until(lambda: everyone <= router.groups_up(), 60, "all groups are up")
        faults, samples = Faults(cluster, seed, fault_every), Samples(cluster)
        started = time.monotonic()
        faults.start()
        samples.start()
        try:
            halves = replay(cluster, requests, rate_scale)
        finally:
            samples.stop()
            faults.stop()
        seconds = time.monotonic() - started
        counts = check_streams(halves, replies)
        for router in cluster.routers():
            for metric in ("requests_in_flight", "attempts_in_flight", "queued_requests"):
                wait_until(lambda: router.metric(f"tandem_router_{metric}") == 0, 10, f"no {metric}")
        pool_blocks = faults.most_entries * GROUPS_EACH * (kv_tokens // BLOCK)
        check_memory(samples, pool_blocks)
        gaps, retries = (
            sum(router.metric(f"tandem_router_{name}_total") or 0 for router in cluster.routers())
            for name in ("kv_event_gaps", "retries")
        )
    return {
        "seed": seed, "rate_scale": rate_scale, "seconds": round(seconds, 1),
        "faults": dict(faults.counts), "requests": counts["requests"], "ok": counts["ok"],
        "cut_by_an_error": counts["cut"], "failed_before_a_token": counts["failed before a token"],
        "output_tokens_checked": counts["tokens"],
        "prompt_tokens": sum(r["input_length"] for r in requests),
        "cached_tokens": sum(report["total_cached_tokens"] for _, report in halves),
        "retries": retries, "kv_event_gaps": gaps,
        "index_blocks": [{"most": max(b), "end": b[-1]} for b in samples.blocks],
        "pool_blocks": pool_blocks,
        "router_resident_mb": [
            {"most_in_first_third": max(r[:len(r) // 3 + 1]) >> 10, "most": max(r) >> 10}
            for r in samples.resident
        ],
        "median_ttft_ms": [round(report["median_ttft_ms"], 1) for _, report in halves],
        "p95_ttft_ms": [round(report["p95_ttft_ms"], 1) for _, report in halves],
    }


def this_machine():
    """What a file in bench/results has to name."""
    here = pathlib.Path(__file__).resolve().parent
    commit = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo")
               if line.startswith("model name"))
    return {"machine": f"{cpu}, {os.cpu_count()} cores", "load_average": os.getloadavg(),
            "commit": commit}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trace", required=True, help="Mooncake's format, plain or gzip")
    parser.add_argument("--rate-scale", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--fault-every", type=float, default=4, help="seconds between faults, about")
    parser.add_argument("--json", help="write the result there")
    args = parser.parse_args()
    where = this_machine()
    result = {"command": " ".join(["faults_replay.py", *sys.argv[1:]]), **where,
              **run(read_trace(args.trace), args.rate_scale, args.seed, args.fault_every, KV_TOKENS)}
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        pathlib.Path(args.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
