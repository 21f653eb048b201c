#!/usr/bin/env python3
"""Writes llama_cpp_kl.json: how far llama.cpp is from the reference, on the tokens of smollm2_greedy.jsonl.

    build/venv-golden/bin/python tests/golden/llama_cpp_kl.py --model models/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import json
import pathlib
import platform

import llama_cpp
import numpy as np

NUM_NEW_TOKENS = 64  # as in make_golden.py


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "data")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    llama = llama_cpp.Llama(args.model, n_ctx=1024, n_threads=args.threads, n_threads_batch=args.threads,
                            logits_all=True, verbose=False)
    check_tokenizer(llama, args.data)
    rows = []
    for line in (args.data / "smollm2_greedy.jsonl").read_text().splitlines():
        record = json.loads(line)
        batch = forced_logprobs(llama, record, step=None)
        decode = forced_logprobs(llama, record, step=1)
        rows.append({
            "name": record["name"],
            "kl": round(kl_divergence(record, batch), 6),
            "kl_decode": round(kl_divergence(record, decode), 6),
            "same_argmax": int(np.sum(batch.argmax(1) == record["token_ids"])),
            "same_argmax_decode": int(np.sum(decode.argmax(1) == record["token_ids"])),
            "clear_flips": clear_flips(record, batch),
            "clear_flips_decode": clear_flips(record, decode),
            "same_greedy_prefix": same_greedy_prefix(llama, record),
        })
        print(rows[-1])
    mean = {key: round(float(np.mean([row[key] for row in rows])), 6) for key in rows[0] if key != "name"}
    print("mean", mean)
    report = {
        "llama_cpp_python": llama_cpp.__version__,
        "machine": machine(),
        "tokens_per_prompt": NUM_NEW_TOKENS,
        "mean": mean,
        "prompts": rows,
    }
    (args.data / "llama_cpp_kl.json").write_text(json.dumps(report, indent=1) + "\n")


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def check_tokenizer(llama, data):
    lines = (data / "tokenizer_strings.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    different = []
    for line in lines:
        ids, text = line.split("\t")
        if " ".join(map(str, llama.tokenize(unescape(text), add_bos=False, special=True))) != ids:
            different.append(text)
    print(f"llama.cpp tokenizes {len(lines) - len(different)} of {len(lines)} strings alike; not:")
    print("\n".join(different[:20]))


def unescape(text):
    parts = text.split("\\x")
    return parts[0].encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in parts[1:])


def forced_logprobs(llama, record, step):
    """[NUM_NEW_TOKENS, vocabulary] for the record's tokens, evaluated at once or `step` at a time."""
    num_prompt, token_ids = len(record["prompt_ids"]), record["token_ids"]
    llama.reset()
    if step is None:
        llama.eval(record["prompt_ids"] + token_ids[:-1])
    else:
        llama.eval(record["prompt_ids"])
        for start in range(0, NUM_NEW_TOKENS - 1, step):
            llama.eval(token_ids[start : min(start + step, NUM_NEW_TOKENS - 1)])
    logits = llama.scores[num_prompt - 1 : num_prompt - 1 + NUM_NEW_TOKENS].astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def kl_divergence(record, logprobs):
    """Mean KL(reference || logprobs) in nats over the reference's top tokens and one bucket for the rest."""
    p_log = np.array(record["top_logprobs"])
    q_log = np.take_along_axis(logprobs, np.array(record["top_ids"]), axis=1)
    p_rest = np.clip(1 - np.exp(p_log).sum(axis=1), 1e-12, None)
    q_rest = np.clip(1 - np.exp(q_log).sum(axis=1), 1e-12, None)
    top = (np.exp(p_log) * (p_log - q_log)).sum(axis=1)
    return float((top + p_rest * np.log(p_rest / q_rest)).mean())


def clear_flips(record, logprobs):
    """At how many positions another token than the reference's is greedy, although the reference's
    is 0.1 nats above its second."""
    top = np.array(record["top_logprobs"])
    clear = top[:, 0] - top[:, 1] > 0.1
    return int(np.sum(clear & (logprobs.argmax(1) != record["token_ids"])))


def same_greedy_prefix(llama, record):
    """How many tokens llama.cpp's own greedy continuation shares with the reference's."""
    llama.reset()
    llama.eval(record["prompt_ids"])
    for count, token_id in enumerate(record["token_ids"]):
        if int(llama.scores[llama.n_tokens - 1].argmax()) != token_id:
            return count
        llama.eval([token_id])
    return NUM_NEW_TOKENS


if __name__ == "__main__":
    main()
