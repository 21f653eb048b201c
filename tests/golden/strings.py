"""Seeded text for the tokenizer tests: what people send, and what breaks tokenizers."""

import random

WORDS = """the quick brown fox Jumps OVER lazy dogs it's we'll I'm they've you'd won't HELLO'S can't re-do
naïve café résumé straße Zürich coöperate model tokenizer cluster tensor prefix eviction scheduler KV
cache_size getHTTPResponse snake_case kebab-case SCREAMING_CASE x86_64 antidisestablishmentarianism
a I ok Mr. e.g. etc. U.S.A. rock'n'roll 'tis “quoted” ‘single’ (paren) [brackets] {braces} hello,world
""".split()

SCRIPTS = {
    "Cyrillic": "Съешь же ещё этих мягких французских булок да выпей чаю Їжак ґанок Ћирилица",
    "Greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ἀρχή λόγος Σίσυφος",
    "Hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה שָׁלוֹם",
    "Arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ١٢٣ السَّلَامُ",
    "Devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा १२३ नमस्ते",
    "Bengali": "আমি বাংলায় গান গাই ০১২",
    "Tamil": "யாமறிந்த மொழிகளிலே தமிழ்மொழி",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓ สวัสดี",
    "Georgian": "საქართველო გამარჯობა",
    "Armenian": "Բարեւ աշխարհ Հայաստան",
    "Amharic": "ሰላም ለዓለም ፩፪፫",
    "Khmer": "សួស្តី ពិភពលោក",
    "Chinese": "我能吞下玻璃而不伤身体。 今天天气很好, 三千二百! 繁體中文測試 𠮷野家",
    "Japanese": "いろはにほへと ちりぬるを カタカナ テスト 半角カナ ｶﾀｶﾅ 日本語の文章です。",
    "Korean": "키스의 고유조건은 입술끼리 만나야 하고 안녕하세요 ᄒᆞᆫ글",
    "Vietnamese": "Tiếng Việt có nhiều dấu thanh điệu phức tạp",
    "Turkish": "İstanbul'da ılık çay içiyoruz ğüşöç",
    "Polish": "Zażółć gęślą jaźń łódź",
    "Historic": "ᚠᛇᚻ᛫ᛒᛦᚦ 𐌼𐌰𐌲 𓀀𓂀 𒀀𒁀 ᓀᐦᐃᔭᐍᐏᐣ ⠓⠑⠇⠇⠕",
}

EMOJI = """😀 👍 👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪 🇯🇵🇧🇷 ❤️ ☕ 1️⃣ #️⃣ 🧑🏿‍🚀 👁️‍🗨️ 🫠 ✔︎ ™️ 🤷‍♂️ ‍ ️""".split(" ")

CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n}",
    "#include <vector>\n\ntemplate <class T> struct Box { T* p = nullptr; };",
    "SELECT id, COUNT(*) FROM t WHERE name LIKE '%it''s%' GROUP BY 1;",
    "<div class=\"a b\"><!-- note --><a href='/x?y=1&amp;z=2'>text</a></div>",
    '{"key": [1, 2.5e-3, null, true], "s": "\\u00e9\\n"}',
    'fn main() -> Result<(), Box<dyn Error>> { println!("{:?}", args?); Ok(()) }',
    "$ ls -la | grep '^d' && echo \"$HOME\" > /dev/null 2>&1",
    "x = lambda *a, **k: {**k, 'n': len(a)}\r\nprint(f\"{x(1)!r:>10}\")",
    "\\frac{\\partial L}{\\partial w_{ij}} \\leq \\sum_{k=1}^{N} x_k^2",
    "func (s *Server) Serve(ctx context.Context) error {\n\t\t// TODO(7)\n\n\treturn nil\n}",
    "| a | b |\n|---|:-:|\n| 1 | **2** |\n\n- [x] done\n> quote",
]

URLS = """https://example.org/a/b?q=1&r=%20x#frag http://127.0.0.1:8080/v1/chat/completions
mailto:someone@example.com ftp://host.example/pub/file-1.2.3.tar.gz www.example.co.uk/~user/
s3://bucket/key=2024-01-31/part-00001.parquet C:\\Users\\me\\Documents ../../etc/fstab @handle #hash_tag
https://de.wikipedia.example/wiki/Straße?ü=ß https://例え.example/パス""".split()

SPECIAL = """<|im_start|> <|im_end|> <|endoftext|> <repo_name> <reponame> <file_sep> <filename> <gh_stars>
<issue_start> <issue_comment> <issue_closed> <jupyter_start> <jupyter_output> <empty_output>
<|im_start|>user <|im_end|>\\n <|im_start <|IM_START|> <|im_start|><|im_start|> |im_end|> <<|im_end|>>
<|im_sep|> <s> </s> <pad> [INST] <|eot_id|> < |im_end| > <repo_name <empty_output>> <|im_end|><|endoftext|>
assistant system user tool""".split()

