"""What a cache must know of itself beside its tensors: the tokens it absorbed, and what its keys were rotated under."""

import collections
import dataclasses
import weakref
from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicCache

from labkit.arguments import whole
from labkit.cache.blocks import Blocks
from labkit.cache.host import HostBlocks, Lift
from labkit.errors import InputError
from labkit.identity import Identity
from labkit.rotary import Scaling
from labkit.trace import Pass, arguments, cache_parameter


@dataclasses.dataclass
class Book:
    """What is known of a cache's contents beyond the tensors.

    Attributes:
        scaling: `rotary.Scaling` of the last pass, under which the keys were rotated; None where nobody has seen it.
        placed: whether some keys stand at positions that were chosen.
        shift: rotary positions that a text goes on by, less the tokens; below 0 after pictures.
        pictures: (first, last, digest) of the tokens of each picture.
        torn: whether a pass into the cache did not end, so that its layers have read different tokens.
        ids: [length] the tokens that a lab fed; shorter than the cache if others fed more.
        identity: what made it, where a lab has seen that.
        edits: `((first, edits), ...)`: those that were open while the tokens from `first` on were read.
    """

    scaling: Scaling | None = None
    placed: bool = False
    shift: int = 0
    pictures: tuple[tuple[int, int, str], ...] = ()
    torn: bool = False
    ids: torch.Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    identity: Identity | None = None
    edits: tuple[tuple[int, tuple], ...] = ()

    def acted(self, length: int, edits: Sequence | None = None) -> list[tuple]:
        """What edits did to the first tokens, as `(first, last, key, tokens)` in their order.

        Args:
            edits: as if these had been open all the time; None takes those that were.
        """
        ends = [*(first for first, _ in self.edits[1:]), length]
        did = []
        for (first, were), last in zip(self.edits, ends, strict=True):
            for item in were if edits is None else edits:
                tokens = item.acts_on(first, min(last, length))
                if tokens != () and first < length:
                    did.append((first, min(last, length), item.key, tokens))
        return did


