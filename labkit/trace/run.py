"""The frozen Run: token ids, logits, seams, and what has been proven about them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from labkit import rotary
from labkit.arguments import is_whole
from labkit.errors import InputError, ParityError, SeamError
from labkit.identity import Identity
from labkit.kernels import TOLD
from labkit.rotary import Scaling
from labkit.spec import Spec
from labkit.trace import names, said
from labkit.trace.spans import Pictures

# Relative to the largest value of the seam. Measured on random hybrids: the reference kernels in tests/test_parity.py
# (float32 2e-6, bfloat16 6e-3), those of fla-core 0.6.0 in Triton's interpreter, its bfloat16 arithmetic put right
# (float32 2.1e-6, bfloat16 6.3e-3); so both kernels have one bound.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 1e-2}
# Of float32 that is multiplied with fewer bits, where PyTorch was asked for it: TF32 has the bits of float16 (fla-core
# 0.6.0 on an H200: 1.3e-3).
ROUNDED = {"tf32": TOLERANCE[torch.float16], "bf16": TOLERANCE[torch.bfloat16]}


class Row(NamedTuple):
    """One row of a pass that was fed [batch, tokens]: its tokens begin after `pad` columns."""

    spec: Spec
    batch: int
    tokens: int
    row: int
    pad: int

    def read(self, place: tuple[int, str], crossed: torch.Tensor) -> torch.Tensor:
        """The seam [token, *dims] of what crossed its boundary."""
        layer, name = place
        seam = self.spec.seams[self.spec.kind(layer)][name]
        return seam.read(crossed, self.spec, self.batch, self.tokens)[self.row, self.pad :]


class Seams(Mapping):
    """The seams of a run: `run.seams[layer, name]` is a tensor [token, *dims].

    Args:
        tensors: `{(layer, name): tensor}` of seams; with a `row`, of what crossed their boundaries: a seam is read from
            that when somebody looks at it, and most seams of a trace nobody looks at.
    """

    def __init__(self, tensors: Mapping[tuple[int, str], torch.Tensor], row: Row | None = None):
        self._tensors = dict(tensors) if row is None else dict.fromkeys(tensors)
        self._crossed, self._row = {} if row is None else dict(tensors), row

    def __getitem__(self, key):
        if key not in self:
            layer, name = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
            kept = sorted({seam for at, seam in self._tensors if at == layer})
            raise SeamError(
                f"seam {name!r} of layer {layer} was not kept in this run",
                got=key,
                expected=f"layer {layer}: {', '.join(kept)}" if kept else f"layers {sorted({at for at, _ in self})}",
                hint="trace again with this layer in `layers` and this seam in `seams` (None keeps all)",
            )
        crossed = self._crossed.get(key)
        if crossed is not None:  # in this order, since two threads may look at once
            self._tensors[key] = self._row.read(key, crossed)
            self._crossed.pop(key, None)
        return self._tensors[key]

    def __contains__(self, key):
        return isinstance(key, tuple) and bool(key) and is_whole(key[0]) and key in self._tensors

    def __reduce__(self):
        return Seams, (dict(self),)

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    @property
    def nbytes(self) -> int:
        """Bytes held by all seams."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.values())

    def __repr__(self):
        return f"Seams({len(self)} tensors in {len({at for at, _ in self})} layers, {self.nbytes / 2**20:.1f} MiB)"


