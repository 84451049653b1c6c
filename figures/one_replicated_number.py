"""Does a published ablation come out the same on nano, and what does its number say?

In Qwen3.5-0.8B-Base the perplexity grows over 35,000-fold if the layers with linear attention are left out, and about
82-fold if those with attention are. The first bar of each group is that number, the second the same on nano, with its
interval over texts. Left out is a whole layer, its MLP as well, as it was done there.

Look at the third bar before anything is concluded from the first group: as many layers, drawn by chance whatever their
kind; its whisker is the range of four draws. Six of eight layers are mostly linear ones however they are drawn, so nano
can hardly tell kind from number. The scale is logarithmic. The controls put the mixers alone in place of the layers, so
that the MLPs stay, exchange the two kinds, put the draw that costs most in their place, and keep of the draws only the
one that costs least. The command `labkit replicate 2603.22473 --model ...` does the same on other weights.

Source: arXiv 2603.22473, result files of the authors' repository; measured by `labkit.replicate`.
"""

import figures
from labkit import replicate
from labkit.claims import Claim, Part, number

PLACE = ("causes", 90)
PAPER = "2603.22473"
LINEAR, ATTENTION = 0, 1
FEWER = {
    "rtol": 0.1,
    "atol": 1e-3,
    "reason": "losses of a model without most of its layers move with the order of sums",
}
TOLERANCE = {f"{name}{end}": FEWER for name in ("ours", "control", "beside") for end in ("", "_low", "_high")}


def data(lab):
    """published, ours, control with their ends (number); the same without mixers alone, beside (other)."""
    ds = replicate.measure(lab, PAPER).drop_vars(("same_low", "same_high"))
    how, interval = ds.attrs.pop("how"), ds.attrs.pop("interval")
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=how, interval=interval)
    counts = {"linear": len(lab.spec.deltanet_layers), "attention": len(lab.spec.attention_layers)}
    return ds.assign_attrs(facts | counts)


def claim(ds):
    """The number comes out again, chance gives it too, and that of attention does not come out."""
    at = lambda name, n: float(ds[name].isel(number=n))  # noqa: E731
    ends = lambda n: (at("ours_low", n), at("ours_high", n))  # noqa: E731
    count, said = ds.attrs["linear"], at("published", LINEAR)
    shown = lambda name, n: number(at(name, n), 2 if at(name, n) < 1000 else 3)  # noqa: E731
    chance = f"{shown('control_low', LINEAR)} to {shown('control_high', LINEAR)}"
    sentence = (
        f"Without {count} linear layers perplexity grows {shown('ours', LINEAR)}-fold (published "
        f"{shown('published', LINEAR)}; {count} by chance {chance}), without attention {shown('ours', ATTENTION)}-fold "
        f"({shown('published', ATTENTION)})"
    )
    what = f"perplexity factor without the {count} linear layers"
    most = f"the most that {count} layers drawn by chance cost"
    of_attention = f"perplexity factor without the {ds.attrs['attention']} attention layers"
    return Claim(
        sentence,
        [
            Part(what, at("ours", LINEAR), ">", said / 2, "half of the published one", ends(LINEAR)),
            Part(what, at("ours", LINEAR), "<", said * 2, "twice the published one", ends(LINEAR)),
            Part(most, at("control_high", LINEAR), ">", at("ours_high", LINEAR), "all of the interval for linear ones"),
            Part(of_attention, at("ours", ATTENTION), "<", at("published", ATTENTION) / 2, "half", ends(ATTENTION)),
        ],
    )


def controls(ds):
    """Mixers alone; the kinds exchanged; the least of the draws."""
    alone = {f"ours{end}": ("number", ds[f"beside{end}"].values) for end in ("", "_low", "_high")}
    turned = {name: ("number", ds[name].values[::-1]) for name in alone}
    return {
        "mixers alone in place of layers, MLPs left": ds.assign(alone),
        "the two kinds exchanged": ds.assign(turned),
        "the draw that costs most in place of the linear layers": ds.assign(dict.fromkeys(alone, ds.control_high)),
        "of the draws only the one that costs least": ds.assign(control_high=ds.control_low),
    }


def draw(ds):
    """Three bars for each kind."""
    shown = ds.assign_coords(number=["no linear layers", "no attention"])
    fig = replicate.drawn(shown, title=claim(ds).title).update_xaxes(title={"text": "what is left out"})
    fig.update_traces(name="layers by chance", selector={"name": "control"})
    return fig.update_yaxes(title={"text": "log₁₀ of the perplexity's factor"})