class HybridCache(DynamicCache):
    """transformers' cache of a hybrid with a `Book`, which copies of it carry along; made by `lab.cache()`.

    Args:
        config: of the text model. lab: whose layers and window it is for.
        offloading: keys and values rest on the host and come back layer by layer.
    """

    def __init__(self, config, lab, *, offloading: bool = False):
        made, lift = lab.scopes.unrotated, Lift()
        # Keys that every pass turns anew are all needed on the device: transformers' way moves whole layers.
        away = offloading and made is not None and lab.device.type != "cpu"
        super().__init__(config=config, offloading=away, offload_only_non_sliding=False)
        made = made or (lambda layer: HostBlocks(lift) if offloading else Blocks())
        for index in lab.spec.attention_layers:
            self.layers[index] = made(index)
        self.book, self.lab = Book(), weakref.ref(lab)
        self.reads = collections.Counter()  # passes that each layer has seen to its end

    def reserve(self, tokens: int) -> None:
        """Make room for the keys and values of so many tokens in all, so that growing up to them copies nothing.

        Raises:
            InputError: no number of tokens.
        """
        tokens = whole(tokens, "tokens", least=1)
        for layer in self.layers:
            if isinstance(layer, Blocks):
                layer.reserve(tokens)

    def uneven(self, read: int = 0) -> bool:
        """Whether some layers have seen more passes than others: one did not end.

        Args:
            read: layers that have seen one pass more, because it is running.
        """
        return len({self.reads[layer] - (layer < read) for layer in range(len(self.layers))}) > 1

    def update_recurrent_state(self, recurrent_states: torch.Tensor, layer_idx: int, *args, **kwargs) -> torch.Tensor:
        """As transformers'; counted."""
        states = super().update_recurrent_state(recurrent_states, layer_idx, *args, **kwargs)
        self.reads[layer_idx] += 1
        return states

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As transformers'; settled once a pass, also where the bare model runs outside of every scope.

        Raises:
            InputError: outside of the lab's calls, as `check_whole`; as `settle`.
        """
        lab = self.lab()
        bare, first = (
            lab is None or not lab.scopes.calling,
            lab is not None and layer_idx == lab.spec.attention_layers[0],
        )
        if bare and getattr(self.layers[layer_idx], "place", None) is not None:
            self.layers[layer_idx].place = None  # of a recorded step that was interrupted
        if bare and first:
            check_whole(self, read=layer_idx)
        if first:
            torn, self.book.torn = self.book.torn, True  # the layers before have read the tokens of this pass
            lab.look()
            settle(self, lab)
            self.book.torn = torn
        states = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        self.reads[layer_idx] += 1
        return states


_FOREIGN = weakref.WeakKeyDictionary()  # books of caches that others made; a copy of such a cache begins a new one


def book_of(cache: DynamicCache) -> Book:
    """The book of a cache, of the lab's own or anybody's."""
    return cache.book if isinstance(cache, HybridCache) else _FOREIGN.setdefault(cache, Book())


def is_linear(layer) -> bool:
    """Whether a layer of a cache holds a recurrent state."""
    return hasattr(layer, "recurrent_states")


CLOSED = "the scope that turns the keys of this cache is closed"
GO_ON = "lab.restore(lab.snapshot(cache)) inside another yarn.dynamic scope goes on"


def is_unrotated(cache: DynamicCache) -> bool:
    """Whether a cache holds keys before rotation (`yarn.dynamic`)."""
    return any(getattr(layer, "unrotated", False) for layer in cache.layers)


def settle(cache: DynamicCache, lab) -> None:
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
    length, edits = cache.get_seq_length(), tuple(lab.scopes.edits)
    if not length:
        book.ids, book.placed, book.scaling = book.ids[:0], False, now
        book.shift, book.pictures = 0, ()
        book.identity, book.edits = lab.scopes.seen, ()
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
    _check_made(book, length, edits, lab)
    book.scaling, book.identity = now, lab.scopes.seen
    if not book.edits or not _same(book.edits[-1][1], edits):
        book.edits = (*(part for part in book.edits if part[0] < length), (length, edits))


def _same(some, others):
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _check_made(book, length, edits, lab):
    """Refuse to continue with other weights, or with edits that should have acted on what is there already."""
    if book.identity is not None and book.identity is not lab.scopes.seen:
        hint = "read the prompt again into lab.cache()"
        lab.seen.check(book.identity, "this cache was made", hint=hint)
    book = book if book.edits else dataclasses.replace(book, edits=((0, ()),))
    if not length or all(_same(were, edits) for _, were in book.edits):
        return
    did, would = book.acted(length), book.acted(length, edits)
    if did != would:
        texts = {item.key: repr(item) for item in (*edits, *(item for _, were in book.edits for item in were))}
        name = lambda acts: ", ".join(f"{texts[key]} on tokens {a} to {b - 1}" for a, b, key, _ in acts) or "no edit"
        raise InputError(
            "these first tokens were read under other edits",
            got=f"{length} tokens that were read with {name(did)}",
            expected=f"as now: {name(would)}",
            hint=f"read them again inside this block; tokens=range({length}, ...) makes it an edit of later ones alone",
        )


def with_book(lab, module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Before a pass of the bare model, a `module`, inside a scope: settle its cache, or give it one that knows how
    it is filled.

    Returns:
        new (args, kwargs) of a hook, or None.
    """
    lab.look()
    cache = Pass.of(module, args, kwargs).cache
    if cache is not None:
        return settle(cache, lab)
    given = arguments(module, args, kwargs)
    use_cache = given.get("use_cache")
    if not (module.config.use_cache if use_cache is None else use_cache):
        return None
    cache = lab.cache()
    settle(cache, lab)
    return (), given | {cache_parameter(module): cache}


def check_whole(cache: DynamicCache, *, read: int = 0) -> None:
    """Refuse a cache that an interrupted pass left with layers of different lengths or states.

    Args:
        read: layers that the running pass has been through.

    Raises:
        InputError: a pass into it did not end.
    """
    if book_of(cache).torn or (isinstance(cache, HybridCache) and cache.uneven(read)):
        got, hint = "layers that read different tokens", "lab.restore a snapshot from before, or read the prompt again"
        raise InputError("a pass into this cache was interrupted", got=got, hint=hint)
