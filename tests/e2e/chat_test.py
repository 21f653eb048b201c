"""Chats with tools and reasoning through others' clients: OpenAI's, LangChain's, LiteLLM's, curl. The
real model would not call a tool by itself, so most calls here are required of it."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import warnings

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network at import

import langchain_core.messages
import langchain_openai
import litellm
import openai
import pydantic
from cluster import MODEL, NAME, Cluster

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 16},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
TOOLS = [WEATHER, ADD]
QUESTION = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]
NAMED = {"type": "function", "function": {"name": "add"}}

# Calls as Hermes and Qwen write them, and thoughts.
HERMES = (
    "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}"
    "{% if tools %}{# <tool_call> name arguments #}{% endif %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}{# </think> #}"
)


class GetWeather(pydantic.BaseModel):
    """The weather of a city."""

    city: str = pydantic.Field(max_length=16)
    days: int = pydantic.Field(ge=1, le=7)


def check_call(name, arguments):
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if name == "get_weather":
        assert set(arguments) == {"city", "unit"}, arguments
        assert isinstance(arguments["city"], str), arguments
        assert arguments["unit"] in ("celsius", "fahrenheit"), arguments
    else:
        assert name == "add" and set(arguments) == {"a", "b"}, (name, arguments)
        assert all(isinstance(n, int) for n in arguments.values()), arguments


def with_template(template, to):
    """A copy of the model with another template, in the room that its own has in the file."""
    data = MODEL.read_bytes()
    key = b"tokenizer.chat_template"
    at = data.index(key) + len(key) + 4  # and the value's type
    size = int.from_bytes(data[at:at + 8], "little")
    text = template.encode()
    assert len(text) + 4 <= size, (len(text), size)
    text += b"{#" + b"." * (size - len(text) - 4) + b"#}"
    to.write_bytes(data[:at + 8] + text + data[at + 8 + size:])


class Chats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.client = cls.cluster.client()
        cls.base_url = f"http://127.0.0.1:{cls.cluster.port}/v1"

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)

    def chat(self, **options):
        options = {"model": NAME, "messages": QUESTION, "temperature": 0, "max_tokens": 160,
                   **options}
        return self.client.chat.completions.create(**options)

    def tokens(self, **fields):
        status, reply, _ = self.cluster.post("/tokenize", {"model": NAME, **fields})
        self.assertEqual(status, 200, reply)
        return reply["tokens"]

    def test_the_last_message_goes_on(self):
        messages = [*QUESTION, {"role": "assistant", "content": "The weather in Paris is"}]
        open_end = {"add_generation_prompt": False, "continue_final_message": True}
        tokens = self.tokens(messages=messages, **open_end)
        reply = self.chat(messages=messages, max_tokens=8, extra_body=open_end)
        same = self.client.completions.create(model=NAME, prompt=tokens, temperature=0,
                                              max_tokens=8)
        self.assertEqual(reply.choices[0].message.content, same.choices[0].text)
        self.assertEqual(reply.usage.prompt_tokens, len(tokens))
        closed = self.tokens(messages=messages, add_generation_prompt=False)
        self.assertEqual(closed[:len(tokens)], tokens)
        self.assertGreater(len(closed), len(tokens))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(messages=messages, extra_body={"continue_final_message": True})
        self.assertEqual(caught.exception.param, "continue_final_message")

    def test_tools_are_part_of_the_prompt(self):
        with_tools = self.tokens(messages=QUESTION, tools=TOOLS)
        self.assertGreater(len(with_tools), len(self.tokens(messages=QUESTION)) + 40)
        reply = self.chat(tools=TOOLS, max_tokens=4)
        self.assertEqual(reply.usage.prompt_tokens, len(with_tools))

    def test_openai_round_trip(self):
        reply = self.chat(tools=TOOLS, tool_choice="required")
        choice = reply.choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls", choice)
        self.assertIsNone(choice.message.content)
        for call in choice.message.tool_calls:
            check_call(call.function.name, call.function.arguments)
        self.assertEqual(len({c.id for c in choice.message.tool_calls}),
                         len(choice.message.tool_calls))
        messages = [*QUESTION, choice.message.model_dump()]
        messages += [{"role": "tool", "tool_call_id": c.id, "content": "21 degrees"}
                     for c in choice.message.tool_calls]
        answer = self.chat(messages=messages, tools=TOOLS, tool_choice="none", max_tokens=24)
        self.assertTrue(answer.choices[0].message.content)
        self.assertIsNone(answer.choices[0].message.tool_calls)

    def test_openai_stream_is_the_same_call(self):
        whole = self.chat(tools=TOOLS, tool_choice="required").choices[0]
        calls, finish, pieces = [], None, 0
        for chunk in self.chat(tools=TOOLS, tool_choice="required", stream=True):
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                self.assertFalse(choice.delta.content)
                for delta in choice.delta.tool_calls or []:
                    if delta.index == len(calls):
                        self.assertTrue(delta.id and delta.function.name)
                        calls.append([delta.function.name, ""])
                    calls[delta.index][1] += delta.function.arguments or ""
                    pieces += 1
        self.assertEqual(finish, "tool_calls")
        self.assertEqual(calls, [[c.function.name, c.function.arguments]
                                 for c in whole.message.tool_calls])
        self.assertGreater(pieces, 3 * len(calls), "arguments come piece by piece")

    def test_a_named_function_is_called_once(self):
        for _ in range(2):
            choice = self.chat(tools=TOOLS, tool_choice=NAMED, temperature=1.0).choices[0]
            self.assertEqual(choice.finish_reason, "stop", choice)
            (call,) = choice.message.tool_calls
            self.assertEqual(call.function.name, "add")
            check_call("add", call.function.arguments)

    def test_openai_parses_arguments(self):
        tool = openai.pydantic_function_tool(GetWeather)
        reply = self.client.chat.completions.parse(
            model=NAME, messages=QUESTION, tools=[tool], tool_choice="required", temperature=0,
            max_tokens=160, parallel_tool_calls=False,
        )
        (call,) = reply.choices[0].message.tool_calls
        self.assertIsInstance(call.function.parsed_arguments, GetWeather)

    def test_several_choices_call_for_themselves(self):
        reply = self.chat(tools=TOOLS, tool_choice=NAMED, n=3, temperature=1.0, seed=3)
        ids = set()
        for choice in reply.choices:
            (call,) = choice.message.tool_calls
            check_call("add", call.function.arguments)
            ids.add(call.id)
        self.assertEqual(len(ids), 3)

    def test_what_is_wrong_is_named(self):
        bad = {"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"a": {"not": {}}}}}}
        for options, param in (
            ({"tools": [{"type": "function", "function": {"name": "a b"}}]},
             "tools[0].function.name"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
             "tool_choice"),
            ({"tools": [ADD, bad], "tool_choice": "required"}, "tools[1].function.parameters"),
            ({"tools": [bad]}, None),
            ({"tools": [{"type": "function", "function": {**bad["function"], "strict": True}}]},
             "tools[0].function.parameters"),
            ({"tools": TOOLS, "extra_body": {"guided_choice": ["a"]}}, "guided_choice"),
            ({"tools": TOOLS, "tool_choice": "required",
              "response_format": {"type": "json_object"}}, "tool_choice"),
            ({"reasoning_effort": "low"}, "reasoning_effort"),
        ):
            if param is None:
                self.chat(max_tokens=1, **options)
                continue
            with self.subTest(param), self.assertRaises(openai.BadRequestError) as caught:
                self.chat(**options)
            self.assertEqual(caught.exception.param, param)

    def test_strict_tools_may_be_called(self):
        for choice in ("auto", "required"):
            reply = self.client.chat.completions.parse(
                model=NAME, messages=QUESTION, tools=[openai.pydantic_function_tool(GetWeather)],
                tool_choice=choice, temperature=0, max_tokens=120,
            ).choices[0]
            for call in reply.message.tool_calls or []:
                self.assertIsInstance(call.function.parsed_arguments, GetWeather)
            self.assertTrue(reply.message.content or reply.message.tool_calls)

    def test_a_form_or_a_call(self):
        class Answer(pydantic.BaseModel):
            sunny: bool

        reply = self.client.chat.completions.parse(
            model=NAME, messages=QUESTION, tools=[openai.pydantic_function_tool(GetWeather)],
            response_format=Answer, temperature=0, max_tokens=120,
        ).choices[0]
        if reply.message.tool_calls:
            self.assertEqual(reply.finish_reason, "tool_calls")
        else:
            self.assertIsInstance(reply.message.parsed, Answer)

    def test_responses(self):
        tool = {"type": "function", **ADD["function"], "strict": True}
        options = dict(model=NAME, tools=[tool], temperature=0, max_output_tokens=120)
        choice = {"type": "function", "name": "add"}
        turn = [{"role": "user", "content": "What is 2 and 3?"}]
        whole = self.client.responses.create(input=turn, tool_choice=choice, **options)
        (call,) = whole.output
        self.assertEqual((call.type, call.name, whole.status), ("function_call", "add", "completed"))
        check_call("add", call.arguments)
        with self.client.responses.stream(input=turn, tool_choice=choice, **options) as stream:
            events = list(stream)
        self.assertEqual(events[-1].type, "response.completed")
        (same,) = events[-1].response.output
        self.assertEqual((same.name, same.arguments), (call.name, call.arguments))
        deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        self.assertEqual("".join(deltas), call.arguments)
        turn += [item.model_dump() for item in whole.output]
        turn += [{"type": "function_call_output", "call_id": call.call_id, "output": "5"}]
        answer = self.client.responses.create(input=turn, tool_choice="none", **options)
        self.assertTrue(answer.output_text)

    def test_langchain(self):
        model = langchain_openai.ChatOpenAI(base_url=self.base_url, api_key="none", model=NAME,
                                            temperature=0, max_tokens=160)
        bound = model.bind_tools(TOOLS, tool_choice="required")
        reply = bound.invoke("What is the weather in Paris?")
        self.assertTrue(reply.tool_calls)
        for call in reply.tool_calls:
            check_call(call["name"], call["args"])
        whole = None
        for chunk in bound.stream("What is the weather in Paris?"):
            whole = chunk if whole is None else whole + chunk
        self.assertEqual([(c["name"], c["args"]) for c in whole.tool_calls],
                         [(c["name"], c["args"]) for c in reply.tool_calls])
        answer = model.invoke([
            langchain_core.messages.HumanMessage("What is the weather in Paris?"),
            reply,
            *[langchain_core.messages.ToolMessage("21 degrees", tool_call_id=c["id"])
              for c in reply.tool_calls],
        ])
        self.assertTrue(answer.content)
        structured = model.with_structured_output(GetWeather, method="function_calling")
        self.assertIsInstance(structured.invoke("The weather in Paris, for 3 days"), GetWeather)

    def test_litellm(self):
        litellm.suppress_debug_info = True
        warnings.simplefilter("ignore", UserWarning)  # of the types of its other providers
        options = dict(model=f"openai/{NAME}", api_base=self.base_url, api_key="none",
                       messages=QUESTION, temperature=0, max_tokens=160, tools=TOOLS,
                       tool_choice="required")
        reply = litellm.completion(**options)
        choice = reply.choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        for call in choice.message.tool_calls:
            check_call(call.function.name, call.function.arguments)
        whole = litellm.stream_chunk_builder(list(litellm.completion(stream=True, **options)))
        self.assertEqual([(c.function.name, c.function.arguments)
                          for c in whole.choices[0].message.tool_calls],
                         [(c.function.name, c.function.arguments)
                          for c in choice.message.tool_calls])
        messages = [*QUESTION, choice.message.model_dump(exclude_none=True)]
        messages += [{"role": "tool", "tool_call_id": c.id, "content": "21 degrees"}
                     for c in choice.message.tool_calls]
        answer = litellm.completion(**{**options, "messages": messages, "tool_choice": "none"})
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens,
                         answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_curl(self):
        body = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "tool_choice": NAMED,
                "temperature": 0, "max_tokens": 160, "stream": True}
        events = subprocess.run(
            ["curl", "-sS", "-N", "--fail-with-body", "-H", "Content-Type: application/json",
             "-d", json.dumps(body), f"{self.base_url}/chat/completions"],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.split("\n\n")
        self.assertEqual(events[-2:], ["data: [DONE]", ""])
        deltas = [json.loads(e.removeprefix("data: "))["choices"][0]["delta"] for e in events[:-2]]
        self.assertEqual(deltas[0], {"role": "assistant", "content": ""})
        self.assertEqual(deltas[1]["tool_calls"][0]["function"], {"name": "add", "arguments": ""})
        check_call("add", "".join(d["tool_calls"][0]["function"]["arguments"]
                                  for d in deltas[2:-1]))


class HermesAndReasoning(unittest.TestCase):
    """The same model with a template that shows it other ways to write."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="tandem-chat-")
        model = pathlib.Path(cls.folder.name) / "hermes.gguf"
        with_template(HERMES, model)
        cls.cluster = Cluster(text="""
model: {{name: test-model, path: {model}}}
groups:
  - {{name: g0, tp: 1, threads: 2}}
router:
  listen: 127.0.0.1:{port}
links:
  routers: [tcp://127.0.0.1:{link}]
  runtime_dir: {dir}/run
""", model=model).__enter__()
        cls.client = cls.cluster.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.cluster.__exit__(None, None, None)
        cls.folder.cleanup()

    def chat(self, thinks=False, **options):
        return self.client.chat.completions.create(
            **{"model": NAME, "messages": QUESTION, "temperature": 0, "max_tokens": 160, **options},
            extra_body={"chat_template_kwargs": {"enable_thinking": thinks}},
        ).choices[0]

    def test_marks_are_written_and_read(self):
        choice = self.chat(tools=TOOLS, tool_choice="required")
        self.assertEqual(choice.finish_reason, "tool_calls", choice)
        for call in choice.message.tool_calls:
            check_call(call.function.name, call.function.arguments)
        self.assertNotIn("reasoning_content", choice.message.model_extra)
        choice = self.chat(tools=TOOLS, tool_choice=NAMED, logprobs=True)
        text = "".join(t.token for t in choice.logprobs.content)
        self.assertTrue(text.startswith('<tool_call>\n{"name": "add", "arguments": '), text)
        self.assertTrue(text.endswith("\n</tool_call>"), text)

    def test_what_it_thinks_stands_apart(self):
        choice = self.chat(thinks=True, max_tokens=12)
        self.assertEqual(choice.finish_reason, "length")
        self.assertIsNone(choice.message.content)
        self.assertTrue(choice.message.reasoning_content)
        plain = self.chat(max_tokens=12)
        self.assertTrue(plain.message.content)
        self.assertNotIn("reasoning_content", plain.message.model_extra)
        streamed = self.client.chat.completions.create(
            model=NAME, messages=QUESTION, temperature=0, max_tokens=12, stream=True,
            extra_body={"chat_template_kwargs": {"enable_thinking": True}})
        deltas = [c.choices[0].delta for c in streamed]
        text = "".join(d.model_extra.get("reasoning_content", "") for d in deltas)
        self.assertEqual(text, choice.message.reasoning_content)
        self.assertFalse("".join(d.content or "" for d in deltas))

    def test_a_form_is_that_of_what_it_says(self):
        for end, begun in (("<think>It is dry.</think>", False), ("<think>It is", True)):
            status, reply, _ = self.cluster.post("/v1/chat/completions", {
                "model": NAME, "messages": [*QUESTION, {"role": "assistant", "content": end}],
                "temperature": 0, "max_tokens": 200, "guided_choice": ["sunny", "cloudy"],
                "add_generation_prompt": False, "continue_final_message": True,
            })
            self.assertEqual(status, 200, reply)
            (choice,) = reply["choices"]
            if begun:  # whether it comes to an end is up to the model
                self.assertTrue(choice["message"]["reasoning_content"], reply)
            if choice["finish_reason"] == "stop":
                self.assertIn(choice["message"]["content"], ("sunny", "cloudy"), reply)


if __name__ == "__main__":
    unittest.main(verbosity=2)