WHITESPACE = [" ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \t ",
              "\u00a0", "\u3000", "\u2009", "\u200b", "\u2028", "\u0085", "\v", "\f", "\ufeff", "\u1680"]

ODDITIES = ["\u0301", "e\u0301", "\u0915\u094d\u0937", "\ufffd", "\ufffe", "\U0010ffff", "\ue000", "½", "²",
            "Ⅷ", "①", "٣", "৪", "𝟘", "𝔘𝔫𝔦", "ﬁ", "ǅ", "ß", "ẞ", "İ", "ſ", "’s", "'s", "'S", "'ll", "'re",
            "'RE", "''", "'t's", "_", "__init__", "...", "…", "—", "--", "!?!", "\u202eabc\u202c", "Ｆｕｌｌ", "３４"]


def _words(rng):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 7)))


def _script(rng):
    text = SCRIPTS[rng.choice(sorted(SCRIPTS))]
    start = rng.randrange(len(text))
    return text[start : start + rng.randint(1, 14)]


def _emoji(rng):
    return rng.choice(["", " "]).join(rng.choices(EMOJI, k=rng.randint(1, 4)))


def _code(rng):
    text = rng.choice(CODE)
    start = rng.randrange(len(text)) if rng.random() < 0.7 else 0
    return text[start : start + rng.randint(4, 50)]


def _number(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return str(rng.randint(0, 10 ** rng.randint(1, 18)))
    if kind == 1:
        return f"{rng.uniform(-1e6, 1e6):,.{rng.randint(0, 6)}f}"
    if kind == 2:
        return f"{rng.random():.3e}"
    if kind == 3:
        return f"{rng.randint(1900, 2100)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:30Z"
    if kind == 4:
        return hex(rng.getrandbits(32))
    return f"v{rng.randint(0, 9)}.{rng.randint(0, 99)} ({rng.randint(0, 100)}%) ${rng.randint(1, 9999)}"


def _controls(rng):
    pool = [chr(c) for c in (*range(0x20), 0x7F, *range(0x80, 0xA0))] + ["a", "th", "e", " "]
    return "".join(rng.choices(pool, k=rng.randint(1, 10)))


def _code_points(rng):
    """Characters from anywhere in Unicode, unassigned ones included, surrogates not."""
    limit = rng.choice([0x100, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
    points = (rng.randrange(limit) for _ in range(rng.randint(1, 8)))
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


def _whitespace(rng):
    runs = "".join(rng.choices(WHITESPACE, k=rng.randint(1, 4)))
    return rng.choice(WORDS) + runs + rng.choice(WORDS + [""]) + rng.choice(["", runs])


def _spaces(rng):
    return rng.choice([" ", "\n", "\t", "-", "=", "a", "0", "."]) * rng.randint(1, 40) + rng.choice(["", "x", "\n"])


KINDS = [_words, _script, _script, _emoji, _code, _code, _number, _controls, _code_points, _whitespace, _spaces,
         lambda rng: rng.choice(URLS), lambda rng: rng.choice(SPECIAL),
         lambda rng: rng.choice([" ", ""]).join(rng.choices(SPECIAL, k=2)),
         lambda rng: "".join(rng.choices(ODDITIES, k=rng.randint(1, 5)))]


def make_strings(count, seed):
    """`count` different strings; the first is empty."""
    rng = random.Random(seed)
    strings = {"": None}
    while len(strings) < count:
        parts = 1 if rng.random() < 0.7 else rng.randint(2, 3)
        separator = rng.choice(["", " ", " ", "\n"])
        strings[separator.join(rng.choice(KINDS)(rng) for _ in range(parts))] = None
    return list(strings)


def make_id_sequences(count, vocab_size, num_special, seed):
    """`count` sequences of 1 to 30 random ids, short ones likelier.

    A quarter draws half its ids from the first 256, which are single bytes and so rarely UTF-8; an
    eighth holds a special token.
    """
    rng = random.Random(seed)
    sequences = []
    for _ in range(count):
        length = min(rng.randint(1, 30), rng.randint(1, 30))
        byte_share = 0.5 if rng.random() < 0.25 else 0.0
        ids = [rng.randrange(256 if rng.random() < byte_share else vocab_size) for _ in range(length)]
        if rng.random() < 0.125:
            ids[rng.randrange(length)] = rng.randrange(num_special)
        sequences.append(ids)
    return sequences
