"""A cluster of real processes for one test: a cluster file on free ports, `tandem up`, and its end.

Environment: TANDEM_BIN (folder of the binaries), TANDEM_MODEL (GGUF file), TANDEM_SLOW (factor on
time limits, for sanitizer builds). Logs of a failed run are printed.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ["TANDEM_BIN"]).resolve()
MODEL = pathlib.Path(os.environ["TANDEM_MODEL"]).resolve()
SLOW = float(os.environ.get("TANDEM_SLOW", "1"))
NAME = "test-model"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds, what):
    """Polls until condition() is true; the bound is for faults only."""
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}")


class Cluster:
    def __init__(self, tp=2, group="", router="", log="{level: info}", text=None,
                 started_when=None, bin_dir=BIN, model=MODEL, tandem=BIN / "tandem"):
        """`text`: the whole cluster file, with {model}, {port}, {link} and {dir} in it.
        `started_when`: what the log says when the test begins, instead of /ready saying 200.
        `bin_dir`: where `tandem up` looks for the other programs. `tandem`: what runs as it."""
        self.tandem = tandem
        self.started_when = started_when
        self.bin_dir = bin_dir
        self.model = model
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tandem-e2e-"))
        self.port = free_port()
        self.log_path = self.dir / "log"
        self.file = self.dir / "cluster.yaml"
        self.file.write_text(
            f"""model: {{name: {NAME}, path: {MODEL}}}
groups:
  - {{name: g0, tp: {tp}, threads: 1, {group}}}
router:
  listen: 127.0.0.1:{self.port}
{router}
links:
  routers: [tcp://127.0.0.1:{free_port()}]
  runtime_dir: {self.dir}/run
log: {log}
"""
        )
        if text is not None:
            self.write(text)
        (self.dir / "keys.txt").write_text("# for api_keys_file\nsecret-1\nsecret-2\n")
        self.up = None

    def write(self, text):
        """Replaces the cluster file at once, so that nobody reads half of it."""
        if not hasattr(self, "link"):
            self.link = free_port()
        new = self.dir / "new.yaml"
        new.write_text(
            text.format(model=self.model, port=self.port, link=self.link, dir=self.dir)
        )
        new.rename(self.file)

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            self.up = subprocess.Popen(
                [self.tandem, "up", "--bin-dir", self.bin_dir, self.file],
                stdout=log, stderr=subprocess.STDOUT,
            )
        try:
            if self.started_when is None:
                self.wait_ready()
            else:
                wait_until(lambda: self.started_when in self.log(), 60, self.started_when)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(60 * SLOW)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
                if kind is None:
                    raise
        if kind is not None:
            print("---- log of the cluster\n" + self.log()[-20000:], file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, seconds=60):
        def ready():
            if self.up.poll() is not None:
                raise AssertionError(f"tandem up ended with {self.up.returncode}")
            return self.get("/ready")[0] == 200

        wait_until(ready, seconds, "/ready says 200")

    def get(self, path, headers=None):
        """(status, body); status 0: no connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10 * SLOW)
        try:
            connection.request("GET", path, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def post(self, path, body, headers=None, timeout=120):
        """(status, parsed JSON, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(
            "POST", path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, json.loads(text), dict(reply.getheaders())

    def client(self, **options):
        import openai

        return openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key=options.pop("api_key", "none"),
            max_retries=0,
            timeout=120 * SLOW,
            **options,
        )

    def metric(self, name, labels=""):
        """Sum over the series of a metric whose label text contains `labels`; None without any."""
        total = None
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("#") or not line.startswith(name):
                continue
            rest = line[len(name):]
            if rest[:1] not in ("{", " ") or labels not in rest:
                continue
            total = (total or 0) + float(rest.rsplit(" ", 1)[1])
        return total

    def pids(self, program):
        """{pid: argv} of the running children of `tandem up` that are `program`."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text()
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            state, ppid = stat.rsplit(")", 1)[1].split()[:2]
            if int(ppid) == self.up.pid and state != "Z" and argv[0].endswith(program.encode()):
                found[int(entry.name)] = [a.decode() for a in argv if a]
        return found

    def rank_pid(self, rank):
        for pid, argv in self.pids("tandem-worker").items():
            if argv[argv.index("--rank") + 1] == str(rank):
                return pid
        raise AssertionError(f"rank {rank} does not run")
