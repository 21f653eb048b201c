"""The tokenizers that make_tokenizers.py writes golden data for: what their tokenizer.json says.

Expressions are those of the published models' files. "gguf": the name GGUF has for the
pre-tokenizer."""

APOSTROPHES = r"'s|'t|'re|'ve|'m|'ll|'d"
LLAMA3 = (rf"(?i:{APOSTROPHES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (rf"(?i:{APOSTROPHES})|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
          r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}" + CASED_TAIL)
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:{APOSTROPHES})?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:{APOSTROPHES})?|\p{{N}}{{1,3}}" + CASED_TAIL)
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
          r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
DEEPSEEK_WORD = (r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ"
                 r"Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮ"
                 r"ⲲⲳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
DEEPSEEK_V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
               r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(use_regex=False, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def digits(individual=True):
    return {"type": "Digits", "individual_digits": individual}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split_bytes(*patterns):
    return sequence(*(split(pattern) if isinstance(pattern, str) else pattern for pattern in patterns), byte_level())


# Changes to byte_level.json.
BYTE_LEVEL = {
    "gpt-2": {"pre_tokenizer": byte_level(use_regex=True), "gguf": "gpt-2"},
    "smollm": {"pre_tokenizer": sequence(digits(), byte_level(use_regex=True)), "gguf": "smollm"},
    "llama-3": {"pre_tokenizer": split_bytes(LLAMA3), "model": {"ignore_merges": True}, "gguf": "llama-bpe"},
    "qwen2": {"normalizer": {"type": "NFC"}, "pre_tokenizer": split_bytes(QWEN2), "gguf": "qwen2"},
    "qwen3.5": {"normalizer": {"type": "NFC"}, "pre_tokenizer": split_bytes(QWEN35), "gguf": "qwen35"},
    "tekken": {"pre_tokenizer": split_bytes(TEKKEN), "model": {"ignore_merges": True}, "gguf": "tekken"},
    "gpt-4o": {"pre_tokenizer": split_bytes(GPT4O), "gguf": "gpt-4o"},
    "cl100k": {"pre_tokenizer": split_bytes(CL100K)},
    "deepseek-llm": {
        "pre_tokenizer": split_bytes("[\r\n]", DEEPSEEK_WORD, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                                     "[一-龥ࠀ-一가-퟿]+", digits()),
        "gguf": "deepseek-llm"},
    "deepseek-coder": {
        "pre_tokenizer": split_bytes("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", digits()),
        "gguf": "deepseek-coder"},
    "deepseek-v3": {"pre_tokenizer": split_bytes(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3),
                    "gguf": "deepseek-v3"},
    # Not of one model: every kind of step and behavior.
    "prefix space": {"pre_tokenizer": byte_level(use_regex=True, prefix=True)},
    "bloom": {"pre_tokenizer": split_bytes(r" ?[^(\s|[.,!?…。，、।۔،])]+")},
    "removed": {"pre_tokenizer": split_bytes(split(r"[\p{L}\p{N}]+|[^\p{L}\p{N}\s&&[^.]]+", "Removed", invert=True))},
    "merged": {"pre_tokenizer": split_bytes(split(r"\p{P}", "MergedWithPrevious"),
                                            split("e", "MergedWithNext", kind="String"),
                                            split(r"^[ \t]|\d+$", "Contiguous"))},
    "classes": {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Contiguous"}, digits(False),
                                          {"type": "WhitespaceSplit"}, byte_level())},
    "whitespace": {"pre_tokenizer": sequence({"type": "Whitespace"}, byte_level())},
    "nfkc lower": {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": byte_level(use_regex=True)},
    "nfd": {"normalizer": {"type": "NFD"}, "pre_tokenizer": byte_level(use_regex=True)},
    "nfkd": {"normalizer": {"type": "NFKD"}, "pre_tokenizer": byte_level(use_regex=True)},
    "added": {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": byte_level(use_regex=True), "added_tokens": [
        {"content": "<|im_start|>", "special": True, "rstrip": True},
        {"content": "<|im_end|>", "special": True, "lstrip": True, "rstrip": True},
        {"content": "<|endoftext|>", "special": True, "normalized": True},
        {"content": "ASSISTANT", "normalized": True},
        {"content": "The", "single_word": True}, {"content": "re", "single_word": True, "lstrip": True},
        {"content": "  ", "normalized": False}, {"content": "\n\n", "normalized": False},
        {"content": "</s>", "normalized": False, "rstrip": True}]},
}

MARKER = "▁"
TO_MARKER = {"type": "Replace", "pattern": {"String": " "}, "content": MARKER}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARKER}, TO_MARKER]}
FROM_MARKER = [{"type": "Replace", "pattern": {"String": MARKER}, "content": " "}, {"type": "ByteFallback"},
               {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def decoders(*steps):
    return {"type": "Sequence", "decoders": list(steps)}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": MARKER, "prepend_scheme": scheme, "split": split}


# Changes to sentencepiece.json.
SENTENCEPIECE = {
    "llama-2": {"normalizer": PREPEND, "decoder": decoders(*FROM_MARKER, STRIP)},
    "mistral": {"pre_tokenizer": metaspace("first", False), "decoder": decoders(*FROM_MARKER, STRIP)},
    "gemma": {"normalizer": TO_MARKER, "pre_tokenizer": split(" ", "MergedWithPrevious", kind="String"),
              "decoder": decoders(*FROM_MARKER)},
    "phi-3": {"normalizer": PREPEND, "decoder": decoders(*FROM_MARKER, STRIP), "added_tokens": [
        {"content": "<|im_start|>", "special": True, "rstrip": True},
        {"content": "<|im_end|>", "special": True, "rstrip": True},
        {"content": "user", "normalized": True}, {"content": "</s>", "normalized": False, "rstrip": True}]},
    "metaspace": {"pre_tokenizer": metaspace("always", True), "decoder": metaspace("always", True),
                  "model": {"byte_fallback": False}},
    "unknown": {"normalizer": TO_MARKER, "decoder": decoders(*FROM_MARKER),
                "model": {"byte_fallback": False, "fuse_unk": False}},
    "unknown fused": {"normalizer": TO_MARKER, "decoder": decoders(*FROM_MARKER), "model": {"byte_fallback": False}},
}
