"""Rotary frequencies under every scaling; `labkit.turning` switches a model between them in place.

    rotary.stretched(lab.spec, 4.0)                       # YaRN of this model by 4
    rotary.Scaling("linear", 2.0)

With θ = rope_theta, d rotated channels, window L, factor s, pairs i = 0 … d/2 - 1:

    none      ω_i = θ^(-2i/d)
    linear    ω_i / s                                            position interpolation (arXiv 2306.15595)
    ntk       θ grows by s^(d/(d-2))                             NTK-aware
    dynamic   θ grows by (s·l/L - s + 1)^(d/(d-2)) at length l   dynamic NTK, as in transformers
    yarn      ω_i·(1 - ramp_i + ramp_i/s)                        arXiv 2309.00071; cos and sin grow by m
    dynamic-yarn   yarn with s = l/L, at least 1 and at most the factor, at length l

YaRN's ramp exists twice. "index" is what transformers, vLLM and the reference code do: linear in the pair's index i
between ⌊c(32)⌋ and ⌈c(1)⌉, c(n) = d·ln(L/(2πn)) / (2 ln θ). "paper" is the formula of the paper: linear in the number
of turns r_i = L·ω_i/2π, from 1 where a pair turns once in the window to 0 where it turns 32 times.
The attention factor m = 0.1 ln s + 1 multiplies cos and sin, hence the rotary part of a logit by m², at every distance,
0 included.
"""

import dataclasses
import functools
import math

from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError

__all__ = [
    "CLASSES",
    "KINDS",
    "RAMPS",
    "RELEASED",
    "Scaling",
    "angles",
    "check_rotated",
    "constants",
    "frequencies",
    "pair_classes",
    "ramp",
    "rotate",
    "scaling_of",
    "stretched",
]

KINDS = ("none", "linear", "ntk", "dynamic", "yarn", "dynamic-yarn")
RAMPS = ("index", "paper")
FAST, SLOW = 32.0, 1.0  # turns in the window: above, a pair is left alone; below, it is interpolated
CLASSES = ("untouched", "blended", "interpolated")  # of pairs, by YaRN's ramp
RELEASED = 4.0  # the factor that the family's model cards give for a million tokens


@dataclasses.dataclass(frozen=True)
class Scaling:
    """One way to stretch the window.

    Attributes:
        kind: one of `KINDS`. factor: s, at least 1.
        ramp: "index" or "paper", of kind "yarn".
        attention_factor: m, what multiplies cos and sin. Where None is given it becomes the kind's own: 0.1 ln s + 1
            of "yarn", 1 of the others; of "dynamic-yarn", whose s moves, None stays until `at` a length.
        original: L, positions that were trained; None is the window of the model it is used with.
        length: l, of the dynamic kinds; None is the original window.

    Raises:
        InputError: an unknown kind or ramp, a factor below 1, a number that is not positive.
    """

    kind: str = "none"
    factor: float = 1.0
    ramp: str = "index"
    attention_factor: float | None = None
    original: int | None = None
    length: int | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError("no such rotary scaling", got=self.kind, expected=", ".join(KINDS))
        if self.ramp not in RAMPS:
            raise InputError("no such ramp", got=self.ramp, expected=", ".join(RAMPS))
        factor = number(self.factor, "factor")
        if factor < 1:
            hint = "a window can only be stretched; factor=1 is the native window"
            raise InputError("the factor of a rotary scaling is at least 1", got=factor, hint=hint)
        object.__setattr__(self, "factor", factor)
        if self.attention_factor is not None:
            object.__setattr__(self, "attention_factor", number(self.attention_factor, "attention_factor", above=0))
        for name in ("original", "length"):
            value = getattr(self, name)
            if value is not None:  # configurations write some of them as 32768.0
                value = int(value) if isinstance(value, float) and value.is_integer() else value
                object.__setattr__(self, name, whole(value, name, least=1))
        if self.attention_factor is None and self.kind != "dynamic-yarn":
            object.__setattr__(self, "attention_factor", self._own_attention_factor)

    @property
    def _own_attention_factor(self):
        return 0.1 * math.log(self.factor) + 1.0 if self.kind == "yarn" else 1.0

    def at(self, length: int | None = None, window: int | None = None) -> "Scaling":
        """What a "dynamic-yarn" scaling is at a length; the others are what they are."""
        if self.kind != "dynamic-yarn":
            return self
        window, length = self.original or window, length or self.length
        factor = 1.0 if length is None or window is None else min(max(1.0, length / window), self.factor)
        return dataclasses.replace(self, kind="yarn", factor=factor, length=None)

    def same(self, other: "Scaling", window: int) -> bool:
        """Whether two scalings turn every pair of a model with this window alike."""
        return self.plain(window) == other.plain(window)

    def plain(self, window: int) -> "Scaling":
        """The same scaling with its defaults spelt out and nothing in it that has no effect; factor 1 is none."""
        if self.kind == "dynamic-yarn":
            return self.at(window=window).plain(window)
        if self.kind == "none" or (self.factor == 1 and self.kind != "dynamic"):  # dynamic NTK grows at factor 1 too
            return Scaling(attention_factor=self.attention_factor)
        ramp, length = self.ramp if self.kind == "yarn" else "index", self.length if self.kind == "dynamic" else None
        return dataclasses.replace(self, original=self.original or window, ramp=ramp, length=length)

    def __str__(self):
        text = "none" if self.kind == "none" else f"{self.kind} {self.factor:.10g}"
        if self.kind != "none":
            text += " paper ramp" if "yarn" in self.kind and self.ramp == "paper" else ""
            text += f" at {self.length:,} tokens" if self.length else ""
        own = None if self.kind == "dynamic-yarn" else self._own_attention_factor
        return text if self.attention_factor == own else f"{text}, attention factor {self.attention_factor:.6g}"


