#!/usr/bin/env python3
"""Writes data/tiny_families.jsonl: llama.cpp's logits of the tiny model of each family.

    build/venv-golden/bin/python tests/golden/make_families.py --tool build/release/bin/tandem-make-tiny-model
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import zlib

import llama_cpp
import numpy as np

# mistral is not here: llama.cpp ignores the sliding window of a Llama file.
FAMILIES = ["llama3", "llama-long", "qwen2", "qwen2-yarn", "qwen3"]
VOCAB = 275
NUM_TOKENS = 150
POSITIONS = [15, 16, 31, 63, 64, 99, 127, 128, 149]
TOP = 16
GGML_TYPE_F32 = 0


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True, help="tandem-make-tiny-model")
    parser.add_argument("--out", type=pathlib.Path, default=here / "data" / "tiny_families.jsonl")
    args = parser.parse_args()
    tokens = [(i * 37 + 11) % VOCAB for i in range(NUM_TOKENS)]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            path = pathlib.Path(folder) / f"{family}.gguf"
            subprocess.run([args.tool, path, f"family={family}"], check=True)
            lines.append(json.dumps(golden_record(family, path, tokens), separators=(",", ":")))
    args.out.write_text("".join(line + "\n" for line in lines))
    print(f"{args.out.name}: {len(lines)} lines, {args.out.stat().st_size} bytes")


def golden_record(family, path, tokens):
    logits = evaluate(path, tokens)
    assert logits.shape == (NUM_TOKENS, VOCAB) and np.isfinite(logits).all()
    top = {p: np.argsort(-logits[p], kind="stable")[:TOP] for p in POSITIONS}
    return {
        "family": family,
        "crc32": zlib.crc32(path.read_bytes()),
        "token_ids": tokens,
        "positions": POSITIONS,
        "top_ids": [top[p].tolist() for p in POSITIONS],
        "top_logits": [[round(float(x), 6) for x in logits[p][top[p]]] for p in POSITIONS],
    }


def evaluate(path, tokens):
    """Logits after each token, all of it in float32, in one batch."""
    model = llama_cpp.Llama(
        model_path=str(path),
        n_ctx=512,
        n_batch=512,
        n_ubatch=512,
        logits_all=True,
        type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32,
        flash_attn=False,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )
    model.eval(tokens)
    return np.array(model.scores[: len(tokens)])


if __name__ == "__main__":
    main()
