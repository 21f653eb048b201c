"""The API as clients see it: the official OpenAI client, streaming and not, and the errors."""
import concurrent.futures
import http.client
import json
import socket
import unittest

import openai
from cluster import MODEL, NAME, Cluster, wait_until

SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
# About 1,500 tokens; the tiny model has nearly one a byte.
LONG = SENTENCE * (22 if MODEL.name == "tiny.gguf" else 110)


def chat(client, content, **options):
    return client.chat.completions.create(
        messages=[{"role": "user", "content": content}],
        **{"model": NAME, "temperature": 0, "max_tokens": 24, **options},
    )


def streamed(stream):
    """(text, finish reason, usage) of a stream."""
    text, finish, usage = "", None, None
    for chunk in stream:
        if chunk.usage is not None:
            usage = chunk.usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, usage


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.client = cls.cluster.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)

    def test_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], [NAME])

    def test_chat_and_stream_agree(self):
        whole = chat(self.client, "Say hello.")
        self.assertEqual(whole.model, NAME)
        self.assertEqual(whole.object, "chat.completion")
        self.assertIn(whole.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(
            whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens
        )
        text, finish, usage = streamed(
            chat(
                self.client, "Say hello.", stream=True, stream_options={"include_usage": True}
            )
        )
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(finish, whole.choices[0].finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_completions(self):
        options = dict(model=NAME, prompt="Once upon a time", max_tokens=16, temperature=0)
        whole = self.client.completions.create(**options)
        self.assertEqual(whole.object, "text_completion")
        parts = [c.choices[0].text for c in self.client.completions.create(stream=True, **options)]
        self.assertEqual("".join(parts), whole.choices[0].text)
        self.assertGreater(len(parts), 1)

    def test_seed_repeats_and_differs(self):
        def draw(seed):
            return chat(self.client, "Tell a story.", temperature=1.0, seed=seed, max_tokens=32)

        texts = [draw(s).choices[0].message.content for s in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_top_k_one_is_greedy(self):
        greedy = chat(self.client, "Count to ten.").choices[0].message.content
        drawn = chat(
            self.client, "Count to ten.", temperature=1.0, seed=7, extra_body={"top_k": 1}
        )
        self.assertEqual(drawn.choices[0].message.content, greedy)
        narrow = chat(self.client, "Count to ten.", temperature=1.0, seed=7, top_p=1e-6)
        self.assertEqual(narrow.choices[0].message.content, greedy)

    def test_penalties(self):
        def reply(**fields):
            body = {"model": NAME, "prompt": "1 2 3 1 2 3 1 2", "max_tokens": 48, "temperature": 0}
            status, reply, _ = self.cluster.post("/v1/completions", {**body, **fields})
            self.assertEqual(status, 200, reply)
            return reply["choices"][0]["text"]

        plain = reply()
        off = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}
        self.assertEqual(reply(**off), plain)
        for penalty in ("presence_penalty", "frequency_penalty"):
            self.assertNotEqual(reply(**{penalty: 2}), plain, penalty)
        # A token gains two with each time it is there: soon nothing else can be likelier.
        loop = reply(frequency_penalty=-2)
        self.assertLessEqual(len(set(loop[-12:])), 2, loop)
        # Nothing of the prompt comes again.
        self.assertEqual(set(reply(repetition_penalty=100)) & set("123"), set())
        # What was computed for this prompt before is in the cache now.
        drawn = {"prompt": SENTENCE * 6, "repetition_penalty": 1.5, "temperature": 1.0, "seed": 4}
        self.assertEqual(reply(**drawn), reply(**drawn))

    def test_stop_string_is_cut(self):
        options = dict(model=NAME, prompt="Once upon a time", max_tokens=24, temperature=0)
        text = self.client.completions.create(**options).choices[0].text
        self.assertGreater(len(text), 6)
        stop = text[len(text) // 2 : len(text) // 2 + 3]
        cut = self.client.completions.create(stop=[stop], **options).choices[0]
        self.assertEqual(cut.text, text[: text.index(stop)])
        self.assertEqual(cut.finish_reason, "stop")
        parts = [
            c.choices[0].text
            for c in self.client.completions.create(stop=stop, stream=True, **options)
        ]
        self.assertEqual("".join(parts), cut.text)

    def test_sixteen_at_once_equal_alone(self):
        prompts = [f"Write a line about the number {i}." for i in range(16)]
        alone = [chat(self.client, p).choices[0].message.content for p in prompts]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            together = list(
                pool.map(lambda p: streamed(chat(self.client, p, stream=True))[0], prompts)
            )
        self.assertEqual(together, alone)

    def test_second_long_prompt_is_cached(self):
        body = {"model": NAME, "prompt": f"{id(self)} {LONG}", "max_tokens": 1, "temperature": 0}
        replies = []
        for _ in range(2):
            status, reply, _ = self.cluster.post(
                "/v1/completions", body, {"x-tandem-timing": "1"}
            )
            self.assertEqual(status, 200, reply)
            replies.append(reply)
        first, second = replies
        prompt_tokens = second["usage"]["prompt_tokens"]
        self.assertGreater(prompt_tokens, 1200)
        cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertEqual(cached, (prompt_tokens - 1) // 16 * 16)
        self.assertEqual(first["timing"]["total"]["num_computed_tokens"], prompt_tokens)
        self.assertEqual(second["timing"]["total"]["num_computed_tokens"], prompt_tokens - cached)
        self.assertEqual(first["choices"][0]["text"], second["choices"][0]["text"])
        for name, reply in (("first", first), ("second", second)):
            print(f"{name}: prefill {reply['timing']['parts']['prefill_us']:.0f} us", flush=True)

    def test_timing_adds_up(self):
        status, body, _ = self.cluster.post(
            "/v1/completions",
            {"model": NAME, "prompt": "Once upon", "max_tokens": 8, "temperature": 0},
            {"x-tandem-timing": "1"},
        )
        self.assertEqual(status, 200)
        timing = body["timing"]
        total = sum(timing["parts"].values()) + timing["residual_us"]
        self.assertAlmostEqual(total, timing["ttft_us"], delta=len(timing["parts"]))
        self.assertLess(abs(timing["residual_us"]), timing["ttft_us"])
        self.assertGreater(timing["parts"]["prefill_us"], 0)
        status, body, _ = self.cluster.post(
            "/v1/completions", {"model": NAME, "prompt": "Once upon", "max_tokens": 1}
        )
        self.assertNotIn("timing", body)

    def test_errors_of_the_client(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            chat(self.client, "Hi", model="no-such")
        self.assertEqual(caught.exception.code, "model_not_found")
        cases = [
            ({"temperature": 9}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"n": 2}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"logit_bias": {"1": 1}}, "logit_bias"),
            ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
            ({"stop": ["a"] * 5}, "stop"),
            ({"presence_penalty": 2.5}, "presence_penalty"),
            ({"frequency_penalty": -2.5}, "frequency_penalty"),
            ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty"),
        ]
        for options, param in cases:
            with self.subTest(param), self.assertRaises(openai.BadRequestError) as caught:
                chat(self.client, "Hi", **options)
            self.assertEqual(caught.exception.param, param)

    def test_errors_of_the_body(self):
        base = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}
        cases = [
            (b"{", 400),
            (b"[]", 400),
            (b'{"model": "' + NAME.encode() + b'", "messages": "Hi"}', 400),
            (b'{"model": "' + NAME.encode() + b'", "prompt": "\xff"}', 400),
            (json.dumps({**base, "stream": "yes"}).encode(), 400),
            (b"[" * 100000, 400),
            (b'{"x": "' + b"a" * (9 << 20) + b'"}', 413),
        ]
        for body, expected in cases:
            with self.subTest(body[:40]):
                status, reply, _ = self.cluster.post("/v1/chat/completions", body)
                self.assertEqual(status, expected)
                self.assertEqual(
                    set(reply["error"]), {"message", "type", "param", "code"}, reply
                )
        status, reply, _ = self.cluster.post(
            "/v1/completions", {"model": NAME, "prompt": "word " * 20000}
        )
        self.assertEqual((status, reply["error"]["code"]), (400, "context_length_exceeded"))
        status, reply, _ = self.cluster.post("/v1/nothing", {})
        self.assertEqual(status, 404)

    def test_request_id_passes(self):
        _, _, headers = self.cluster.post(
            "/v1/completions",
            {"model": NAME, "prompt": "A", "max_tokens": 1},
            {"x-request-id": "abc-123"},
        )
        self.assertEqual({k.lower(): v for k, v in headers.items()}["x-request-id"], "abc-123")

    def test_client_that_goes_away_frees_its_sequence(self):
        before = self.cluster.metric("tandem_router_requests_in_flight") or 0
        body = json.dumps(
            {"model": NAME, "prompt": "Once upon a time", "max_tokens": 1500, "stream": True,
             "temperature": 1, "seed": 3}
        ).encode()
        for stream_first in (True, False):
            with socket.create_connection(("127.0.0.1", self.cluster.port)) as s:
                s.sendall(
                    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
                if stream_first:
                    self.assertIn(b"200", s.recv(4096))
        wait_until(
            lambda: self.cluster.metric("tandem_router_requests_in_flight") == before,
            10,
            "the requests of vanished clients are gone",
        )
        wait_until(
            lambda: not self.cluster.metric("tandem_router_group_running_sequences"),
            10,
            "the group runs nothing",
        )

    def test_keep_alive_serves_many(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.port, timeout=60)
        for _ in range(5):
            connection.request("GET", "/v1/models")
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            reply.read()
        connection.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
