"""What of a conversation's cache can be used again, call by call, and what the rest costs.

    session = thinking.read_session(thinking.examples()["garden"])
    ds = reuse.compare(session, reuse.small_tokenizer())   # policies and schemes side by side
    print(reuse.as_text(ds))

In this folder:

    tree       cached sequences and snapshots
    call       from a session to the calls of the model
    schemes    where states are saved
    ledger     what each call reused, recomputed and cost
    even       when keeping thinking pays
    presets    what engines do
    measured   the same in the real model, logits compared
    report     policies and schemes side by side, and why prompts part
    bills      what the provider billed beside what is counted
    many       the sessions of a folder side by side
    drawing    sessions drawn by a seed
"""

from labkit.reuse.bills import JUMPS, billed, billed_text, curves
from labkit.reuse.call import POLICIES, Call, calls
from labkit.reuse.drawing import drawn
from labkit.reuse.even import break_even_shortening, break_even_turn
from labkit.reuse.ledger import COLUMNS, Ledger, replay, shared_by, small_tokenizer
from labkit.reuse.many import across, across_text, sessions
from labkit.reuse.measured import cropped, play
from labkit.reuse.presets import PRESETS, Preset, preset
from labkit.reuse.report import as_text, compare, costs, divergences, parted, timeline
from labkit.reuse.schemes import SCHEMES
from labkit.reuse.tree import Book, Tree

__all__ = [
    "COLUMNS",
    "JUMPS",
    "POLICIES",
    "PRESETS",
    "SCHEMES",
    "Book",
    "Call",
    "Ledger",
    "Preset",
    "Tree",
    "across",
    "across_text",
    "as_text",
    "billed",
    "billed_text",
    "break_even_shortening",
    "break_even_turn",
    "calls",
    "compare",
    "costs",
    "cropped",
    "curves",
    "divergences",
    "drawn",
    "parted",
    "play",
    "preset",
    "replay",
    "sessions",
    "shared_by",
    "small_tokenizer",
    "timeline",
]


def __dir__():
    return sorted(__all__)
