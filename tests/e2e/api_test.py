"""The API as clients see it: the official OpenAI client, streaming and not, and the errors."""
import concurrent.futures
import http.client
import json
import socket
import subprocess
import unittest

import langchain_openai
import openai
from cluster import MODEL, NAME, Cluster, wait_until

SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
# About 1,500 tokens; the tiny model has nearly one a byte.
LONG = SENTENCE * (22 if MODEL.name == "tiny.gguf" else 110)


def chat(client, content, **options):
    return client.chat.completions.create(
        **{"messages": [{"role": "user", "content": content}], "model": NAME, "temperature": 0, "max_tokens": 24, **options},
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
            ({"n": 129}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"logit_bias": {"x": 1}}, "logit_bias"),
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

    def complete(self, prompt, **fields):
        body = {"model": NAME, "prompt": prompt, "max_tokens": 16, "temperature": 0, **fields}
        status, reply, _ = self.cluster.post("/v1/completions", body)
        self.assertEqual(status, 200, reply)
        return reply

    def test_choices(self):
        options = dict(temperature=1.0, seed=11, n=3)
        whole = chat(self.client, "Tell a story.", **options)
        texts = [c.message.content for c in whole.choices]
        self.assertEqual([c.index for c in whole.choices], [0, 1, 2])
        self.assertEqual(len(set(texts)), 3)
        alone = chat(self.client, "Tell a story.", temperature=1.0, seed=11)
        self.assertEqual(alone.choices[0].message.content, texts[0])
        self.assertEqual(alone.usage.prompt_tokens, whole.usage.prompt_tokens)
        parts = ["", "", ""]
        for chunk in chat(self.client, "Tell a story.", stream=True, **options):
            for choice in chunk.choices:
                parts[choice.index] += choice.delta.content or ""
        self.assertEqual(parts, texts)

    def test_choices_share_their_prefill(self):
        def counted():
            names = ("tandem_router_prompt_tokens_total", "tandem_router_cached_prompt_tokens_total")
            return [self.cluster.metric(name) or 0 for name in names]

        before = counted()
        reply = self.complete(f"{id(self)} choices {SENTENCE * 12}", n=4, max_tokens=2)
        prompt = reply["usage"]["prompt_tokens"]
        total, cached = (b - a for a, b in zip(before, counted()))
        self.assertEqual(total, 4 * prompt)
        self.assertGreaterEqual(cached, 3 * ((prompt - 1) // 16 * 16))

    def test_texts_are_tokenized_once(self):
        def known():
            return self.cluster.metric("tandem_router_known_text_tokens_total") or 0

        system = dict(role="system", content=f"{id(self)} known {SENTENCE * 20}")
        def ask(question, **more):
            return chat(self.client, question, messages=[system, dict(role="user", content=question)], **more)

        before = known()
        ask("How?")
        self.assertEqual(known(), before)
        prompt = ask("Why?").usage.prompt_tokens
        self.assertGreater(known() - before, prompt - 40)
        self.assertLess(known() - before, prompt)
        before = known()
        ask("How?", extra_body=dict(cache_salt="another"))
        self.assertEqual(known(), before)

    def test_best_of(self):
        fields = dict(temperature=1.0, seed=5, logprobs=0)
        def likelihood(choice):
            return sum(choice["logprobs"]["token_logprobs"])

        every = self.complete("Once upon a time", n=4, **fields)["choices"]
        best = self.complete("Once upon a time", n=2, best_of=4, **fields)["choices"]
        every.sort(key=likelihood, reverse=True)
        self.assertEqual([c["text"] for c in best], [c["text"] for c in every[:2]])

    def test_logprobs(self):
        reply = chat(self.client, "Say hello.", logprobs=True, top_logprobs=3, max_tokens=8)
        content = reply.choices[0].logprobs.content
        self.assertEqual(len(content), reply.usage.completion_tokens)
        for token in content:  # greedy
            self.assertEqual(token.top_logprobs[0].token, token.token)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertLessEqual(token.logprob, 0)
        if reply.choices[0].finish_reason == "length":
            whole = b"".join(bytes(t.bytes) for t in content).decode(errors="replace")
            self.assertEqual(whole, reply.choices[0].message.content)
        streamed_tokens = []
        for chunk in chat(self.client, "Say hello.", logprobs=True, top_logprobs=3, max_tokens=8,
                          stream=True):
            for choice in chunk.choices:
                if choice.logprobs:
                    streamed_tokens += [t.token for t in choice.logprobs.content]
        self.assertEqual(streamed_tokens, [t.token for t in content])
        text = self.complete("Once upon a time", logprobs=2, max_tokens=6)["choices"][0]
        names, offsets = text["logprobs"]["tokens"], text["logprobs"]["text_offset"]
        if "\ufffd" not in "".join(names):
            self.assertEqual(text["text"][offsets[3]:offsets[4]], names[3])

    def test_what_may_not_come(self):
        plain = self.complete("Once upon a time", return_token_ids=True)["choices"][0]
        first = plain["token_ids"][0]
        other = self.complete("Once upon a time", return_token_ids=True,
                              logit_bias={str(first): -100})["choices"][0]
        self.assertNotIn(first, other["token_ids"])
        always = self.complete("Once upon a time", return_token_ids=True,
                               logit_bias={"50": 100})["choices"][0]
        self.assertEqual(set(always["token_ids"]), {50})
        third = plain["token_ids"][2]
        if third not in plain["token_ids"][:2]:
            stopped = self.complete("Once upon a time", stop_token_ids=[third],
                                    return_token_ids=True)["choices"][0]
            self.assertEqual(stopped["token_ids"], plain["token_ids"][:3])
            self.assertEqual(stopped["stop_reason"], third)
        later = self.complete("Once upon a time", stop_token_ids=[third], min_tokens=5,
                              return_token_ids=True)["choices"][0]
        self.assertNotIn(third, later["token_ids"][:5])
        self.assertGreaterEqual(len(later["token_ids"]), 5)

    def test_prompts_of_every_kind(self):
        status, tokens, _ = self.cluster.post(
            "/tokenize", {"model": NAME, "prompt": "Once upon a time", "return_token_strs": True}
        )
        self.assertEqual((status, len(tokens["token_strs"])), (200, tokens["count"]))
        status, text, _ = self.cluster.post("/detokenize", {"tokens": tokens["tokens"]})
        self.assertEqual((status, text), (200, {"prompt": "Once upon a time"}))
        both = self.complete(["Once upon a time", tokens["tokens"], "The end"], echo=True)
        texts = [c["text"] for c in both["choices"]]
        self.assertEqual(texts[0], texts[1])
        self.assertTrue(texts[0].startswith("Once upon a time"))
        self.assertTrue(texts[2].startswith("The end"))
        self.assertEqual("Once upon a time" + self.complete("Once upon a time")["choices"][0]["text"],
                         texts[0])
        status, chat_tokens, _ = self.cluster.post(
            "/tokenize", {"messages": [{"role": "user", "content": "Hi"}]}
        )
        reply = chat(self.client, "Hi", extra_body={"return_token_ids": True})
        self.assertEqual(chat_tokens["tokens"], reply.model_extra["prompt_token_ids"])

    def test_salted_prompts_share_among_themselves_only(self):
        def cached(salt):
            reply = self.complete(f"{id(self)} salt {SENTENCE * 12}", max_tokens=1, cache_salt=salt)
            return reply["usage"]["prompt_tokens_details"]["cached_tokens"]

        self.assertEqual(cached("a"), 0)
        self.assertEqual(cached("b"), 0)
        self.assertGreater(cached("a"), 100)

    def test_langchain(self):
        options = dict(base_url=f"http://127.0.0.1:{self.cluster.port}/v1", api_key="none",
                       model=NAME, temperature=0, max_tokens=8)
        model = langchain_openai.ChatOpenAI(**options)
        expected = chat(self.client, "Say hello.", max_tokens=8).choices[0].message.content
        reply = model.invoke("Say hello.")
        self.assertEqual(reply.content, expected)
        self.assertEqual(reply.usage_metadata["output_tokens"],
                         reply.response_metadata["token_usage"]["completion_tokens"])
        self.assertEqual("".join(c.content for c in model.stream("Say hello.")), expected)
        text = langchain_openai.OpenAI(**options).invoke("Once upon a time")
        self.assertEqual(text, self.complete("Once upon a time", max_tokens=8)["choices"][0]["text"])

    def test_curl(self):
        def curl(path, body):
            return subprocess.run(
                ["curl", "-sS", "-N", "--fail-with-body", "-H", "Content-Type: application/json",
                 "-d", json.dumps(body), f"http://127.0.0.1:{self.cluster.port}{path}"],
                capture_output=True, text=True, check=True, timeout=60,
            ).stdout

        body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
        whole = json.loads(curl("/v1/completions", body))["choices"][0]["text"]
        events = curl("/v1/completions", {**body, "stream": True}).split("\n\n")
        self.assertEqual(events[-2:], ["data: [DONE]", ""])
        chunks = [json.loads(e.removeprefix("data: ")) for e in events[:-2]]
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks), whole)

    def test_responses(self):
        options = dict(model=NAME, instructions="Be short.", temperature=0, max_output_tokens=8)
        whole = self.client.responses.create(input="Say hello.", **options)
        same = chat(self.client, None, max_tokens=8, messages=[
            {"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello."}])
        self.assertEqual(whole.output_text, same.choices[0].message.content)
        self.assertEqual(whole.usage.input_tokens, same.usage.prompt_tokens)
        stopped = same.choices[0].finish_reason == "stop"
        self.assertEqual(whole.status, "completed" if stopped else "incomplete")
        self.assertFalse(whole.store)
        with self.client.responses.stream(input="Say hello.", **options) as stream:
            events = list(stream)
        self.assertEqual(events[0].type, "response.created")
        self.assertEqual(events[-1].type, f"response.{whole.status}")
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), whole.output_text)
        self.assertEqual(events[-1].response.output_text, whole.output_text)
        # The next turn, of what the first one said.
        turn = [{"role": "user", "content": "Say hello."},
                *[item.model_dump() for item in whole.output],
                {"role": "user", "content": [{"type": "input_text", "text": "And goodbye."}]}]
        again = self.client.responses.create(input=turn, **options)
        self.assertGreater(again.usage.input_tokens, whole.usage.input_tokens)
        for field in ({"store": True}, {"previous_response_id": "resp_1"}, {"background": True},
                      {"tools": [{"type": "web_search"}]}):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.responses.create(input="Hi", **options, **field)
            self.assertTrue(caught.exception.param.startswith(next(iter(field))))

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
