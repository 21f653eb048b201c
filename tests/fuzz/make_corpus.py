#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: small inputs, legal and nearly so, the same every time.

Usage: tests/fuzz/make_corpus.py [FOLDER]   (default: corpus/ beside this script)
"""

import json
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
           U64: "Q", I64: "q", F64: "d"}


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        element, items = content
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack("<" + FORMATS[kind], content)


def gguf(metadata=(), tensors=(), alignment=32, version=3):
    """tensors: (name, dims, type, data); metadata: (key, type, value)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, kind, content in metadata:
        out += text(key) + struct.pack("<I", kind) + value(kind, content)
    data = b""
    for name, dims, kind, content in tensors:
        data += bytes(-len(data) % alignment)
        out += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        out += struct.pack("<IQ", kind, len(data))
        data += content
    return out + bytes(-len(out) % alignment) + data if tensors else out


TOKENIZER = [
    ("general.architecture", STRING, "llama"),
    ("llama.block_count", U32, 2),
    ("llama.rope.freq_base", F32, 1e4),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<|end|>", "a", "b", "ab", ""])),
    ("tokenizer.ggml.token_type", ARRAY, (I32, [3, 1, 1, 1, 1])),
    ("tokenizer.ggml.scores", ARRAY, (F32, [0, -1.5, 2])),
]

SEEDS = {
    "empty": gguf(),
    "tokenizer": gguf(TOKENIZER),
    "scalars": gguf([(f"k{kind}" if kind else "k", kind, 1) for kind in FORMATS]),
    "big_integer": gguf([("k", U64, 2**64 - 1)]),
    "nested_array": gguf([("k", ARRAY, (ARRAY, [(U8, [1, 2]), (STRING, ["x"])]))]),
    "tensors": gguf(
        [("general.alignment", U32, 32)],
        [("a", [2, 2], 0, bytes(16)), ("b", [3], 1, bytes(6)), ("c", [32], 2, bytes(18)),
         ("d", [64], 3, bytes(40)), ("e", [32, 1, 1, 1], 8, bytes(34)), ("f", [256], 12, bytes(144))],
    ),
    "alignment_8": gguf([("general.alignment", U32, 8)], [("a", [1], 0, bytes(4))], alignment=8),
    "alignment_1": gguf([("general.alignment", U32, 1)], [("a", [1], 0, bytes(4))], alignment=1),
    "duplicate_key": gguf([("k", BOOL, 1), ("k", BOOL, 0)]),
    "duplicate_tensor": gguf((), [("a", [1], 0, bytes(4)), ("a", [1], 0, bytes(4))]),
    "huge_dims": gguf((), [("a", [2**62, 2**62], 0, b"")]),
    "truncated_data": gguf((), [("a", [64], 0, bytes(16))]),
    "truncated_metadata": gguf(TOKENIZER)[:-7],
    "huge_count": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
    "version_2": gguf(TOKENIZER, version=2),
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
}


def safetensors(header, data=b""):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "empty": safetensors({}),
    "two": safetensors({"__metadata__": {"format": "pt"}, "b": entry("BF16", [2], 16, 20),
                        "a": entry("F32", [2, 2], 0, 16)}, bytes(20)),
    "scalar": safetensors({"a": entry("F64", [], 0, 8)}, bytes(8)),
    "overlap": safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6)),
    "gap": safetensors({"a": entry("U8", [4], 2, 6)}, bytes(6)),
    "huge_shape": safetensors({"a": entry("F16", [2**40, 2**40], 0, 2)}, bytes(2)),
    "huge_header": struct.pack("<Q", 2**64 - 1) + b"{}",
    "unclosed": safetensors('{"a":{"dtype":"F32","shape":['),
}


CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are helpful<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEMPLATES = {
    "chatml": CHATML,
    "expressions": "{{ 1 + 2 - -3 ~ 'a' ~ \"b\" }}{{ (x or not y and z) == none }}{{ m.a['b'][-1] }}",
    "comparisons": "{{ 1 < 2 }}{{ 'a' <= 'b' }}{{ 'a' in 'abc' }}{{ 1 not in messages }}{{ 2 >= 1 != true }}",
    "filters": "{{ ' a ' | trim }}{{ messages | length }}{{ x is defined }}{{ x is not none }}{{ 'a' is string }}",
    "statements": "{% set x = messages[1].content %}{% if x %}1{% elif y %}2{% else %}3{% endif %}{{ x }}",
    "loops": "{% for a in messages %}{% for b in messages %}{{ loop.index0 }}{{ loop.last }}{% endfor %}{% endfor %}",
    "white_space": "a \n  {%- if true -%} \n b {#- note -#}\n{% endif %}\n\t{%+ set y = 1 +%}\n{{- bos_token -}}\r\n",
    "macros": "{% macro f(a, b=1) %}{{ [a, {'k': b}] | map('upper') | list }}{{ caller() }}{% endmacro %}"
              "{% call f(1) %}x{% endcall %}{{ f(1)[1:-2:2] if x else 1.5 }}",
    "tools": "{% for t in tools %}{{ t | tojson(indent=2) }}{% for k, v in t.parameters | dictsort %}{{ k }}"
             "{{ v | string | replace('a', 'b') }}{% endfor %}{% endfor %}{{ strftime_now('%d %b %Y') }}",
    "namespaces": "{% set ns = namespace(a=[1], b={}) %}{% for m in messages if m.content is string %}"
                  "{% set ns.a = ns.a + [m.content.split(' ', 1)[0].strip()] %}{% if loop.last %}{% break %}"
                  "{% endif %}{% else %}{{ loop }}{% endfor %}{{ ns.a | join(',') }}{{ '{}'.format(n) }}",
    "selection": "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}"
                 "{{ [3, 1, 2] | sort(reverse=true) | unique | first }}{{ messages[1:] | rejectattr('content') | list }}",
    "blocks": "{% set t | trim %} {{ n // 2 ** 3 % 5 }} {% endset %}{% filter upper %}{{ t }}{% endfilter %}"
              "{% with a = 1 %}{{ a }}{% endwith %}{% generation %}x{% endgeneration %}{% raw %}{{ x }}{% endraw %}",
    "overflow": "{{ 9223372036854775807 + 1 }}{{ 99999999999999999999 }}",
    "unclosed": "{% for a in messages %}{{ 'x",
}


def tokenizer(pre_tokenizer=None, normalizer=None, decoder=None, post_processor=None, added=(), **model):
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "\u2581", "a", "b", "ab", "\u2581a", "<0x0A>"])}
    return json.dumps({
        "added_tokens": [{"id": i, "content": c, "special": i < 2, "rstrip": i == 1} for i, c in added],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
        "decoder": decoder or {"type": "ByteFallback"},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
                  "merges": ["a b", ["\u2581", "a"]]} | model}, ensure_ascii=False)


