"""Snapshots: keep what a cache holds, continue from it, and what a warm cache contributes to a run."""

import dataclasses
from collections.abc import Iterable

import torch
from transformers.cache_utils import DynamicCache

from labkit.arguments import whole
from labkit.cache.book import book_of, check_whole, is_linear, is_unrotated
from labkit.errors import InputError
from labkit.identity import Identity
from labkit.rotary import Scaling
from labkit.trace import Start

BRANCHES = 2**16  # of one snapshot, at most


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything needed to continue after `length` tokens.

    Attributes:
        length: tokens absorbed.
        keys, values: `{layer: [batch, kv_head, length, head_dim]}`, views of the buffers of the cache they came from.
        conv: `{layer: [batch, channel, taps]}`, own copy.
        state: `{layer: [batch, head, key, value]}`, own copy, float32.
        ids: [length] the tokens absorbed, where known; `Lab.resume` checks them against a new prompt.
        scaling: `rotary.Scaling` that the keys were rotated under, where known.
        placed: whether some keys stand at chosen positions.
        shift, pictures: of what was seen, as in `Book`.
        position_ids: [3, batch, length] rotary positions of keys before rotation (`yarn.dynamic`), else None.
        identity, edits: what made it, as in `Book`.
    """

    length: int
    keys: dict
    values: dict
    conv: dict
    state: dict
    ids: torch.Tensor | None = None
    scaling: Scaling | None = None
    placed: bool = False
    shift: int = 0
    pictures: tuple[tuple[int, int, str], ...] = ()
    position_ids: torch.Tensor | None = None
    identity: Identity | None = None
    edits: tuple[tuple[int, tuple], ...] = ()

    @property
    def nbytes(self) -> dict[str, int]:
        """`{"shared": bytes of keys and values, "own": bytes of windows and states}` that the snapshot keeps alive.

        A view keeps its whole buffer alive, with the room behind the tokens that it shows.
        """
        held = lambda part: {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in part.values()}
        shared, own = held(self.keys) | held(self.values), held(self.conv) | held(self.state)
        return {"shared": sum(shared.values()), "own": sum(own.values())}

    def stacked(self, n: int) -> "Snapshot":
        """A snapshot of `n` equal rows, for branches that run as one batch: keys and values are views, states copies.

        Raises:
            InputError: n below 1 or beyond `BRANCHES`, or a snapshot of several rows.
        """
        rows = {len(part) for group in (self.keys, self.values, self.state) for part in group.values()}
        n = whole(n, "n", least=1, most=BRANCHES)
        if rows - {1}:
            got = f"rows {sorted(rows)}"
            raise InputError("only a snapshot of one row can be stacked", got=got, expected="one row")
        views = {
            name: {i: t.expand(n, *t.shape[1:]) for i, t in getattr(self, name).items()} for name in ("keys", "values")
        }
        copies = {
            name: {i: t.repeat(n, *[1] * (t.ndim - 1)) for i, t in getattr(self, name).items()}
            for name in ("conv", "state")
        }
        at = None if self.position_ids is None else self.position_ids.expand(-1, n, -1)
        facts = dict(
            scaling=self.scaling, placed=self.placed, position_ids=at, identity=self.identity, edits=self.edits
        )
        facts |= dict(shift=self.shift, pictures=self.pictures)
        return Snapshot(self.length, **views, **copies, **facts)

    def __repr__(self):
        shared, own = (self.nbytes[key] / 2**20 for key in ("shared", "own"))
        return f"Snapshot(after {self.length} tokens, {own:.2f} MiB of states, {shared:.2f} MiB of shared keys/values)"


def check(cache: DynamicCache) -> DynamicCache:
    """A cache that labkit can snapshot.

    Raises:
        InputError: not a hybrid `DynamicCache`, or one that records its past for cropping.
    """
    if not hasattr(cache, "layers") or not any(is_linear(layer) for layer in cache.layers):
        raise InputError(
            "not a hybrid cache",
            got=type(cache).__name__,
            expected="transformers.DynamicCache(config=model.config)",
            hint="lab.cache() makes an empty one; without config= DynamicCache has no place for recurrent states",
        )
    return cache


def snapshot(cache: DynamicCache, *, ids: torch.Tensor | None = None) -> Snapshot:
    """Keep what a cache holds now: keys and values by reference, windows and states by copy.

    Args:
        cache: hybrid `DynamicCache`.
        ids: [length] its tokens; None takes what the lab fed, if that was all.

    Raises:
        InputError: not a hybrid cache, one that an interrupt tore, or `ids` of another length.
    """
    check(cache)
    check_whole(cache)
    length, book = cache.get_seq_length(), book_of(cache)
    if ids is None and len(book.ids) == length:
        ids = book.ids
    if ids is not None and len(ids) != length:
        raise InputError("ids do not fit the cache", got=f"{len(ids)} ids", expected=f"{length} tokens")
    parts = {"keys": {}, "values": {}, "conv": {}, "state": {}}
    for index, layer in enumerate(cache.layers):
        if is_linear(layer):
            if layer.has_previous_state[0]:
                parts["conv"][index] = layer.conv_states[0].clone()
                parts["state"][index] = layer.recurrent_states[0].clone()
        elif length:
            parts["keys"][index], parts["values"][index] = layer.keys, layer.values
    ids = None if ids is None else torch.as_tensor(ids).cpu().clone()
    facts = dict(scaling=book.scaling, placed=book.placed, position_ids=position_ids_of(cache))
    facts |= dict(identity=book.identity, edits=book.edits, shift=book.shift, pictures=book.pictures)
    return Snapshot(length, ids=ids, **facts, **parts)


def restore(snap: Snapshot, cache: DynamicCache) -> DynamicCache:
    """Fill an empty cache so that it continues where the snapshot was taken; the snapshot can be restored again.

    States and windows are copies. Keys and values are shared with the snapshot until the cache grows: a pass copies
    them before it writes, and transformers replaces them whenever it reorders, repeats, selects or crops. Whoever
    writes into `layer.keys` in place changes the snapshot and every cache that shares them.

    Args:
        snap: `Snapshot`.
        cache: an empty hybrid cache of the model.

    Raises:
        InputError: a cache that holds tokens; keys before rotation for a cache of rotated ones, or the other way round.
    """
    if held := cache.get_seq_length():
        got, hint = f"a cache of {held} tokens", "lab.restore(snap)"
        raise InputError("a snapshot is restored into an empty cache", got=got, hint=hint)
    if (snap.position_ids is not None) != is_unrotated(cache) and snap.length:
        kinds = ("keys that are rotated already", "keys before rotation")
        got = kinds[snap.position_ids is not None]
        hint = "snapshots of yarn.dynamic are restored inside yarn.dynamic, others outside it"
        raise InputError(
            "this snapshot does not fit the scope", got=got, expected=kinds[is_unrotated(cache)], hint=hint
        )
    for index, layer in enumerate(cache.layers):
        if index in snap.state:
            # transformers marks these two tensors as static addresses, hence: initialise, then copy.
            taps = snap.conv[index].shape[-1]
            layer.lazy_initialization(conv_states=snap.conv[index], conv_kernel_size=taps)
            layer.lazy_initialization(recurrent_states=snap.state[index])
            layer.conv_states[0].copy_(snap.conv[index])
            layer.recurrent_states[0].copy_(snap.state[index])
            layer.has_previous_state[0] = True
        elif index in snap.keys:
            layer.lazy_initialization(snap.keys[index], snap.values[index])
            layer.keys, layer.values = snap.keys[index], snap.values[index]
            if snap.position_ids is not None:
                layer.position_ids = snap.position_ids
    book = book_of(cache)
    book.scaling, book.placed = snap.scaling, snap.placed
    book.shift, book.pictures = snap.shift, snap.pictures
    book.identity, book.edits = snap.identity, snap.edits
    if snap.ids is not None:
        book.ids = snap.ids
    return cache


def check_begins(snap: Snapshot, ids: torch.Tensor, pictures: Iterable[tuple[int, int, str]] = ()) -> None:
    """Refuse a prompt that a snapshot is not a true beginning of.

    Args:
        snap: the beginning. ids: (token,) of the whole prompt. pictures: of the prompt, as in `Book`.

    Raises:
        InputError: unknown tokens, other tokens or pictures, or none left to compute.
    """
    if snap.placed:
        hint = "lab.trace(rest, cache=lab.restore(snap), position_ids=...)"
        raise InputError("this snapshot's tokens stand at chosen positions", got="no positions for the rest", hint=hint)
    if snap.ids is None:
        raise InputError("this snapshot does not know its tokens", hint="lab.trace(ids, cache=lab.restore(snap))")
    same = min(len(ids), snap.length)
    if (differ := (ids[:same] != snap.ids[:same]).nonzero()).numel() or len(ids) < snap.length:
        at = int(differ[0]) if differ.numel() else len(ids)
        raise InputError(
            "the prompt does not begin with the snapshot's tokens",
            got=f"first difference at token {at}",
            expected=f"the same {snap.length} tokens",
            hint="a recurrent state cannot be cut back; use a snapshot taken at or before the difference",
        )
    if [each for each in pictures if each[0] < snap.length] != list(snap.pictures):
        got, hint = "other pictures, or none", "lab.resume(snap, seen), of the same messages and more"
        raise InputError("the prompt does not begin with the snapshot's pictures", got=got, hint=hint)
    if len(ids) == snap.length:
        raise InputError("nothing is left to compute", got=f"{len(ids)} tokens, all in the snapshot")


def position_ids_of(cache: DynamicCache) -> torch.Tensor | None:
    """[3, batch, length] rotary positions of keys before rotation; None for a cache of rotated keys."""
    kept = (layer.position_ids for layer in cache.layers if getattr(layer, "unrotated", False))
    return next((position_ids for position_ids in kept if position_ids is not None), None)


def start_of(cache: DynamicCache | None, layers: Iterable[int], row: int = 0) -> Start:
    """What a warm cache contributes to a run that starts from it, for the traced layers of one batch row."""
    if cache is None or not (cache.get_seq_length() or any(map(_began, cache.layers))):
        return Start()
    parts = {"conv": {}, "state": {}, "keys": {}, "values": {}}
    for index in layers:
        layer = cache.layers[index]
        if is_linear(layer):
            parts["conv"][index] = layer.conv_states[0][row].clone()
            parts["state"][index] = layer.recurrent_states[0][row].clone()
        elif cache.get_seq_length():
            parts["keys"][index], parts["values"][index] = layer.keys[row], layer.values[row]
    position_ids, book = position_ids_of(cache), book_of(cache)
    parts["position_ids"] = None if position_ids is None else position_ids[:, row]
    return Start(cache.get_seq_length(), **parts, placed=book.placed or book.shift != 0)


def _began(layer):
    """Whether a layer of a cache holds a state, also one from before the first token."""
    return is_linear(layer) and layer.has_previous_state[0]
