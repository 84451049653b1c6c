"""Texts that are hard to cut into tokens: odd, hostile, and of any signs."""

import random

ODD = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    " \n ",
    "\r\n",
    "\t\tx",
    "a\r\rb",
    "\u00a0x",
    "\u2028\u2029",
    "\u0085",
    "\ufeff",
    "\u200b",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'Ve 'M 'LL 'D",
    "'\u017f",
    "'\u017fx",
    "don't won''t ''ll",
    "it's\u2019s",
    "we'really 'tisn 'mine 'llama 'devil 'vest 'sun 'RExy 'LLx '\u017fun",
    "1234567890",
    "x1y22z333",
    "½ ⅷ ² ٣ ೩",
    "<think>",
    "<think",
    "</think></think>",
    "<|im_start|><|im_end|>",
    "<|im_start|",
    "|im_end|>",
    "<|im_start|>user\nfox<|im_end|>\n",
    "<tool_call>\n<function=look>\n</function>\n</tool_call>",
    "< think >",
    "<THINK>",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;&amp;&#0;",
    "${x} {{y}} `z` \\u0041",
    "__proto__",
    "constructor toString hasOwnProperty",
    "é e\u0301 e\u0301\u0323 \u0323\u0301e",
    "\u1e69 s\u0323\u0307 s\u0307\u0323",
    "\uac01 \u1100\u1161\u11a8 \u1100\u1161",
    "\u0344 \u0340 \u0341 \u0374 \u037e \u0387",
    "\u2126 \u212a \u212b",
    "ﬁ ﬆ ŉ ß ẞ",
    "\u0958 \u09dc \u0a33 \u0f43 \u2adc \ufb1d \ufb4e",
    "\U0001d15e \U0001d1bb",
    "\u09c7\u09be \u0b47\u0b56 \u0cc6\u0cc2\u0cd5",
    "a\u0897\u0334 a\u1abf\u0334 a\u08d3\u0334 a\u1dfa\u0301",
    "\U00016d67\U00016d67 \U00016d67\U00016d67\U00016d67",
    "\U00011935\U00011930 \U00011382\U000113c9 \U000105d2\u0307 \U000105c9",
    "\U00011938 \U00016d68",
    "\U00010efd\u0334",
    "\u1c89 \U0001e4d0 \U00031350 \U000e0101",
    "\ue000\U000f0000\U0010ffff",
    "\ufffd\ufffe\uffff",
    "👩‍👩‍👧‍👦🏽 🇩🇪",
    "日本語のトークン。",
    "ไทย עִבְרִית العَرَبِيَّة हिन्दी",
    "\u202ereversed\u202c",
    "zero\u200dwidth\u200cjoin\u2060er",
    "\x00\x01\x1f\x7f",
    "a" * 3000,
    "ab" * 700,
    " fox" * 300,
    "=" * 2000,
    "\n" * 500,
    " " * 500 + "x",
    "é" * 400,
    "🦊" * 200,
]

SCRIPTS = [
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0x370, 0x530),
    (0x5D0, 0x6FF),
    (0x900, 0xE80),
    (0xAC00, 0xB000),
]
SCRIPTS += [
    (0x1100, 0x1200),
    (0x1E00, 0x2100),
    (0x2200, 0x2C00),
    (0x3040, 0x30FF),
    (0x4E00, 0x9FFF),
    (0x1F300, 0x1FA00),
]


def scribbled(draw, count):
    """Text of any signs, those of one script beside each other more often than not."""
    signs = ""
    while len(signs) < count:
        low, high = draw.choice(SCRIPTS)
        signs += "".join(chr(draw.randrange(low, high)) for _ in range(draw.randint(1, 6)))
        signs += draw.choice(["", " ", "\n", "  "])
    return signs[:count]


def odd_texts():
    """More than 200 texts that are hard to cut."""
    draw = random.Random(1)
    blank = [" ", "\n", "\t", "\u3000", "\r\n", "'", "s", "1", ".", "\u0301", "<think>", "x", "\u2003", "-"]
    mixed = ["".join(draw.choices(blank, k=draw.randint(2, 20))) for _ in range(60)]
    return ODD + mixed + [scribbled(draw, draw.randint(1, 60)) for _ in range(120)]
