#!/usr/bin/env python3
"""Writes tests/golden/data/tokenizers: two small vocabularies, and what Hugging Face's `tokenizers`
and Google's `sentencepiece` make of text with them. README.md describes the files.

    build/venv-golden/bin/pip install tokenizers sentencepiece xxhash
    build/venv-golden/bin/python tests/golden/make_tokenizers.py [--dump NAME STRING_NUMBER]
"""

import argparse
import copy
import importlib.metadata
import json
import pathlib
import random
import struct
import tempfile

import sentencepiece
import tokenizers
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import strings
from make_tokenizers_text import escape, hostile_strings
from tokenizers_cases import BYTE_LEVEL, SENTENCEPIECE

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "data" / "tokenizers"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHUNK = 100  # strings a hash
NUM_ID_SEQUENCES = 1000
STREAM_EVERY = 7


def corpus():
    texts = strings.make_strings(5000, 20250101)
    for path in sorted((HERE.parent.parent / "docs").glob("*.md")):
        texts += path.read_text().split("\n\n")
    return [text for text in texts if text]


# --- vocabularies -----------------------------------------------------------------------------


def train_byte_level(texts):
    """Merges across what any pre-tokenizer would cut, so that a wrong cut shows in the ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=2600, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), max_token_length=12)
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())


def train_sentencepiece(texts):
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line for text in texts for line in text.split("\n") if line.strip()]),
            model_prefix=f"{folder}/m", model_type="bpe", vocab_size=2400, byte_fallback=True, split_digits=True,
            allow_whitespace_only_pieces=True, remove_extra_whitespaces=False, normalization_rule_name="identity",
            character_coverage=0.98, num_threads=1, minloglevel=2)
        return sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")


def pieces_of(model):
    kinds = [(model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6)]
    return [(model.id_to_piece(i), model.get_score(i), next((kind for test, kind in kinds if test(i)), 1))
            for i in range(model.get_piece_size())]


def convert(pieces):
    """The tokenizer.json that transformers' converter makes: a merge for every cut of every piece."""
    ids = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    plain = {piece for piece, _, kind in pieces if kind == 1}
    merges = []
    for piece, score, kind in pieces:
        local = [(piece[:cut], piece[cut:], score) for cut in range(1, len(piece))
                 if kind == 1 and piece[:cut] in plain and piece[cut:] in plain]
        merges += sorted(local, key=lambda merge: (ids[merge[0]], ids[merge[1]]))
    merges.sort(key=lambda merge: merge[2], reverse=True)
    added = [{"id": i, "content": piece, "special": True} for i, (piece, _, kind) in enumerate(pieces) if kind in (2, 3)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [complete(token) for token in added],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": ids, "merges": [[left, right] for left, right, _ in merges]}}


# --- cases ------------------------------------------------------------------------------------


def complete(token):
    return {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not token.get("special", False),
            "special": False} | token


def apply(base, changes):
    """What tests/router/text does too: `changes` over `base`, added tokens behind all others."""
    result = copy.deepcopy(base)
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        if key in changes:
            result[key] = changes[key]
    result["model"] |= changes.get("model", {})
    vocab = result["model"]["vocab"]
    known = vocab | {token["content"]: token["id"] for token in result["added_tokens"]}
    for token in changes.get("added_tokens", []):
        identity = known.setdefault(token["content"], max(known.values()) + 1)
        result["added_tokens"] = [t for t in result["added_tokens"] if t["id"] != identity]
        result["added_tokens"].append(complete(token) | {"id": identity})
    result["added_tokens"].sort(key=lambda token: token["id"])
    return result


def chunked(items, encode):
    """One XXH3-64 for every CHUNK items, in hexadecimal."""
    digests = []
    for begin in range(0, len(items), CHUNK):
        digest = xxhash.xxh3_64()
        for item in items[begin : begin + CHUNK]:
            data = encode(item)
            digest.update(struct.pack("<I", len(data)) + data)
        digests.append(digest.hexdigest())
    return digests


def pack(ids):
    return struct.pack(f"<{len(ids)}i", *ids)


def id_sequences(vocab_size):
    """Small enough to be made again in C++: a linear congruential generator."""
    state, sequences = 1, []

    def draw(limit):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % limit

    for _ in range(NUM_ID_SEQUENCES):
        sequences.append([draw(vocab_size) for _ in range(1 + draw(24))])
    return sequences


BYTES = {char: byte for byte, char in zip(
    [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)] + [b for b in range(256) if not (
        0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE)],
    [chr(c) for c in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100), *range(256, 324))])}


