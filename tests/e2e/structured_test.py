"""Structured output: replies in the form that was asked for, through the real model, which would
not give it by itself."""
import concurrent.futures
import json
import threading
import time
import unittest

import openai
import pydantic
from cluster import NAME, Cluster, wait_until

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "country": {"enum": ["France", "Spain", "Peru"]},
        "population": {"type": "integer", "minimum": 0, "maximum": 99999999},
        "capital": {"type": "boolean"},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
    },
    "required": ["name", "country", "population", "capital"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
LIST = 'root ::= item ("\\n" item)*\nitem ::= "- " [a-z ]{1,12}'


def check_city(text):
    city = json.loads(text)
    assert set(city) <= set(CITY["properties"]) and set(city) >= set(CITY["required"]), city
    assert city["country"] in ("France", "Spain", "Peru"), city
    assert isinstance(city["population"], int) and isinstance(city["capital"], bool), city
    return city


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    capital: bool


class Structured(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # So few blocks that sequences are preempted.
        cls.cluster = Cluster(group="kv_memory: 24MiB").__enter__()
        cls.client = cls.cluster.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)

    def chat(self, content, **options):
        reply = self.client.chat.completions.create(
            **{"messages": [{"role": "user", "content": content}], "model": NAME,
               "temperature": 0, "max_tokens": 200, **options},
        )
        return reply.choices[0]

    def complete(self, **extra):
        reply = self.client.completions.create(
            model=NAME, prompt="Say yes or no:", temperature=0, max_tokens=60, extra_body=extra
        )
        return reply.choices[0]

    def test_schema_whole_and_streamed(self):
        choice = self.chat("Tell me of Paris, as JSON.", response_format=FORMAT)
        self.assertEqual(choice.finish_reason, "stop")
        check_city(choice.message.content)
        stream = self.client.chat.completions.create(
            messages=[{"role": "user", "content": "Tell me of Paris, as JSON."}], model=NAME,
            temperature=0, max_tokens=200, response_format=FORMAT, stream=True,
        )
        parts = [chunk.choices[0] for chunk in stream]
        text = "".join(part.delta.content or "" for part in parts)
        self.assertEqual(text, choice.message.content)
        self.assertEqual(parts[-1].finish_reason, "stop")
        self.assertGreater(len(parts), 5)

    def test_parsed_by_the_client(self):
        reply = self.client.chat.completions.parse(
            messages=[{"role": "user", "content": "Tell me of Rome."}], model=NAME, seed=3,
            response_format=City, max_tokens=100,
        )
        self.assertIsInstance(reply.choices[0].message.parsed, City)

    def test_any_object(self):
        for seed in range(4):
            choice = self.chat("Describe a cat.", response_format={"type": "json_object"},
                               temperature=1, seed=seed, max_tokens=400)
            if choice.finish_reason == "stop":
                self.assertIsInstance(json.loads(choice.message.content), dict)
            else:
                self.assertTrue(choice.message.content.startswith("{"))

    def test_choice_regex_grammar(self):
        choice = self.complete(guided_choice=["yes", "no", "yes, but"])
        self.assertIn(choice.text, ("yes", "no", "yes, but"))
        self.assertEqual(choice.finish_reason, "stop")
        date = self.complete(guided_regex=r"\d{4}-(0[1-9]|1[0-2])-[0-3]\d")
        self.assertRegex(date.text, r"^\d{4}-(0[1-9]|1[0-2])-[0-3]\d$")
        self.assertEqual(date.finish_reason, "stop")
        self.assertNotIn("stop_reason", date.model_extra or {})
        listed = self.complete(guided_grammar=LIST)
        self.assertRegex(listed.text, r"^- [a-z ]{1,12}(\n- [a-z ]{1,12})*")
        newer = self.complete(structured_outputs={"choice": ["yes", "no"]})
        self.assertIn(newer.text, ("yes", "no"))
        thai = self.complete(guided_regex="(สวัสดี|héllo|🎉🎊){2}")
        self.assertRegex(thai.text, "^(สวัสดี|héllo|🎉🎊){2}$")

    def test_responses(self):
        reply = self.client.responses.create(
            model=NAME, input="Tell me of Lima.", max_output_tokens=200, temperature=0,
            text={"format": {"type": "json_schema", "name": "city", "schema": CITY}},
        )
        check_city(reply.output_text)
        self.assertEqual(reply.text.format.type, "json_schema")

    def test_a_grammar_changes_no_other_reply(self):
        free = self.chat("Count from one to ten.").message.content
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            cities = [pool.submit(self.chat, "A city?", response_format=FORMAT, temperature=1,
                                  seed=seed) for seed in range(8)]
            plain = [pool.submit(self.chat, "Count from one to ten.") for _ in range(8)]
        for city in cities:
            self.assertEqual(city.result().finish_reason, "stop")
            check_city(city.result().message.content)
        self.assertEqual({p.result().message.content for p in plain}, {free})

    def test_choices_share_a_grammar_and_seeds_repeat(self):
        def draw():
            reply = self.client.chat.completions.create(
                messages=[{"role": "user", "content": "A city?"}], model=NAME, temperature=1,
                seed=5, n=4, response_format=FORMAT, max_tokens=200, logprobs=True,
            )
            return [c.message.content for c in reply.choices]

        texts = draw()
        for text in texts:
            check_city(text)
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual(texts, draw())

    def test_limits_end_it_early(self):
        choice = self.chat("A city?", response_format=FORMAT, max_tokens=4)
        self.assertEqual(choice.finish_reason, "length")
        stopped = self.chat("A city?", response_format=FORMAT, stop=['"country"'])
        self.assertTrue(stopped.message.content.startswith("{"))
        self.assertNotIn("country", stopped.message.content)
        held = self.client.completions.create(
            model=NAME, prompt="x", max_tokens=40,
            extra_body={"guided_regex": "a{1,20}", "min_tokens": 12, "ignore_eos": True},
        )
        self.assertRegex(held.choices[0].text, "^a{1,20}$")

    def test_what_is_wrong_is_said(self):
        def refused(param, what, **body):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.chat("x", extra_body=body)
            self.assertEqual(caught.exception.param, param)
            self.assertRegex(caught.exception.message, what)

        schema = {"type": "object", "properties": {"a": {"not": {}}}}
        refused("response_format.json_schema.schema", "not", response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        refused("response_format.json_schema.schema", ".", response_format={
            "type": "json_schema", "json_schema": {"name": "x"}})
        refused("response_format.type", "json_schema", response_format={"type": "xml"})
        refused("guided_regex", ".", guided_regex="a(b")
        refused("guided_grammar", ".", guided_grammar="root ::= missing")
        refused("guided_choice", ".", guided_choice=[])
        refused("guided_json", "not JSON", guided_json="{")
        refused("guided_regex", "both", guided_json={}, guided_regex="a")
        refused("structured_outputs.structural_tag", ".", structured_outputs={
            "structural_tag": "x"})
        refused("guided_decoding_backend", ".", guided_decoding_backend="xgrammar")

    def test_clients_that_go_while_it_compiles(self):
        """New grammars, each of a size that takes a while, abandoned at once."""
        def abandon(i):
            properties = {f"field_{i}_{k}": {"type": "string"} for k in range(100)}
            client = self.cluster.client().with_options(timeout=0.01 + 0.004 * i, max_retries=0)
            try:
                client.chat.completions.create(
                    messages=[{"role": "user", "content": "x"}], model=NAME, max_tokens=50,
                    response_format={"type": "json_schema", "json_schema": {
                        "name": "x", "schema": {"type": "object", "properties": properties}}},
                )
            except openai.APITimeoutError:
                pass
            finally:
                client.close()

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(abandon, range(24)))
        wait_until(
            lambda: self.cluster.metric("tandem_router_requests_in_flight") == 0, 30,
            "nothing is left of them",
        )
        check_city(self.chat("A city?", response_format=FORMAT).message.content)


def patterns(count):
    return {"anyOf": [{"type": "string", "pattern": f"^[^z]*x{{{i + 1}}}$"} for i in range(count)]}


WIDE = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}  # zod's z.int()
REFERENCES = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(9000)}
HOSTILE = {
    "alternatives": {"guided_json": {"anyOf": [
        {"type": "string", "pattern": f"^a{{{i}}}*$"} for i in range(4200)]}},
    "patterns": {"guided_json": patterns(100)},
    "patterns in a list": {"guided_json": {"type": "array", "items": patterns(100)}},
    "references": {"guided_json": json.dumps(
        {"$ref": "#/$defs/d0", "$defs": {**REFERENCES, "d9000": {"type": "string"}}})},
    "a long name": {"guided_json": json.dumps({
        "type": "object", "required": ["a" * 30000], "additionalProperties": {"type": "integer"}})},
    "integers": {"guided_json": {
        "type": "object", "properties": {f"p{i}": WIDE for i in range(60)},
        "required": [f"p{i}" for i in range(60)]}},
    "constants": {"guided_json": {"oneOf": [{"const": f"v{i}"} for i in range(12000)]}},
    "places within places": {"guided_grammar":
                             'root ::= s\ns ::= [^0] s1 "b" | [^0] s2 "c" | [^0]\n'
                             's1 ::= s | "1" s "1"\ns2 ::= s | "2" s "2"'},
    "two behind each other": {"guided_grammar": 'root ::= s\ns ::= [^0] s "b" | [^0] s s | [^0]'},
    "exits everywhere": {"guided_grammar": 'root ::= ([^0] t?){3000}\nt ::= "0" t "1" | "2"'},
    "rules": {"guided_grammar": 'root ::= "a" (%s)\n%s' % (
        "|".join(f"r{i}" for i in range(4200)),
        "\n".join(f'r{i} ::= "b" r{i} "c" | "d{i}"' for i in range(4200)))},
    "infinite": {"guided_json": '{"const": 1e400}'},
}


