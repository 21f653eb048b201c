"""What simulated groups answer: an oracle of its own beside worker/sim, from the model's file.

A greedy reply's token at a position (prompt included, 0-based) is drawn from the position alone, so
a missing, doubled or foreign token changes the text from there on.
"""
import bisect
import itertools
import struct

MASK = 2**64 - 1
NORMAL = 1  # of tokenizer.ggml.token_type
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
           11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


def read_metadata(path):
    """{key: value} of a GGUF file."""
    with open(path, "rb") as file:
        def number(format):
            return struct.unpack(format, file.read(struct.calcsize(format)))[0]

        def value(kind):
            if kind == STRING:
                return file.read(number("<Q")).decode()
            if kind == ARRAY:
                element, count = number("<I"), number("<Q")
                return [value(element) for _ in range(count)]
            return number(NUMBERS[kind])

        assert file.read(4) == b"GGUF" and number("<I") == 3, path
        number("<Q")  # tensors
        return {value(STRING): value(number("<I")) for _ in range(number("<Q"))}


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Replies:
    """Greedy replies up to a context of `positions` tokens."""

    def __init__(self, model, positions):
        metadata = read_metadata(model)
        plain = []
        for token, kind in zip(metadata["tokenizer.ggml.tokens"],
                               metadata["tokenizer.ggml.token_type"]):
            text = token[1:] if token.startswith("\u0120") else token
            if kind == NORMAL and text and all("!" <= c <= "~" for c in text):
                plain.append(token.replace("\u0120", " "))
        key = mix(mix(0))  # seed 0, sequence 0
        tokens = [plain[mix((key + p) & MASK) % len(plain)] for p in range(positions)]
        self.text = "".join(tokens)
        self.start = [0, *itertools.accumulate(map(len, tokens))]  # of each token in `text`

    def expected(self, prompt_tokens, count):
        return self.text[self.start[prompt_tokens]:self.start[prompt_tokens + count]]

    def num_tokens(self, prompt_tokens, text):
        """Of a reply that may have been cut; None: no whole tokens from the first one on make it."""
        start = self.start[prompt_tokens]
        end = bisect.bisect_left(self.start, start + len(text))
        whole = self.start[end] == start + len(text) and self.text.startswith(text, start)
        return end - prompt_tokens if whole else None
