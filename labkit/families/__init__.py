"""Model families: everything about one that is not in its configuration, one record in one file each.

    families.FAMILIES[lab.spec.family].title

A record says which transformers classes hold the model, where its seams are, which small weights readings need, which
kernels compute, what an MLP costs, and how tensors are named on disk. Kernels, trace, edit, spec, plan, zoo and doctor
read it; none of them knows a family by name. A new family is a new file here and a line in `FAMILIES`.
"""

from labkit.errors import InputError
from labkit.families.kimi_linear import KIMI_LINEAR
from labkit.families.olmo_hybrid import OLMO_HYBRID
from labkit.families.qwen3_5 import QWEN3_5
from labkit.families.qwen3_5_moe import QWEN3_5_MOE
from labkit.families.qwen3_next import QWEN3_NEXT
from labkit.families.record import ATTENTION, COMMON, DELTANET, Family, Part, Seam

FAMILIES = {family.name: family for family in (QWEN3_5, QWEN3_5_MOE, QWEN3_NEXT, OLMO_HYBRID, KIMI_LINEAR)}
MORE = 'CONTRIBUTING.md, "A family in one file", says what another one would need'

__all__ = [
    "ATTENTION",
    "COMMON",
    "DELTANET",
    "FAMILIES",
    "QWEN3_5",
    "Family",
    "Part",
    "Seam",
    "of_model",
    "of_model_type",
]


def of_model_type(model_type: str | None) -> Family:
    """The family of a `model_type` of a configuration, image-text or text.

    Raises:
        InputError: none of the families; names them.
    """
    for family in FAMILIES.values():
        if model_type in family.model_types:
            return family
    raise InputError(
        "not a model of a family that labkit knows",
        got=f"model_type {model_type!r}",
        expected=", ".join(name for family in FAMILIES.values() for name in family.model_types),
        hint=MORE,
    )


def of_model(model) -> Family:
    """The family of a transformers model, of its text or its image-text class or one derived from these.

    Raises:
        InputError: another class; names the ones that fit.
    """
    for family in FAMILIES.values():
        if isinstance(model, family.classes()):
            return family
    adapted = callable(getattr(model, "get_base_model", None))  # an adapter of peft around a model
    raise InputError(
        "not a model of a family that labkit knows",
        got=f"{type(model).__module__}.{type(model).__qualname__}",
        expected=", ".join(filter(None, (name for f in FAMILIES.values() for name in (f.causal, f.conditional)))),
        hint="labkit.wrap(model.get_base_model())" if adapted else MORE,
    )


def __dir__():
    return sorted(__all__)
