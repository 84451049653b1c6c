"""Hooks for one call: placed when it begins, gone when it ends, whatever happens in between.

A hook keeps what crosses its boundary as it is, by reference; which part of it is the seam, and in which shape, is read
when the passes are done, or later.
"""

import itertools
from collections.abc import Sequence
from threading import get_ident

import torch

from labkit.errors import InputError, SeamError
from labkit.hooks import Hook, Place, lift, put, stand
from labkit.scopes import Call
from labkit.trace.host import Host
from labkit.trace.run import Row, Seams
from labkit.trace.seams import Pass, decoder
from labkit.watched import named, writes

HINT = "lab.edit(edit.function(change, seam=..., layer=...)) makes the same change, and the run knows of it"


class Keep(Hook):
    """Keeps what crosses one boundary, a piece per pass, and how often these had been written into; made by the
    hundred for each trace, so it has no more parts than that.
    """

    __slots__ = ("place", "seam", "pieces", "version")

    def __init__(self, recorder, place, seam):
        self.owner, self.place, self.seam, self.pieces, self.version = recorder, place, seam, [], 0

    def __call__(self, module, args, output=None):
        recorder = self.owner
        if recorder.inside == get_ident():
            tensor = crossing(args, output, self.seam.entry)
            if recorder.device is not None:
                tensor = recorder.moved(self.seam.read(tensor, recorder.spec, *recorder.passes[-1]))
            self.pieces.append(tensor)
            if recorder.host is None:
                self.version += writes(tensor)

    @property
    def written(self) -> bool:
        """Whether something wrote into a piece after it was kept, or before it was where it had to go."""
        if self.owner.host is not None:
            return any(piece.torn for piece in self.pieces)
        return sum(map(writes, self.pieces)) != self.version  # they only ever grow

    def read(self) -> torch.Tensor:
        """The seam [batch, token, *dims] of all passes; what was moved has been read."""
        owner, pieces = self.owner, self.pieces
        if owner.host is not None:
            pieces = [piece.tensor for piece in pieces]
        elif owner.device is None:
            read, spec = self.seam.read, owner.spec
            pieces = [read(piece, spec, *size) for piece, size in zip(pieces, owner.passes, strict=True)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


class Wary(Keep):
    """One where others have hooks: another hook, before theirs, lets it `see` what comes."""

    __slots__ = ("others", "came")

    def __call__(self, module, args, output=None):
        if self.owner.inside == get_ident():
            tensor = crossing(args, output, self.seam.entry)
            if self.came != (id(tensor), writes(tensor)):
                layer, name = self.place
                got = f"{named(self.others[0])} at layer {layer}, seam {name!r}"
                raise InputError("a hook that is not labkit's changes what is watched", got=got, hint=HINT)
        super().__call__(module, args, output)

    def see(self, module, args, output=None):
        """Note what crossed the boundary before the hooks of others."""
        tensor = crossing(args, output, self.seam.entry)
        self.came = id(tensor), writes(tensor)


class Begin(Hook):
    """The hook before the layers: it begins a pass, and says whether what follows is the recorder's."""

    __slots__ = ()

    def __call__(self, module, args, kwargs):
        recorder = self.owner
        if recorder.over:
            recorder.inside = 0
        elif recorder.acts:  # and not a pass of another thread, amid the recorder's own
            recorder.inside = get_ident()
            current = Pass.of(module, args, kwargs)
            recorder.passes.append((current.batch, current.tokens))


class Recorder:
    """Hooks on the `wanted` seams for as long as a block inside a `scopes.Call`, `call`, lasts: run the model any
    number of times, then `joined`; what
    was not asked for in the block is gone after it.

    Tensors are kept by reference (nothing in the forward pass changes them afterwards, or `joined` tells); `device`
    moves each to another device at once, which frees accelerator memory on long prompts. With `grad` the embeddings are
    where gradients begin, nothing is detached, and `crossed` holds what went through each boundary, for one pass.
    """

    def __init__(self, call: Call, model, spec, wanted, *, device=None, grad=False):
        self.call, self.scopes, self.stack = call, call.scopes, decoder(model)
        self.spec, self.wanted, self.device, self.grad = spec, wanted, device, grad
        self.host = host_for(self.stack, device) if not grad else None
        self.keeps: list[Keep] = []
        self.handles: list[Hook] = []
        self.inside = 0  # the thread of the pass that is being recorded
        self.clear()

    @property
    def over(self) -> bool:
        """Whether its block has ended, in order or not."""
        return self.scopes.recorder is not self or self.call.over

    @property
    def acts(self) -> bool:
        """Whether its call is running in this thread."""
        return self.scopes.recorder is self and self.call.thread == get_ident() and not self.call.over

    @property
    def written(self) -> bool:
        """Whether something wrote into anything that was kept: what each `Keep` says, of all at once."""
        if self.host is not None:
            return any(keep.written for keep in self.keeps)
        pieces = itertools.chain.from_iterable([keep.pieces for keep in self.keeps])
        return sum(map(writes, pieces)) != sum([keep.version for keep in self.keeps])

    @property
    def crossed(self) -> dict[tuple[int, str], torch.Tensor]:
        """`{(layer, name): what crossed the boundary}` in the last pass."""
        return {keep.place: keep.pieces[-1] for keep in self.keeps}

    def __enter__(self):
        self._clean = self.scopes.clean
        self.scopes.recorder = self
        turn = getattr(self.stack, "rotary_emb", None)  # none where nothing is rotated
        places = [] if turn is None else [Place(turn, "after", self._rotary)]
        if self.grad:
            begin = lambda module, args, output: output.detach().requires_grad_()
            places.append(Place(self.stack.embed_tokens, "after", begin))
        try:
            self.scopes.place(self, places)
            put(Begin(self), self.stack, "before", kwargs=True)
            self._place()
        except BaseException:  # also of a hook that was placed and whose handle was lost
            self.scopes.recorder = None
            self.scopes.mend()
            raise
        return self

    def __exit__(self, *error):
        lift(self)
        self.scopes.recorder, self.inside = None, 0
        self.scopes.clean = self._clean
        self.handles, self.keeps = [], []  # which hold it, and what it recorded, until the garbage collector comes

    def clear(self) -> None:
        """Forget what was recorded; the hooks stay."""
        self.passes: list[tuple[int, int]] = []  # (batch, tokens) of each
        self.rotary: list[tuple[torch.Tensor, torch.Tensor]] = []
        for keep in self.keeps:
            keep.pieces, keep.version = [], 0

    def joined(self, tokens: int, pads: Sequence[int] = (0,)) -> tuple[list[Seams], tuple[torch.Tensor, ...]]:
        """The seams of each row, and rotary (cos, sin), each [batch, tokens, rotary].

        Args:
            tokens: that were fed. pads: how many of them stand before each row's first.

        Raises:
            SeamError: a seam never fired, or fired for fewer or more tokens than were fed; or something wrote into what
                it had carried.
        """
        if self.host is not None:
            self.host.wait()
        fed, passes = sum(size for _, size in self.passes), len(self.passes)
        missed = [keep for keep in self.keeps if len(keep.pieces) != passes or fed != tokens]
        if missed:
            raise self._missed(missed[0], tokens)
        if self.written:
            raise self._written(next(keep for keep in self.keeps if keep.written))
        switched = torch.enable_grad() if self.grad else torch.no_grad()
        return switched(self._read)(pads)  # within PyTorch it is switched back before anything of ours goes on

    def _read(self, pads):
        if len(self.passes) == 1 and self.device is None and not self.grad:
            crossed, size = self.crossed, self.passes[0]
            rows = [Seams(crossed, Row(self.spec, *size, row, pad)) for row, pad in enumerate(pads)]
        else:
            read = self.pieces()
            rows = [Seams({place: whole[row, pad:] for place, whole in read.items()}) for row, pad in enumerate(pads)]
        rotary = [
            [part if self.host is None else part.tensor for part in parts] for parts in zip(*self.rotary, strict=True)
        ]
        if not rotary:
            rotary = [[self.stack.norm.weight.new_empty(1, sum(size for _, size in self.passes), 0)]] * 2
        joined = tuple(parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in rotary)
        return rows, joined

    def pieces(self) -> dict[tuple[int, str], torch.Tensor]:
        """`{(layer, name): [batch, token, *dims]}` of all rows, after `joined` has found nothing wrong."""
        return {keep.place: keep.read() for keep in self.keeps}

    def moved(self, tensor: torch.Tensor):
        """A tensor on the way to `device`: there, or a `host.Copy`."""
        return tensor.to(self.device) if self.host is None else self.host.take(tensor)

    def _missed(self, keep, tokens):
        layer, name = keep.place
        seen = sum(size for _, size in self.passes) * len(keep.pieces) // max(1, len(self.passes))
        return SeamError(
            f"seam {name!r} of layer {layer} did not fire for every token",
            got=f"{seen} of {tokens} tokens",
            expected="one firing per forward pass",
            hint="lab.backend shows fused kernels; load with backend='torch' to run the plain modules",
        )

    def _written(self, keep):
        layer, name = keep.place
        got, hooks = f"seam {name!r} of layer {layer}, written into after it was recorded", self.scopes.watched.hooks()
        hint = f"remove one of these hooks: {'; '.join(hooks)}" if hooks else HINT
        return SeamError("something changed a tensor in place", got=got, hint=hint)

    def _rotary(self, module, args, output):
        self.rotary.append(tuple(part if self.device is None else self.moved(part) for part in output))

    def _place(self):
        """A hook for each seam that keeps it; where others have hooks on its module, also one that comes before."""
        for place, seam, hooks in self.scopes.watched.boundaries(self.spec, self.wanted):
            others = [hook for hook in hooks.values() if not isinstance(hook, Hook)] if hooks else ()
            keep = (Wary if others else Keep)(self, place, seam)
            if others:
                keep.others, keep.came = others, None
                stand(see := Hook(self, keep.see), hooks)
                hooks.move_to_end(see, last=False)
            stand(keep, hooks)
            self.keeps.append(keep)


def host_for(stack: torch.nn.Module, device: torch.device | str | None) -> Host | None:
    """What takes tensors from the card of these layers to `device`, if that is host memory; else None."""
    card = stack.embed_tokens.weight.device.type == "cuda"
    return Host() if card and device is not None and torch.device(device).type == "cpu" else None


def crossing(args: tuple, output=None, entry: int = 0) -> torch.Tensor:
    """What crosses a boundary, as a hook before a module (its arguments), or after it, is handed it.

    Args:
        entry: which entry of a tuple.
    """
    tensor = args[0] if output is None else output
    return tensor[entry] if isinstance(tensor, tuple) else tensor
