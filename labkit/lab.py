"""Lab: an unmodified Hugging Face model, its tokenizer and its spec: trace, generate, stream, edit, plan.

Reading is a call that returns a value; changing is a `with` block that cleans up. A lab holds no captures and no
toggles: the only state between calls is which scopes are open (`labkit.scopes`).
"""

import importlib
from collections.abc import Iterable, Sequence

import torch

from labkit import cache as _cache
from labkit import calls, passes, prompts
from labkit import edit as _edit
from labkit import plan as _plan
from labkit import stream as _stream
from labkit.arguments import whole as _whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import is_index
from labkit.pictures import Seen
from labkit.scopes import Scope
from labkit.trace import Run, decoder
from labkit.wrapped import Wrapped


class Lab(Wrapped):
    """One model to look into; made by `labkit.load` and `labkit.wrap`.

    Attributes:
        model: the Hugging Face model as it ships; nothing in it is replaced.
        tokenizer: its tokenizer, or None (then prompts are token ids).
        processor: of a lab that was loaded with `images=True`: what renders messages with pictures; else None.
        spec: anatomy and cost card, `labkit.spec.Spec`.
        backend: what computed when it was made: kernels, dtype, device, versions; `identity()` says what does now.
        scopes: edits and scalings that are open now; shared by all labs around one model.
        source: a function without arguments that makes this lab in another process, as sweeps on a cluster need; of a
            lab that `labkit.load` made from a name, else None, to be set.
    """

    # ---------------------------------------------------------------------------------------------- reading

    def encode(self, prompt: str | Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Token ids [T] of a text, or checked ids.

        Raises:
            InputError: empty, ids out of range, not one sequence, or no tokenizer for a text; a prompt with pictures.
        """
        if isinstance(prompt, Seen):
            got, expected = repr(prompt), "lab.trace, lab.generate or lab.resume, one prompt at a time"
            raise InputError("pictures are more than token ids", got=got, expected=expected)
        return prompts.encode(prompt, self.tokenizer, self.spec.vocab)

    @public
    def trace(
        self,
        prompt: str | Sequence | torch.Tensor | Seen,
        *,
        layers: int | Sequence[int] | None = None,
        seams: Sequence[str] | None = None,
        logits: str | Sequence[int] = "last",
        chunk: int | None = None,
        cache=None,
        device: torch.device | str | None = None,
        position_ids: Sequence[int] | torch.Tensor | None = None,
        grad: bool = False,
    ) -> Run | list[Run]:
        """Run the model once and keep what crosses the seams.

        Args:
            prompt: a text, token ids [T], or a list of those: a batch, padded on the left, that gives a list of
                runs, each equal to the run of its prompt alone. Or one with pictures, `pictures.see`.
            layers: indices; None for all.
            seams: names of seams (`lab.spec.seams`); None for all.
            logits: "last", "all", or positions within this prompt (negative from the end).
            chunk: feed so many tokens at a time; None all at once, 1 token by token. The readings are the same.
            cache: hybrid cache to continue from and to grow, from `lab.cache()`, `restore` or `fork`.
            device: where to keep the seams; None where they arise.
            position_ids: rotary positions [T] of the tokens of one prompt, whole numbers from 0, in any order; None
                counts on. They reach the attention layers alone; the order of reading stays that of the prompt.
            grad: keep the graph, for `run.gradient`; one prompt, in one pass, on PyTorch's kernels.

        Raises:
            InputError: an empty or too long prompt, ids, layers, seams or position ids out of range.
            BudgetError: it would not fit; raised before the model runs. SeamError: a seam never fired.
        """
        batch, rows, seen = self._rows(prompt)
        chunk = prompts.start(batch, grad, cache=cache, position_ids=position_ids, chunk=chunk, cuts=self.scopes.cuts)
        with self.scopes.call() as call:
            runs = calls.trace(call, self, rows, layers, seams, logits, chunk, cache, device, position_ids, grad, seen)
        return runs if batch else runs[0]

    @public
    def generate(
        self,
        prompt: str | Sequence | torch.Tensor | Seen,
        *,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        layers: int | Sequence[int] | None = None,
        seams: Sequence[str] | None = None,
        states: int | Sequence[int] | None = None,
        capture: bool | None = None,
        start: _cache.Snapshot | None = None,
        **options,
    ) -> Run | list[Run]:
        """Continue a prompt and record the same seams in prefill and in every decode step.

        Tokens are chosen as `model.generate` does; the last one is read too, so that the run is complete.

        Args:
            prompt: a text, token ids [T], or a list of those: a batch that gives a list of runs, each equal to that of
                its prompt alone. Or one with pictures, `pictures.see`.
            max_new_tokens: at most so many; a stop id ends it earlier.
            temperature: 0 is greedy; above, the sampling is seeded by `seed` and leaves the global generator alone.
            states: DeltaNet layers whose state is kept after every new token, in `run.states`.
            capture: whether a card records one decode step and plays it back, seams included: True demands it and says
                what stands in its way, False takes ordinary passes, None records where it can.
            start: a state before the first token, a snapshot of no tokens (`steering.begin`); None is an empty one.
            options: of `model.generate`: `top_p`, `top_k`, `repetition_penalty` and what `decoding.ALLOWED` names.

        Returns:
            `Run` over prompt and continuation, of which `run.prompt_length` tokens were given; `run.logits` predict
            what would come next. Or a list of them.

        Raises:
            InputError: as for `trace`, or no room for new tokens in the window; a `start` that holds tokens, or before
            prompts of different lengths. BackendError: as `steps.reader`.
        """
        batch, rows, seen = self._rows(prompt)
        prompts.check_beginning(start, rows)
        max_new_tokens, temperature, seed = prompts.choices(max_new_tokens, temperature, seed)
        self.check_room(max(map(len, rows)) + max_new_tokens)
        decoded = max_new_tokens, temperature, seed, states, prompts.check_capture(capture), options
        with self.scopes.call() as call:
            runs = calls.generate(call, self, rows, layers, seams, *decoded, seen, start)
        return runs if batch else runs[0]

    @public
    def step(
        self,
        cache: _cache.HybridCache,
        token: int | Sequence[int] | torch.Tensor,
        *,
        layers: int | Sequence[int] | None = None,
        seams: Sequence[str] | None = None,
        states: int | Sequence[int] | None = None,
        capture: bool | None = None,
    ) -> Run | list[Run]:
        """Read one token more into a cache that holds some, and keep what crosses the seams.

        The numbers are those of `lab.trace([token], cache=cache)`. On a card the third step of a cache is recorded,
        seams included, and later ones play it back; ask for the same layers and seams each time.

        Args:
            cache: from `lab.cache()`, `restore` or `fork`, after a prompt; each of its columns counts as a token.
            token: an id; or one for every row of the cache, which gives a list of runs.
            states, capture: as in `generate`.

        Returns:
            `Run` of this token; its `logits` [1, vocab] predict the next one, `start` is what the cache held before.

        Raises:
            InputError: an empty cache, ids out of range, another number of ids than rows. BackendError: as
            `generate`.
        """
        alone = is_index(token)
        tokens = prompts.step(token, cache, self.spec.vocab)
        self.check_room(cache.get_seq_length() + 1)
        with self.scopes.call() as call:
            runs = calls.step(call, self, cache, tokens, layers, seams, states, prompts.check_capture(capture))
        return runs[0] if alone else runs

    @public
    def stream(self, prompt, *, probes, chunk=2048, progress=False, checkpoint=None, every=16, kv_device=None):
        """Prefill a long prompt in chunks; online probes eat each chunk, nothing else is kept. See `labkit.stream`."""
        options = dict(chunk=chunk, progress=progress, checkpoint=checkpoint, every=every, kv_device=kv_device)
        return _stream.run(self, self.encode(prompt), probes=probes, **options)

    @public
    def plan(
        self, *, tokens: int | Seen, want="trace", layers: int | Sequence[int] | None = None, **options
    ) -> _plan.Plan:
        """What a request will cost before it runs: bytes, peak, FLOPs and cheaper ways. See `labkit.plan`."""
        length = len(tokens) if isinstance(tokens, Seen) else tokens
        made = _plan.make(self, tokens=length, want=want, layers=layers, **options)
        return tokens.planned(made, self) if isinstance(tokens, Seen) else made

    def explore(self, prompt=None, *, name: str | None = "explore", **changes) -> "Panel":  # noqa: F821
        """A panel to click through a prompt: layers, heads, tokens, edits. See `labkit.explore.opened`."""
        return importlib.import_module("labkit.explore").opened(self, prompt, name=name, **changes)

    # --------------------------------------------------------------------------------------------- changing

    def edit(self, *edits: _edit.SeamEdit | _edit.StateEdit | Iterable) -> Scope:
        """Hold interventions for as long as a `with` block lasts; always undone, also after an exception.

        They act for the thread or task that opened the block, whichever lab of this model it uses.

        Args:
            edits: from `labkit.edit` or ready ones such as `deltanet.never_forget(layer=2, heads=1)`; or lists of them.

        Returns:
            `Scope`, which hands this lab to the block.

        Raises:
            InputError, LayerError: an edit that does not fit this model; in the block, one whose tokens were read and
                that did not act; when it ends, one whose tokens never came.
        """
        edits = _edit.checked(edits, self.spec)
        held = _edit.Interventions(self, edits)
        return Scope(self.scopes, self, edits=edits, places=held.places, check=held.check)

    # ------------------------------------------------------------------------------------------------ cache

    def cache(self, *, room: int | None = None, offloading: bool = False) -> _cache.HybridCache:
        """An empty hybrid cache with room for so many tokens; `offloading` lets keys and values rest in host memory."""
        cache = _cache.HybridCache(decoder(self.model).config, self, offloading=offloading)
        if room is not None:
            cache.reserve(room)
            _plan.admit_room(self, tokens=room, offloading=offloading)
        return cache

    def snapshot(self, cache) -> _cache.Snapshot:
        """Keep what a cache holds now; see `labkit.cache.snapshot`."""
        return _cache.snapshot(cache)

    def restore(self, snap: _cache.Snapshot) -> _cache.HybridCache:
        """A new cache that continues from a snapshot.

        Raises:
            InputError: a snapshot of other weights, adapters or dtype, or as `labkit.cache.restore`.
        """
        if snap.identity is not None:
            self.identity().check(snap.identity, "this snapshot was made")
        return _cache.restore(snap, self.cache())

    def fork(self, snap: _cache.Snapshot, n: int) -> list[_cache.HybridCache]:
        """`n` caches that continue from one snapshot, none of which sees what another reads; see `cache.restore`."""
        n = _whole(n, "n", least=1, most=_cache.BRANCHES)
        _plan.admit_copies(self, want="lab.fork", length=snap.length, each=snap.nbytes["own"], n=n)
        return [self.restore(snap) for _ in range(n)]

    def resume(self, snap: _cache.Snapshot, prompt: str | Sequence[int] | torch.Tensor | Seen, **options) -> Run:
        """Trace a whole prompt whose beginning a snapshot already holds: only the rest is computed.

        Args:
            snap: `Snapshot` that knows its ids.
            prompt: text or ids of the *whole* sequence, or `pictures.Seen` of it.
            options: as for `trace`.

        Returns:
            `Run` over the rest; `run.start.length` tokens came from the snapshot.

        Raises:
            InputError: the prompt does not begin with the snapshot's tokens and pictures, or nothing is left.
        """
        _, (ids,), seen = self._rows(prompt if isinstance(prompt, Seen) else self.encode(prompt))
        _cache.check_begins(snap, ids, () if seen is None else seen.marks)
        rest = ids[snap.length :] if seen is None else seen.after(snap.length)
        rest = rest.ids if seen is not None and not rest.spans else rest
        return self.trace(rest, cache=self.restore(snap), **options)

    def logits(self, ids: torch.Tensor, *, cache=None) -> torch.Tensor:
        """Logits [batch, vocab] after the last token of ids [batch, T]; nothing else is kept.

        Args:
            cache: hybrid cache of as many rows, to continue from and to grow.

        Raises:
            InputError: as for `trace`.
        """
        if getattr(ids, "ndim", 0) != 2:
            hint = "lab.logits(run.ids[None])"
            raise InputError("ids of one or more rows", got=type(ids).__name__, expected="[batch, T]", hint=hint)
        prompts.check_cache(cache)
        before = None if cache is None else cache.get_seq_length()
        self.check_room(ids.shape[1] + (before or 0))
        _plan.admit_logits(self, tokens=ids.shape[1], prompts=len(ids), cached=before)
        with self.scopes.call():
            return passes.feed(self, ids, cache=cache, columns=[ids.shape[1] - 1])[:, 0]

    def _rows(self, prompt):
        """(whether it is a batch, ids [T] of each row, `Seen` of the one that has pictures)."""
        if isinstance(prompt, Seen):
            prompt.check(self)
            return False, [prompt.ids], prompt
        batch = isinstance(prompt, list | tuple) and bool(prompt) and not is_index(prompt[0])
        return batch, [self.encode(row) for row in prompt] if batch else [self.encode(prompt)], None

    def check_room(self, tokens: int) -> None:
        """Refuse a length that the window does not hold.

        Raises:
            InputError: longer than the window.
        """
        if tokens > self.window:
            got, hint = f"{tokens} tokens", "shorten the prompt, or open the window: yarn.scaled(lab, factor=4)"
            raise InputError("longer than the model's window", got=got, expected=f"at most {self.window}", hint=hint)
