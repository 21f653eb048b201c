#!/usr/bin/env python3
"""Writes the golden data of tests/golden/data from a GGUF file. README.md describes the files.

    build/venv-golden/bin/python tests/golden/make_golden.py --model models/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import unicodedata

import numpy as np
import torch

import prompts
import reference
import strings

NUM_STRINGS = 5000
SEED = 20250101
NUM_NEW_TOKENS = 64
TOP_K = 20


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=here / "data")
    parser.add_argument("--only", choices=["text", "greedy"], help="text: tokenizer and template")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print_origin(args.model)
    file = reference.GgufFile(args.model)
    if args.only in (None, "text"):
        write_tokenizer_strings(file, args.out)
        write_tokenizer_decode(file, args.out)
        write_chat_template(file, args.out)
    if args.only in (None, "greedy"):
        torch.set_num_threads(args.threads)
        write_greedy(file, args.out)


def print_origin(model_path):
    digest = hashlib.sha256(pathlib.Path(model_path).read_bytes()).hexdigest()
    print(f"model {pathlib.Path(model_path).name} sha256 {digest}")
    print("python", platform.python_version(), end="")
    for name in ("gguf", "tokenizers", "transformers", "torch", "jinja2", "numpy"):
        print(f", {name} {importlib.metadata.version(name)}", end="")
    print()


# --- text -------------------------------------------------------------------------------------


def escape(data):
    """One line of UTF-8: \\xHH is a byte, all else is itself.

    Escaped are the backslash, bytes that are not UTF-8, and characters that are invisible or
    reorder text (Unicode categories C and Z, space excepted).
    """
    text = data.decode("utf-8", "surrogateescape")
    return "".join(character if is_plain(character) else escape_character(character) for character in text)


def is_plain(character):
    return character == " " or (character != "\\" and unicodedata.category(character)[0] not in "CZ")


def escape_character(character):
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def write_lines(path, lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    print(f"{path.name}: {len(lines)} lines, {path.stat().st_size} bytes")


def join_ids(ids):
    return " ".join(map(str, ids))


def write_tokenizer_strings(file, out):
    tokenizer = reference.load_tokenizer(file)
    lines = []
    for text in strings.make_strings(NUM_STRINGS, SEED):
        lines.append(f"{join_ids(tokenizer.encode(text).ids)}\t{escape(text.encode())}")
    write_lines(out / "tokenizer_strings.tsv", lines)


def write_tokenizer_decode(file, out):
    tokenizer, token_bytes = reference.load_tokenizer(file), reference.token_bytes(file)
    num_special = sum(kind == reference.CONTROL_TOKEN for kind in file["tokenizer.ggml.token_type"])
    lines = []
    for ids in strings.make_id_sequences(NUM_STRINGS, len(token_bytes), num_special, SEED + 1):
        data = b"".join(token_bytes[token_id] for token_id in ids)
        # tokenizers answers in Unicode, with U+FFFD where the bytes are not UTF-8.
        assert tokenizer.decode(ids, skip_special_tokens=False) == data.decode("utf-8", "replace"), ids
        lines.append(f"{join_ids(ids)}\t{escape(data)}")
    write_lines(out / "tokenizer_decode.tsv", lines)


def write_chat_template(file, out):
    template = reference.load_chat_template(file)
    lines = []
    for messages, add_generation_prompt in prompts.CHAT_CASES:
        case = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        lines.append(json.dumps(case | {"rendered": template.render(**case)}, ensure_ascii=True))
    write_lines(out / "chat_template.jsonl", lines)


# --- model ------------------------------------------------------------------------------------


def write_greedy(file, out):
    model, tokenizer = reference.load_model(file), reference.load_tokenizer(file)
    template = reference.load_chat_template(file)
    lines = []
    for name, source in prompts.GREEDY_PROMPTS:
        chat = not isinstance(source, str)
        text = template.render(messages=source, add_generation_prompt=True) if chat else source
        prompt_ids = tokenizer.encode(text).ids
        token_ids, logprobs = greedy(model, prompt_ids)
        top_logprobs, top_ids = logprobs.topk(TOP_K)
        print(f"--- {name}: {len(prompt_ids)} tokens\n{tokenizer.decode(token_ids, skip_special_tokens=False)}")
        record = {"name": name, "prompt_ids": prompt_ids, "token_ids": token_ids, "top_ids": top_ids.tolist()}
        record["top_logprobs"] = [[round(value, 4) for value in row] for row in top_logprobs.tolist()]
        lines.append(json.dumps(record, separators=(",", ":")))
    write_lines(out / "smollm2_greedy.jsonl", lines)


@torch.inference_mode()
def greedy(model, prompt_ids):
    """(ids, log-probabilities [NUM_NEW_TOKENS, vocabulary]); end-of-text tokens do not stop it."""
    inputs, cache, token_ids, rows = torch.tensor([prompt_ids]), None, [], []
    for _ in range(NUM_NEW_TOKENS):
        output = model(inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        rows.append(torch.log_softmax(output.logits[0, -1].double(), dim=-1))
        token_ids.append(int(rows[-1].argmax()))
        inputs = torch.tensor([token_ids[-1:]])
    return token_ids, torch.stack(rows)


if __name__ == "__main__":
    main()
