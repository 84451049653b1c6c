"""From pre-activations to strengths: which features of a dictionary are active, and how much.

Each is called with pre-activations z [..., feature]; where a feature's strength depends on itself alone (`alone`), also
with those of some features only, and which they are.
"""

import dataclasses

import torch

ALL = slice(None)


@dataclasses.dataclass(frozen=True)
class TopK:
    """The k largest of every row, and of these what is above 0: arXiv 2406.04093."""

    k: int
    alone = False

    def __call__(self, z: torch.Tensor, which=ALL) -> torch.Tensor:
        kept = z.topk(self.k, -1)
        return torch.zeros_like(z).scatter_(-1, kept.indices, kept.values.relu())

    def __str__(self):
        return f"top {self.k}"


@dataclasses.dataclass(frozen=True)
class Relu:
    """What is above 0."""

    alone = True

    def __call__(self, z: torch.Tensor, which=ALL) -> torch.Tensor:
        return z.relu()

    def __str__(self):
        return "relu"


@dataclasses.dataclass(frozen=True)
class JumpRelu:
    """What is above 0 and above the feature's threshold [feature]: arXiv 2407.14435."""

    threshold: torch.Tensor
    alone = True

    def __call__(self, z: torch.Tensor, which=ALL) -> torch.Tensor:
        return z.relu() * (z > self.threshold[which].to(z))

    def __str__(self):
        return "relu above a threshold"


@dataclasses.dataclass(frozen=True)
class Gated:
    """A gate says whether, a magnitude how much; both [feature], of the same z: arXiv 2404.16014.

    s = [z + gate > 0] · relu(exp(rate) z + magnitude)
    """

    gate: torch.Tensor
    rate: torch.Tensor
    magnitude: torch.Tensor
    alone = True

    def __call__(self, z: torch.Tensor, which=ALL) -> torch.Tensor:
        gate, rate, magnitude = (part[which].to(z) for part in (self.gate, self.rate, self.magnitude))
        return (z * rate.exp() + magnitude).relu() * (z + gate > 0)

    def __str__(self):
        return "gated"


Activation = TopK | Relu | JumpRelu | Gated
