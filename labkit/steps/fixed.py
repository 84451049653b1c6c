"""Decode on fixed shapes: one step whose kernels and addresses never change, so that a card can record it once.

Everything that moves from step to step is read from tensors: the tokens, the place in the cache where they go, the row
where their seams are kept. Attention reads the whole buffers of keys and values under a mask,

    seen_bj = pad_b ≤ j ≤ place      of row b and column j of the cache

so that what lies behind the place, of earlier use or none, has no weight. DeltaNet layers hold windows and states of
one size and write them in place by themselves.
"""

import contextlib
import warnings
import weakref
from collections.abc import Iterator

import torch

from labkit.cache import book_of, check_whole, grown, is_linear, settle
from labkit.errors import BackendError, InputError, first_line
from labkit.passes import check_mode, check_places, text_alone
from labkit.scopes import Call
from labkit.steps.capture import WARM, CudaGraph
from labkit.steps.plain import Asked, Plain
from labkit.steps.rows import Rows
from labkit.trace import Recorder, Seams, cache_parameter

TURN = ("cos", "sin")  # rows of the rotary angles, beside those of seams
REFUSED, HINT = "the card does not record this decode step", "capture=False takes ordinary passes"


class Fixed:
    """As `Plain`, its steps on fixed shapes; the first ones run, then one is recorded and played back.

    Args:
        graph: what records, `CudaGraph` or its like.
        demanded: whether a step that cannot be recorded is an error; else a warning, and steps run one by one.
    """

    def __init__(self, call: Call, lab, cache, asked: Asked, *, graph: type = CudaGraph, demanded: bool = False):
        self.call, self.lab, self.asked, self.graph, self.demanded = call, lab, asked, graph, demanded
        self.cache_of = weakref.ref(cache)  # what is kept of a cache does not keep it
        self.rows, self.held, self.prompt = Rows(asked.most), {}, None
        self.recorded, self.ran, self.kept = None, 0, 0
        place = lambda values: torch.tensor(values, device=lab.device)  # noqa: E731
        self.pads, self.place, self.row = place(asked.pads), place([0]), place([0])
        self.tokens = self.pads.new_zeros(len(asked.pads), 1)
        self.logits = None

    @property
    def cache(self):
        """The cache that is read into."""
        return self.cache_of()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.recorded = None  # gives the card's memory back

    def prefill(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocab] after ids [batch, T], by ordinary passes."""
        with Plain(self.call, self.lab, self.cache, self.asked) as plain:
            logits = plain.prefill(ids)
            self.prompt = plain.joined()
        self.cache.reserve(ids.shape[1] + self.asked.most)
        return logits

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocab] after one more token of every row, [batch].

        Raises:
            BackendError: the card does not record this step.
            InputError: edits or hooks of others that were not there when it began; as `passes.feed`.
        """
        cache, lab = self.cache, self.lab
        check_mode(lab)
        check_whole(cache)
        settle(cache, lab)
        length = cache.get_seq_length()
        if new := [*lab.scopes.edits, *lab.scopes.watched.hooks()]:
            got, hint = ", ".join(map(repr, new)), "lab.generate(prompt, capture=False)"
            raise InputError("a recorded step runs no Python", got=got, expected="edits and hooks before", hint=hint)
        if self.room <= length:
            self.recorded, self.ran = None, 0  # it would keep the old buffers beside the new ones
            cache.reserve(grown(length + 1))
        self.tokens.copy_(tokens[:, None])
        self.place.fill_(length)
        self.row.fill_(self.kept % self.asked.most)
        with torch.no_grad(), text_alone(lab) as shifted, self._at_place():
            check_places(cache, shifted, len(tokens))
            return self._stepped(cache, length, tokens.cpu())

    def _stepped(self, cache, length, known):
        """Run it, and count in the cache what has been read."""
        book, before = book_of(cache), dict(cache.reads)
        book.torn = True
        try:
            self._run()
        except BackendError:  # nothing ran
            cache.reads.clear()
            cache.reads.update(before)
            book.torn = False
            raise
        for layer in self._attending():
            layer.advance(1)
        cache.reads.update({at: before.get(at, 0) + 1 - cache.reads[at] for at in range(len(cache.layers))})
        if len(known) == 1 and len(book.ids) == length:
            book.ids = torch.cat([book.ids, known])
        book.torn = False
        self.ran, self.kept = self.ran + 1, self.kept + 1
        return self.logits.clone()

    def joined(self) -> tuple[list[Seams], tuple[torch.Tensor, ...]]:
        """Seams and rotary of the prompt and of all steps, as `Plain.joined`."""
        (seams, rotary), last = self.prompt, self.kept
        if not last:
            return seams, rotary
        steps = {key: self.rows.read(key, 0, last) for key in seams[0]}
        joined = [Seams({key: torch.cat([row[key], steps[key][i]]) for key in row}) for i, row in enumerate(seams)]
        turned = [self.rows.read(name, 0, last) for name in TURN]
        rows = max(len(part) for part in (*rotary, *turned))  # one, where all rows stand at the same positions
        both = zip(rotary, turned, strict=True)
        return joined, tuple(torch.cat([part.expand(rows, -1, -1) for part in parts], 1) for parts in both)

    def states(self) -> dict[int, torch.Tensor]:
        """`{layer: [batch, step, head, key, value]}`, the cache's own states after each step that is kept."""
        return {layer: part[:, : min(self.kept, self.asked.most)].clone() for layer, part in self.held.items()}

    def last(self) -> tuple[list[Seams], tuple[torch.Tensor, ...]]:
        """Seams and rotary of the last step, as `Plain.joined`."""
        at = (self.kept - 1) % self.asked.most
        read = lambda name: self.rows.read(name, at, at + 1).clone()  # noqa: E731
        seams = {(layer, name): read((layer, name)) for layer, names in self.asked.wanted.items() for name in names}
        rows = range(len(self.tokens))
        return [Seams({key: part[i] for key, part in seams.items()}) for i in rows], tuple(map(read, TURN))

    def _key(self):
        """What a recording is bound to: while it is the same, the recorded addresses are those of the model now."""
        tensors = [part for layer in self.cache.layers for part in _tensors(layer)]
        module = getattr(self.lab.scopes.rotation.stack, "rotary_emb", None)
        turn = None if module is None else module.inv_freq
        return self.lab.scaling, [self.lab.scopes.seen, turn, *tensors]

    def _run(self):
        key = self._key()
        if self.recorded is not None and not _same(self.recorded[0], key):
            self.recorded, self.ran = None, 0
        if self.recorded is None:
            with Recorder(self.call, self.lab.model, self.lab.spec, self.asked.wanted) as seen:
                body = lambda: self._body(seen)  # noqa: E731
                if self.graph is None and self.demanded:
                    raise BackendError(REFUSED, hint=HINT)
                if self.ran < WARM or self.graph is None:
                    body()
                    return
                try:
                    self.recorded = key, self.graph(body, self.lab)
                except RuntimeError as error:
                    self._refused(error)
                    body()
                    return
        self.recorded[1].replay()

    def _refused(self, error):
        """Go on one by one, or say that it cannot be had."""
        got = first_line(error)
        if self.demanded:
            raise BackendError(REFUSED, got=got, hint=HINT) from error
        self.graph = None
        warnings.warn(f"{REFUSED}: {got}; steps run one by one ({HINT})", stacklevel=2)

    def _body(self, seen):
        """The step: from `tokens` and `place` to `logits`, the cache and the row of every seam."""
        lab, room = self.lab, self.room
        at = torch.arange(room, device=self.place.device)
        free = (at > self.place) | (at < self.pads[:, None])
        dtype = self._attending()[0].buffers()[0].dtype  # of the queries too, which norms in float32 may not be
        mask = torch.zeros(len(self.pads), 1, 1, room, dtype=dtype, device=self.place.device)
        mask = mask.masked_fill(free[:, None, None], torch.finfo(dtype).min)
        seen.clear()
        out = lab.model(
            input_ids=self.tokens,
            attention_mask=mask,
            position_ids=self.place - self.pads[:, None],
            **{cache_parameter(lab.model): self.cache},
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, 0]
        _, rotary = seen.joined(1)
        if self.logits is None:
            self.logits = torch.empty_like(out)
            self.held = {layer: _row(held, self.asked.most) for layer, held in self._states()}
        self.logits.copy_(out)
        turned = {name: part.expand(len(out), -1, -1) for name, part in zip(TURN, rotary, strict=True)}
        self.rows.write(seen.pieces() | turned, self.row)
        for layer, held in self._states():
            self.held[layer].index_copy_(1, self.row, held[:, None])

    def _states(self):
        return [(layer, self.cache.layers[layer].recurrent_states[0]) for layer in self.asked.states]

    @property
    def room(self) -> int:
        """Columns of the buffers of keys and values."""
        return self._attending()[0].room

    def _attending(self):
        return [layer for layer in self.cache.layers if not is_linear(layer)]

    @contextlib.contextmanager
    def _at_place(self) -> Iterator[None]:
        """The attention layers' part of the cache takes keys and values at the place that a tensor says."""
        layers = self._attending()
        try:
            for layer in layers:
                layer.place = self.place
            yield
        finally:
            for layer in layers:
                layer.place = None


def _row(state, most):
    return state.new_empty(len(state), most, *state.shape[1:])


def _tensors(layer):
    return (*layer.conv_states.values(), *layer.recurrent_states.values()) if is_linear(layer) else layer.buffers()


def _same(some, others):
    return some[0] == others[0] and all(a is b for a, b in zip(some[1], others[1], strict=True))
