"""A group whose ranks are on two machines and the router on a third: replies, cut links, lost ranks.

    clients ─── bridge "hosts" ─── router, rank 0, rank 1
                bridge "links" ─── router, rank 0
"""
import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import namespaces
from cluster import BIN, MODEL, NAME, SLOW, Cluster, wait_until

WATCHDOG = 5  # seconds; a step takes a hundredth of it
SETTINGS = f"min_watchdog: {WATCHDOG}s"
ROUTER = "10.77.0.9"


def cluster_file(folder):
    return f"""model: {{name: {NAME}, path: {MODEL}}}
groups:
  - {{name: g0, tp: 2, hosts: [10.77.0.1, 10.77.0.2], rendezvous_port: 8200, {SETTINGS}}}
router: {{listen: "{ROUTER}:8000"}}
links: {{routers: ["tcp://10.78.0.9:8100"], runtime_dir: {folder}/run}}
"""


class Stream:
    """A streamed completion in a thread."""

    def __init__(self, host, port, max_tokens):
        self.text = ""
        self.error = None
        self.first = threading.Event()
        self.ended = threading.Event()
        self.end_time = None
        self.where = (host, port)
        self.body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": max_tokens,
                     "temperature": 0, "stream": True}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        connection = http.client.HTTPConnection(*self.where, timeout=120 * SLOW)
        try:
            connection.request("POST", "/v1/completions", json.dumps(self.body),
                               {"Content-Type": "application/json"})
            for line in connection.getresponse():
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    self.error = event["error"]
                else:
                    self.text += event["choices"][0]["text"]
                    self.first.set()
        except OSError as error:
            self.error = {"message": str(error), "code": "connection"}
        finally:
            self.end_time = time.monotonic()
            self.first.set()
            self.ended.set()
            connection.close()

    def finish(self):
        assert self.ended.wait(120 * SLOW), "the client was left waiting"
        return self


class Hosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        namespaces.ip("link", "set", "lo", "up")
        cls.hosts = namespaces.Bridge("hosts", "10.77.0.254/24")
        cls.links = namespaces.Bridge("links")
        with Cluster(tp=2, group=SETTINGS) as one_machine:
            cls.expected = Stream("127.0.0.1", one_machine.port, 100).finish().text

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tandem-e2e-"))
        self.file = self.dir / "cluster.yaml"
        self.file.write_text(cluster_file(self.dir))
        self.router, self.rank0, self.rank1 = (namespaces.Machine() for _ in range(3))
        for machine, number in ((self.router, 9), (self.rank0, 1), (self.rank1, 2)):
            machine.plug(self.hosts, f"10.77.0.{number}/24")
        self.router.plug(self.links, "10.78.0.9/24")
        self.rank0.plug(self.links, "10.78.0.1/24")
        self.ups = {}
        self.failed = True

    def tearDown(self):
        for machine in list(self.ups):
            self.end(machine, signal.SIGTERM)
        for machine in (self.router, self.rank0, self.rank1):
            machine.end()
        if self.failed:
            print("---- log\n" + self.log()[-20000:], file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, machine):
        with open(self.dir / "log", "ab") as log:
            self.ups[machine] = subprocess.Popen(
                [*machine.inside, BIN / "tandem", "up", self.file], stdout=log, stderr=log
            )

    def end(self, machine, sig):
        up = self.ups.pop(machine)
        up.send_signal(sig)
        up.wait(60 * SLOW)
        return up.returncode

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def status(self, path="/ready"):
        connection = http.client.HTTPConnection(ROUTER, 8000, timeout=5 * SLOW)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def wait_ready(self, seconds=60):
        def ready():
            for up in self.ups.values():
                self.assertIsNone(up.poll(), "tandem up ended")
            return self.status() == 200

        wait_until(ready, seconds, "/ready says 200")

    def start_all(self):
        for machine in (self.rank1, self.router, self.rank0):
            self.start(machine)
        self.wait_ready()

    def workers(self):
        """The lines that say that a worker was started."""
        return [line for line in self.log().splitlines() if "started worker" in line]

    def serves_as_one_machine(self):
        stream = Stream(ROUTER, 8000, 100).finish()
        self.assertIsNone(stream.error)
        self.assertEqual(stream.text, self.expected)

    def loses_a_stream(self, cut, bound):
        """Cuts a link under a stream: a clear error within `bound` seconds."""
        stream = Stream(ROUTER, 8000, 4000)
        self.assertTrue(stream.first.wait(60 * SLOW))
        self.assertFalse(stream.ended.is_set(), "the stream ended before the fault")
        start = time.monotonic()
        cut()
        stream.finish()
        self.assertIsNotNone(stream.error, "the stream ended without an error event")
        self.assertEqual(stream.error["code"], "group_lost")
        self.assertLess(stream.end_time - start, bound * SLOW)
        return stream.end_time - start

    def test_the_reply_is_that_of_one_machine_and_the_end_is_orderly(self):
        self.start_all()
        self.serves_as_one_machine()
        started = "\n".join(self.workers())
        self.assertIn("worker g0/0", started)
        self.assertIn("worker g0/1", started)
        self.assertEqual(len(self.workers()), 2, "each machine starts its own rank only")
        # A rank that is told to stop ends the group, the leader's machine too.
        self.assertEqual(self.end(self.rank1, signal.SIGTERM), 0)
        wait_until(lambda: self.log().count("the group has shut down") == 2, 20, "both ranks end")
        self.failed = False

    def test_a_cut_link_between_ranks(self):
        self.start_all()
        took = self.loses_a_stream(lambda: self.rank1.cut(self.hosts), WATCHDOG + 3)
        print(f"cut between ranks: error after {took:.2f} s")
        # Both processes end and start again, and then wait for each other.
        wait_until(lambda: len(self.workers()) >= 4, 30, "both ranks are started again")
        wait_until(lambda: "looking for the leader at 10.77.0.1:8200" in self.log(), 30,
                   "rank 1 looks for the leader")
        self.assertEqual(self.status(), 503)
        refused = Stream(ROUTER, 8000, 4)
        self.assertTrue(refused.ended.wait(10 * SLOW), "a request hangs")
        self.rank1.restore(self.hosts)
        self.wait_ready()
        self.serves_as_one_machine()
        self.failed = False

    def test_a_cut_link_between_router_and_leader(self):
        self.start_all()
        # The leader's word of when its next report comes, and a second: docs/wire.md.
        took = self.loses_a_stream(lambda: self.router.cut(self.links), WATCHDOG + 0.4 + 1 + 3)
        print(f"cut between router and leader: error after {took:.2f} s")
        self.assertEqual(self.status(), 503)
        self.router.restore(self.links)
        self.wait_ready()
        self.serves_as_one_machine()
        self.assertEqual(len(self.workers()), 2, "the group is not to blame and goes on")
        self.failed = False

    def test_a_machine_that_is_lost_and_comes_back(self):
        self.start(self.router)
        self.start(self.rank0)  # waits for the other, however long
        wait_until(lambda: "started worker g0/0" in self.log(), 30, "rank 0 is started")
        self.start(self.rank1)
        self.wait_ready()
        self.loses_a_stream(lambda: self.end(self.rank1, signal.SIGKILL), 3)
        self.assertEqual(self.status(), 503)
        self.start(self.rank1)
        self.wait_ready()
        self.serves_as_one_machine()
        self.failed = False


if __name__ == "__main__":
    namespaces.enter_or_skip()
    unittest.main()