def check_rotated(width: int) -> None:
    """Refuse a model whose attention rotates nothing, a `width` of 0.

    Raises:
        InputError: no channels that are rotated.
    """
    if not width:
        got, hint = "rotary_dim 0", "its window is a setting: lab.model.config.max_position_embeddings"
        raise InputError("this model's attention rotates nothing, there is no scaling to speak of", got=got, hint=hint)


def constants(spec) -> dict:
    """What the functions below need to know of a model: theta, width, window."""
    return dict(theta=spec.rope_theta, width=spec.rotary_dim, window=spec.window)


@functools.partial(public, name="yarn.stretched")
def stretched(
    spec,
    factor: float = RELEASED,
    *,
    kind: str = "yarn",
    ramp: str = "index",
    attention_factor: float | None = None,
    length: int | None = None,
) -> Scaling:
    """A `Scaling` of this model: its own window is the one that is stretched; `factor`, `kind`, `ramp`,
    `attention_factor`
    and `length` as for `Scaling`.

    Raises:
        InputError: as `Scaling`.
    """
    check_rotated(spec.rotary_dim)
    return Scaling(kind, factor, ramp, attention_factor, original=spec.window, length=length)


def scaling_of(config) -> Scaling:
    """The scaling that a model's configuration states.

    Args:
        config: a text config of transformers, or its `rope_parameters` as a dict.

    Raises:
        InputError: a rope type that is not of `KINDS`, and as `Scaling`.
    """
    rope = config if isinstance(config, dict) else getattr(config, "rope_parameters", None) or {}
    if not isinstance(config, dict) and rope.get("rope_theta") is None:
        return Scaling()  # nothing is rotated
    kind = rope.get("rope_type", "default")
    kind = "none" if kind == "default" else kind
    if kind not in KINDS:
        raise InputError("no such rotary scaling", got=f"rope_type {kind!r}", expected=f"default, {', '.join(KINDS)}")
    if kind != "none" and rope.get("factor") is None:
        raise InputError("a rotary scaling without its factor", got=f"rope_type {kind!r}", expected="factor")
    factor, original = float(rope.get("factor") or 1), rope.get("original_max_position_embeddings")
    if kind != "yarn":  # transformers gives the others a factor of 1, whatever stands there
        return Scaling(kind, factor, original=original)
    attention_factor = rope.get("attention_factor")
    if attention_factor is None and rope.get("mscale") and rope.get("mscale_all_dim"):
        grown = [0.1 * rope[name] * math.log(factor) + 1 for name in ("mscale", "mscale_all_dim")]
        attention_factor = grown[0] / grown[1]
    bounds = (rope.get("beta_fast") or FAST, rope.get("beta_slow") or SLOW, rope.get("truncate", True))
    if bounds != (FAST, SLOW, True):
        got = "beta_fast {}, beta_slow {}, truncate {}".format(*bounds)
        raise InputError("a ramp with other bounds than the family's", got=got, expected="32, 1, true")
    return Scaling(kind, factor, attention_factor=attention_factor, original=original)


