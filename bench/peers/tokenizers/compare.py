#!/usr/bin/env python3
"""Encodes a text of 100 kB with Hugging Face's `tokenizers` and with ours, in turns, one thread
each, and compares ids first and CPU time then. The README beside this says how to run it.

    compare.py --tool build/release/bin/tandem-bench-text TOKENIZER...

TOKENIZER: a folder with tokenizer.json; or GGUF_FILE=tokenizer.json, the same vocabulary twice.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402  (it reads the environment)
import xxhash  # noqa: E402

SIZE = 100_000


def sample(pattern, root):
    """SIZE bytes of the repository's own files, cut at a character."""
    data = b"".join(path.read_bytes() for path in sorted(root.glob(pattern)))
    while len(data) < SIZE:
        data += data
    return data[:SIZE].decode("utf-8", "ignore").encode()


def texts(root):
    golden = (root / "tests/golden/data/tokenizer_strings.tsv").read_text().split("\n")
    mixed = "\n".join(line.partition("\t")[2] for line in golden).encode()
    return {"English": sample("docs/*.md", root), "C++": sample("router/http/*.cc", root),
            "mixed scripts": mixed[:SIZE].decode("utf-8", "ignore").encode()}


def ours(tool, path, file, rounds):
    return json.loads(subprocess.run([tool, path, file, str(rounds)], check=True, capture_output=True).stdout)


def theirs(tokenizer, text, rounds):
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        times.append((time.thread_time() - start) * 1e6)
    packed = b"".join(i.to_bytes(4, "little") for i in ids)
    return ids, xxhash.xxh3_128(packed).intdigest() % 2**64, times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help="encodings in one turn")
    parser.add_argument("tokenizers", nargs="+")
    args = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parents[3]
    print(f"tokenizers {tokenizers.__version__}, load {os.getloadavg()[0]:.1f}")
    print("| tokenizer | text | tokens | same ids | tokenizers MB/s | ours MB/s | ratio |\n|---|---|---:|---|---:|---:|---:|")
    for name in args.tokenizers:
        path, _, reference = name.partition("=")
        reference = reference or f"{path}/tokenizer.json"
        peer = tokenizers.Tokenizer.from_file(reference)
        for kind, data in texts(root).items():
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                our_times, peer_times = [], []
                for _ in range(args.turns):
                    result = ours(args.tool, path, file.name, args.rounds)
                    our_times += result["us"]
                    ids, digest, times = theirs(peer, data.decode(), args.rounds)
                    peer_times += times
            same = digest == int(result["hash"], 16) and len(ids) == result["tokens"]
            mine, other = statistics.median(our_times), statistics.median(peer_times)
            print(f"| {pathlib.Path(path).name} | {kind} | {len(ids)} | {'yes' if same else 'NO'} | "
                  f"{len(data) / other:.1f} | {len(data) / mine:.1f} | {other / mine:.1f} |", flush=True)


if __name__ == "__main__":
    main()
