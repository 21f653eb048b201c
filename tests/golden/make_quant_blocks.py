#!/usr/bin/env python3
"""Writes data/quant_blocks.txt: random blocks of ggml's types and what the `gguf` package makes of them.

    build/venv-golden/bin/python tests/golden/make_quant_blocks.py

A line each: the type, the blocks of 512 elements and their float32 values, both in hex as they lie.
"""

import pathlib

import gguf
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent / "data" / "quant_blocks.txt"
# Where the 16-bit scales lie in a block.
HALFS = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0],
         "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    random = np.random.default_rng(5)
    lines = []
    for name, halfs in HALFS.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (512 // elements, size), dtype=np.uint8)
        for offset in halfs:  # of either sign, from 2^-9 on
            scales = (random.uniform(2**-9, 2**-5, len(blocks))
                      * random.choice([-1, 1], len(blocks))).astype(np.float16)
            blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
        values = gguf.dequantize(blocks, kind).astype(np.float32)
        assert values.size == 512 and np.isfinite(values).all()
        lines.append(f"{name} {blocks.tobytes().hex()} {values.tobytes().hex()}\n")
    OUT.write_text("".join(lines))
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