def frequencies(scaling: Scaling, *, theta: float, width: int, window: int, dtype=None):
    """ω' [pair] in radians per token.

    In float32 the operations are those of transformers' own initialisers, in their order: equal bit for bit.

    Args:
        scaling: `Scaling`. theta: rope_theta. width: rotated channels d. window: L, unless the scaling names its own.
        dtype: None is float32, what models compute with.
    """
    import torch

    check_rotated(width)
    window = scaling.original or window
    scaling = scaling.at(window=window)
    steps = torch.arange(0, width, 2, dtype=dtype or torch.float32) / width
    if scaling.kind in ("ntk", "dynamic"):
        length = max(scaling.length or window, window)
        grown = scaling.factor if scaling.kind == "ntk" else scaling.factor * length / window - (scaling.factor - 1)
        return 1.0 / (theta * grown ** (width / (width - 2))) ** steps
    if scaling.factor == 1 or scaling.kind == "none":
        return 1.0 / theta**steps
    if scaling.kind == "linear":
        return 1.0 / theta**steps / scaling.factor
    slow = theta**steps
    native = 1 - ramp(scaling, theta=theta, width=width, window=window).to(steps.dtype)
    return 1.0 / (scaling.factor * slow) * (1 - native) + 1.0 / slow * native


def angles(position_ids, scaling: Scaling, *, theta: float, width: int, window: int, dtype) -> tuple:
    """(cos, sin), each [token, width], as the model's own rotary module gives them for text.

    Args:
        position_ids: (token,), or (axis, token). theta: the rotary base. width: rotated channels. window: tokens of the
            training, which YaRN stretches."""
    import torch

    omega = frequencies(scaling, theta=theta, width=width, window=window).to(position_ids.device)
    phase = torch.cat([position_ids[:, None].float() * omega] * 2, -1)
    m = scaling.at(window=window).attention_factor
    return (phase.cos() * m).to(dtype), (phase.sin() * m).to(dtype)


def rotate(x, cos, sin):
    """Rotate the first channels of x [..., channel], as many as cos and sin have, in pairs (i, i + half)."""
    import torch

    width = cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    a, b = turned.chunk(2, -1)
    turned = (turned * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)  # some models' angles are float32
    return torch.cat([turned, rest], -1)


def ramp(scaling: Scaling, *, theta: float, width: int, window: int):
    """How far each pair is interpolated by YaRN, [pair] from 0 (left alone) to 1 (turned s times slower); `theta`,
    `width`
    and `window` as for `angles`."""
    import torch

    pairs, window = torch.arange(width // 2, dtype=torch.float32), scaling.original or window
    if scaling.ramp == "paper":
        turns = window / (2 * math.pi) * theta ** (-2 * pairs.double() / width)
        return 1 - ((turns - SLOW) / (FAST - SLOW)).clamp(0, 1)
    at = [width * math.log(window / (2 * math.pi * n)) / (2 * math.log(theta)) for n in (FAST, SLOW)]
    low, high = max(math.floor(at[0]), 0), min(math.ceil(at[1]), width - 1)
    return ((pairs - low) / ((high - low) or 0.001)).clamp(0, 1)


def pair_classes(ramp) -> list[str]:
    """Which of `CLASSES` each pair is of, by its ramp."""
    return [CLASSES[int(share > 0) + int(share >= 1)] for share in ramp.tolist()]


def __dir__():
    return sorted(__all__)