class Hostile(unittest.TestCase):
    """What is meant to take down a router or a group, or to hold up the others on it: a reply or an
    error that is the client's, and a stream beside it goes on."""

    def test_others_go_on(self):
        with Cluster(tp=1) as cluster:
            pids = {name: cluster.pids(name) for name in ("tandem-router", "tandem-worker")}
            stop, gaps, failed = threading.Event(), [], []

            def stream():
                client = cluster.client()
                while not stop.is_set():
                    last = time.monotonic()
                    try:
                        for _ in client.completions.create(
                            model=NAME, prompt="Once", max_tokens=300, stream=True, temperature=0,
                            extra_body={"ignore_eos": True},
                        ):
                            gaps.append(time.monotonic() - last)
                            last = time.monotonic()
                            if stop.is_set():
                                return
                    except Exception as error:
                        failed.append(error)
                        return

            beside = threading.Thread(target=stream)
            beside.start()
            for name, body in HOSTILE.items():
                with self.subTest(name):
                    status, reply, _ = cluster.post("/v1/completions", {
                        "model": NAME, "prompt": "Say:", "max_tokens": 30, "temperature": 1,
                        "seed": 1, **body})
                    self.assertIn(status, (200, 400), reply)
                    if status == 400:
                        self.assertEqual(reply["error"]["type"], "invalid_request_error")
            stop.set()
            beside.join(60)
            self.assertEqual(failed, [])
            print(f"{len(gaps)} gaps, the longest {max(gaps):.3f} s", flush=True)
            self.assertEqual(pids, {name: cluster.pids(name) for name in pids})

    def test_fields_of_lines(self):
        """A rule that may be left behind every letter."""
        with Cluster(tp=1) as cluster:
            reply = cluster.client().completions.create(
                model=NAME, prompt="a,b\n", max_tokens=60, temperature=1, seed=3, extra_body={
                    "guided_grammar": 'root ::= line{2,3}\nline ::= value ("," value){1,3} "\\n"\n'
                                      'value ::= [^,\\n]{1,30}'})
            if reply.choices[0].finish_reason == "stop":
                for line in reply.choices[0].text.rstrip("\n").split("\n"):
                    self.assertRegex(line, "^[^,\n]{1,30}(,[^,\n]{1,30}){1,3}$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
