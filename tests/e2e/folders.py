"""Hugging Face folders for tests: a checkpoint of tests/golden with the files that a published model
has beside it. Its 96 tokens are characters."""
import json
import math
import pathlib
import shutil
import string
import struct

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "checkpoints"
SPECIAL = ["<pad>", "<s>", "</s>"]
CHARACTERS = " \n" + string.ascii_letters + string.digits + string.punctuation.translate(
    {ord(c): None for c in "`~^"})
TEMPLATE = ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")


def tokenizer_json(add_end=False):
    """`add_end`: texts end with </s>, as those of embedding models do."""
    spelled = {" ": "Ġ", "\n": "Ċ"}
    vocab = {t: i for i, t in enumerate(SPECIAL + [spelled.get(c, c) for c in CHARACTERS])}
    assert len(vocab) == 96
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"type": "TemplateProcessing",
           "single": [{"Sequence": {"id": "A", "type_id": 0}},
                      {"SpecialToken": {"id": "</s>", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, t in enumerate(SPECIAL)],
        "normalizer": None, "pre_tokenizer": level, "post_processor": end if add_end else level,
        "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocab, "merges": []},
    }


def encode(text):
    return [len(SPECIAL) + CHARACTERS.index(c) for c in text]


def make(path, name, add_end=False, generation=None):
    """The golden checkpoint `name` as a folder at `path`."""
    shutil.copytree(GOLDEN / name, path, ignore=shutil.ignore_patterns("golden.json"))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer_json(add_end)))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


def without_head(path):
    """As a model of embeddings is saved: no output matrix, names without "model."."""
    file = path / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, tensors = {}, b""
    for name, entry in json.loads(data[8:8 + length]).items():
        if name in ("__metadata__", "lm_head.weight"):
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        entry["data_offsets"] = [len(tensors), len(tensors) + end - begin]
        header[name.removeprefix("model.")] = entry
        tensors += data[begin:end]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def golden(name):
    return json.loads((GOLDEN / name / "golden.json").read_text())


def logprobs(logits):
    most = max(logits)
    total = most + math.log(sum(math.exp(x - most) for x in logits))
    return [x - total for x in logits]


def read_matrix(path, tensor):
    """Rows of a float32 matrix of a .safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + length])[tensor]
    assert entry["dtype"] == "F32", entry
    rows, columns = entry["shape"]
    values = struct.unpack_from(f"<{rows * columns}f", data, 8 + length + entry["data_offsets"][0])
    return [values[r * columns:(r + 1) * columns] for r in range(rows)]
