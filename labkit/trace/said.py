"""What a run says: its tokens as readable texts, the likeliest tokens after them, and the text that it generated."""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.notation import Quantity, is_index, label, select, visible

if TYPE_CHECKING:
    import xarray

_KNOWN = weakref.WeakKeyDictionary()  # tokenizer -> (what its texts depend on, {id: text})
CLEANED = "clean_up_tokenization_spaces"
CHANCE = Quantity("p", "probability of the next token", "fraction", "fraction", "transformers")


def texts(tokenizer, ids: torch.Tensor) -> tuple[str, ...]:
    """Readable text of each token, one string per id."""
    ids = ids.tolist()
    if tokenizer is None:
        return tuple(f"[{i}]" for i in ids)
    known = _known(tokenizer)
    for i in ids:
        if i not in known:
            known[i] = visible(tokenizer.decode([i]))
    return tuple(known[i] for i in ids)


def _known(tokenizer):
    """`{id: text}` of what a tokenizer was asked before; decoding a token each time costs more than a tiny model."""
    made = (len(tokenizer) if hasattr(tokenizer, "__len__") else None, getattr(tokenizer, CLEANED, None))
    try:
        kept = _KNOWN.get(tokenizer)
        if kept is None or kept[0] != made:
            kept = _KNOWN[tokenizer] = (made, {})
    except TypeError:  # one that cannot be a key
        return {}
    return kept[1]


@torch.no_grad()
def top(run, k: int, token: int | Sequence[int] | None) -> "xarray.Dataset":
    """See `Run.top`."""
    k, kept = whole(k, "k", least=1, most=run.spec.vocab), run.logit_tokens.tolist()
    chosen = kept if token is None else select(token, len(run), "token")
    if lost := [each for each in chosen if each not in kept]:
        hint = 'lab.trace(run.ids, logits="all").top(token=None)'
        raise InputError("logits of these tokens were not kept", got=lost[:5], expected=f"of {kept[:5]}", hint=hint)
    logits = run.logits[[kept.index(each) for each in chosen]].float()
    best = logits.topk(k, -1)
    place, positions = ("token", "choice"), run.positions[chosen]
    names = [texts(run.tokenizer, row) for row in best.indices]
    variables = {
        "id": (place, best.indices, None),
        "text": (place, names, None),
        "probability": (place, logits.softmax(-1).gather(-1, best.indices), CHANCE),
        "logit": (place, best.values, "vocab_logit"),
    }
    coords = {"token": positions, "token_text": ("token", [run.tokens[each] for each in chosen]), "choice": range(k)}
    made = label(variables, coords=coords, attrs={"model": run.model, "reading": "run.top"})
    return made.isel(token=0) if token is not None and is_index(token) else made


def generated(run) -> str:
    """See `Run.generated`."""
    ids = run.ids[run.prompt_length :].tolist()
    if not ids:
        return ""
    if run.tokenizer is None:
        got, hint = f"{len(ids)} generated tokens", "lab.tokenizer.decode(run.ids[run.prompt_length:])"
        raise InputError("this run has no tokenizer, which alone knows its text", got=got, hint=hint)
    return run.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
