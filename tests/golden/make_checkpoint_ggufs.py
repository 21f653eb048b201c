#!/usr/bin/env python3
"""Writes checkpoints/NAME.gguf from checkpoints/NAME/ for families whose GGUF files differ from Llama's,
as llama.cpp's converter would, and says how far llama.cpp's logits of it are from transformers'.

    build/venv-golden/bin/python tests/golden/make_checkpoint_ggufs.py [--check] [NAME...]
"""

import argparse
import json
import math
import pathlib
import struct
import tempfile

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent / "checkpoints"
# name: (architecture, type of matrices)
FILES = {"smollm3": ("smollm3", "BF16"), "qwen3moe": ("qwen3moe", "F16"),
         "mixtral": ("llama", "BF16"), "gemma2": ("gemma2", "BF16"), "gemma3": ("gemma3", "BF16"),
         "phi3-long": ("phi3", "F16"), "granite": ("granite", "BF16")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of FILES; none: all")
    parser.add_argument("--check", action="store_true", help="compare with llama.cpp")
    args = parser.parse_args()
    for name in args.names or FILES:
        architecture, matrix_type = FILES[name]
        path = HERE / f"{name}.gguf"
        write(path, HERE / name, architecture, gguf.GGMLQuantizationType[matrix_type])
        off = ""
        if args.check:  # in float32: of other types llama.cpp rounds what it multiplies them with
            with tempfile.TemporaryDirectory() as temporary:
                exact = pathlib.Path(temporary) / "exact.gguf"
                write(exact, HERE / name, architecture, gguf.GGMLQuantizationType.F32)
                off = f", llama.cpp off by {distance(exact, HERE / name):.2e}"
        print(f"{path.name}: {path.stat().st_size} bytes{off}", flush=True)


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        assert entry["dtype"] == "BF16", entry
        halves = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32)
        yield name, (halves << 16).view(np.float32).reshape(entry["shape"])


def rope_parameters(config):
    """The global one's, whichever version of transformers wrote them."""
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"],
                                             **config["rope_scaling"]}
    return rope.get("full_attention", rope)


def write(path, folder, architecture, matrix_type):
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    add_metadata(writer, config, architecture)
    arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    experts = {}
    for name, weight in read_safetensors(folder / "model.safetensors"):
        if architecture in ("llama", "smollm3", "granite"):
            weight = adjacent_pairs(name, weight, config)
        if architecture.startswith("gemma") and "norm" in name:
            weight = weight + 1
        if ".experts." in name:
            before, after = name.split(".experts.")
            number, kind = after.split(".", 1)
            experts.setdefault(f"{before}.experts.{kind}", {})[int(number)] = weight
            continue
        add_tensor(writer, names.get_name(name, (".weight", ".bias")), weight, matrix_type)
    for name, parts in experts.items():
        stacked = np.stack([parts[i] for i in range(len(parts))])
        add_tensor(writer, names.get_name(name, (".weight",)), stacked, matrix_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tensor(writer, name, weight, matrix_type):
    kind = matrix_type if weight.ndim > 1 and "ffn_gate_inp" not in name \
        else gguf.GGMLQuantizationType.F32
    writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)


def adjacent_pairs(name, weight, config):
    """Rows of Q and K reordered so that neighbours turn together."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    for kind, key in heads.items():
        if name.endswith(kind + ".weight"):
            rows = weight.reshape(config[key], 2, -1, weight.shape[-1])
            return rows.swapaxes(1, 2).reshape(weight.shape)
    return weight


def add_metadata(writer, config, architecture):
    rope = rope_parameters(config)
    head_dim = config["head_dim"] if architecture != "phi3" else 32
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    experts = config.get("num_local_experts") or config.get("num_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if config.get("moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "longrope":
        original = config["original_max_position_embeddings"]
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original)
        stretch = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(original)))
        for kind in ("long", "short"):
            factors = np.array(rope[f"{kind}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{kind}.weight", factors)


def distance(path, folder):
    import llama_cpp
    golden = json.loads((folder / "golden.json").read_text())
    model = llama_cpp.Llama(model_path=str(path), n_ctx=512, n_batch=512, n_ubatch=512,
                            logits_all=True, type_k=0, type_v=0, flash_attn=False, n_threads=1,
                            n_threads_batch=1, verbose=False)
    model.eval(golden["token_ids"])
    logits = np.array(model.scores)[golden["positions"]]
    return float(np.abs(logits - np.array(golden["logits"])).max())


if __name__ == "__main__":
    main()
