"""Forward passes: one prompt in one piece, in chunks, or split where an open state edit asks for it."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from labkit.cache import HybridCache, book_of, check_whole, settle
from labkit.errors import InputError
from labkit.families import FAMILIES
from labkit.pictures import Seen
from labkit.trace import cache_parameter


def feed(
    lab,
    ids: torch.Tensor,
    *,
    columns: Sequence[int],
    cache=None,
    mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    chunk: int | None = None,
    grad: bool = False,
    seen: Seen | None = None,
) -> torch.Tensor | None:
    """Forward passes over ids [batch, T], split where chunks or open state edits ask for it.

    Args:
        columns: tokens whose logits are wanted, ascending. grad: whether the passes build a graph.
        seen: `pictures.Seen` of these ids.

    Returns:
        logits [batch, len(columns), vocab] of these columns, or None without columns.

    Raises:
        InputError: as `check_mode`; a chunk below 1, a torn cache, one of another scaling, model or edits, or at
            unknown or chosen positions; pictures that would not be read in one pass.
    """
    check_mode(lab)
    with torch.enable_grad() if grad else torch.no_grad(), text_alone(lab) as shifted:
        return _feed(lab, ids, columns, cache, mask, position_ids, chunk, shifted, seen)


def _feed(lab, ids, columns, cache, mask, position_ids, chunk, shifted, seen):
    length, chosen, inputs = ids.shape[1], position_ids is not None, {}
    first = 0 if cache is None else cache.get_seq_length()
    cuts = {cut - first for cut in lab.scopes.cuts if first < cut <= first + length}
    if cuts and mask is not None and len(ids) > 1:
        raise InputError("a state edit needs rows of one length", hint="trace the prompts one by one")
    if chunk is not None:
        if chunk < 1:
            raise InputError("a chunk holds at least one token", got=chunk)
        cuts |= set(range(chunk, length, chunk))
    if seen is not None:
        check_seen(lab, cuts - {length}, chosen)
        inputs = {name: part.to(lab.device) for name, part in seen.inputs.items()}
    if cuts and cache is None:
        cache = lab.cache()
    if cuts and not first and isinstance(cache, HybridCache):
        cache.reserve(length)
    if cache is not None:
        check_whole(cache)
        settle(cache, lab)
        if not chosen:
            check_places(cache, shifted, len(ids))
        for layer in cache.layers:
            if getattr(layer, "place", None) is not None:  # of a recorded step that was interrupted
                layer.place = None
        book = book_of(cache)
        book.torn = True  # until every layer has read every token
    if not chosen:
        position_ids = places(cache, length, seen)
    edges = [0, *sorted(cuts - {length}), length]
    logits = []
    for a, b in zip(edges, edges[1:], strict=False):
        here = [column - a for column in columns if a <= column < b]
        out = lab.model(
            input_ids=ids[:, a:b].to(lab.device),
            attention_mask=None if mask is None else mask[:, : first + b].to(lab.device),
            position_ids=None if position_ids is None else position_ids[..., a:b].to(lab.device),
            **inputs,
            **{cache_parameter(lab.model): cache},
            use_cache=cache is not None,
            logits_to_keep=logits_to_keep(here, b - a, lab.device),
        )
        if here:
            logits.append(out.logits)
    if cache is not None:
        if len(ids) == 1:
            book.placed = book.placed or chosen
            if seen is not None:
                book.shift = int(position_ids.max()) + 1 - first - length
                book.pictures += tuple((a + first, b + first, digest) for a, b, digest in seen.marks)
            if len(book.ids) == first:
                book.ids = torch.cat([book.ids, ids[0].cpu()])
        book.torn = False  # last, so that an interrupt leaves no book that is short of a fact
    return torch.cat(logits, 1) if logits else None


def places(cache, tokens: int, seen: Seen | None = None) -> torch.Tensor | None:
    """[3, 1, tokens] rotary positions of pictures, and of what follows them in a cache; None where tokens count on."""
    first = 0 if cache is None else cache.get_seq_length()
    shift = book_of(cache).shift if first else 0
    if seen is not None:
        return seen.pictures.position_ids[:, None] + first + shift
    return (torch.arange(tokens) + first + shift).expand(3, 1, tokens) if shift else None


def check_seen(lab, cuts: set[int], chosen: bool) -> None:
    """Refuse a prompt with pictures that would not be read in one pass, under one rotation.

    Raises:
        InputError: chunks or state edits that split it, chosen positions, or keys that every pass turns anew.
    """
    if chosen:
        raise InputError("pictures stand at positions of their own", got="position_ids", expected="none")
    if cuts:
        got, expected = f"a pass that ends after {min(cuts)} tokens", "no chunk=, no state edit within"
        raise InputError("a prompt with pictures is read in one pass", got=got, expected=expected)
    if lab.scopes.unrotated is not None:
        raise InputError("pictures are not read under yarn.dynamic", hint="yarn.scaled(lab, factor=4)")


def check_places(cache, shifted: bool, rows: int) -> None:
    """Refuse to count on from a cache whose tokens may stand elsewhere.

    Args:
        shifted: what `text_alone` yields. rows: of the cache.

    Raises:
        InputError: tokens at chosen positions, or of others after an image.
    """
    book, hint = book_of(cache), "lab.trace(rest, cache=cache, position_ids=...)"
    if book.placed:
        got = "no positions for the rest"
        raise InputError("this cache's tokens stand at chosen positions", got=got, hint=hint)
    if shifted and rows == 1 and len(book.ids) < cache.get_seq_length():
        got = "tokens of others, after an image"
        raise InputError("nobody knows the positions of this cache's tokens", got=got, hint=hint)


@contextlib.contextmanager
def text_alone(lab) -> Iterator[bool]:
    """What the image-text model carries from a call to the next, set aside while the block lasts.

    An image takes fewer rotary positions than tokens. The model keeps the difference and adds it wherever it continues
    a cache, also one that never held the image.

    Yields:
        whether it carries any difference.
    """
    names = FAMILIES[lab.spec.family].carried
    if lab.scopes.aside is not None or not any(hasattr(lab.model.model, name) for name in names):
        yield False
        return
    try:
        carried = lab.scopes.set_aside(lab.model.model, names)
        yield any(value is not None and bool(value.any()) for value in carried.values())
    finally:
        lab.scopes.put_back()


def check_mode(lab) -> None:
    """Refuse a model, or a place to call it from, in which the numbers would be others or the record would be wrong.

    Raises:
        InputError: training mode (dropout, and gradient checkpointing that drops the cache), weights that are not in
            memory, compiled modules, rounded rotary frequencies, autocast, inference mode.
    """
    if torch.is_inference_mode_enabled():
        got, hint = "torch.inference_mode()", "leave it out: labkit's calls build no graph by themselves"
        raise InputError("caches and runs made in inference mode cannot be used outside it", got=got, hint=hint)
    watched = lab.scopes.watched  # which has looked when the call began
    lab.scopes.seen = watched.identity(lab.name, lab.dtype)
    lab.scopes.turn()
    if watched.training:
        got, expected = f"training mode in {_listed(watched.training)}", "eval mode"
        raise InputError("readings need a model in eval mode", got=got, expected=expected, hint="lab.model.eval()")
    if watched.compiled:
        hint = "load the model again; torch.compile(model) leaves model as it is, model.compile() does not"
        raise InputError("labkit looks into plain modules", got=f"compiled: {_listed(watched.compiled)}", hint=hint)
    lab.scopes.rotation.check()
    if watched.absent:
        got, hint = f"on the meta device: {_listed(watched.absent)}", "load the checkpoint's weights first"
        raise InputError("some weights are not in memory", got=got, hint=hint)
    if torch.is_autocast_enabled(lab.device.type):
        got, expected = f"torch.autocast({lab.device.type!r})", "the model's own dtypes"
        raise InputError("no readings under autocast", got=got, expected=expected, hint="leave the autocast block")


def _listed(names, shown=3):
    named = [name or "the model" for name in names]
    return ", ".join(named[:shown]) + (f" and {len(named) - shown} more" if len(named) > shown else "")


def logits_to_keep(columns: Sequence[int], length: int, device: torch.device) -> int | torch.Tensor:
    """What transformers calls `logits_to_keep`, in its plainest form: 0 is all, 1 the last."""
    if len(columns) == length:
        return 0
    return torch.tensor(columns, device=device) if columns and columns != [length - 1] else 1
