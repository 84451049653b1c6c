"""Words: a reading by token becomes one by word, with the words as labels and their tokens kept.

    ds = deltanet.implied_attention(run, layer=2)
    words.merge(ds, run)                                # what a word reads of a word
    words.merge(ds, run, how={"weight": "mean"})        # merged otherwise
    words.spans(run)                                    # (text, first token, last token) of each

How numbers are merged is a property of their quantity: what a reader takes from the tokens of a word adds up, what the
tokens of a word take is averaged, gates multiply, and what holds after a word is what held after its last token.

In this folder: `rules` (how each quantity is merged), `bounds` (where words begin), `merging` (`merge`, `spans`).
"""

from labkit.words.merging import Word, merge, spans
from labkit.words.rules import RULES, WAYS

__all__ = ["RULES", "WAYS", "Word", "merge", "spans"]


def __dir__():
    return sorted(__all__)
