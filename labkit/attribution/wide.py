"""The same question in float32: of a model in a half precision, a copy of its weights in float32 answers.

In bfloat16 the frozen pass and the model round apart: the sum is off by up to some hundredths of the largest logit, and
two answers that are as good as equal cannot be told from each other. The copy adds up to its own logit; how far that
is from the one of the model, which is rounding too, is told beside it.
"""

import copy
from collections.abc import Callable

import torch

from labkit.attribution import costs
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.pictures import Seen
from labkit.residual.stream import answers
from labkit.trace import Run
from labkit.zoo import wrap


def in_float32(ask: Callable, lab: Lab, prompt, name: str, *, token: int, snap, **options) -> "xarray.Dataset":  # noqa: F821
    """`ask(copy of the lab in float32, prompt, ...)`, with `precision` and `rounding` among its attributes.

    Raises:
        InputError: a model in float32 or float64 already, weights that are packed, a snapshot, open edits or scalings.
        BudgetError: no room for the copy.
    """
    weights = list(lab.model.parameters())
    odd = {
        f"a model in {str(lab.dtype).removeprefix('torch.')}": lab.dtype not in (torch.bfloat16, torch.float16),
        "packed weights": any(weight.dtype != lab.dtype for weight in weights if weight.ndim > 1),
        "a snapshot": snap is not None,
        "an open edit or scaling": bool(lab.scopes.open),
    }
    if got := [what for what, given in odd.items() if given]:
        expected = "a whole prompt, read by plain weights of a half precision"
        raise InputError(f"{name}: wide=True copies weights into float32", got=", ".join(got), expected=expected)
    tokens = len(prompt.ids) if isinstance(prompt, Seen) else len(lab.encode(prompt))
    costs.exact(lab, tokens, wide=True).refuse()
    twin = wrap(copy.deepcopy(lab.model).float(), lab.tokenizer, name=lab.name)
    made = ask(twin, prompt, token=token, **options)
    own = lab.trace(prompt, layers=[0], seams=["resid_pre"], logits=[token])
    rounding = abs(_asked(own, twin, options) - float(made.logit))
    return made.assign_attrs(
        precision=f"float32, of weights in {str(lab.dtype).removeprefix('torch.')}", rounding=rounding
    )


def _asked(run: Run, lab: Lab, options: dict) -> float:
    """The logit, or the difference of two, in the model's own precision."""
    ids = [answers(lab, options[which], "")[0][0] for which in ("of", "against") if options[which] is not None]
    return float((run.logits[0, ids].float() * torch.tensor([1.0, -1.0])[: len(ids)].to(run.logits.device)).sum())
