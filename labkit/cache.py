"""The hybrid cache: snapshot, restore, fork. There is no crop.

Keys and values of token j depend on tokens up to j alone, so attention layers can be cut anywhere. A recurrent state
folds every token into one matrix and cannot be cut: cutting only the keys and values gives a cache that is silently
wrong. Going back therefore means to keep a snapshot at the place to go back to.

`transformers.DynamicCache` grows keys and values by concatenation, so old tensors stay valid and snapshots share
them; convolution windows and recurrent states are updated in place, so snapshots clone them.
"""

import dataclasses
import weakref

import torch
from transformers.cache_utils import DynamicCache

from labkit.errors import InputError
from labkit.rotary import Scaling
from labkit.trace import Start


@dataclasses.dataclass
class Book:
    """What is known of a cache's contents beyond the tensors.

    Attributes:
        scaling: `rotary.Scaling` of the last pass, under which the keys were rotated; None where nobody has seen it.
        placed: whether some keys stand at positions that were chosen.
        torn: whether a pass into the cache did not end, so that its layers have read different tokens.
        ids: [length] the tokens that a lab fed; shorter than the cache if others fed more.
    """

    scaling: Scaling | None = None
    placed: bool = False
    torn: bool = False
    ids: torch.Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, dtype=torch.long))


class HybridCache(DynamicCache):
    """transformers' cache of a hybrid with a `Book`, which copies of it carry along; made by `lab.cache()`."""

    def __init__(self, config, lab, *, offloading: bool = False):
        super().__init__(config=config, offloading=offloading, offload_only_non_sliding=False)
        self.book, self.lab = Book(), weakref.ref(lab)

    def update(self, key_states, value_states, layer_idx: int, *args, **kwargs):
        """As transformers'; settled once a pass, also where the bare model runs outside of every scope."""
        lab = self.lab()
        if lab is not None and layer_idx == lab.spec.attention_layers[0]:
            torn, self.book.torn = self.book.torn, True  # the layers before have read the tokens of this pass
            settle(self, lab)
            self.book.torn = torn
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


_FOREIGN = weakref.WeakKeyDictionary()  # books of caches that others made; a copy of such a cache begins a new one


