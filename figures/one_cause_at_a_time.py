"""What does nano lose beyond its window: far positions, more keys, or fuller states?

A text with eight facts, and a question about one. The first N fills the window of 512 tokens; to the right of it one
thing grows alone: the distance of the question (gap), the number of keys in the softmax (dilution), what the states
have absorbed (states), or all at once by real filler. Drawn is how much of the margin is lost since the window was full
(log-probability of the right answer minus that of its foil); 95 % intervals from differences within a question.

Look which lines leave zero together with their intervals; the title speaks of three windows on. The null control shifts
all positions alike, which leaves all distances as they are; under neither scaling may it move. Whether a cause costs
more than another is told by the same questions under both, not by the overlap of intervals.

Source: YaRN, arXiv 2309.00071; counterfactuals of real keys, values and states, `yarn.counterfactuals`.
"""

import dataclasses

import figures
from labkit import draw as plot
from labkit import stats, yarn
from labkit.claims import Claim, Part
from labkit.notation import Quantity

PLACE = ("yarn", 40)
FULL, ON = 304, (0, 1, 3)  # what fills the window of 512; so many windows more
SEEDS, ALONE, NULL = 8, {"gap": "far positions", "dilution": "more keys", "states": "fuller states"}, "shift"
LOST = Quantity("Δlog p lost", "margin lost since the window was full", "nat", "signed", "this run")
TOLERANCE = {
    name: {
        "rtol": 1e-3,
        "atol": 5e-3,
        "reason": "log-probabilities after some thousand tokens in float32, differences of two near numbers",
    }
    for name in ("margin", "lost", "low", "high", "fall")
}


def data(lab):
    """margin, lost with its interval (cause, scaling, gap), over the questions; fall (cause, scaling, sample)."""
    extra = [FULL + more * lab.spec.window for more in ON]
    ds = yarn.counterfactuals(lab, extra=extra, seeds=SEEDS)
    lost = (ds.margin.isel(gap=0) - ds.margin).assign_attrs(dataclasses.asdict(LOST))
    low, high = stats.t_interval(lost)
    means = ds[["margin"]].mean("sample", keep_attrs=True)
    means = means.assign(
        lost=lost.mean("sample", keep_attrs=True), low=low, high=high, fall=lost.isel(gap=-1, drop=True)
    )
    means["fall"] = means.fall.assign_coords(sample=range(SEEDS))
    sample = f"{SEEDS} questions, seeds 0 to {SEEDS - 1}, each under every cause and both scalings"
    interval = f"95 %, Student's t over {SEEDS} questions"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return means.assign_attrs(ds.attrs | facts)


def claim(ds):
    """Far positions cost under YaRN, more than the others; nothing is sure without it."""
    scaled, native = (ds.fall.sel(scaling=name) for name in ("yarn 4", "none"))
    null = float(abs(ds.fall.sel(cause=NULL)).max())
    means = {cause: float(scaled.sel(cause=cause).mean()) for cause in ALONE}
    told = ", ".join(f"{what} {means[cause]:.1f}" for cause, what in list(ALONE.items())[1:])
    most = scaled.sel(cause="gap")
    parts = [_part("nats that far positions take under YaRN 4", most, ">", null, "the most that a shift of all takes")]
    for cause in ("dilution", "states"):
        what = f"nats that far positions take more than {ALONE[cause]} do, under YaRN 4"
        parts.append(_part(what, most - scaled.sel(cause=cause), ">", 0))
    for cause, what in ALONE.items():
        parts.append(_part(f"nats that {what} take without scaling", native.sel(cause=cause), "∋", 0))
    return Claim(
        f"Three windows on, far positions take {means['gap']:.1f} nats under YaRN 4, {told}; without it, as far on, "
        "none does surely",
        parts,
    )


def _part(what, values, sign, than, against=""):
    low, high = stats.t_interval(values)
    return Part(what, float(values.mean()), sign, than, against, (float(low), float(high)))


def controls(ds):
    """The shift that moves no distance in place of the gap; everything at once in place of each cause."""
    fall = ds.fall
    shifted = fall.where(fall.cause != "gap", fall.sel(cause=NULL, drop=True))
    together = fall.sel(cause="all", scaling="yarn 4", drop=True).broadcast_like(fall)
    return {
        "all positions shifted alike in place of the gap": ds.assign(fall=shifted),
        "real filler under YaRN 4 in place of each single cause": ds.assign(fall=together),
    }


def draw(ds):
    """One line per cause, one panel per scaling."""
    full = {"the window is full": int(ds.gap[0])}
    shown = ds.sel(cause=[*ALONE, "all", NULL])
    names = [*ALONE.values(), "all by filler", "all shifted alike"]
    shown = shown.assign_coords(
        cause=names, scaling=["no scaling" if s == "none" else "YaRN 4" for s in ds.scaling.values]
    )
    options = dict(x="gap", color="cause", facet="scaling", interval=("low", "high"), at=full)
    return plot.lines(shown, "lost", **options, title=claim(ds).title)
