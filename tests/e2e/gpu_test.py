"""`device: cuda` from the cluster file to the reply: the real worker, whose kernels run on the
emulation (tandem-worker-emulated), as one and as two processes, with a tiny model of each family,
and beside a group on the CPU that serves the same model.

Environment: as cluster.py; TANDEM_MODEL is not used.
"""
import concurrent.futures
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import unittest.mock

import folders
from cluster import BIN, NAME, SLOW, Cluster, free_port, wait_until

FAMILIES = ("llama3", "qwen2", "qwen3")
PROMPT = "the other of a thing in an hour and all the while on"
FORM = "[a-d]{3} (no|yes){1,2}!"
SHAPE = ("head_dim=64", "heads=4", "kv_heads=2", "hidden=128")
CLUSTER = """models: [%s]
groups: [%s]
router: {{listen: "127.0.0.1:{port}"}}
links: {{routers: ["tcp://127.0.0.1:{link}"], runtime_dir: {dir}/run}}
"""


def setUpModule():
    global folder, bin_dir
    folder = tempfile.TemporaryDirectory(prefix="tandem-gpu-")
    bin_dir = pathlib.Path(folder.name) / "bin"
    bin_dir.mkdir()
    (bin_dir / "tandem-router").symlink_to(BIN / "tandem-router")
    (bin_dir / "tandem-worker").symlink_to(BIN / "tandem-worker-emulated")
    for family in FAMILIES:
        subprocess.run([BIN / "tandem-make-tiny-model", model(family), f"family={family}",
                        *SHAPE], check=True)
    subprocess.run([BIN / "tandem-make-tiny-model", model("much-kv"), "family=llama3",
                    "head_dim=128", "heads=4", "kv_heads=4", "hidden=128"], check=True)


def tearDownModule():
    folder.cleanup()


def model(family):
    return pathlib.Path(folder.name) / f"{family}.gguf"


def gpu_cluster(family, settings=", max_seqs: 4", tp=1, watchdog="30s", beside_cpu=False,
                path=None):
    """`beside_cpu`: the model is also served by a group of its own on the CPU, as `on-cpu`."""
    names = [NAME]
    groups = [f"{{{{name: g0, model: {NAME}, device: cuda, tp: {tp}, kv_memory: 1MiB, "
              f"max_step_tokens: 64, min_watchdog: {watchdog}{settings}}}}}"]
    if beside_cpu:
        names.append("on-cpu")
        groups.append("{{name: c0, model: on-cpu, threads: 1, activation_dtype: f32, "
                      "kv_cache_dtype: f32, kv_memory: 2MiB, max_step_tokens: 64}}")
    models = [f"{{{{name: {name}, path: {{model}}}}}}" for name in names]
    return Cluster(text=CLUSTER % (", ".join(models), ", ".join(groups)), bin_dir=bin_dir,
                   model=path or model(family))


def emulation(options):
    return unittest.mock.patch.dict(os.environ, TANDEM_EMULATION=options)


def refusal(program, settings="", options="", file=None):
    """(exit code, lines of errors) of a rank that cannot start."""
    with tempfile.TemporaryDirectory() as home, emulation(options):
        config = pathlib.Path(home) / "c.yaml"
        config.write_text(f"model: {{path: {file or model('llama3')}}}\n"
                          f"groups: [{{name: g0, device: cuda{settings}}}]\n"
                          f"links: {{runtime_dir: {home}}}\n")
        run = subprocess.run([BIN / program, "--config", config, "--group", "g0", "--rank", "0"],
                             capture_output=True, text=True, timeout=60 * SLOW)
    return run.returncode, [line for line in run.stderr.splitlines() if " info " not in line]


def with_tensor_type(source, tensor, number):
    """The file with another type in the tensor's entry: name, dimensions, type, offset."""
    data = bytearray(source.read_bytes())
    at = data.index(tensor.encode()) + len(tensor)
    at += 4 + 8 * struct.unpack_from("<I", data, at)[0]
    struct.pack_into("<I", data, at, number)
    source.write_bytes(data)
    return source


