"""16 streaming clients against tp 2 for 60 seconds: no error, no leak, and every greedy reply equal
to that of the same prompt alone. TANDEM_SOAK_SECONDS shortens it for sanitizer builds."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import time
import unittest

from cluster import NAME, SLOW, Cluster, wait_until

SECONDS = float(os.environ.get("TANDEM_SOAK_SECONDS", "60"))
CLIENTS = 16
PROMPTS = [
    f"{opening} {subject}" * repeat
    for opening, repeat in (("Tell me about", 1), ("List facts on", 3), ("A poem about", 20))
    for subject in ("rivers.", "the moon.", "old books.", "bread.", "trains.", "snow.", "C++.",
                    "green tea.")
]


def stream(connection, prompt, max_tokens):
    """(text, finish reason) of one greedy stream, checked chunk by chunk."""
    body = {"model": NAME, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0,
            "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    assert reply.status == 200, (reply.status, reply.read())
    text, finish, done = "", None, False
    for line in reply:
        line = line.strip()
        if not line:
            continue
        assert line.startswith(b"data: "), line
        if line == b"data: [DONE]":
            done = True
            continue
        assert not done, "data after [DONE]"
        chunk = json.loads(line[6:])
        assert "error" not in chunk, chunk
        for choice in chunk["choices"]:
            text += choice["text"]
            finish = choice["finish_reason"] or finish
    assert done and finish, "the stream ended early"
    return text, finish


def memory_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def usage(cluster):
    """{(program, pid): (resident KB, open files)} of the cluster's processes."""
    return {
        (program, pid): (memory_kb(pid), len(os.listdir(f"/proc/{pid}/fd")))
        for program in ("tandem-router", "tandem-worker")
        for pid in cluster.pids(program)
    }


class Soak(unittest.TestCase):
    def test_sixteen_clients(self):
        seed = int(os.environ.get("TANDEM_SEED", time.time_ns() % 2**31))
        print(f"seed {seed} (TANDEM_SEED repeats it), {SECONDS:.0f} s", flush=True)
        with Cluster() as cluster:
            alone = {}
            connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=120 * SLOW)
            for prompt in PROMPTS:
                alone[prompt] = stream(connection, prompt, 48)
            connection.close()
            end = [time.monotonic() + SECONDS / 4]

            def client(number):
                rng = random.Random(seed + number)
                connection = http.client.HTTPConnection(
                    "127.0.0.1", cluster.port, timeout=120 * SLOW
                )
                count = 0
                while time.monotonic() < end[0]:
                    prompt = rng.choice(PROMPTS)
                    if rng.random() < 0.05:  # goes away in the middle
                        gone = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=60)
                        gone.request(
                            "POST", "/v1/completions",
                            json.dumps({"model": NAME, "prompt": prompt, "stream": True,
                                        "max_tokens": 500}),
                            {"Content-Type": "application/json"},
                        )
                        gone.getresponse().read(rng.randrange(1, 2000))
                        gone.close()
                    got = stream(connection, prompt, 48)
                    assert got == alone[prompt], f"{prompt!r}: {got!r}, alone {alone[prompt]!r}"
                    count += 1
                connection.close()
                return count

            def round_of_clients():
                with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                    return sum(pool.map(client, range(CLIENTS)))

            total = round_of_clients()  # a quarter of the time warms caches and allocators
            before = usage(cluster)
            end[0] = time.monotonic() + SECONDS * 3 / 4
            total += round_of_clients()
            wait_until(
                lambda: not cluster.metric("tandem_router_requests_in_flight"), 10, "all is done"
            )
            after = usage(cluster)
            print(f"{total} replies; resident KB and files, before -> after:")
            for key in before:
                print("  ", *key, before[key], "->", after[key])
            self.assertEqual(before.keys(), after.keys(), "a process restarted")
            self.assertGreater(total, CLIENTS)
            for key, (kb, files) in after.items():
                self.assertLess(kb, before[key][0] * 1.1 + 16384, f"{key} grew")
                self.assertLessEqual(files, before[key][1] + 4, f"{key} leaks files")


if __name__ == "__main__":
    unittest.main(verbosity=2)