def split(pattern, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
TO_MARKER = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
TOKENIZERS = {
    "llama": tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, TO_MARKER]},
                       decoder={"type": "Sequence", "decoders": [TO_MARKER, {"type": "Fuse"}, {
                           "type": "Strip", "content": " ", "start": 1, "stop": 0}]}, added=[(1, "<s>"), (9, "x y")]),
    "metaspace": tokenizer(METASPACE, {"type": "NFKC"}, METASPACE),
    "bytes": tokenizer(BYTE_LEVEL, {"type": "Lowercase"}, {"type": "ByteLevel"}, byte_fallback=False),
    "splits": tokenizer({"type": "Sequence", "pretokenizers": [
        split(r"(?i:'s|'ll)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"), split(r"[a-z&&[^b]]++$|^\d", "MergedWithNext"),
        {"type": "Digits"}, {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Whitespace"}]}),
    "template": tokenizer(post_processor={"type": "Sequence", "processors": [{
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [1]}}}, {"type": "BertProcessing", "cls": ["<s>", 1], "sep": ["b", 4]}]}),
    "wrong": tokenizer(split(r"(a|b*)+\1")),
}

# The first byte is the endpoint: chat, completions, tokenize, detokenize, responses.
BODIES = {
    "chat": b'\0{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"\\u00e9"}]}],'
            b'"stream":true,"stream_options":{"include_usage":true},"stop":["a"],"n":2,"seed":-1,'
            b'"logprobs":true,"top_logprobs":2,"logit_bias":{"5":-1.5},"metadata":{"a":"b"}}',
    "completions": b'\1{"model":"m","prompt":["a",[1,2]],"best_of":3,"logprobs":1,"top_p":1e-3,'
                   b'"stop_token_ids":[1],"min_tokens":2,"max_tokens":3,"priority":-1}',
    "refused": b'\1{"model":"m","prompt":[1,2],"suffix":null,"length_penalty":1.0,"tools":[]}',
    "tokenize": b'\2{"prompt":"a","add_special_tokens":false,"return_token_strs":true}',
    "detokenize": b'\3{"tokens":[1,2,99999999999]}',
    "responses": b'\4{"model":"m","input":[{"type":"message","role":"developer","content":['
                 b'{"type":"input_text","text":"a"}]}],"instructions":"b","max_output_tokens":4,'
                 b'"text":{"format":{"type":"text"}},"store":false}',
    "twice": b'\0{"model":"m","model":"n"}',
    "numbers": b'\0{"model":"m","temperature":1e999,"top_k":18446744073709551615}',
}


def reply(text, source=0, flags=3, cuts=(0, 2, 6, 0, 30, 1, 255, 3)):
    return bytes([source, flags, *cuts]) + text.encode()


# The first byte is the format, the second what is read beside it (3: no reasoning), then the sizes
# of pieces.
REPLIES = {
    "hermes": reply('Hm.\n<tool_call>\n{"name": "f", "arguments": {"a": "}\\""}}\n</tool_call>\n'
                    '<tool_call>{"arguments": {}, "name": "add"}}</tool_call> ok'),
    "llama": reply('{"name": "f", "parameters": {"\u00e9": [1]}}; {"name": "add", "parameters": {}}', 1),
    "llama_mark": reply('<|python_tag|>{"type": "function", "name": "f", "parameters": {}}', 1),
    "mistral": reply('[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "123456789"},\n{"name": "g"}]', 2),
    "mistral_named": reply('a[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]f[CALL_ID]123456789[ARGS] {}', 2),
    "granite": reply('<|tool_call|>[{"arguments": null, "name": "f"}]', 3),
    "listed": reply('<tool_calls>[{"name": "f", "arguments": {}},  {"name": "add"}]</tool_calls>', 4),
    "functools": reply('functools[{"name": "f", "arguments": {}}]', 5),
    "json": reply(' [{"name": "add", "arguments": {}}, {"name": "f", "arguments": {}}] ', 6),
    "think": reply('\n<think>a <tool_call> b</think>\n\n<tool_call>{"name": "f"}</tool_call>', 0, 0),
    "think_token": reply("a </ [/THINK] b", 7, 5),
    "one_bare_call": reply('{"name": "f", "arguments": {}} {"name": "f", "arguments": {}}', 0, 27),
    "spaces": reply('{"name": "f", "arguments": {}},' + " " * 300 + "{", 6),
    "unclosed": reply("<tool_call>" + '{"a": "<tool_call>' * 600, 0),
}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus"
    write(folder / "gguf", SEEDS)
    write(folder / "tokenizer_json", {name: text.encode() for name, text in TOKENIZERS.items()})
    write(folder / "api", BODIES)
    write(folder / "jinja", {name: template.encode() for name, template in TEMPLATES.items()})
    write(folder / "safetensors", SAFETENSORS)
    write(folder / "reply", REPLIES)


def write(folder, seeds):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
