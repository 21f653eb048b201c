"""Several groups, models and routers as one cluster: drain, reload, aliases, recorded traces."""
import json
import os
import signal
import subprocess
import threading
import unittest

from cluster import BIN, SLOW, Cluster, free_port, wait_until

TWO_GROUPS = """
model: {{name: test-model, path: {model}}}
groups:
  - {{name: g0}}
  - {{name: g1}}
router:
  listen: 127.0.0.1:{port}
  record_trace: {dir}/trace.jsonl
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
"""


def ask(cluster, model="test-model", prompt="Once upon a time", max_tokens=8, **more):
    return cluster.post(
        "/v1/completions",
        {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more},
    )


def groups(cluster):
    """{name: state} of /health."""
    return {g["name"]: g["state"] for g in json.loads(cluster.get("/health")[1])["groups"]}


def wait_up(cluster, *names):
    wait_until(lambda: all(groups(cluster).get(n) == "up" for n in names), 60, f"{names} are up")


class Load:
    """Clients that ask again and again until stop(); every answer is counted by status."""

    def __init__(self, cluster, clients=4):
        self.cluster = cluster
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.counts = {}
        self.wrong = []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        n = 0
        while not self.ending.is_set():
            n += 1
            status, body, _ = ask(self.cluster, prompt=f"client {client} asks for the {n}th time")
            with self.lock:
                self.counts[status] = self.counts.get(status, 0) + 1
                if status != 200:
                    self.wrong.append(body)

    def total(self):
        with self.lock:
            return sum(self.counts.values())

    def wait_more(self, count):
        now = self.total()
        wait_until(lambda: self.total() >= now + count, 120, f"{count} more answers")

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()


