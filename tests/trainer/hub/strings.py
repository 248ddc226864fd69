"""Two hundred strings on which tokenizers are compared."""

from __future__ import annotations

import random
import unicodedata

_HARD = [
    *("", " ", "  ", "\t", "\n", "\n\n", " \t \n ", "a", " a", "a ", "  a  b  ", "a\tb", "a\nb\n", "Hello, World!"),
    *("<s>", "</s>", "a</s>b", "<mask> <pad>", "<unk>", "<extra_id_0>", "[CLS] x [SEP]", "[MASK]", "<|endoftext|>"),
    *(
        "日本語のテキスト",
        "中文，标点。",
        "한국어",
        "привет мир",
        "مرحبا",
        "😀",
        "👩‍👩‍👧‍👦 family",
        "é",
        "Å Å",
        "ﬁne ²³",
    ),
    *("1234567", "3.14,15", "don't it's", "``quoted''", "▁lower▁", "a\u00a0b\u2003c", "\u200bzero", "ｆｕｌｌ"),
    *("x" * 2000, "word " * 500, "日" * 300, "A" * 3 + " " * 50 + "B", "def f(x):\n\treturn x ** 2\n"),
]


def strings() -> list[str]:
    draw = random.Random(17)
    words = [
        "import",
        "os",
        "Self",
        "naïve",
        "ÄÖÜ",
        "数",
        "🙂",
        "</s>",
        "<s>",
        "42",
        "'s",
        "_x",
        "(",
        ")",
        "...",
        "\u0301",
    ]
    spaces = [" ", " ", " ", "  ", "\n", "\t", ""]
    found = [*_HARD, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in ("éàü ñ", "Ångström"))]
    while len(found) < 200:
        found.append("".join(draw.choice(words) + draw.choice(spaces) for _ in range(draw.randrange(1, 12))))
    return found
