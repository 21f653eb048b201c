"""/v1/embeddings through real routers and workers, as OpenAI's and LangChain's clients ask for them: the
last token's hidden state and the mean, alone and among others, in chunks and out of the cache."""
import base64
import concurrent.futures
import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import unittest

import langchain_openai
import openai
from cluster import SLOW, Cluster, wait_until

CLUSTER = """
models:
  - {{name: last, path: {model}}}
  - {{name: mean, path: {model}, pooling: mean}}
groups:
  - {{name: g-last, model: last, tp: 2, max_step_tokens: 64, kv_memory: 64MiB}}
  - {{name: g-mean, model: mean, tp: 2, max_step_tokens: 64, kv_memory: 64MiB}}
router: {{listen: "127.0.0.1:{port}"}}
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
"""
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
LONG = SENTENCE * 10  # several steps of 64 tokens, whatever the tokenizer


def length_of(embedding):
    return math.sqrt(sum(x * x for x in embedding))


class Embeddings(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(text=CLUSTER)
        cls.cluster.__enter__()
        wait_until(
            lambda: cls.cluster.metric("tandem_router_group_up") == 2, 60, "both groups are up"
        )
        cls.client = cls.cluster.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)

    def embed(self, model, inputs, **options):
        reply = self.client.embeddings.create(model=model, input=inputs, **options)
        self.assertEqual([d.index for d in reply.data], list(range(len(reply.data))))
        return [d.embedding for d in reply.data]

    def test_the_client_asks_for_bytes_and_gets_what_numbers_say(self):
        for model in ("last", "mean"):
            reply = self.client.embeddings.create(model=model, input="Hello there")
            self.assertEqual((reply.object, reply.model), ("list", model))
            self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens)
            numbers = self.client.embeddings.create(
                model=model, input="Hello there", encoding_format="float")
            status, raw, _ = self.cluster.post("/v1/embeddings", {
                "model": model, "input": "Hello there", "encoding_format": "base64"})
            self.assertEqual(status, 200)
            data = base64.b64decode(raw["data"][0]["embedding"], validate=True)
            as_floats = list(struct.unpack(f"<{len(data) // 4}f", data))
            self.assertEqual(list(reply.data[0].embedding), as_floats)
            self.assertEqual(
                [struct.unpack("f", struct.pack("f", x))[0] for x in numbers.data[0].embedding],
                as_floats)
            self.assertAlmostEqual(length_of(as_floats), 1, places=5)
            (same,) = self.embed(model, ["Hello there"], dimensions=len(as_floats))
            self.assertEqual(list(same), as_floats)

    def test_not_normalized_is_the_same_direction(self):
        for model in ("last", "mean"):
            (unit,) = self.embed(model, "Hello there")
            (raw,) = self.embed(model, "Hello there", extra_body={"normalize": False})
            length = length_of(raw)
            self.assertGreater(abs(length - 1), 1e-3)
            for a, b in zip(unit, raw):
                self.assertAlmostEqual(a, b / length, places=6)

    def test_models_pool_differently(self):
        (last,), (mean,) = self.embed("last", LONG), self.embed("mean", LONG)
        self.assertNotEqual(last, mean)
        # Of one token there is but one state. The group is another one; the numbers are not.
        self.assertEqual(self.embed("last", [[7]]), self.embed("mean", [[7]]))

    def test_one_among_many_is_what_it_is_alone(self):
        rng = random.Random(5)
        texts = [SENTENCE * rng.randrange(1, 4) + f"Number {i}." for i in range(100)]
        for model in ("last", "mean"):
            alone = [self.embed(model, t)[0] for t in texts[:8]]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                replies = [
                    pool.submit(self.client.completions.create, model=model, prompt=f"{i}. Once",
                                max_tokens=30, temperature=0) for i in range(3)]
                together = pool.submit(self.embed, model, texts).result()
                for reply in replies:
                    reply.result()
            self.assertEqual(len(together), 100)
            self.assertEqual(together[:8], alone)

    def test_the_cache_serves_the_last_state_only(self):
        def ask(model, salt):
            return self.cluster.post("/v1/embeddings", {
                "model": model, "input": LONG, "cache_salt": salt})[1]

        for model, cached in (("last", True), ("mean", False)):
            first, again = ask(model, "s"), ask(model, "s")
            self.assertEqual(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
            tokens = again["usage"]["prompt_tokens_details"]["cached_tokens"]
            self.assertEqual(tokens > 100, cached, tokens)
            self.assertEqual(first["data"], again["data"])

    def test_token_ids_are_the_text(self):
        for model in ("last", "mean"):
            _, tokens, _ = self.cluster.post("/tokenize", {"model": model, "prompt": SENTENCE})
            ids = tokens["tokens"]
            both = self.embed(model, SENTENCE) + self.embed(model, ids)
            self.assertEqual(both[0], both[1])
            cut = self.embed(model, ids[:5]) + self.embed(
                model, SENTENCE, extra_body={"truncate_prompt_tokens": 5})
            self.assertEqual(cut[0], cut[1])

    def test_langchain(self):
        model = langchain_openai.OpenAIEmbeddings(
            base_url=f"http://127.0.0.1:{self.cluster.port}/v1", api_key="none", model="last",
            check_embedding_ctx_length=False)  # else it sends OpenAI's token ids
        texts = [f"{SENTENCE}{i}" for i in range(70)]
        documents = model.embed_documents(texts)
        self.assertEqual(len(documents), 70)
        self.assertEqual(documents[3], list(self.embed("last", texts[3])[0]))
        self.assertEqual(model.embed_query(texts[3]), documents[3])

    def test_a_chat_is_its_text_without_a_beginning_of_the_reply(self):
        chat = {"model": "last", "messages": [{"role": "user", "content": "Hi"}]}
        status, reply, _ = self.cluster.post("/v1/embeddings", chat)
        self.assertEqual(status, 200, reply)
        _, whole, _ = self.cluster.post("/tokenize", chat)
        self.assertLess(reply["usage"]["prompt_tokens"], whole["count"])

    def test_mistakes(self):
        for error, param, options in [
            (openai.BadRequestError, "input", {"input": ""}),
            (openai.BadRequestError, "input", {"input": LONG * 60}),
            (openai.BadRequestError, "dimensions", {"input": "a", "dimensions": 3}),
            (openai.BadRequestError, "input", {"input": [2**30]}),
            (openai.NotFoundError, "model", {"input": "a", "model": "other"}),
        ]:
            with self.assertRaises(error) as caught:
                self.client.embeddings.create(**{"model": "mean", **options})
            self.assertEqual(caught.exception.param, param, caught.exception)

    def test_timing_and_log(self):
        status, reply, _ = self.cluster.post(
            "/v1/embeddings", {"model": "mean", "input": LONG, "user": "u-17"},
            {"x-tandem-timing": "1", "x-request-id": "embed-1"})
        self.assertEqual(status, 200)
        self.assertEqual(reply["id"], "embd-embed-1")
        timing = reply["timing"]
        self.assertGreater(timing["parts"]["prefill_us"], 0)
        parts = sum(timing["parts"].values()) + timing["residual_us"]
        self.assertAlmostEqual(parts, timing["ttft_us"], delta=1)
        wait_until(lambda: "embed-1" in self.cluster.log(), 10, "the request is in the log")
        (line,) = [x for x in self.cluster.log().splitlines() if "embed-1" in x]
        self.assertIn("u-17", line)

    def test_what_is_served_is_what_is_described(self):
        seed = int.from_bytes(os.urandom(4), "big")
        run = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run",
             "--include-path", "/v1/embeddings",
             "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
             "response_schema_conformance", "--phases", "coverage,fuzzing",
             "--max-examples", "4" if SLOW > 1 else "25", "--seed", str(seed), "--no-shrink",
             "--request-timeout", str(20 * SLOW), "--warnings", "off",
             "--suppress-health-check", "all",
             f"http://127.0.0.1:{self.cluster.port}/openapi.json"],
            cwd=self.cluster.dir, capture_output=True, text=True, timeout=200 * SLOW)
        self.assertEqual(run.returncode, 0, f"seed {seed}\n{run.stdout[-6000:]}{run.stderr}")
        self.assertGreater(self.cluster.metric("tandem_router_responses_total", 'status="200"'), 0)

    def test_a_client_that_goes_away_frees_its_inputs(self):
        body = json.dumps({"model": "mean", "input": [f"{LONG}{i}" for i in range(300)]}).encode()
        with socket.create_connection(("127.0.0.1", self.cluster.port)) as s:
            s.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            wait_until(
                lambda: (self.cluster.metric("tandem_router_requests_in_flight") or 0) > 30, 20,
                "its inputs are on their way")
        wait_until(
            lambda: self.cluster.metric("tandem_router_requests_in_flight") == 0, 10,
            "none of it is left")
        wait_until(
            lambda: not self.cluster.metric("tandem_router_group_waiting_sequences"), 10,
            "the group computes nothing of it")
        self.assertEqual(len(self.embed("mean", "Hello")), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
