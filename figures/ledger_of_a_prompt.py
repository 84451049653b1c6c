"""Does a head make room when a key comes back with another value?

Behind each of eight facts, how much of the state decay took, how much was erased to make room and how much was written,
as norms, means over prompts. The fifth and the seventh fact give the first and the second key another value; all others
have new keys. In nano a fact is stored at the token behind it, and the norms are of that token. The head shown erases
most behind keys that come back, beyond what it erases behind new ones, on other prompts than those counted.

Compare the erased bars of the fifth and the seventh fact with those of the sixth and the eighth, whose keys are new and
which find the state as full. The control is the same prompts with new keys in place of the two that come back, read in
the same heads: no fact should then be erased for more than its neighbour.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

import xarray

import figures
from figures._fact_prompts import behind, stated
from figures._state_samples import CHANCE, average, decided, spread
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 20)
ORDERS = {"keys come back": (0, 1, 2, 3, 0, 4, 1, 5, 6), "new keys": (0, 1, 2, 3, 7, 4, 8, 5, 6)}
FACTS = ["1", "2", "3", "4", "5, key of 1", "6", "7, key of 2", "8"]
AGAIN, BESIDE = [4, 6], [5, 7]  # facts whose key came back, and the facts after them
TERMS = {"decayed": "decayed ‖(1-α)S‖", "erased": "erased ‖βk r‖", "written": "written ‖βk v‖"}
CHOOSING, COUNTED = range(10), range(10, 30)


def data(lab):
    """norm, low, high (kind, term, fact) of one head; excess (kind, sample, layer, head), erased again less beside."""
    first = _ledgers(lab, CHOOSING, ORDERS["keys come back"])
    best = _excess(first).mean("sample").argmax(("layer", "head"))
    counted = xarray.concat([_ledgers(lab, COUNTED, order) for order in ORDERS.values()], "kind")
    counted = counted.assign_coords(kind=list(ORDERS))
    head = counted.isel(best)
    where = {"layer": int(head.layer), "head": int(head["head"])}
    norm = xarray.concat([head[term] for term in TERMS], "term").assign_coords(term=list(TERMS.values()))
    norm = norm.drop_vars(("layer", "head"))
    variables = spread(norm.assign_attrs(symbol="norm", units="1", scale="positive"), "norm")
    sample = f"{len(COUNTED)} prompts, seeds 10 to 29; the head chosen on {len(CHOOSING)} others, seeds 0 to 9"
    interval = f"95 %, Student's t over {len(COUNTED)} prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    ds = xarray.Dataset(variables | {"excess": _excess(counted)}, attrs=counted.attrs | where | facts)
    return ds.assign_coords(fact=("fact", FACTS, {"long_name": "fact, in the order told"}))


def _ledgers(lab, seeds, order):
    """The three norms behind every fact, (sample, layer, head, fact)."""
    runs = [lab.trace(stated(seed, order)) for seed in seeds]
    each = [deltanet.memory(run, layer=lab.spec.deltanet_layers, tokens=None)[list(TERMS)] for run in runs]
    each = [
        ds.isel(token=[behind(fact) for fact in range(len(FACTS))]).drop_vars(("token", "token_text")) for ds in each
    ]
    return xarray.concat(each, "sample", combine_attrs="override").rename(token="fact")


def _excess(ledgers):
    erased = ledgers.erased
    return erased.isel(fact=AGAIN).mean("fact") - erased.isel(fact=BESIDE).mean("fact")


def claim(ds):
    """In the head shown, and in more heads than chance would give."""
    now, here = ds.isel(kind=0), {"layer": ds.attrs["layer"], "head": ds.attrs["head"]}
    more, less = decided(now.excess)
    mean, interval = average(now.excess.sel(here))
    again, beside = (float(now.norm.isel(term=1, fact=facts).mean()) for facts in (AGAIN, BESIDE))
    count = now.excess.isel(sample=0).size
    return Claim(
        f"Layer {here['layer']}, head {here['head']} erases {again:.2f} where a key comes back, {beside:.2f} at new "
        f"keys; {more} of {count} heads erase more, {less} less",
        [
            Part("erased where a key comes back, less what new keys beside erase", mean, ">", 0, "no more", interval),
            Part("heads that erase more where a key comes back", more, ">", CHANCE * count, "expected by chance"),
        ],
    )


def controls(ds):
    """New keys throughout."""
    return {"new keys in place of the two that come back": ds.isel(kind=slice(None, None, -1))}


def draw(ds):
    """Three bars per fact."""
    options = dict(x="fact", color="term", interval=("low", "high"), title=claim(ds).title)
    return plot.bars(ds.isel(kind=0), "norm", **options)
