"""Thinking in conversations: the template's rules, what every token of a prompt is, where two prompts part and why.

    messages = [{"role": "user", "content": "red fox?"}]
    print(thinking.render(messages))                      # as the chat template of Qwen3.6 writes it
    thinking.spans(messages, reuse.small_tokenizer())     # what kind every token is of

In this folder:

    rules        from messages to a prompt, in the family's variants
    wording      what the templates say in words of their own
    prompt       the kind of every token
    parting      the first difference of two prompts, with its cause
    messages     a conversation from elsewhere, checked once
    sessions     recorded sessions of other programs, read as the calls that they are
    templates    a tokenizer's own template, run with bounds in a process apart (stranger)
    vocabulary   the true vocabulary without a checkpoint
    given        what is no tokenizer
"""

from labkit.thinking.parting import CAUSES, Divergence, common_prefix, divergence
from labkit.thinking.prompt import Prompt, Span, rendered, spans, variant_of
from labkit.thinking.rules import KINDS, VARIANTS, Piece, last_query, pieces, render
from labkit.thinking.sessions import FORMATS, Exchange, Session, Usage, examples, read_session
from labkit.thinking.vocabulary import tokenizer

__all__ = [
    "CAUSES",
    "FORMATS",
    "KINDS",
    "VARIANTS",
    "Divergence",
    "Exchange",
    "Piece",
    "Prompt",
    "Session",
    "Span",
    "Usage",
    "common_prefix",
    "divergence",
    "examples",
    "last_query",
    "pieces",
    "read_session",
    "render",
    "rendered",
    "spans",
    "tokenizer",
    "variant_of",
]


def __dir__():
    return sorted(__all__)
