"""The float32 reference: a GGUF file's weights in transformers, its vocabulary in tokenizers.

Nothing is read but the GGUF file: weights are dequantized by the `gguf` package, and the tokenizer
is a byte-level BPE over the vocabulary and merges that the file carries.
"""

import gguf
import numpy as np
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

CONTROL_TOKEN = 3  # tokenizer.ggml.token_type: 1 normal, 3 control

HF_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HF_OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class GgufFile:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = reader.tensors
        self._fields = reader.fields

    def __getitem__(self, key):
        return self._fields[key].contents()


def load_model(file):
    """LlamaForCausalLM in float32 with the file's weights dequantized."""
    num_heads, num_kv_heads = file["llama.attention.head_count"], file["llama.attention.head_count_kv"]
    state = {}
    for tensor in file.tensors:
        # GGUF lists dimensions fastest first; dequantize() returns rows of outputs, as torch has them.
        weight = np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name.endswith("attn_q.weight"):
            weight = _rotate_half_rows(weight, num_heads)
        elif tensor.name.endswith("attn_k.weight"):
            weight = _rotate_half_rows(weight, num_kv_heads)
        state[_hf_name(tensor.name)] = torch.from_numpy(weight)
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=file["llama.embedding_length"],
        intermediate_size=file["llama.feed_forward_length"],
        num_hidden_layers=file["llama.block_count"],
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=file["llama.context_length"],
        rms_norm_eps=file["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": file["llama.rope.freq_base"]},
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    model.load_state_dict(state, strict=True)
    return model


def _hf_name(name):
    if name in HF_OUTER_NAMES:
        return HF_OUTER_NAMES[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{HF_LAYER_NAMES[kind]}.{suffix}"


def _rotate_half_rows(weight, num_heads):
    """Undoes the row order that GGUF gives Q and K.

    GGUF puts the two rows that rope rotates together next to each other (2i, 2i + 1); transformers
    rotates row i with row i + head_dim / 2.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def load_tokenizer(file):
    """Byte-level BPE with SmolLM's pre-tokenizer; no BOS or EOS is ever added.

    No unknown token: a byte without a vocabulary entry is left out before merging starts.
    """
    assert (file["tokenizer.ggml.model"], file["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    tokens, types = file["tokenizer.ggml.tokens"], file["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in file["tokenizer.ggml.merges"]]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, types)
            if kind == CONTROL_TOKEN
        ]
    )
    assert tokenizer.get_vocab_size() == len(tokens)
    return tokenizer


def byte_level_alphabet():
    """{character of the vocabulary: byte}: printable Latin-1 stands for itself, the rest from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def token_bytes(file):
    """The bytes of every token, by id."""
    alphabet = byte_level_alphabet()
    return [bytes(alphabet[character] for character in token) for token in file["tokenizer.ggml.tokens"]]


def load_chat_template(file):
    """The file's template, compiled as transformers' apply_chat_template does."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(file["tokenizer.chat_template"])
