"""Thinking in conversations: the template's rules, what every token of a prompt is, where two prompts part and why.

In this folder:

    rules        from messages to a prompt, in the family's variants
    spans        the kind of every token
    divergence   the first difference of two prompts, with its cause
    importers    recorded sessions of other programs
    vocabulary   the true vocabulary without a checkpoint
"""

from labkit.thinking.divergence import CAUSES, Divergence, divergence, shared
from labkit.thinking.importers import FORMATS, Session, examples, read_session
from labkit.thinking.rules import KINDS, VARIANTS, Piece, last_query, pieces, render
from labkit.thinking.spans import Prompt, Span, rendered, spans, variant_of
from labkit.thinking.vocabulary import tokenizer

__all__ = [
    "CAUSES",
    "FORMATS",
    "KINDS",
    "VARIANTS",
    "Divergence",
    "Piece",
    "Prompt",
    "Session",
    "Span",
    "divergence",
    "examples",
    "last_query",
    "pieces",
    "read_session",
    "render",
    "rendered",
    "shared",
    "spans",
    "tokenizer",
    "variant_of",
]
