#!/usr/bin/env python3
"""Writes data/chat_templates.jsonl, chat_conversations.json and chat_rendered.txt: published chat
templates, the conversations of chat_conversations.py, and what transformers renders of each pair.

    build/venv-golden/bin/pip install transformers==5.23.0 jinja2==3.1.6 xxhash
    build/venv-golden/bin/pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36
    build/venv-golden/bin/python tests/golden/make_chat_templates.py llama_cpp_python-0.3.36.tar.gz

Templates come from the package's copy of llama.cpp (MIT): files of models/templates, and the strings
of tests/test-chat-template.cpp.
"""

import base64
import datetime
import json
import pathlib
import re
import sys
import tarfile

import xxhash
from transformers.utils import chat_template_utils

from chat_conversations import CONVERSATIONS

DATA = pathlib.Path(__file__).parent / "data"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
NOW = datetime.datetime(2026, 3, 7, 14, 5, 9)
NUM_IN_FULL = 4  # of each template, so many renderings stand in the file as they are

# Of tests/test-chat-template.cpp: the name there, and ours.
IN_TEST = {
    "teknium/OpenHermes-2.5-Mistral-7B": "OpenHermes-2.5-Mistral-7B",
    "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)":
        "Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)":
        "Mistral-v1-Mixtral",
    "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)":
        "Mistral-v3",
    "mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)": "Mistral-v7",
    "bofenghuang/vigogne-2-70b-chat": "Llama-2-chat",
    "Llama-3": "Llama-3",
    "google/gemma-7b-it": "Gemma-7b-it",
    "openchat/openchat-3.5-0106": "OpenChat-3.5",
    "deepseek-ai/deepseek-coder-33b-instruct": "DeepSeek-Coder-33B",
    "DeepSeek-V2": "DeepSeek-V2",
    "eachadea/vicuna-13b-1.1": "Vicuna-13B-1.1",
    "CohereForAI/c4ai-command-r-plus": "Command-R-plus",
    "Phi-3-mini": "Phi-3-mini",
    "Phi-3-small": "Phi-3-small",
    "phi-4": "Phi-4",
    "ChatGLM3": "ChatGLM3",
    "ChatGLM4": "GLM-4",
    "ibm-granite/granite-3.0-8b-instruct": "Granite-3.0",
    "ibm-granite/granite-3.x (tool call)": "Granite-3.x",
    "yandex/YandexGPT-5-Lite-8B-instruct": "YandexGPT-5-Lite",
    "inclusionAI/Ling-lite": "Ling-lite",
    "Infinigence/Megrez-3B-Instruct": "Megrez-3B",
}
# Not Hugging Face's: they use filters that transformers does not have.
LEFT_OUT = {"deepseek-ai-DeepSeek-V3.2", "deepseek-ai-DeepSeek-V4",
            "deepseek-ai-DeepSeek-V4-Flash-0731"}


def cpp_strings(source):
    """{name: template} of the test cases: adjacent string literals, plain or raw."""
    literal = r'(?:U8C\()?((?:"(?:[^"\\]|\\.)*"\s*)+)\)?'
    source = re.sub(r"^\s*//.*\n", "", source, flags=re.M)
    pattern = r"\.name=\s*\*/\s*" + literal + r",\s*/\*\s*\.template_str=?\s*\*/\s*" + literal
    return {unescaped(name): unescaped(template) for name, template in re.findall(pattern, source)}


def unescaped(literals):
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"', literals)
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), "".join(parts), flags=re.S)


def read_templates(path):
    templates = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = pathlib.PurePath(member.name)
            if name.match("*/llama.cpp/models/templates/*.jinja") and name.stem not in LEFT_OUT:
                templates[name.stem] = archive.extractfile(member).read().decode()
            elif name.match("*/llama.cpp/tests/test-chat-template.cpp"):
                strings = cpp_strings(archive.extractfile(member).read().decode())
    templates.update({ours: strings[theirs] for theirs, ours in IN_TEST.items()})
    return dict(sorted(templates.items()))


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template, case):
    """What transformers makes of it: ("ok", text), ("raised", message) or ("failed", "")."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [case["messages"]], tools=case.get("tools"), documents=case.get("documents"),
            chat_template=template, add_generation_prompt=case.get("add_generation_prompt", True),
            continue_final_message=case.get("continue_final_message", False),
            **TOKENS, **case.get("kwargs", {}))
        rendered[0].encode()
        return "ok", rendered[0]
    except Exception as error:  # whatever the template does
        raised = type(error).__name__ == "TemplateError"
        return ("raised", str(error)) if raised else ("failed", "")


def hashed(text):
    return base64.b64encode(xxhash.xxh3_128_digest(text.encode())).decode().rstrip("=")


def main():
    chat_template_utils.datetime = FixedDatetime
    templates = read_templates(sys.argv[1])
    with open(DATA / "chat_templates.jsonl", "w") as out:
        for name, template in templates.items():
            out.write(json.dumps({"name": name, "template": template}, ensure_ascii=False) + "\n")
    with open(DATA / "chat_conversations.json", "w") as out:
        lines = [json.dumps(case, ensure_ascii=False) for case in CONVERSATIONS]
        out.write("[\n" + ",\n".join(lines) + "\n]\n")
    counts = {"ok": 0, "raised": 0, "failed": 0}
    with open(DATA / "chat_rendered.txt", "w") as out:
        for number, (name, template) in enumerate(templates.items()):
            out.write(f"# {name}\n")
            for i, case in enumerate(CONVERSATIONS):
                outcome, text = render(template, case)
                counts[outcome] += 1
                in_full = (i + number) % len(CONVERSATIONS) < NUM_IN_FULL and len(text) < 1000
                if outcome == "ok" and not in_full:
                    out.write(hashed(text) + "\n")
                else:
                    out.write(json.dumps([outcome, text], ensure_ascii=False) + "\n")
    print(len(templates), "templates:", counts)


if __name__ == "__main__":
    main()
