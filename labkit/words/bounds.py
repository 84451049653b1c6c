"""Where words begin.

A word begins after white space, its one space before it included, and at a sign; apostrophes inside stay ("don't"),
digits stay together. In scripts without spaces every token is a word. Parts of one character, as byte-level
vocabularies have them, are never apart, and special tokens stand alone.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from labkit.errors import InputError

PIECES = 4  # tokens of one character at most: UTF-8 has no longer ones
LOST = "\ufffd"  # what is decoded of a part of a character
UNSPACED = re.compile(  # Thai, Lao, Burmese, Khmer, Kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
BLANKS = "␣⏎⇥␍∅"  # white space as `notation.visible` writes it
UNREAD = re.compile(r"\[\d+\]")  # a token of a model without a tokenizer
CACHED = "·"  # a token of a warm cache, of which a run knows no text


def decoded(tokenizer, ids: list[int]) -> str:
    """The text of some tokens, nothing left out or tidied."""
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def of_run(run):
    """(number of the word of every token of a run, how many)."""
    tokenizer = getattr(run, "tokenizer", None)
    if tokenizer is None:
        hint = "lab.trace of a lab with a tokenizer"
        raise InputError("this run has no tokenizer, which alone knows its words", got="None", hint=hint)
    ids, units, at = run.ids.tolist(), [], 0
    special = {*getattr(tokenizer, "all_special_ids", ()), *getattr(tokenizer, "added_tokens_decoder", ())}
    while at < len(ids):
        end = at + 1
        while end - at < PIECES and end < len(ids) and decoded(tokenizer, ids[at:end]).endswith(LOST):
            end += 1
        if decoded(tokenizer, ids[at:end]).endswith(LOST):  # no character that was begun here
            end = at + 1
        before = units[-1][0] if units else []
        units.append((ids[at:end], _added(tokenizer, before, ids[at:end]), ids[at] in special))
        at = end
    begins = _begins([text for _, text, _ in units], [own for _, _, own in units])
    found = np.repeat(np.cumsum(begins) - 1, [len(some) for some, _, _ in units])
    return found, int(found.max()) + 1 if len(found) else 0


def _added(tokenizer, before, ids):
    """The text of some tokens where they stand: vocabularies differ in whether a token alone has its space."""
    first, both = decoded(tokenizer, before), decoded(tokenizer, [*before, *ids])
    return both[len(first) :] if before and both.startswith(first) else decoded(tokenizer, ids)


def by_text(texts):
    """Whether a word begins at each token, by readable texts alone."""
    if all(UNREAD.fullmatch(text) for text in texts):
        raise InputError("this dataset has no texts of tokens", got=texts[0], expected="a run with a tokenizer")
    return _begins([re.sub(f"[{BLANKS}]", " ", text) or " " for text in texts], [text == CACHED for text in texts])


def _begins(texts: Sequence[str], alone: Sequence[bool]) -> list[bool]:
    """Whether a word begins at each of some texts that follow each other."""
    made = []
    for n, text in enumerate(texts):
        if n == 0 or alone[n] or alone[n - 1] or not texts[n - 1] or not text:
            made.append(True)
            continue
        before, first = texts[n - 1], text[0]
        after = texts[n + 1][:1] if n + 1 < len(texts) else ""
        made.append(not _joined(before, first, text, after, made))
    return made


def _joined(before, first, text, after, made):
    last = before[-1]
    if before.isspace() and text.isspace():  # blanks in a row
        return True
    if before == " " and not first.isspace():  # a space by itself belongs to the number or sign after it
        return True
    if last.isspace() or first.isspace() or UNSPACED.match(first) or UNSPACED.match(last):
        return unicodedata.category(first).startswith("M") and not last.isspace()
    if first in "'’" and _letter(last):
        return _letter(text[1:2] or after)
    if last in "'’" and _letter(first):
        return len(before) > 1 and _letter(before[-2]) or (len(before) == 1 and len(made) > 0 and not made[-1])
    return (_letter(last) and _letter(first)) or (last == first and not _letter(last))


def _letter(sign):
    """Whether a sign is part of a word: a letter, a digit, a mark on one, an underscore, or an unknown part of one."""
    return bool(sign) and (sign.isalnum() or sign in f"_{LOST}" or unicodedata.category(sign).startswith("M"))