def book_of(cache) -> Book:
    """The book of a cache, of the lab's own or anybody's."""
    return cache.book if isinstance(cache, HybridCache) else _FOREIGN.setdefault(cache, Book())


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything needed to continue after `length` tokens.

    Attributes:
        length: tokens absorbed.
        keys, values: `{layer: [batch, kv_head, length, head_dim]}`, shared with the cache they came from.
        conv: `{layer: [batch, channel, taps]}`, own copy.
        state: `{layer: [batch, head, key, value]}`, own copy, float32.
        ids: [length] the tokens absorbed, where known; `Lab.resume` checks them against a new prompt.
        scaling: `rotary.Scaling` that the keys were rotated under, where known.
        placed: whether some keys stand at chosen positions.
        position_ids: [3, batch, length] rotary positions of keys before rotation (`yarn.dynamic`), else None.
    """

    length: int
    keys: dict
    values: dict
    conv: dict
    state: dict
    ids: torch.Tensor | None = None
    scaling: Scaling | None = None
    placed: bool = False
    position_ids: torch.Tensor | None = None

    @property
    def nbytes(self):
        """`{"shared": bytes of keys and values, "own": bytes of windows and states}`."""
        size = lambda part: sum(t.numel() * t.element_size() for t in part.values())  # noqa: E731
        return {"shared": size(self.keys) + size(self.values), "own": size(self.conv) + size(self.state)}

    def stacked(self, n):
        """A snapshot of `n` equal rows, for branches that run as one batch: keys and values are views, states copies.

        Raises:
            InputError: n below 1, or a snapshot of several rows.
        """
        rows = {len(part) for group in (self.keys, self.values, self.state) for part in group.values()}
        if n < 1 or rows - {1}:
            got = f"n={n}, rows {sorted(rows)}"
            raise InputError("only a snapshot of one row can be stacked", got=got, expected="n >= 1, one row")
        views = {
            name: {i: t.expand(n, *t.shape[1:]) for i, t in getattr(self, name).items()} for name in ("keys", "values")
        }
        copies = {
            name: {i: t.repeat(n, *[1] * (t.ndim - 1)) for i, t in getattr(self, name).items()}
            for name in ("conv", "state")
        }
        at = None if self.position_ids is None else self.position_ids.expand(-1, n, -1)
        facts = dict(scaling=self.scaling, placed=self.placed, position_ids=at)
        return Snapshot(self.length, **views, **copies, **facts)

    def __repr__(self):
        shared, own = (self.nbytes[key] / 2**20 for key in ("shared", "own"))
        return f"Snapshot(after {self.length} tokens, {own:.2f} MiB of states, {shared:.2f} MiB of shared keys/values)"


def is_linear(layer):
    """Whether a layer of a cache holds a recurrent state."""
    return hasattr(layer, "recurrent_states")


def check(cache):
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


def snapshot(cache, *, ids=None):
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
    return Snapshot(length, ids=ids, **facts, **parts)


def restore(snap, cache):
    """Fill an empty cache so that it continues where the snapshot was taken; the snapshot can be restored again.

    Args:
        snap: `Snapshot`.
        cache: an empty hybrid cache of the model.

    Raises:
        InputError: keys before rotation for a cache of rotated ones, or the other way round.
    """
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
    if snap.ids is not None:
        book.ids = snap.ids
    return cache


CLOSED = "the scope that turns the keys of this cache is closed"
GO_ON = "lab.restore(lab.snapshot(cache)) inside another yarn.dynamic scope goes on"


def is_unrotated(cache):
    """Whether a cache holds keys before rotation (`yarn.dynamic`)."""
    return any(getattr(layer, "unrotated", False) for layer in cache.layers)


def settle(cache, lab):
    """Stamp a cache with the scaling of the pass that is about to fill it.

    Args:
        lab: whose scopes say what is in force; keys that nobody stamped were rotated as its configuration states.

    Raises:
        InputError: keys of two scalings would meet in one softmax, or rotated and unrotated ones; keys of a cache that
            labkit has not seen, where they may be of any scaling.
    """
    facts = dict(got="keys before rotation" if is_unrotated(cache) else "keys that are rotated already")
    facts |= dict(expected="a cache of lab.cache() inside yarn.dynamic, used there", hint=GO_ON)
    if is_unrotated(cache) and not all(layer.rotator.open for layer in cache.layers if hasattr(layer, "rotator")):
        raise InputError(CLOSED, **facts)
    if is_unrotated(cache) != (lab.scopes.unrotated is not None):
        hint = "lab.generate, or lab.cache() handed to lab.model.generate"
        raise InputError("this cache was made outside the scope", **facts | {"hint": hint})
    book, now = book_of(cache), lab.scaling
    if not cache.get_seq_length():
        book.ids, book.placed, book.scaling = book.ids[:0], False, now
    if book.scaling is None and lab.scopes.rescaled and not isinstance(cache, HybridCache):
        raise InputError(
            "nobody knows which rotary scaling this cache was made under",
            got=f"a {type(cache).__name__} that this lab has not seen, after scalings were opened",
            expected="a cache of lab.cache(); copies of it know",
            hint="read the prompt again into lab.cache()",
        )
    before = book.scaling or lab.native
    if lab.scopes.unrotated is None and not before.same(now, lab.spec.window):
        raise InputError(
            "this cache was made under another rotary scaling",
            got=f"keys rotated under {before}, now {now}",
            expected="one scaling for all keys of a cache",
            hint="read the prompt again inside the scope; yarn.dynamic keeps keys that can still be turned",
        )
    book.scaling = now


def check_whole(cache):
    """Refuse a cache that an interrupted pass left with layers of different lengths or states.

    Raises:
        InputError: a pass into it did not end.
    """
    if book_of(cache).torn:
        got, hint = "layers that read different tokens", "lab.restore a snapshot from before, or read the prompt again"
        raise InputError("a pass into this cache was interrupted", got=got, hint=hint)


def check_begins(snap, ids):
    """Refuse a prompt that a snapshot is not a true beginning of.

    Raises:
        InputError: unknown tokens, other tokens, or none left to compute.
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
    if len(ids) == snap.length:
        raise InputError("nothing is left to compute", got=f"{len(ids)} tokens, all in the snapshot")


def position_ids_of(cache):
    """[3, batch, length] rotary positions of keys before rotation; None for a cache of rotated keys."""
    kept = (layer.position_ids for layer in cache.layers if getattr(layer, "unrotated", False))
    return next((position_ids for position_ids in kept if position_ids is not None), None)


def start_of(cache, layers, row=0):
    """What a warm cache contributes to a run that starts from it, for the traced layers of one batch row."""
    if cache is None or cache.get_seq_length() == 0:
        return Start()
    parts = {"conv": {}, "state": {}, "keys": {}, "values": {}}
    for index in layers:
        layer = cache.layers[index]
        if is_linear(layer):
            parts["conv"][index] = layer.conv_states[0][row].clone()
            parts["state"][index] = layer.recurrent_states[0][row].clone()
        else:
            parts["keys"][index], parts["values"][index] = layer.keys[row], layer.values[row]
    position_ids = position_ids_of(cache)
    parts["position_ids"] = None if position_ids is None else position_ids[:, row]
    return Start(cache.get_seq_length(), **parts, placed=book_of(cache).placed)