@dataclasses.dataclass(frozen=True)
class Start:
    """What the cache held before the first token of a run: the run's boundary condition.

    Attributes:
        length: tokens already in the cache.
        conv: `{layer: [conv channels, taps]}`, raw projections of the last tokens, newest last.
        state: `{layer: [head, key, value]}`, float32.
        keys, values: `{layer: [kv_head, length, head_dim]}`, keys already rotated, unless there are `position_ids`.
        placed: whether the keys stand at chosen positions, or at those of pictures, instead of 0 to length - 1.
        position_ids: [3, length] rotary positions (time, height, width) of keys before rotation, else None.
    """

    length: int = 0
    conv: dict = dataclasses.field(default_factory=dict)
    state: dict = dataclasses.field(default_factory=dict)
    keys: dict = dataclasses.field(default_factory=dict)
    values: dict = dataclasses.field(default_factory=dict)
    placed: bool = False
    position_ids: torch.Tensor | None = None

    def angles(self, scaling: Scaling, spec: Spec, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(cos, sin), each [length, rotary channels], that turn keys before rotation under a scaling.

        Raises:
            InputError: pictures, whose positions have three parts.
        """
        if (self.position_ids != self.position_ids[:1]).any():
            raise InputError("maps of pictures under yarn.dynamic are not made", got="positions of height and width")
        return rotary.angles(
            self.position_ids[0].to(like.device),
            scaling,
            theta=spec.rope_theta,
            width=spec.rotary_dim,
            window=spec.window,
            dtype=like.dtype,
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """One traced sequence. Frozen: the hooks are gone and nothing that happens to the model changes it.

    Attributes:
        ids: [token] token ids; `tokens` their readable texts.
        logits: [n, vocab] at the positions `logit_tokens` (by default the last token alone).
        seams: `run.seams[layer, name]`, names as in `spec.seams` of each layer kind.
        rotary: (cos, sin), each [token, rotary channels], as the attention layers received them.
        parameters: `{(layer, name): tensor}`, the small weights that readings need (conv taps, A_log, dt_bias, norm).
        start: what a warm cache contributed.
        parity: `{(layer, reading): relative error}`, filled by each reading of this run.
        prompt_length: number of tokens that were given; the rest was generated.
        scaling: `rotary.Scaling` in force while the run was made.
        position_ids: [token] rotary positions, if they were chosen or follow a picture; None where they count on.
        pictures: `Pictures` of a prompt with pictures, where they stand and by what their tokens are turned; else None.
        identity: what computed it, `labkit.identity.Identity`: weights, edits, kernels and more.
        states: `{layer: [step, head, key, value]}`, the model's own states after each of the last tokens, where they
            were kept (`states=` of `Lab.generate` and `Lab.step`); readings compare what they recompute with them.
        graph: `{(layer, name): what crossed the boundary}` of a trace with gradients, else None; see `gradient`.
        tokenizer: the lab's, for `top` and `generated`; None of a lab without one, and of a run that was opened.
    """

    ids: torch.Tensor
    tokens: tuple[str, ...]
    logits: torch.Tensor
    logit_tokens: torch.Tensor
    seams: Seams
    rotary: tuple[torch.Tensor, torch.Tensor]
    parameters: dict
    start: Start
    spec: Spec
    prompt_length: int
    model: str = ""
    parity: dict = dataclasses.field(default_factory=dict)
    scaling: Scaling = Scaling()
    position_ids: torch.Tensor | None = None
    pictures: Pictures | None = None
    identity: Identity = Identity()
    states: dict = dataclasses.field(default_factory=dict, repr=False)
    graph: dict | None = dataclasses.field(default=None, repr=False, compare=False)
    tokenizer: object = dataclasses.field(default=None, repr=False, compare=False)

    __iter__ = None  # it has a length and is asked by names; there is nothing to walk through

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, name: str) -> torch.Tensor:
        """The seam [token, *dims] that others call so: `run["blocks.0.hook_resid_post"]`, `run["model.layers.0.mlp"]`.

        Raises:
            InputError: no such name; tells the nearest. LayerError: of a layer of the other kind. SeamError: no seam,
                with the call that gives it; or one that was not kept.
        """
        return names.read(self, name)

    @property
    def names(self) -> names.Names:
        """The table of names that `run[...]` understands: labkit's, TransformerLens's, Hugging Face's."""
        return names.Names(self.spec)

    @property
    def generated(self) -> str:
        """The text of the tokens that were generated, special ones as they are; empty if none were.

        Raises:
            InputError: a run without a tokenizer.
        """
        return said.generated(self)

    def top(self, *, k: int = 5, token: int | Sequence[int] | None = -1) -> "xarray.Dataset":  # noqa: F821
        """The likeliest tokens after a token, likeliest first.

        Args:
            k: how many. token: after which, relative to the run's first; an int or several, None for all whose logits
                were kept.

        Returns:
            Dataset over token and choice (an int drops the first): `id`, `text`, `probability`, `logit`.

        Raises:
            InputError: a token whose logits were not kept, or out of range.
        """
        return said.top(self, k, token)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were traced."""
        return tuple(sorted({layer for layer, _ in self.seams}))

    @property
    def positions(self) -> torch.Tensor:
        """Absolute positions of the run's tokens, [token]; they start at `start.length`."""
        return torch.arange(len(self.ids)) + self.start.length

    def __repr__(self):
        more = len(self) - self.prompt_length
        grown = f" ({self.prompt_length} given, {more} generated)" if more else ""
        warm = f" after {self.start.length} cached tokens" if self.start.length else ""
        return f"Run({len(self)} tokens{grown}{warm}, layers {list(self.layers)}, {self.seams!r})"

    def check_parity(self, layer: int, reading: str, recomputed: torch.Tensor, seam: torch.Tensor) -> dict[str, float]:
        """Compare what was recomputed with the model's own next seam and note the error in `parity`.

        Args:
            recomputed: tensor of the seam's shape, on any device. seam: the model's own.

        Returns:
            `{"parity": error, "tolerance": bound}`, for a dataset's attributes: the largest absolute difference over
            the largest absolute value of the seam.

        Raises:
            ParityError: above the tolerance for the seam's dtype and for how it was multiplied, or not a number.
        """
        _, rounded, bits = self.identity.kernels.rpartition(TOLD)
        tolerance = ROUNDED[bits] if rounded and seam.dtype == torch.float32 else TOLERANCE[seam.dtype]
        scale = seam.detach().abs().max().float().clamp(min=1e-30)
        error = float((recomputed.detach().to(seam.device).float() - seam.detach().float()).abs().max() / scale)
        self.parity[layer, reading] = error
        if not error <= tolerance:
            raise ParityError(
                f"{reading}: layer {layer} recomputed from its seams disagrees with the model",
                got=f"relative error {error:.2g}",
                expected=f"at most {tolerance:g} for {str(seam.dtype).removeprefix('torch.')}",
                hint="an edit inside this layer, a fused kernel (see lab.backend), or NaN in the weights",
            )
        return {"parity": error, "tolerance": tolerance}

    def gradient(self, of: torch.Tensor, *, layer: int, seam: str) -> torch.Tensor:
        """The derivative of a number by a seam, [token, *dims]; through everything that comes after the seam.

        Args:
            of: a tensor of one number, computed from `run.logits` or from later `run.seams`.

        Raises:
            InputError: a run without gradients, more than one number, or one that does not depend on the seam.
            SeamError: a seam that was not kept.
        """
        values = self.seams[layer, seam]
        if self.graph is None:
            raise InputError("this run holds no gradients", got=repr(self), hint='lab.trace("red fox", grad=True)')
        if of.numel() != 1 or not of.requires_grad:
            got = f"{of.numel()} numbers" if of.numel() != 1 else "a number without a graph"
            raise InputError("the gradient is of one number", got=got, expected="for example run.logits[-1, 7]")
        crossed = self.graph[layer, seam]
        (slope,) = torch.autograd.grad(of.sum(), crossed, retain_graph=True, allow_unused=True)
        if slope is None:
            raise InputError("this number does not depend on the seam", got=f"seam {seam!r} of layer {layer}")
        place = self.spec.seams[self.spec.kind(layer)][seam]
        return place.read(slope, self.spec, 1, len(self))[0].view_as(values)

    def save(self, folder: str | pathlib.Path) -> None:
        """Write the run as `run.safetensors` and `run.json` into a new or empty folder; no pickle.

        A kill leaves the folder as it was; `labkit.open_run` reads it back.

        Raises:
            InputError: the folder exists and is not empty, or a run with pictures.
            CheckpointError: it cannot be written, or the disk is full.
        """
        from labkit.trace import saved

        if self.pictures is not None:
            raise InputError(
                "a run with pictures is not saved", got=repr(self), hint="save what you read: ds.to_netcdf"
            )
        saved.save(self, folder)
