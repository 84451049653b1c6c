"""Knock-outs of one head at a time: how much of the lead of an answer is lost without each of them.

It is `patch_sweep` with nothing put in place of what a head hands on, for whoever asks what the heads of a model do
for one prompt, or for many. A head that is not missed may be backed up by another: see `knockout_pairs`.

Ablation: Michel et al., arXiv 1905.10650; conventions: arXiv 2404.15255.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attribution.patching import patch_sweep
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import is_index
from labkit.residual.stream import Answers, answers
from labkit.trace import texts

if TYPE_CHECKING:
    import xarray

NAME = "attribution.knockout"
OVER_SAMPLES = ("mean", "low", "high", "p", "p_adjusted")
Prompt = str | Sequence[int] | torch.Tensor


@public
def knockout(
    lab: Lab,
    prompts: Prompt | Iterable[Prompt],
    *,
    of: Answers | None = None,
    against: Answers | None = None,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    put: str = "zero",
    whole: bool = False,
    correction: str = "holm",
    seed: int = 0,
    batch: int | None = None,
    **kept,
) -> "xarray.Dataset":
    """Knock out every head of every layer in turn, of both kinds, and see how much of the answer's lead is lost.

    Args:
        prompts: one, text or ids; or several, for intervals.
        of: the answer, one token for all prompts or one for each; None the likeliest token after each.
        against: what it is compared with; None the likeliest token after each prompt that is not the answer.
        layers: None for all. heads: None for all, each by itself. tokens: each by itself, relative to a prompt's first,
            negative from its end; None knocks a head out at all tokens at once, without the axis.
        put: "zero"; or "mean", what the head hands on over the tokens of its prompt.
        whole: knock out all heads of a layer at once, or those given, without the axis `reader`.
        correction, seed, batch: as of `attribution.patch_sweep`. kept: its store, client and progress.

    Returns:
        Dataset over layer and reader (a head of either kind, not-a-number where a layer has fewer), as of
        `patch_sweep`: `effect`, the share of the answer's lead that is lost without it, 1 an even race; `score`,
        `change`, `right`, `base`, `base_right`. Of several prompts these have a first axis `sample`, with `mean`,
        `low`, `high`, `p` and `p_adjusted` over them. Coordinates: `kind` of each layer, `answer` and `foil` of each
        prompt.

    Raises:
        InputError: no prompt, answers of several tokens, heads out of range. ParityError, BudgetError: as
            `patch_sweep`.
    """
    if put not in ("zero", "mean"):
        hint = "attribution.patch_sweep puts in what another prompt has"
        raise InputError(f"{NAME}: unknown values", got=f"put={put!r}", expected="zero, mean", hint=hint)
    one, given = _listed(prompts)
    rights, wrongs = _answers(lab, given, of, against)
    options = dict(layers=layers, heads=heads, tokens=tokens, put=put, whole=whole, correction=correction, seed=seed)
    ds = patch_sweep(lab, given, of=rights, against=wrongs, batch=batch, **options, **kept)
    named = {
        name: ("sample", list(texts(lab.tokenizer, torch.tensor(ids))))
        for name, ids in (("answer", rights), ("foil", wrongs))
    }
    kinds = [lab.spec.kind(int(layer)) for layer in ds.layer]
    ds = ds.assign_coords(kind=("layer", kinds), **named).assign_attrs(reading=NAME)
    if not one:
        return ds
    for fact in ("interval", "correction"):
        del ds.attrs[fact]
    return (
        ds.drop_vars(OVER_SAMPLES)
        .isel(sample=0, drop=True)
        .assign_coords({name: values[0] for name, (_, values) in named.items()})
    )


def _listed(prompts):
    """(whether it is one, a list of prompts)."""
    if isinstance(prompts, str) or getattr(prompts, "ndim", 2) == 1:
        return True, [prompts]
    if not isinstance(prompts, Iterable) or getattr(prompts, "ndim", 1) == 0:
        expected = "a text, token ids, or a list of those"
        raise InputError(f"{NAME}: no prompt", got=repr(prompts)[:80], expected=expected)
    given = list(prompts)
    one = bool(given) and all(map(is_index, given))
    return one, [given] if one else given


def _answers(lab, prompts, of, against):
    """Ids of the answer and of its foil for every prompt."""
    ids = None if of is None else answers(lab, of, NAME)[0]
    foils = None if against is None else answers(lab, against, NAME)[0]
    for given, each in (("of", ids), ("against", foils)):
        if each is not None and len(each) not in (1, len(prompts)):
            got = f"{given}= {len(each)} tokens for {len(prompts)} prompts"
            raise InputError(f"{NAME}: an answer for each prompt, or one", got=got)
    rights, wrongs = [], []
    for n, prompt in enumerate(prompts):
        foil = None if foils is None else foils[n % len(foils)]
        right = None if ids is None else ids[n % len(ids)]
        likeliest = lab.logits(lab.encode(prompt)[None])[0].topk(min(3, lab.spec.vocab)).indices.tolist()
        rights.append(next(each for each in likeliest if each != foil) if right is None else right)
        wrongs.append(next(each for each in likeliest if each != rights[-1]) if foil is None else foil)
    return rights, wrongs