def complete(cluster, prompt=PROMPT, max_tokens=12, **options):
    status, reply, _ = cluster.post(
        "/v1/completions",
        {"model": NAME, "prompt": prompt, "max_tokens": max_tokens, **options},
        {"x-tandem-timing": "1"})
    if status != 200:
        raise AssertionError(reply)
    return reply


def texts(cluster):
    """Greedy and seeded, one after the other."""
    return [complete(cluster, temperature=0)["choices"][0]["text"],
            complete(cluster, temperature=1, seed=5)["choices"][0]["text"]]


def streamed(client, name, request):
    """(text, usage) of a streamed reply."""
    text, usage = "", None
    for chunk in client.completions.create(model=name, stream=True,
                                           stream_options={"include_usage": True}, **request):
        text += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    return text, usage


class Gpu(unittest.TestCase):
    def beside_cpu(self, cluster, requests):
        """Replies of the GPU, all at once, after those of the CPU were found to be the same."""
        client = cluster.client()
        with concurrent.futures.ThreadPoolExecutor(2 * len(requests)) as pool:
            gpu, cpu = ([pool.submit(streamed, client, name, request) for request in requests]
                        for name in (NAME, "on-cpu"))
            for request, ours, other in zip(requests, gpu, cpu):
                (text, usage), (expected, cpu_usage) = ours.result(), other.result()
                self.assertEqual(text, expected, request)
                self.assertEqual(usage.completion_tokens, cpu_usage.completion_tokens)
                self.assertEqual(usage.prompt_tokens, cpu_usage.prompt_tokens)
            return [run.result() for run in gpu]

    def test_families_by_one_and_two_ranks_with_graphs_and_without(self):
        greedy = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
        seeded = {"prompt": PROMPT, "max_tokens": 12, "temperature": 1, "seed": 5}
        long = {"prompt": PROMPT * 4, "max_tokens": 6}  # several chunks
        settings = ", max_seqs: 4, activation_dtype: f16"
        for family in FAMILIES:
            for tp, graphs in ((1, True), (2, True), (2 if family == "qwen2" else 1, False)):
                with self.subTest(family=family, tp=tp, graphs=graphs), gpu_cluster(
                        family, settings + f", cuda_graphs: {str(graphs).lower()}", tp,
                        beside_cpu=True) as cluster:
                    wait_until(lambda: cluster.metric("tandem_router_group_up") == 2, 60, "both")
                    self.assertEqual("captured graphs" in cluster.log(), graphs)
                    first = self.beside_cpu(
                        cluster, [greedy, seeded, {**long, "temperature": 0},
                                  {"prompt": "in a word", "max_tokens": 12, "seed": 16},
                                  {**greedy, "extra_body": {"guided_regex": FORM}}])
                    self.assertRegex(first[4][0], f"^({FORM})$")
                    self.assertGreater(first[2][1].prompt_tokens, 2 * 64)
                    second = self.beside_cpu(
                        cluster, [{**long, "prompt": long["prompt"] + ending, "seed": i}
                                  for i, ending in enumerate(("", " in", " the other"))])
                    for _, usage in second:
                        self.assertGreater(usage.prompt_tokens_details.cached_tokens, 64)
                    alone = [streamed(cluster.client(), NAME, r)[0] for r in (greedy, seeded)]
                    self.assertEqual(alone, [text for text, _ in first[:2]])

    def test_a_hugging_face_folder_in_bf16(self):
        """Granite's, with a factor of the logits; its tokenizer makes characters tokens."""
        path = folders.make(pathlib.Path(folder.name) / "granite", "granite")
        # Biases and penalties of each row are its own.
        requests = [{"prompt": PROMPT * 2, "max_tokens": 16, "temperature": 0,
                     "logit_bias": {"30": 6}, "frequency_penalty": 1},
                    {"prompt": PROMPT, "max_tokens": 16, "temperature": 1, "seed": 5,
                     "logit_bias": {"50": 6, "51": 4}},
                    {"prompt": PROMPT, "max_tokens": 16, "temperature": 0.7, "top_p": 0.9,
                     "seed": 6, "presence_penalty": 1, "logit_bias": {"40": 5}}]
        with gpu_cluster("granite", ", max_seqs: 4, activation_dtype: f16", 2, beside_cpu=True,
                         path=path) as cluster:
            wait_until(lambda: cluster.metric("tandem_router_group_up") == 2, 60, "both")
            self.beside_cpu(cluster, requests)

    def test_two_gpus_hold_what_one_cannot(self):
        """24 MiB of weights beside 34 for steps; no GPU ever has more than its part of them."""
        large = pathlib.Path(folder.name) / "large.gguf"
        subprocess.run([BIN / "tandem-make-tiny-model", large, "family=llama3", *SHAPE, "ffn=8192",
                        "layers=4"], check=True)
        small = ", max_seqs: 4, max_step_tokens: 64, kv_memory: 1MiB"
        status, lines = refusal("tandem-worker-emulated", small, "memory=57M", large)
        self.assertEqual((status, len(lines)), (1, 1), lines)
        self.assertIn("57 MiB of memory free, and rank 0 of 1 needs ", lines[0])
        with emulation("memory=57M"), gpu_cluster("large", tp=2, path=large) as cluster:
            self.assertEqual(complete(cluster)["usage"]["completion_tokens"], 12)
            for rank in (0, 1):
                self.assertRegex(cluster.log(), rf"weights: [0-9]+ MiB of 1[0-9] MiB on GPU {rank}\n")

    def test_cached_prefixes(self):
        with gpu_cluster("llama3") as cluster:
            prompt = PROMPT * 8
            first, second = (complete(cluster, prompt, temperature=0) for _ in range(2))
            self.assertEqual(first["choices"][0]["text"], second["choices"][0]["text"])
            self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"], 100)

    def test_preempted_sequences_are_computed_again(self):
        with gpu_cluster("much-kv") as cluster:  # 1 MiB: 7 blocks of 16 tokens
            def run(i):
                return complete(cluster, f"{i} {PROMPT[:36]}", 40, temperature=1, seed=i)

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                together = list(pool.map(run, range(4)))
            preempted = [i for i, reply in enumerate(together)
                         if reply["timing"]["total"]["num_preemptions"] > 0]
            self.assertTrue(preempted)
            for i in preempted[:1]:
                self.assertEqual(run(i)["choices"][0]["text"], together[i]["choices"][0]["text"])

    def lose_rank_1(self, cluster, by):
        ended = threading.Event()
        errors = []

        def stream():
            try:
                for _ in cluster.client().completions.create(
                    model=NAME, prompt=PROMPT, max_tokens=400, stream=True, temperature=0,
                ):
                    first.set()
            except Exception as error:
                errors.append(error)
            first.set()
            ended.set()

        first = threading.Event()
        threading.Thread(target=stream, daemon=True).start()
        self.assertTrue(first.wait(60 * SLOW))
        self.assertFalse(ended.is_set(), "the stream ended before the fault")
        start = time.monotonic()
        os.kill(cluster.rank_pid(1), by)
        self.assertTrue(ended.wait(30 * SLOW), "the client was left waiting")
        print(f"{by.name} to rank 1: the client heard after {time.monotonic() - start:.2f} s")
        self.assertEqual(len(errors), 1)
        self.assertIn("group", str(errors[0]).lower())

    def test_a_rank_that_is_lost_is_named(self):
        with gpu_cluster("llama3", tp=2, watchdog="5s") as cluster:
            for by, said in ((signal.SIGKILL, "has ended"),
                             (signal.SIGSTOP, "did not finish a step within")):
                rank = f"rank 1 (process {cluster.rank_pid(1)}) {said}"
                self.lose_rank_1(cluster, by)
                wait_until(lambda: rank in cluster.log(), 10, rank)
                cluster.wait_ready(60)
            self.assertGreater(complete(cluster)["usage"]["completion_tokens"], 0)

    def test_without_peer_access_sums_go_over_nccl(self):
        """As between hosts: the ranks' link is TCP."""
        link = f", max_seqs: 4, hosts: [127.0.0.1], rendezvous_port: {free_port()}"
        with emulation("peer_access=0"), gpu_cluster("llama3", link, tp=2) as cluster:
            self.assertEqual(texts(cluster), texts(cluster))
            self.assertIn("the ranks' GPUs do not reach each other's memory (GPU 0 has no peer "
                          "access to GPU 1); all sums go over NCCL", cluster.log())
            self.assertIn("connected to all ranks, from 127.0.0.1\n", cluster.log())
            self.assertNotIn("go over peer memory", cluster.log())

    def test_what_a_rank_cannot_use_is_one_line(self):
        wide = pathlib.Path(folder.name) / "wide.gguf"
        subprocess.run([BIN / "tandem-make-tiny-model", wide, "family=llama3", *SHAPE, "ffn=256"],
                       check=True)
        q6_k = with_tensor_type(wide, "blk.1.ffn_down.weight", 14)
        mixed = pathlib.Path(folder.name) / "mixed.gguf"
        shutil.copy(model("llama3"), mixed)
        with_tensor_type(mixed, "blk.1.attn_k.weight", 1)
        broad = pathlib.Path(folder.name) / "broad.gguf"
        subprocess.run([BIN / "tandem-make-tiny-model", broad, "family=llama3", "head_dim=64",
                        "heads=2", "kv_heads=1", "hidden=16416", "ffn=32", "layers=1"], check=True)
        for options, settings, file, code, said in (
            ("arch=75", "", None, 3, ["T4", "compute capability 7.5; 8.0 (A100) or later"]),
            ("driver=0", "", None, 3, ["no NVIDIA driver on this machine", "device: cpu"]),
            ("driver=12090", "", None, 3,
             ["the NVIDIA driver is for CUDA 12.9, and this program needs "]),
            ("devices=0", "", None, 3, ["no GPU on this machine", "CUDA_VISIBLE_DEVICES"]),
            ("devices=2", ", devices: [5]", None, 2,
             ["GPU 5 is wanted, and this machine has 2", "groups[].devices"]),
            ("memory=1M", "", None, 1,
             ["GPU 0 has 1 MiB of memory free, and rank 0 of 1 needs ", "2 MiB of weights",
              "groups[].tp", "max_step_tokens", "max_seqs"]),
            ("", ", max_seqs: 4, max_step_tokens: 64", broad, 2,
             ["an embedding length of 16416 is not supported on a GPU; 16384 is the most"]),
            ("memory=64M", ", kv_memory: 65MiB", None, 1,
             ["kv_memory is 65 MiB, and GPU 0 has ", "lower groups[].kv_memory"]),
            ("", "", q6_k, 2,
             ["tensor blk.1.ffn_down.weight is of type Q6_K, which is not supported"]),
            ("", "", mixed, 2, ["tensors blk.1.attn_q.weight (", ") and blk.1.attn_k.weight (F16) of "
                                "different types are not supported"]),
        ):
            with self.subTest(options=options, settings=settings):
                status, lines = refusal("tandem-worker-emulated", settings, options, file)
                self.assertEqual((status, len(lines)), (code, 1), lines)
                for text in said:
                    self.assertIn(text, lines[0])

    def test_a_worker_without_driver_says_so(self):
        """The worker that ships, where there is no GPU."""
        if pathlib.Path("/proc/driver/nvidia").exists():
            self.skipTest("this machine has a driver")
        status, lines = refusal("tandem-worker")
        if "built without CUDA" in "".join(lines):
            self.assertEqual(status, 2)
            self.skipTest("built without nvcc")
        self.assertEqual((status, len(lines)), (3, 1), lines)
        self.assertIn("device: cpu", lines[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