class Routing(unittest.TestCase):
    def test_a_group_drains_under_load_and_comes_back(self):
        with Cluster(text=TWO_GROUPS) as cluster:
            wait_up(cluster, "g0", "g1")
            load = Load(cluster)
            try:
                load.wait_more(20)
                drain = subprocess.run(
                    [BIN / "tandem", "drain", cluster.file, "g0"],
                    capture_output=True, text=True, timeout=120 * SLOW,
                )
                self.assertEqual(drain.returncode, 0, drain.stderr)
                self.assertEqual(drain.stdout, "group 'g0' has left\n")
                wait_until(lambda: groups(cluster)["g0"] == "down", 10, "the router knows")
                self.assertEqual(groups(cluster)["g1"], "up")
                load.wait_more(20)
                cluster.up.send_signal(signal.SIGHUP)
                wait_up(cluster, "g0", "g1")
                load.wait_more(20)
            finally:
                load.stop()
            self.assertEqual(list(load.counts), [200], load.wrong)
            self.assertIn("group g0 was told to leave", cluster.log())
            with open(cluster.dir / "trace.jsonl") as lines:
                self.assertEqual(json.loads(lines.readline()), {"tandem_trace": 1, "block_size": 16})
                requests = [json.loads(line) for line in lines]
            self.assertEqual(len(requests), load.total())
            for request in requests:
                self.assertGreater(request["output_length"], 0)
                self.assertEqual(len(request["hash_ids"]), request["input_length"] // 16)

    def test_a_reload_takes_over_aliases_and_groups_and_drops_no_stream(self):
        with Cluster(text=TWO_GROUPS) as cluster:
            wait_up(cluster, "g0", "g1")
            router = list(cluster.pids("tandem-router"))
            self.assertEqual(ask(cluster, model="fresh")[0], 404)
            load = Load(cluster)
            try:
                load.wait_more(5)
                cluster.write(TWO_GROUPS + "aliases: [{{name: fresh, model: no-such}}]\n")
                cluster.up.send_signal(signal.SIGHUP)
                wait_until(lambda: "there is no model 'no-such'" in cluster.log(), 20, "a refusal")
                self.assertEqual(ask(cluster, model="fresh")[0], 404)
                load.wait_more(5)
                cluster.write(
                    TWO_GROUPS.replace("- {{name: g1}}", "- {{name: g2}}")
                    + "aliases: [{{name: fresh, model: test-model}}]\n"
                )
                cluster.up.send_signal(signal.SIGHUP)
                wait_until(lambda: ask(cluster, model="fresh")[0] == 200, 20, "the alias is known")
                wait_up(cluster, "g0", "g2")
                wait_until(lambda: "g1" not in groups(cluster), 60, "g1 has left")
                load.wait_more(10)
            finally:
                load.stop()
            self.assertEqual(list(load.counts), [200], load.wrong)
            self.assertEqual(list(cluster.pids("tandem-router")), router)

    def test_a_keys_file_that_was_emptied_leaves_all_as_it_was(self):
        text = TWO_GROUPS.replace("router:\n", "router:\n  api_keys_file: {dir}/keys.txt\n")
        key = {"Authorization": "Bearer secret-1"}
        body = {"model": "test-model", "prompt": "Hi", "max_tokens": 2}
        with Cluster(text=text) as cluster:
            wait_until(lambda: cluster.log().count("loaded ") == 2, 60, "both groups are up")
            workers = cluster.pids("tandem-worker")
            keys = cluster.dir / "keys.txt"
            keys.write_text("")
            cluster.write(text.replace("- {{name: g1}}", "- {{name: g2}}"))
            cluster.up.send_signal(signal.SIGHUP)
            refusal = f"error up: {keys}:1: no API key here; add one a line"
            wait_until(lambda: refusal in cluster.log(), 20, "a refusal that names file and fix")
            check = subprocess.run([BIN / "tandem", "check", cluster.file],
                                   capture_output=True, text=True, timeout=60 * SLOW)
            self.assertEqual((check.returncode, check.stdout), (2, ""), check.stderr)
            self.assertIn(f"{keys}:1: no API key here", check.stderr)
            self.assertEqual(cluster.pids("tandem-worker"), workers)
            self.assertEqual(cluster.post("/v1/completions", body, key)[0], 200)
            keys.write_text("secret-3\n")
            cluster.up.send_signal(signal.SIGHUP)
            wait_until(lambda: cluster.post("/v1/completions", body, key)[0] == 401, 20, "new keys")
            wait_until(lambda: "started worker g2/0" in cluster.log(), 20, "g2 is started")

    def test_two_models_and_an_alias_that_chooses(self):
        text = """
models:
  - {{name: large, path: {model}}}
  - {{name: small, path: {model}, max_context: 256}}
groups:
  - {{name: l0, model: large}}
  - {{name: s0, model: small}}
aliases:
  - name: auto
    choices:
      - {{model: small, max_prompt_tokens: 40}}
      - {{model: large}}
router: {{listen: "127.0.0.1:{port}"}}
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
"""
        with Cluster(text=text) as cluster:
            wait_up(cluster, "l0", "s0")
            long = "word " * 60
            for asked, prompt, served in (
                ("large", "Hi", "large"), ("small", "Hi", "small"),
                ("auto", "Hi", "small"), ("auto", long, "large"),
            ):
                status, body, headers = ask(cluster, model=asked, prompt=prompt)
                self.assertEqual(status, 200, body)
                self.assertEqual(body["model"], served)
                self.assertEqual(headers["x-tandem-model"], served)
            status, body, _ = ask(cluster, model="larg")
            self.assertEqual(status, 404)
            self.assertIn("'large', 'small', 'auto'", body["error"]["message"])

    def test_two_routers_serve_the_same_groups(self):
        second_port, second_link = free_port(), free_port()
        text = TWO_GROUPS.replace(
            "routers: [tcp://127.0.0.1:{link}]",
            f"routers: [tcp://127.0.0.1:{{link}}, tcp://127.0.0.1:{second_link}]",
        )
        with Cluster(text=text) as cluster:
            log = open(cluster.dir / "second.log", "wb")
            second = subprocess.Popen(
                [BIN / "tandem-router", "--config", cluster.file, "--router-index", "1",
                 "--port", str(second_port)],
                stdout=log, stderr=subprocess.STDOUT,
            )
            try:
                first_port = cluster.port
                wait_up(cluster, "g0", "g1")
                cluster.port = second_port
                wait_until(lambda: cluster.get("/ready")[0] == 200, 60, "the second one is ready")
                wait_up(cluster, "g0", "g1")
                replies = set()
                for port in (first_port, second_port):
                    cluster.port = port
                    status, body, _ = ask(cluster)
                    self.assertEqual(status, 200, body)
                    replies.add(body["choices"][0]["text"])
                self.assertEqual(len(replies), 1)
                # The first one is killed under the load of the second, and comes back.
                load = Load(cluster)
                try:
                    load.wait_more(10)
                    os.kill(next(iter(cluster.pids("tandem-router"))), signal.SIGKILL)
                    load.wait_more(20)
                finally:
                    load.stop()
                self.assertEqual(list(load.counts), [200], load.wrong)
                cluster.port = first_port
                cluster.wait_ready()
                self.assertEqual(ask(cluster)[0], 200)
            finally:
                cluster.port = first_port
                second.send_signal(signal.SIGTERM)
                self.assertEqual(second.wait(60 * SLOW), 0)
                log.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
