"""The rotary pairs of a model, from its configuration alone: how fast each turns, what a scaling makes of it, and which
phases a longer context shows that training never did.

A pair i turns ω_i radians per token; its wavelength is λ_i = 2π/ω_i tokens. A pair that does not complete one turn in
the trained window L meets phases beyond L that it has never seen; one that does has seen all. YaRN leaves pairs alone
that turn 32 times or more in the window, slows those down by s that turn less than once, and blends between
(arXiv 2309.00071; ramps in `labkit.rotary`).
"""

import math

import numpy as np
import torch

from labkit import rotary
from labkit.errors import InputError
from labkit.notation import label
from labkit.rotary import Scaling, ramp

CLASSES = ("untouched", "blended", "interpolated")
RELEASED = 4.0  # the factor that the family's model cards give for a million tokens


def shape(spec):
    """The arguments of `rotary.frequencies` for a model."""
    return dict(theta=spec.rope_theta, width=spec.rotary_dim, window=spec.window)


def stretched(spec, factor=RELEASED, *, kind="yarn", ramp="index", attention_factor=None, length=None):
    """A `rotary.Scaling` of this model: its own window is the one that is stretched.

    Raises:
        InputError: an unknown kind or ramp, a factor below 1.
    """
    return Scaling(kind, factor, ramp, attention_factor, original=spec.window, length=length)


def frequencies(spec, factor=RELEASED, *, dtype=torch.float64, **options):
    """ω' [pair] of a model in radians per token; in float32 exactly what transformers would compute with.

    Args:
        spec: `labkit.spec.Spec`. factor: s. options: `kind`, `ramp`, `attention_factor`, `length` of `rotary.Scaling`.

    Raises:
        InputError: an unknown kind or ramp, a factor below 1.
    """
    return rotary.frequencies(stretched(spec, factor, **options), dtype=dtype, **shape(spec))


def wavelengths(spec, factor=RELEASED, **options):
    """The pairs of a model under a scaling.

    Args:
        spec: `labkit.spec.Spec`. factor: s. options: `kind`, `ramp`, `attention_factor`, `length` of `rotary.Scaling`.

    Returns:
        Dataset over pair: `wavelength` λ and `scaled_wavelength` λ' in tokens; `turns` in the window L; `slowed`, ω/ω';
        `ramp` from 0 to 1 and `kind` of `CLASSES` (of YaRN; other kinds slow all or none). Attributes: factor, m, m².

    Raises:
        InputError: an unknown kind or ramp, a factor below 1.
    """
    scaling, where = stretched(spec, factor, **options), shape(spec)
    plain, now = (rotary.frequencies(one, dtype=torch.float64, **where) for one in (Scaling(), scaling))
    share = ramp(scaling, **where) if scaling.kind == "yarn" else (plain / now > 1).double()
    kinds = np.array(CLASSES)[((share > 0).int() + (share >= 1).int()).numpy()]
    dims = ("pair",)
    values = {
        "wavelength": (dims, 2 * math.pi / plain),
        "scaled_wavelength": (dims, 2 * math.pi / now),
        "turns": (dims, spec.window * plain / (2 * math.pi)),
        "slowed": (dims, plain / now),
        "ramp": (dims, share.double()),
    }
    facts = {"model": spec.name, "reading": "yarn.wavelengths", "scaling": str(scaling), "window": spec.window}
    facts |= {"factor": scaling.factor, "m": scaling.m, "m2": scaling.m**2}
    coords = {"pair": range(len(plain)), "kind": ("pair", kinds)}
    return label(values, coords=coords, attrs=facts)


def ledger(spec, tokens=1_010_000, *, scalings=None):
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
    if tokens < 1:
        raise InputError("not a length", got=tokens, expected="at least 1 token")
    scalings = [Scaling(), stretched(spec)] if scalings is None else list(scalings)
    where = shape(spec)
    trained = spec.window * rotary.frequencies(Scaling(), dtype=torch.float64, **where) / (2 * math.pi)
    turns = torch.stack(
        [tokens * rotary.frequencies(one, dtype=torch.float64, **where) / (2 * math.pi) for one in scalings]
    )
    new = (turns.clamp(max=1) - trained.clamp(max=1)).clamp(min=0)
    values = {
        "turns": (("scaling", "pair"), turns),
        "covered": (("scaling", "pair"), (turns <= trained) | (trained >= 1)),
        "new": (("scaling", "pair"), new),
        "trained": (("pair",), trained),
    }
    coords = {"scaling": [str(one) for one in scalings], "pair": range(len(trained))}
    facts = {"model": spec.name, "reading": "yarn.ledger", "tokens": tokens, "window": spec.window}
    facts |= {"channels": spec.rotary_dim, "position_free": spec.head_dim - spec.rotary_dim}
    facts |= {"attention_layers": len(spec.attention_layers), "layers": spec.layers}
    return label(values, coords=coords, attrs=facts)


def phase_error(spec, lengths=(262_144, 524_288, 1_010_000), *, scaling=None, samples=4096):
    """How wrong a phase is at a position, as models compute it: float32 position times float32 frequency, then cos and
    sin in the type of the activations.

    Args:
        spec: `labkit.spec.Spec`. lengths: the errors are the largest over the last `samples` positions before each.
        scaling: `rotary.Scaling`; None is none.

    Returns:
        Dataset over (length, pair): `phase`, radians off in float32; `bfloat16`, what rounding of cos and sin adds to
        that at most, in the same unit; `half_angles`, radians off if the angle itself were held in bfloat16.
    """
    scaling = Scaling() if scaling is None else scaling
    exact = rotary.frequencies(scaling, dtype=torch.float64, **shape(spec))
    single = rotary.frequencies(scaling, **shape(spec))
    rows = {"phase": [], "bfloat16": [], "half_angles": []}
    for length in lengths:
        at = torch.arange(max(0, length - samples), length)
        true, angle = at[:, None].double() * exact, at[:, None].float() * single
        rows["phase"].append((angle.double() - true).abs().amax(0))
        cos, sin = angle.cos(), angle.sin()
        off = torch.stack([cos.bfloat16().double() - cos.double(), sin.bfloat16().double() - sin.double()])
        rows["bfloat16"].append(off.norm(dim=0).amax(0))
        rows["half_angles"].append((angle.bfloat16().double() - true).abs().amax(0))
    values = {name: (("length", "pair"), torch.stack(parts)) for name, parts in rows.items()}
    coords = {"length": list(lengths), "pair": range(len(exact))}
    facts = {"model": spec.name, "reading": "yarn.phase_error", "scaling": str(scaling)}
    data = label(values, coords=coords, attrs=facts)
    for name in rows:
        data[name].attrs |= {"units": "rad", "scale": "positive"}
    return data
