#!/usr/bin/env python3
"""The model files that are compared, each made once under build/peers.

    model_files.py [--shape 135m|1b] TYPE...      prints their paths

135m is SmolLM2-135M-Instruct: the Q4_1 file as it was published, and what llama.cpp's quantizer makes of it;
embeddings (which are the head as well) are Q8_0 with Q4_0 as they are with Q4_1. 1b has the layers of Llama 3.2 1B
with random weights, every layer the same, and SmolLM2's vocabulary: 1.07 billion parameters. How fast a file is
does not depend on what its weights are.
"""

import argparse
import os
import pathlib

from side_by_side import MODEL, ROOT, ensure_llama_cpp

FOLDER = ROOT / "build" / "peers"
TYPES = ("q4_1", "q4_0", "q8_0", "bf16")
HIDDEN, LAYERS, FFN, HEADS, KV_HEADS, HEAD_DIM, CONTEXT = 2048, 16, 8192, 32, 8, 64, 4096


def model_file(shape, weight_type, source=MODEL, folder=FOLDER):
    """The path of the file; it is made if it is not there."""
    if (shape, weight_type) == ("135m", "q4_1"):
        return pathlib.Path(source)
    path = pathlib.Path(folder) / f"{shape}.{weight_type}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            (requantize if shape == "135m" else write_random)(source, unfinished, weight_type)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def embedding_type(weight_type):
    return "BF16" if weight_type == "bf16" else "Q8_0"


def requantize(source, path, weight_type):
    import ctypes

    import gguf
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{weight_type.upper()}")
    params.allow_requantize, params.pure = True, True
    params.token_embedding_type = gguf.GGMLQuantizationType[embedding_type(weight_type)]
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(path), params) != 0:
        raise SystemExit(f"llama.cpp could not make {weight_type.upper()} of {source}")


def write_random(source, path, weight_type):
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for name, field in gguf.GGUFReader(source).fields.items():
        if name.startswith("tokenizer."):
            sub_type = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    writer.add_name("random weights, the layers of Llama 3.2 1B")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(500000)
    writer.add_layer_norm_rms_eps(1e-5)
    vocab_size = len(gguf.GGUFReader(source).fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocab_size)
    add_tensors(writer, weight_type, vocab_size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tensors(writer, weight_type, vocab_size):
    import gguf
    import numpy as np

    random = np.random.default_rng(1)

    def matrix(rows, cols, name):
        values = random.standard_normal((rows, cols), dtype=np.float32) / np.float32(cols**0.5)
        kind = gguf.GGMLQuantizationType[name]
        return gguf.quants.quantize(values, kind), kind

    norm = np.ones(HIDDEN, np.float32), None
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    shapes = {"attn_q": (q, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, q),
              "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
    layer = {name: matrix(*shape, weight_type.upper()) for name, shape in shapes.items()}
    layer |= {"attn_norm": norm, "ffn_norm": norm}
    tensors = {"token_embd": matrix(vocab_size, HIDDEN, embedding_type(weight_type)), "output_norm": norm}
    tensors |= {f"blk.{i}.{name}": tensor for i in range(LAYERS) for name, tensor in layer.items()}
    for name, (data, kind) in tensors.items():
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)


class Size:
    """What a step has to do with a file's matrices, for roofs."""

    def __init__(self, path):
        import gguf

        matrices = {t.name: t for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2}
        head = matrices.get("output.weight", matrices["token_embd.weight"])
        layers = [t for name, t in matrices.items() if name.startswith("blk.")]
        self.layer_params = sum(int(t.n_elements) for t in layers)
        self.head_params = int(head.n_elements)
        self.step_bytes = sum(int(t.n_bytes) for t in [*layers, head])  # read once a step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("135m", "1b"), default="135m")
    parser.add_argument("types", nargs="+", choices=TYPES)
    args = parser.parse_args()
    ensure_llama_cpp()
    for weight_type in args.types:
        print(model_file(args.shape, weight_type))


if __name__ == "__main__":
    main()
