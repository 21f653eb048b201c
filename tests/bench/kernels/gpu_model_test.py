"""bench/kernels/gpu_model: its predictions are sane, its profiles are read by `tandem check`, and
its fit finds coefficients that are known. TANDEM names the `tandem` command."""
import csv
import gzip
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "bench" / "kernels" / "gpu_model"
loader = importlib.machinery.SourceFileLoader("gpu_model", str(SCRIPT))
gpu_model = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_model", loader))
loader.exec_module(gpu_model)

COEFFICIENTS = json.loads(gpu_model.COEFFICIENTS.read_text())
CONTEXTS = (1, 64, 1024, 8192, 65536)
FITTING = [(name, tp) for name in gpu_model.MODELS for tp in gpu_model.TPS
           if (name, tp) != ("llama-3.1-70b", 1)]


def predict(name, tp, batch, context):
    return gpu_model.predict(COEFFICIENTS, gpu_model.MODELS[name], tp, batch, context)


class Predictions(unittest.TestCase):
    def test_more_work_takes_longer(self):
        for name, tp in FITTING:
            by_batch = [[predict(name, tp, batch, context).us for context in CONTEXTS]
                        for batch in range(1, 257, 3)]
            for row in by_batch:
                self.assertEqual(row, sorted(row), (name, tp))
            for column in zip(*by_batch):
                self.assertEqual(list(column), sorted(column), (name, tp))
            self.assertLess(by_batch[0][0], by_batch[-1][-1])

    def test_no_part_beats_the_device(self):
        for name, tp in FITTING:
            for batch in gpu_model.BATCHES:
                for context in CONTEXTS:
                    for part in predict(name, tp, batch, context).parts:
                        self.assertGreaterEqual(part.us, part.bound, (name, tp, batch, part))

    def test_bound_counts_weights_and_context(self):
        # All weights but the embedding, and K and V of 8 x 1,000 tokens.
        step = predict("llama-3.1-8b", 1, 8, 1000)
        least = (2 * (8.03e9 - 128256 * 4096) + 8000 * 131072) / gpu_model.PEAK_BYTES
        self.assertLess(least * 0.999, step.bound)
        self.assertLess(step.bound, 1.03 * least)

    def test_parts_add_up(self):
        for name, tp in FITTING:
            step = predict(name, tp, 32, 1024)
            self.assertAlmostEqual(step.us, sum(part.us for part in step.parts))
            self.assertAlmostEqual(step.bound, sum(part.bound for part in step.parts))
            self.assertEqual(step.launches, sum(part.launches for part in step.parts))
            self.assertEqual(step.largest, max(step.parts, key=lambda part: part.us).name)
            self.assertEqual(len({part.name for part in step.parts}), len(step.parts))

    def test_launches_are_those_of_forward(self):
        # A layer: 4 products, rope, attention and merge, silu, two norms; and embedding, logits,
        # three of sampling. Of the norms the first has no sum before it, the last is by rows.
        self.assertEqual(predict("llama-3.1-8b", 1, 1, 64).launches, 32 * 10 + 6)
        # One row: sums and norms in one kernel, but the last; the logits are gathered.
        self.assertEqual(predict("llama-3.1-70b", 8, 1, 64).launches, 80 * 10 + 6 + 2)

    def test_memory(self):
        with self.assertRaises(gpu_model.Misfit):
            predict("llama-3.1-70b", 1, 1, 1)
        room = gpu_model.kv_tokens(gpu_model.MODELS["llama-3.1-8b"], 1)
        self.assertTrue(predict("llama-3.1-8b", 1, 1, room).fits)
        self.assertFalse(predict("llama-3.1-8b", 1, 1, room + 1).fits)

    def test_json_and_table(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "steps.json"
            done = subprocess.run([sys.executable, SCRIPT, "--json", path], check=True,
                                  capture_output=True, text=True)
            steps = json.loads(path.read_text())["steps"]
        self.assertEqual(len(steps), 2 * 4 * 2 * 9)
        self.assertEqual(sum(not step["fits_weights"] for step in steps), 2 * 9)
        self.assertIn("Predicted, not measured", done.stdout)
        self.assertEqual(done.stdout.count("weights do not fit"), 2)

    def test_docs_have_the_table(self):
        docs = (SCRIPT.parents[2] / "docs" / "gpu_prediction.md").read_text()
        self.assertIn(gpu_model.table(COEFFICIENTS, gpu_model.TABLE_BATCHES), docs)


class Profiles(unittest.TestCase):
    def check(self, folder, profile):
        (folder / "model.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))  # no tensors, no keys
        (folder / "profile.yaml").write_text(profile)
        (folder / "cluster.yaml").write_text(
            "model:\n  name: m\n  path: model.gguf\n"
            "groups:\n  - name: sim\n    device: sim\n    profile: profile.yaml\n"
            "router:\n  listen: 127.0.0.1:8000\n")
        return subprocess.run([os.environ["TANDEM"], "check", folder / "cluster.yaml"],
                              capture_output=True, text=True)

    def test_are_read(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for model, tp in FITTING:
                profile = subprocess.run([sys.executable, SCRIPT, "--profile", model, str(tp)],
                                         check=True, capture_output=True, text=True).stdout
                done = self.check(folder, profile)
                self.assertEqual(done.returncode, 0, done.stderr)
            done = self.check(folder, profile.replace("launch:", "lunch:"))
            self.assertEqual(done.returncode, 2, done.stdout)

    def test_weights_that_do_not_fit_have_none(self):
        done = subprocess.run([sys.executable, SCRIPT, "--profile", "llama-3.1-70b", "1"],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("141 GB of weights do not fit", done.stderr)

    def test_add_up_to_the_predicted_step(self):
        # The formula of common/device_profile.h. It has no bend where products start to take longer
        # than reading the weights, so that it is a little faster there.
        for name, tp in FITTING:
            p = gpu_model.profile(COEFFICIENTS, gpu_model.MODELS[name], tp)
            for batch in gpu_model.BATCHES:
                for context in gpu_model.CONTEXTS:
                    us = (p["launch"] + max(p["weights_read"], p["gemm_per_token"] * batch)
                          + p["kv_read_per_token"] * batch * context
                          + p.get("all_reduce", 0) + p.get("all_reduce_per_token", 0) * batch)
                    ratio = us / predict(name, tp, batch, context).us
                    self.assertGreater(ratio, 0.8, (name, tp, batch, context))
                    self.assertLess(ratio, 1.02, (name, tp, batch, context))


KNOWN = {
    "gemm": {"launch": 4.0, "bytes": 2.5e6, "flops": 6e8, "sharpness": 3.0, "k": 5e-4},
    "attention": {"launch": 8.0, "item": 0.03, "wave": 150.0, "bytes": 2.6e6, "sharpness": 2.0,
                  "split": 0.5},
    "peer": {"launch": 5.0, "one_shot_bytes": 2e5, "second": 4.0, "two_shot_bytes": 2.5e5},
    "nccl": {"launch": 12.0, "root": 4e-3, "bytes": 3e5},
}


def write_table(folder, name, rows):
    with gzip.open(folder / f"{name}_us.csv.gz", "wt") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_known(folder):
    """Tables whose times follow from KNOWN, between rows that are none of the fit's."""
    gemm, attention, sums = [], [], []
    for system, factor in (("h100_sxm", 1), ("b200_sxm", 0.3)):
        for n in range(1024, 16385, 3072):
            for k in range(1024, 16385, 3072):
                for m in (1, 8, 64, 128, 256, 512, 2048, 8192):
                    us = factor * gpu_model.gemm_us(KNOWN["gemm"], m, n, k)
                    for dtype, of in (("bfloat16", 1), ("fp8", 0.5)):
                        gemm.append({"system": system, "source_file": "", "dtype": dtype, "n": n,
                                     "k": k, "m": m, "latency_us": us * of})
        for batch in (1, 4, 16, 64, 128, 256):
            for length in (2, 128, 1024, 4096, 8192, 32768):
                for heads in (1, 2, 8):
                    us = factor * gpu_model.attention_us(KNOWN["attention"], batch, length, heads)
                    for dtype, of in (("bfloat16", 1), ("fp8", 0.5)):
                        attention.append({"system": system, "kernel": "fa3", "kv_dtype": dtype,
                                          "q_heads": 8 * heads, "kv_heads": heads, "head_dim": 128,
                                          "batch": batch, "kv_len": length, "latency_us": us * of})
        for ranks in (2, 4, 8):
            for size in (1 << i for i in range(9, 30)):
                for kernel, us in (
                        ("NCCL", gpu_model.nccl_us(KNOWN["nccl"], ranks, size)),
                        ("vLLM_custom_graph", gpu_model.peer_us(KNOWN["peer"], ranks, size)),
                        ("vLLM_custom_eager", 20.0)):
                    sums.append({"system": system, "kernel_source": kernel, "num_gpus": ranks,
                                 "bytes": size, "latency_us": us * factor})
    write_table(folder, "gemm", gemm)
    write_table(folder, "decode_attention", attention)
    write_table(folder, "allreduce", sums)


class Fit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_known(folder)
            cls.fitted = gpu_model.fit_all(folder)

    def near(self, got, kernel, keys):
        for key in keys:
            self.assertLess(abs(got[key] / KNOWN[kernel][key] - 1), 0.05, (kernel, key, got))

    def test_products(self):
        self.near(self.fitted["gemm"], "gemm", KNOWN["gemm"])

    def test_attention(self):
        self.near(self.fitted["attention"], "attention", KNOWN["attention"])

    def test_sums(self):
        for ranks in ("2", "4", "8"):
            self.near(self.fitted["nccl"][ranks], "nccl", KNOWN["nccl"])
            # Of two GPUs both ways move the same bytes: the second is never faster.
            keys = ["launch", "one_shot_bytes"] if ranks == "2" else KNOWN["peer"]
            self.near(self.fitted["peer"][ranks], "peer", keys)

    def test_committed_are_below_the_peaks(self):
        for c in (COEFFICIENTS, self.fitted):
            self.assertLessEqual(c["gemm"]["bytes"], gpu_model.PEAK_BYTES)
            self.assertLessEqual(c["gemm"]["flops"], gpu_model.PEAK_FLOPS)
            self.assertLessEqual(c["attention"]["bytes"], gpu_model.PEAK_BYTES)
        self.assertIn("AIConfigurator", COEFFICIENTS["origin"])
        self.assertEqual(COEFFICIENTS["origin"], gpu_model.ORIGIN)


if __name__ == "__main__":
    unittest.main()