def decode(tokenizer, ids, skip_special, byte_tokens, special, strip):
    """`tokenizers`' text, or where a run of byte tokens is not UTF-8 (there it replaces the whole run)
    that of the bytes."""
    text = tokenizer.decode(ids, skip_special_tokens=skip_special)
    if not byte_tokens or "\ufffd" not in text:
        return text
    data = b""
    for identity in ids:
        if skip_special and identity in special:
            continue
        token = tokenizer.id_to_token(identity)
        data += bytes([byte_tokens[identity]]) if identity in byte_tokens else token.replace("▁", " ").encode()
    data = data[1:] if strip and data.startswith(b" ") else data
    return data.decode("utf-8", "replace")


def begins_stripped(decoder):
    return decoder["type"] == "Metaspace" or any(step["type"] == "Strip" for step in decoder.get("decoders", []))


def stream(tokenizer, ids):
    decoder = decoders.DecodeStream(skip_special_tokens=True)
    return "".join(decoder.step(tokenizer, identity) or "" for identity in ids)


def write_case(name, tokenizer, texts, lines):
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    config = json.loads(tokenizer.to_str())
    byte_level = "ByteLevel" in json.dumps(config["pre_tokenizer"])
    metaspace = config["decoder"]["type"] == "Metaspace"
    byte_tokens = {vocab[f"<0x{b:02X}>"]: b for b in range(256)} if not byte_level and not metaspace else {}
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    strip = begins_stripped(config["decoder"])
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    tokenizer.encode_special_tokens = True
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    tokenizer.encode_special_tokens = False
    for ids in encoded[::STREAM_EVERY]:
        expected = tokenizer.decode(ids, skip_special_tokens=True)
        assert stream(tokenizer, ids) == expected or expected.endswith("\ufffd"), (name, ids)

    def text_of(skip_special):
        return lambda ids: decode(tokenizer, ids, skip_special, byte_tokens, special, strip).encode()

    def pieces(text):
        if tokenizer.normalizer:
            text = tokenizer.normalizer.normalize_str(text)
        cut = tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else [(text, None)]
        out = b""
        for piece, _ in cut:
            data = bytes(BYTES[char] for char in piece) if byte_level else piece.encode()
            out += struct.pack("<I", len(data)) + data if data else b""
        return out

    sequences = id_sequences(len(vocab))
    if metaspace:  # its decoder takes all spaces out of the first token, ours one at the beginning
        sequences = [ids for ids in sequences if tokenizer.id_to_token(ids[0]).rfind("▁") < 1]
    for what, items, encode in [("pieces", texts, pieces), ("encode", encoded, pack), ("plain", plain, pack),
                                ("decode", encoded, text_of(True)), ("decode all", encoded, text_of(False)),
                                ("random", sequences, text_of(False))]:
        lines.append("\t".join([name, what, *chunked(items, encode)]))


def write(name, text):
    (OUT / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"{name}: {(OUT / name).stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dump", nargs=2, metavar=("NAME", "STRING_NUMBER"))
    args = parser.parse_args()
    print(", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("tokenizers", "sentencepiece", "xxhash")))
    texts = strings.make_strings(5000, 20250101) + hostile_strings(random.Random(5))
    if args.dump:
        base = json.loads((OUT / ("byte_level.json" if args.dump[0] in BYTE_LEVEL else "sentencepiece.json")).read_text())
        tokenizer = Tokenizer.from_str(json.dumps(apply(base, (BYTE_LEVEL | SENTENCEPIECE)[args.dump[0]])))
        text = texts[int(args.dump[1])]
        print(repr(text), tokenizer.encode(text).ids, tokenizer.encode(text).tokens, sep="\n")
        if tokenizer.pre_tokenizer:
            print(tokenizer.pre_tokenizer.pre_tokenize_str(text))
        return
    OUT.mkdir(parents=True, exist_ok=True)
    write("hostile_strings.txt", "".join(escape(text) + "\n" for text in texts[5000:]))
    byte_level = train_byte_level(corpus())
    model = train_sentencepiece(corpus())
    pieces = pieces_of(model)
    converted = convert(pieces)
    lines = []
    for base, cases in ((byte_level, BYTE_LEVEL), (converted, SENTENCEPIECE)):
        for name, changes in cases.items():
            print(name, flush=True)
            tokenizer = Tokenizer.from_str(json.dumps(apply(base, changes)))
            write_case(name, tokenizer, texts, lines)
    lines.append("\t".join(["sentencepiece", "encode", *chunked([model.encode(text) for text in texts], pack)]))
    write("byte_level.json", json.dumps(byte_level, ensure_ascii=False, separators=(",", ":")) + "\n")
    write("sentencepiece.json", json.dumps(converted, ensure_ascii=False, separators=(",", ":")) + "\n")
    write("pieces.tsv", "".join(f"{escape(piece)}\t{score:g}\t{kind}\n" for piece, score, kind in pieces))
    write("cases.json", json.dumps({"byte_level.json": BYTE_LEVEL, "sentencepiece.json": SENTENCEPIECE},
                                   ensure_ascii=False, indent=1) + "\n")
    write("hashes.tsv", "".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
