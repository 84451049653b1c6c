"""Which states, exchanged, move the answer when attention is silenced?

Two prompts state the same facts but one. The states of some heads after the facts are taken from the first prompt and
put into the second, and the question is read from there. The effect is the share of the way from the second prompt's
answer (0) to the first one's (1), in the difference of the two answers' logits. Attention layers are silenced, so that
only states can carry the fact. Heads are chosen on one half of the pairs, those whose state alone goes a tenth of the
way, and what is drawn is counted on the other half.

Look whether the chosen states together reach the level of the first prompt's answer, and how far all others go. The
control exchanges as many heads drawn by chance from the others, anew for each pair.

Source: activation patching, arXiv 2404.15255; here of recurrent states, `deltanet.patch_states`.
"""

import random

import xarray

import figures
from figures._state_samples import average, spread
from labkit import deltanet, edit
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import questions

PLACE = ("states", 90)
CHOOSING, COUNTED, LEAST = range(20), range(20, 40), 0.1


def data(lab):
    """effect, low, high (exchanged) and each (exchanged, sample) of single heads and sets; chosen, their number.

    again (sample) is another draw of as many by chance.
    """
    every = [(layer, head) for layer in lab.spec.deltanet_layers for head in range(lab.spec.value_heads)]
    draw = random.Random(0)
    with lab.edit(*edit.ablate(lab.spec.attention_layers)):
        alone = xarray.concat([_patched(lab, seed, [[place] for place in every]) for seed in CHOOSING], "sample")
        order = alone.mean("sample").argsort().values[::-1]
        chosen = [every[n] for n in order if float(alone.isel(step=n).mean()) >= LEAST]
        others = [every[n] for n in order if every[n] not in chosen]
        sets = [*([place] for place in [*chosen, others[0]]), chosen, None, others, None]
        by_chance = lambda: draw.sample(others, len(chosen))  # noqa: E731
        each = [_patched(lab, seed, [some or by_chance() for some in sets]) for seed in COUNTED]
    each = xarray.concat(each, "sample").rename(step="exchanged")
    each, again = each.isel(exchanged=slice(-1)), each.isel(exchanged=-1)
    names = [f"layer {layer}, head {head}" for layer, head in [*chosen, others[0]]]
    names[-1] = f"next: {names[-1]}"
    names += [f"{len(chosen)} chosen", f"{len(chosen)} by chance", f"other {len(others)}"]
    sample = f"{len(COUNTED)} pairs, seeds 20 to 39; heads chosen on {len(CHOOSING)} others, seeds 0 to 19"
    interval = f"95 %, Student's t over {len(COUNTED)} pairs"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    ds = xarray.Dataset(
        spread(each, "effect") | {"each": each, "again": again, "chosen": len(chosen), "heads": len(every)}
    )
    axis = {"long_name": "states that were exchanged"}
    return ds.assign_coords(exchanged=("exchanged", names, axis)).assign_attrs(
        {"reading": "deltanet.patch_together"} | made
    )


def _patched(lab, seed, sets):
    """Effect of each set of states (step), in the pair of prompts that a seed draws."""
    clean, other, question, *answers = questions.contrast(random.Random(seed))
    score = [int(lab.encode(answer)[0]) for answer in answers]
    effect = deltanet.patch_together(lab, clean, other, question, score=score, sets=sets).effect
    return effect.drop_vars("step").assign_attrs(
        long_name="share of the way to the other answer", symbol="way to the other answer"
    )


def claim(ds):
    """More than all others, and more than as many by chance."""
    (together, ends), (chance, _), (others, _) = (average(ds.each.isel(exchanged=n)) for n in (-3, -2, -1))
    count, rest = int(ds.chosen), int(ds.heads - ds.chosen)
    what = f"way to the other answer by {count} chosen states"
    return Claim(
        f"Without attention, {count} of {count + rest} states together go {together:.0%} of the way to the other "
        f"answer, the other {rest} go {others:.0%}",
        [
            Part(what, together, ">", others, f"the other {rest} states together", ends),
            Part(what, together, ">", chance, f"{count} of the others by chance", ends),
        ],
    )


def controls(ds):
    """As many heads by chance."""
    each = ds.each.where(ds.exchanged != ds.exchanged[-3], ds.again)
    return {"as many states by chance, drawn again, in place of those chosen": ds.assign(each=each)}


def draw(ds):
    """A bar for each state or set of states, and the answer of the first prompt."""
    levels = {"the other answer": 1.0}
    return plot.bars(ds, "effect", x="exchanged", interval=("low", "high"), levels=levels, title=claim(ds).title)
