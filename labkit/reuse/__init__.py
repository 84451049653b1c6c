"""What of a conversation's cache can be used again, call by call, and what the rest costs.

In this folder:

    tree       cached sequences and snapshots
    calls      from a session to the calls of the model
    ledger     what each call reused, recomputed and cost
    presets    what engines do
    sessions   sessions drawn by a seed
"""

from labkit.reuse.calls import POLICIES, Call, calls
from labkit.reuse.ledger import COLUMNS, SCHEMES, break_even_shortening, break_even_turn, replay
from labkit.reuse.presets import PRESETS, Preset, preset
from labkit.reuse.sessions import drawn
from labkit.reuse.tree import Tree, common

__all__ = [
    "COLUMNS",
    "POLICIES",
    "PRESETS",
    "SCHEMES",
    "Call",
    "Preset",
    "Tree",
    "break_even_shortening",
    "break_even_turn",
    "calls",
    "common",
    "drawn",
    "preset",
    "replay",
]
