"""The rotary pairs of a model, from its configuration alone: how fast each turns, what a scaling makes of it, and which
phases a longer context shows that training never did.

A pair i turns ω_i radians per token; its wavelength is λ_i = 2π/ω_i tokens. A pair that does not complete one turn in
the trained window L meets phases beyond L that it has never seen; one that does has seen all. YaRN leaves pairs alone
that turn 32 times or more in the window, slows those down by s that turn less than once, and blends between
(arXiv 2309.00071; ramps in `labkit.rotary`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit import rotary
from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import Quantity, label, whole_numbers
from labkit.rotary import RELEASED, Scaling, constants, stretched
from labkit.spec import Spec

if TYPE_CHECKING:
    import xarray

OFF = "radians a phase is off at most"
ERRORS = {
    "phase": Quantity("|δφ|", f"{OFF}, in float32", "rad", "positive", "IEEE 754"),
    "bfloat16": Quantity("|δ(cos, sin)|", f"{OFF} by rounding cos and sin to bfloat16", "rad", "positive", "IEEE 754"),
    "half_angles": Quantity("|δφ|", f"{OFF}, if angles were held in bfloat16", "rad", "positive", "IEEE 754"),
}


@public
def frequencies(spec: Spec, factor: float = RELEASED, *, dtype: torch.dtype = torch.float64, **options) -> torch.Tensor:
    """ω' [pair] of a model in radians per token; in float32 exactly what transformers would compute with.

    Args:
        spec: `labkit.spec.Spec`. factor: s. options: `kind`, `ramp`, `attention_factor`, `length` of `rotary.Scaling`.

    Raises:
        InputError: an unknown kind or ramp, a factor below 1.
    """
    return rotary.frequencies(stretched(spec, factor, **options), dtype=dtype, **constants(spec))


@public
def wavelengths(spec: Spec, factor: float = RELEASED, **options) -> "xarray.Dataset":
    """The pairs of a model under a scaling.

    Args:
        spec: `labkit.spec.Spec`. factor: s. options: `kind`, `ramp`, `attention_factor`, `length` of `rotary.Scaling`.

    Returns:
        Dataset over pair: `wavelength` λ and `scaled_wavelength` λ' in tokens; `turns` in the window L; `slowed`, ω/ω';
        `ramp` from 0 to 1 and `kind` of `rotary.CLASSES` (of YaRN; other kinds slow all or none). Attributes: factor,
        attention_factor (m; the rotary part of a logit grows by its square).

    Raises:
        InputError: an unknown kind or ramp, a factor below 1.
    """
    scaling = stretched(spec, factor, **options)
    native, scaled = (_frequencies(spec, each) for each in (Scaling(), scaling))
    ramp = rotary.ramp(scaling, **constants(spec)) if scaling.kind == "yarn" else native / scaled > 1
    dims = ("pair",)
    values = {
        "wavelength": (dims, 2 * math.pi / native, "wavelength"),
        "scaled_wavelength": (dims, 2 * math.pi / scaled, "scaled_wavelength"),
        "turns": (dims, spec.window * native / (2 * math.pi), "turns"),
        "slowed": (dims, native / scaled, "slowed"),
        "ramp": (dims, ramp.double(), "ramp"),
    }
    facts = {"model": spec.name, "reading": "yarn.wavelengths", "scaling": str(scaling), "window": spec.window}
    facts |= {"factor": scaling.factor, "attention_factor": scaling.at().attention_factor}
    coords = {"pair": ("pair", range(len(native)), "rotary pair"), "kind": ("pair", rotary.pair_classes(ramp))}
    return label(values, coords=coords, attrs=facts)


@public
def phase_coverage(
    spec: Spec, tokens: int = 1_010_000, *, scalings: Sequence[Scaling] | None = None
) -> "xarray.Dataset":
    """Which phases a context of so many tokens shows that the trained window did not: pair by pair, exact, no run.

    Args:
        spec: `labkit.spec.Spec`. tokens: length of the context. scalings: `rotary.Scaling`s; None is none and YaRN 4.

    Returns:
        Dataset over (scaling, pair): `turns` at the last distance; `covered`, whether all phases up to it were trained;
        `new`, the arc of unseen phases as a share of a full turn. `trained` (pair): turns within the window.
        Attributes: `channels` and `position_free`, how many channels of a head are rotated, how many carry no position.

    Raises:
        InputError: no tokens.
    """
    tokens = whole(tokens, "tokens", least=1)
    scalings = [Scaling(), stretched(spec)] if scalings is None else list(scalings)
    trained = spec.window * _frequencies(spec, Scaling()) / (2 * math.pi)
    turns = torch.stack([tokens * _frequencies(spec, scaling) / (2 * math.pi) for scaling in scalings])
    values = {
        "turns": (("scaling", "pair"), turns, "turns"),
        "covered": (("scaling", "pair"), (turns <= trained) | (trained >= 1), None),
        "new": (("scaling", "pair"), (turns.clamp(max=1) - trained.clamp(max=1)).clamp(min=0), "new"),
        "trained": (("pair",), trained, "turns"),
    }
    coords = {"scaling": [str(scaling) for scaling in scalings], "pair": ("pair", range(len(trained)), "rotary pair")}
    facts = {"model": spec.name, "reading": "yarn.phase_coverage", "tokens": tokens, "window": spec.window}
    facts |= {"channels": spec.rotary_dim, "position_free": spec.head_dim - spec.rotary_dim}
    facts |= {"attention_layers": len(spec.attention_layers), "layers": spec.layers}
    return label(values, coords=coords, attrs=facts)


@public
def phase_error(
    spec: Spec,
    lengths: Sequence[int] = (262_144, 524_288, 1_010_000),
    *,
    scaling: Scaling | None = None,
    samples: int = 4096,
) -> "xarray.Dataset":
    """How wrong a phase is at a position, as models compute it: float32 position times float32 frequency, then cos and
    sin in the type of the activations.

    Args:
        spec: `labkit.spec.Spec`. lengths: the errors are the largest over the last `samples` positions before each.
        scaling: `rotary.Scaling`; None is none.

    Returns:
        Dataset over (length, pair): `phase`, radians off in float32; `bfloat16`, what rounding of cos and sin adds to
        that at most, in the same unit; `half_angles`, radians off if the angle itself were held in bfloat16.

    Raises:
        InputError: no lengths, or one that is no whole number of at least 1.
    """
    scaling, samples = Scaling() if scaling is None else scaling, whole(samples, "samples", least=1)
    if not (lengths := whole_numbers(lengths, "lengths", least=1)):
        raise InputError("no lengths", expected="at least one")
    exact, single = _frequencies(spec, scaling), _frequencies(spec, scaling, torch.float32)
    errors = {name: [] for name in ERRORS}
    for length in lengths:
        positions = torch.arange(max(0, length - samples), length)[:, None]
        true, angle = positions.double() * exact, positions.float() * single
        cos, sin = angle.cos(), angle.sin()
        rounding = torch.stack([cos.bfloat16().double() - cos.double(), sin.bfloat16().double() - sin.double()])
        errors["phase"].append((angle.double() - true).abs().amax(0))
        errors["bfloat16"].append(rounding.norm(dim=0).amax(0))
        errors["half_angles"].append((angle.bfloat16().double() - true).abs().amax(0))
    values = {name: (("length", "pair"), torch.stack(rows), ERRORS[name]) for name, rows in errors.items()}
    coords = {"length": lengths, "pair": ("pair", range(len(exact)), "rotary pair")}
    return label(
        values,
        coords=coords,
        attrs={"model": spec.name, "reading": "yarn.phase_error", "scaling": str(scaling)},
    )


def _frequencies(spec, scaling, dtype=torch.float64):
    return rotary.frequencies(scaling, dtype=dtype, **constants(spec))
