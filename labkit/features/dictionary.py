"""A dictionary of directions: a vector as the sum of a few of many directions, each with a strength.

    z = scale ⊙ (W_enc (x̃ - b) + b_enc)       x̃ is x, or x normalised; b is b_dec, or nothing
    s = activation(z)                          strengths of the features, most of them 0
    x̂ = W_decᵀ (s / scale) + b_dec             and the normalisation undone

Bricken et al., "Towards Monosemanticity" (2023). Numbers are those of the file, in the file's precision; products are
formed in float32 (float64 for a model of that), in parts, so that no second copy of the weights arises.

A control is the same dictionary with its channels dealt anew and drawn signs (`control`): its shapes, norms and all
angles between its directions are the same, and they mean nothing in this stream.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import torch

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.features.kinds import Activation
from labkit.notation import select
from labkit.spec import Spec

SCRATCH = 1 << 28  # bytes of strengths, or of converted weights, at a time
TINY = 1e-5  # that SAELens adds to a standard deviation


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Record:
    """What both kinds of dictionary are.

    Attributes:
        name: of its file. format: of the program that wrote it.
        layer, seam: where it sits. activation: of `labkit.features.kinds`.
        facts: what else its file says, texts and numbers.
        digest: of every number in it; edits are known by it.
        dealt: of a control, orders and signs of its channels, by axis; else empty.
        weights: its tensors by name, on the lab's device.
    """

    name: str
    format: str
    layer: int
    seam: str
    activation: Activation
    facts: Mapping
    digest: str
    dealt: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    weights: dataclasses.InitVar[Mapping[str, torch.Tensor]] = None  # no field: a fingerprint takes the digest

    def __post_init__(self, weights):
        object.__setattr__(self, "weights", weights)

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(iter(self.weights.values())).device

    def chosen(self, features) -> list[int]:
        """Numbers of features, negative ones from the end.

        Raises:
            InputError: out of range, or none.
        """
        return select(features, len(self), "feature")

    def wide(self, x: torch.Tensor) -> torch.Tensor:
        """Numbers as they are computed with: float32, or float64 if they or the weights are."""
        double = torch.float64 in (x.dtype, next(iter(self.weights.values())).dtype)
        return x.to(self.device, torch.float64 if double else torch.float32)

    def rows(self) -> int:
        """How many rows of strengths fit the scratch."""
        return max(1, SCRATCH // (16 * len(self)))

    def parts(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """(rows, their strengths, their reconstruction), some rows at a time."""
        for part in self.wide(x).split(self.rows()):
            strengths = self.encode(part)
            yield part, strengths, self.decode(strengths, part)

    def control(self, seed: int = 0):
        """The same dictionary with its channels dealt anew and drawn signs; no copy of the weights."""
        generator = torch.Generator().manual_seed(whole(seed, "seed", least=0))
        dealt = []
        for size in self.axes:
            order = torch.randperm(size, generator=generator)
            signs = torch.randint(2, (size,), generator=generator) * 2 - 1
            dealt.append((order.to(self.device), signs.to(self.device)))
        return dataclasses.replace(self, name=f"{self.name}, dealt anew", dealt=tuple(dealt))

    def __repr__(self):
        at = f"layer {self.layer}, {self.seam}"
        return f"{type(self).__name__}({self.name}: {len(self):,} features of {at}, {self.activation}, {self.format})"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Dictionary(Record):
    """A dictionary of vectors at a seam.

    Attributes:
        centred: whether b_dec is subtracted before encoding.
        normalised: "none"; "layer_norm", mean 0 and deviation 1; "constant_norm_rescale", norm √channels.
        weights: W_enc, W_dec [feature, channel]; b_enc [feature]; b_dec [channel]; with norms that rescale strengths
            also scale [feature].
    """

    centred: bool = False
    normalised: str = "none"

    def __len__(self):
        return len(self.weights["b_enc"])

    @property
    def axes(self) -> tuple[int, ...]:
        """Channels of what it reads."""
        return (len(self.weights["b_dec"]),)

    def check(self, spec: Spec) -> None:
        """Refuse a model whose seam is of another width.

        Raises:
            InputError.
        """
        seam = spec.seams[spec.kind(self.layer)].get(self.seam) if self.layer < spec.layers else None
        width = 0 if seam is None else math.prod(seam.shape(spec))
        if width != self.axes[0]:
            got = f"{spec.name}, {width:,} channels at {self.seam} of layer {self.layer}"
            raise InputError("this dictionary is of another model", got=got, expected=f"{self.axes[0]:,} channels")

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Strengths [row, feature] of vectors [row, channel]."""
        return self.activation(self._linear(x, ...))

    def strengths(self, x: torch.Tensor, features: list[int]) -> torch.Tensor:
        """Strengths [row, feature] of some features; the others are computed only where they decide."""
        if self.activation.alone:
            return self.activation(self._linear(x, features), features)
        return torch.cat([self.encode(part)[:, features] for part in x.split(self.rows())])

    def decode(self, strengths: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The sum [row, channel] of directions with these strengths; x gives mean and size where it was normalised."""
        active = strengths.any(0).nonzero()[:, 0]
        y = strengths.new_zeros(len(strengths), *self.axes)
        for part in active.split(self._step()):
            y += self._sum(strengths[:, part], part)
        _, size, shift = self._entered(x)
        return (self._undealt(y) + self.weights["b_dec"].to(y)) * size + shift

    def change(self, steps: torch.Tensor, features: list[int], x: torch.Tensor) -> torch.Tensor:
        """What changes of strengths [row, feature] add to the rows x [row, channel]; no bias, no error."""
        return self._undealt(self._sum(steps, features)) * self._entered(x)[1]

    def directions(self, features: list[int]) -> torch.Tensor:
        """Decoder rows [feature, channel]: what strength 1 of each adds, normalisation aside."""
        ones = torch.eye(len(features), device=self.device, dtype=self.wide(self.weights["b_dec"]).dtype)
        return self._undealt(self._sum(ones, features))

    def _linear(self, x, features):
        x, bias = self._entered(x)[0], self.weights["b_enc"]
        if self.centred:
            x = x - self.weights["b_dec"].to(x)
        if self.dealt:
            ((order, signs),) = self.dealt
            x = x[:, order] * signs
        z = torch.cat([x @ part.to(x).T for part in self.weights["W_enc"][features].split(self._step())], -1)
        z = z + bias[features].to(z)
        return z * self.weights["scale"][features].to(z) if "scale" in self.weights else z

    def _sum(self, strengths, features):
        if "scale" in self.weights:
            strengths = strengths / self.weights["scale"][features].to(strengths)
        return strengths @ self.weights["W_dec"][features].to(strengths)

    def _undealt(self, y):
        if not self.dealt:
            return y
        ((order, signs),) = self.dealt
        return torch.empty_like(y).index_copy_(-1, order, y * signs)

    def _entered(self, x):
        """(x as the encoder takes it, and what its size and shift were). SAELens, `_setup_activation_normalization`."""
        if self.normalised == "layer_norm":
            shift = x.mean(-1, keepdim=True)
            size = (x - shift).std(-1, keepdim=True)
            return (x - shift) / (size + TINY), size, shift
        if self.normalised == "constant_norm_rescale":
            size = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
            return x / size, size, 0
        return x, 1, 0

    def _step(self):
        return max(1, SCRATCH // (8 * self.axes[0]))
