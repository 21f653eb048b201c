"""Strings that tell one version of Unicode, one regular expression, one normalization from another."""

import sys
import unicodedata


def escape(text):
    """As tokenizer_strings.tsv has it: \\xHH is a byte, all else is itself."""
    return "".join(c if c == " " or (c != "\\" and unicodedata.category(c)[0] not in "CZ") else
                   "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in text)


def _edges():
    """Characters at which a general category begins or ends, by Python's Unicode, and those that
    later versions filled in."""
    edges, last = [], None
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        category = unicodedata.category(chr(code))
        if category != last:
            edges += [chr(code), chr(code - 1)] if code else [chr(code)]
        last = category
    later = [0x1C89, 0x1C8A, 0xA7CB, 0xA7CD, 0xA7DA, 0x10D40, 0x10D50, 0x10D6F, 0x11380, 0x11DE0, 0x11F02, 0x11F50,
             0x13460, 0x143FA, 0x16100, 0x16D40, 0x16FF4, 0x1CC00, 0x1CCF0, 0x1DF25, 0x1E030, 0x1E4D0, 0x1E5D0,
             0x2EBF0, 0x31350, 0x323AF, 0x105C0]
    return [c for c in edges if not 0xD800 <= ord(c) < 0xE000] + [chr(code) for code in later]


MARKS = "\u0301\u0323\u0327\u0338\u0345\u05b4\u093c\u0bbe\u3099\u309a\u0f71\u0f74\U0001d165\u034f\u0591\u0308\u0304"
BASES = "aeoAEOqıſKÅΩé가각각か゛はカाक\u1100\u1161\u11a8\u212b\u2126\ufb1d\uf900\U0002f800ệǖΐ"
APOSTROPHES = ["'s", "'S", "'ſ", "'ll", "'LL", "'lL", "'re", "'Re", "'VE", "'d", "'K", "’s", "'t", "''m", " 's"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u180e", "\u0085", "\u2028", "\u00a0", "\u200b", "\x1c", "\u3000", "\v"]
WORDS = ["the", "Re", "re", "THE", "JSON", "ÀÉ", "ǅungla", "straße", "12345", "٣٤٥٦", "Ⅷ½", "x²y", "。", "/", "/\n", "!?\n\n",
         "▁", "▁▁", "a▁b", "<0x0A>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "ASSISTANT", "assistant", "\x00"]


def hostile_strings(rng, count=1500):
    edges = _edges()
    kinds = [lambda: rng.choice(edges), lambda: rng.choice(edges), lambda: rng.choice(SPACES),
             lambda: rng.choice(WORDS), lambda: rng.choice(APOSTROPHES),
             lambda: rng.choice(BASES) + "".join(rng.choices(MARKS, k=rng.randint(0, 3)))]
    texts = []
    for _ in range(count):
        chosen = rng.sample(kinds, k=rng.randint(1, 4))
        texts.append("".join(rng.choice(chosen)() for _ in range(rng.randint(1, 14))))
    return texts
