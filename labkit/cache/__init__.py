"""The hybrid cache: snapshot, restore, fork. There is no crop.

    cache = lab.cache()
    lab.trace(" fox red. whale blue.", cache=cache)
    snap = lab.snapshot(cache)                             # continue from here as often as you like
    run = lab.trace(" fox", cache=lab.restore(snap))

Keys and values of token j depend on tokens up to j alone, so attention layers can be cut anywhere. A recurrent state
folds every token into one matrix and cannot be cut: cutting only the keys and values gives a cache that is silently
wrong. Going back therefore means to keep a snapshot at the place to go back to.

Keys and values are appended and never overwritten, so old views stay valid and snapshots share them; convolution
windows and recurrent states are updated in place, so snapshots clone them.

In this folder: `blocks` (keys and values in buffers with room), `host` (the same in host memory), `book` (the cache
and what it knows of itself), `snapshots` (keep, continue, fork).
"""

from labkit.cache.blocks import Blocks, grown
from labkit.cache.book import (
    CLOSED,
    GO_ON,
    Book,
    HybridCache,
    book_of,
    check_whole,
    is_linear,
    is_unrotated,
    settle,
    with_book,
)
from labkit.cache.snapshots import BRANCHES, Snapshot, check, check_begins, position_ids_of, restore, snapshot, start_of

__all__ = [
    "BRANCHES",
    "CLOSED",
    "GO_ON",
    "Blocks",
    "Book",
    "HybridCache",
    "Snapshot",
    "book_of",
    "check",
    "check_begins",
    "check_whole",
    "grown",
    "is_linear",
    "is_unrotated",
    "position_ids_of",
    "restore",
    "settle",
    "snapshot",
    "start_of",
    "with_book",
]


def __dir__():
    return sorted(__all__)
