"""Signs of texts that others wrote: those that would turn, hide or control what stands around them are spelt out."""

import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters and marks that show nothing


def inert(text: str, keep: str = "") -> str:
    """Text whose signs stand where they are written: what turns, hides or controls others is spelt out.

    Control and format characters (directions of writing, signs without width), line separators, halves of surrogate
    pairs and fillers. `keep` are signs that stay, line feeds for example.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _hidden(c) else f"\\{'x' if ord(c) < 256 else 'u'}{ord(c):02x}" for c in text)


def _hidden(sign):
    return unicodedata.category(sign) in HIDDEN or sign in FILLERS
