#!/usr/bin/env python3
"""Writes gemma3_greedy.jsonl: Gemma 3 270M's GGUF file in transformers, float32, as make_golden.py does for SmolLM2.

    build/venv-golden/bin/python tests/golden/make_gemma.py --model models/gemma-3-270m-q4_k_m.gguf

Weights are dequantized by the `gguf` package; ids are llama.cpp's, for which `text` is the prompt, and so is the
yardstick `llama_cpp_kl` of each line: how far llama.cpp is from the reference on the file itself.
"""

import argparse
import json
import pathlib

import gguf
import llama_cpp
import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

import llama_cpp_kl
import make_golden
import reference

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "post_ffw_norm": "post_feedforward_layernorm",
}
OUTER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
               "output.weight": "lm_head.weight"}
PROMPTS = {
    "english": "The lighthouse keeper climbed the stairs each evening, and when the lamp was lit",
    "german": "Die Universit\u00e4t wurde im Jahr 1386 gegr\u00fcndet und ist damit",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "japanese": "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3042\u308a\u3001",
    "turn": "<start_of_turn>user\nName three rivers of Europe.<end_of_turn>\n<start_of_turn>model\n",
    "long": "Once upon a time there was a village at the foot of a mountain. " * 45 + "One day",
}


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=here / "data" / "gemma3_greedy.jsonl")
    args = parser.parse_args()
    make_golden.print_origin(args.model)
    model = load_model(reference.GgufFile(args.model))
    llama = llama_cpp.Llama(args.model, n_ctx=1024, n_threads=2, logits_all=True, verbose=False)
    lines = []
    for name, text in PROMPTS.items():
        prompt_ids = llama.tokenize(text.encode(), add_bos=True, special=True)
        token_ids, logprobs = make_golden.greedy(model, prompt_ids)
        top_logprobs, top_ids = logprobs.topk(make_golden.TOP_K)
        print(f"--- {name}: {len(prompt_ids)} tokens\n{llama.detokenize(token_ids, special=True).decode(errors='replace')}")
        record = {"name": name, "text": text, "prompt_ids": prompt_ids, "token_ids": token_ids,
                  "top_ids": top_ids.tolist(),
                  "top_logprobs": [[round(value, 4) for value in row] for row in top_logprobs.tolist()]}
        peer = llama_cpp_kl.forced_logprobs(llama, record, step=None)
        record["llama_cpp_kl"] = round(llama_cpp_kl.kl_divergence(record, peer), 6)
        print("llama.cpp", record["llama_cpp_kl"])
        lines.append(json.dumps(record, separators=(",", ":")))
    make_golden.write_lines(args.out, lines)


def load_model(file):
    """Gemma3ForCausalLM in float32; GGUF has one added to every norm's weight."""
    state = {}
    for tensor in file.tensors:
        weight = np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        state[hugging_face_name(tensor.name)] = torch.from_numpy(weight - 1 if "norm" in tensor.name else weight)
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    layers = file["gemma3.block_count"]
    config = Gemma3TextConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=file["gemma3.embedding_length"],
        intermediate_size=file["gemma3.feed_forward_length"],
        num_hidden_layers=layers,
        num_attention_heads=file["gemma3.attention.head_count"],
        num_key_value_heads=file["gemma3.attention.head_count_kv"],
        head_dim=file["gemma3.attention.key_length"],
        query_pre_attn_scalar=file["gemma3.attention.key_length"],
        max_position_embeddings=file["gemma3.context_length"],
        sliding_window=file["gemma3.attention.sliding_window"],
        layer_types=["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(layers)],
        rms_norm_eps=file["gemma3.attention.layer_norm_rms_epsilon"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": file["gemma3.rope.freq_base"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = Gemma3ForCausalLM(config).to(torch.float32).eval()
    model.load_state_dict(state, strict=True)
    return model


def hugging_face_name(name):
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[kind]}.{suffix}"


if __name__ == "__main__":
    main()
