#!/usr/bin/env python3
"""Writes checkpoints/NAME/: a tiny random checkpoint of each family as transformers saves it,
golden.json with transformers' logits and embeddings.json with its pooled hidden states.
make_checkpoint_ggufs.py goes on from there.

    build/venv-hf/bin/python tests/golden/make_checkpoints.py [--embeddings] [NAME...]

With --embeddings only embeddings.json is written, of the checkpoints that are there.

Weights are random among 15 levels of a power of two: exact in bfloat16 and in float16, so that one
set of float32 logits holds for any of them, and small when compressed.
"""

import argparse
import json
import math
import pathlib
import shutil

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent / "checkpoints"
VOCAB = 96
NUM_TOKENS = 150
TOKENS = [(i * 37 + 11) % VOCAB for i in range(NUM_TOKENS)]
POSITIONS = [15, 16, 31, 63, 64, 99, 127, 128, 149]
EMBEDDING_LENGTHS = [1, 16, 100, 150]

# 4 query heads and 2 KV heads, so that two ranks have something each.
BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=512,
            rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
GEMMA = dict(query_pre_attn_scalar=32, sliding_window=24)


def long_factors(pairs):
    return ([1.0 + 0.1 * i for i in range(pairs)], [1.5 + 0.4 * i for i in range(pairs)])


def phi3(original, **more):
    short, long = long_factors(12)
    return dict(rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, short_factor=short,
                                     long_factor=long, partial_rotary_factor=0.75,
                                     original_max_position_embeddings=original),
                original_max_position_embeddings=original, partial_rotary_factor=0.75,
                hidden_size=64, num_attention_heads=2, **more)  # head_dim must be their quotient


# name: (model_type, dtype, what differs from BASE)
FAMILIES = {
    "llama2": ("llama", "float32", {}),
    "llama3": ("llama", "bfloat16", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama-linear": ("llama", "float16", dict(
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
        attention_bias=True)),
    "llama-dynamic": ("llama", "bfloat16", dict(
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0))),
    "llama-yarn": ("llama", "bfloat16", dict(rope_parameters=YARN)),
    "mistral": ("mistral", "bfloat16", dict(sliding_window=24)),
    "smollm3": ("smollm3", "bfloat16", dict(num_hidden_layers=4, no_rope_layer_interval=4)),
    "qwen2": ("qwen2", "bfloat16", dict(tie_word_embeddings=True)),
    "qwen2-window": ("qwen2", "float16", dict(use_sliding_window=True, sliding_window=24,
                                              max_window_layers=1)),
    "qwen3": ("qwen3", "bfloat16", dict(tie_word_embeddings=True)),
    "gemma2": ("gemma2", "bfloat16", dict(**GEMMA, attn_logit_softcapping=2.0,
                                          final_logit_softcapping=5.0)),
    "gemma3": ("gemma3_text", "bfloat16", dict(
        **GEMMA, num_hidden_layers=6,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1e6, factor=2.0),
                             sliding_attention=dict(rope_type="default", rope_theta=1e4)))),
    "gemma3-scale": ("gemma3_text", "bfloat16", dict(
        query_pre_attn_scalar=24, sliding_window=24,
        layer_types=["full_attention", "sliding_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=1e6),
                             sliding_attention=dict(rope_type="default", rope_theta=1e4)))),
    # Heads as GPUs take them.
    "granite": ("granite", "bfloat16", dict(
        head_dim=64, hidden_size=64, embedding_multiplier=6.0, residual_multiplier=0.22,
        attention_multiplier=0.2, logits_scaling=3.0, tie_word_embeddings=True)),
    "phi3-long": ("phi3", "bfloat16", phi3(64)),
    "phi3-short": ("phi3", "bfloat16", phi3(512, sliding_window=40)),
    "mixtral": ("mixtral", "bfloat16", dict(num_local_experts=4, num_experts_per_tok=2)),
    "qwen3moe": ("qwen3_moe", "bfloat16", dict(
        num_experts=6, num_experts_per_tok=3, moe_intermediate_size=64, norm_topk_prob=True)),
    "qwen3moe-plain": ("qwen3_moe", "bfloat16", dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=False)),
}


def old_llama3(config):
    """As transformers 4 wrote it."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope


def old_gemma3(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["full_attention"]["rope_theta"]
    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = {"rope_type": "linear", "factor": 2.0}
    config.pop("layer_types")
    config["sliding_window_pattern"] = 6


OLD_CONFIGS = {"llama3": old_llama3, "gemma3": old_gemma3}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of FAMILIES; none: all")
    parser.add_argument("--embeddings", action="store_true", help="write embeddings.json only")
    args = parser.parse_args()
    for name in args.names or FAMILIES:
        if not args.embeddings:
            make(name)
        write_embeddings(HERE / name)


def make(name):
    model_type, dtype, differences = FAMILIES[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(sum(name.encode()))
    config = AutoConfig.for_model(model_type, **{**BASE, **differences})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, weight in model.named_parameters():
            weight.copy_(random_weight(key, weight.shape, model_type.startswith("gemma")))
    model.tie_weights()
    model.to(getattr(torch, dtype)).save_pretrained(
        folder, max_shard_size="60KB" if name == "llama3" else "1GB")
    if name in OLD_CONFIGS:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        OLD_CONFIGS[name](config)
        path.write_text(json.dumps(config, indent=2) + "\n")
    for extra in ("generation_config.json",):
        (folder / extra).unlink(missing_ok=True)
    golden = {"token_ids": TOKENS, "positions": POSITIONS,
              "logits": logits_of(folder, torch.float32),
              "logits_bf16": logits_of(folder, torch.bfloat16)}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {size} bytes, {sorted(f.name for f in folder.iterdir())}", flush=True)


def random_weight(key, shape, norms_less_one):
    levels = torch.randint(-7, 8, shape).float()
    if "norm" in key:
        return levels / 32 + (0 if norms_less_one else 1)
    if key.endswith("bias"):
        return levels / 16
    if "embed_tokens" in key:
        return levels / 8
    if "lm_head" in key or key.endswith("gate.weight"):  # experts chosen clearly
        return levels / 8
    # Outputs no larger than inputs: the levels' deviation is 4.3.
    return levels / 2 ** math.ceil(math.log2(4.3 * math.sqrt(shape[-1])))


def logits_of(folder, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype)
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0].float()
    assert logits.shape == (NUM_TOKENS, VOCAB) and torch.isfinite(logits).all()
    return [[round(float(x), 6) for x in logits[p]] for p in POSITIONS]


def write_embeddings(folder):
    """Of the first tokens, for some lengths: the last state and the mean of the states, each of
    length 1. One call has all of them, for states do not depend on what follows (and LongRoPE's
    factors, for transformers, on a call's length)."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    model.eval()
    with torch.no_grad():
        states = model(torch.tensor([TOKENS])).last_hidden_state[0]  # behind the last norm
    assert states.shape[0] == NUM_TOKENS and torch.isfinite(states).all()
    pooled = {"lengths": EMBEDDING_LENGTHS, "last": [], "mean": []}
    for length in EMBEDDING_LENGTHS:
        for name, vector in (("last", states[length - 1]), ("mean", states[:length].mean(dim=0))):
            unit = torch.nn.functional.normalize(vector, dim=0)
            pooled[name].append([round(float(x), 7) for x in unit])
    (folder / "embeddings.json").write_text(json.dumps(pooled, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
