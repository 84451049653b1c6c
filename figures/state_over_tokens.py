"""What of a state changes at one token, and where does a key that comes back write?

Left, the recurrent state of one value head after every token of one prompt, rows the 24 key channels and columns the 32
value channels; middle, what changed in it at that token. The slider moves both and needs no running model. Right, means
over prompts: how alike the key channels are that two facts changed, as the size of the cosine of the first singular
vectors of their changes. Facts are named by their keys, A, B, C, and the keys of A′ and B′ are those of A and B come
back. The head is the one of layer 4 that keeps most of its state.

Look for stripes in the middle: one column of keys times one row of values, and, on the right, whether facts about one
key stand out. By equation 10 the change is one pattern wherever nothing fades, so the first control is the
head of the same layer that keeps least, whose state fades as a whole. The second is the same prompts with new keys in
place of those that come back.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

import numpy as np
import xarray

import figures
from figures._fact_prompts import behind, stated
from figures._state_samples import average
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 50)
ORDERS = {"keys come back": (0, 1, 2, 0, 1, 3), "new keys": (0, 1, 2, 4, 5, 3)}
FACTS = ["A", "B", "C", "A′", "B′"]
AGAIN = [(3, 0), (4, 1)]  # facts whose key was there, and the first fact about it
LAYER, SEEDS, SHOWN = 4, range(16), 16  # tokens shown


def data(lab):
    """state (token, key, value) and, per sample, alike (kind, sample, fact, other_fact), one and faded (which, sample).

    `one` is the share of a change's square norm in its first singular pattern, `faded` that along the state before it,
    means over tokens; `which` is the head that keeps most, and the one that keeps least.
    """
    runs = {kind: [lab.trace(stated(seed, order)) for seed in SEEDS] for kind, order in ORDERS.items()}
    read = lambda run: deltanet.memory(run, layer=LAYER, tokens=range(SHOWN))  # noqa: E731
    each = {kind: [read(run) for run in some] for kind, some in runs.items()}
    first = each["keys come back"]
    keep = np.mean([ds.keep.values for ds in first], axis=(0, 2))
    most, least = int(keep.argmax()), int(keep.argmin())
    alike = [[_alike(ds.state.values[most]) for ds in some] for some in each.values()]
    parts = [[_parts(ds.state.values[head]) for ds in first] for head in (most, least)]
    one, faded = np.moveaxis(parts, -1, 0)
    facts = {"long_name": "cosine of the key channels of two changes", "symbol": "|cos|", "units": "1"}
    variables = {
        "alike": (("kind", "sample", "fact", "other_fact"), alike, facts | {"scale": "fraction"}),
        "one": (("which", "sample"), one),
        "faded": (("which", "sample"), faded),
        "state": first[0].state.isel(head=most).rename(step="token").drop_vars("state_token"),
    }
    names = {axis: (axis, FACTS, {"long_name": title}) for axis, title in NAMES.items()}
    texts = first[0].token_text.isel(token=slice(SHOWN))
    coords = {"kind": list(ORDERS), "which": ["keeps most", "keeps least"], "token": texts.token, "token_text": texts}
    sample, interval = f"{len(SEEDS)} prompts, seeds 0 to 15; the first is shown", "95 %, Student's t over 16 prompts"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    where = {"head": most, "forgetting": least}
    return xarray.Dataset(variables, coords | names, first[0].attrs | made).assign_attrs(where)


NAMES = {"fact": "fact, by its key", "other_fact": "another fact, by its key"}


def _alike(states):
    """How alike the key channels are that the tokens behind the facts changed, (fact, other fact)."""
    left = np.linalg.svd(np.diff(states, axis=0))[0][[behind(fact) - 1 for fact in range(len(FACTS))], :, 0]
    return np.abs(left @ left.T)


def _parts(states):
    """Shares of a change's square norm: in one pattern, and along the state before it; means over tokens."""
    before, change = states[:-1], np.diff(states, axis=0)
    power = np.linalg.svd(change, compute_uv=False) ** 2
    along = np.einsum("tkv,tkv->t", before, change) ** 2 / np.einsum("tkv,tkv->t", before, before)
    return (power[:, 0] / power.sum(-1)).mean(), (along / power.sum(-1)).mean()


def claim(ds):
    """One pattern, not a fading; and the one of the same key."""
    one, faded = ds.one.isel(which=0), ds.faded.isel(which=0)
    (single, singles), (along, alongs) = average(one), average(faded)
    one_there, faded_there = (float(ds[name].isel(which=1).mean()) for name in ("one", "faded"))
    alike = ds.alike.isel(kind=0)
    own = sum(alike.isel(fact=again, other_fact=first) for again, first in AGAIN) / len(AGAIN)
    pairs = [(again, other) for again, first in AGAIN for other in range(again) if other != first]
    others = sum(alike.isel(fact=again, other_fact=other) for again, other in pairs) / len(pairs)
    (same, sames), other = average(own), float(others.mean())
    least = f"head {ds.attrs['forgetting']}, which keeps least"
    where = f"layer {ds.attrs['layer']}, head {ds.attrs['head']}"
    return Claim(
        f"{single:.0%} of a change is one pattern; a key come back changes its own "
        f"(|cos| {same:.2f}, others {other:.2f}; {where})",
        [
            Part("share of a change that is one pattern", single, ">", one_there, least, singles),
            Part("share of a change that is fading", along, "<", faded_there, least, alongs),
            Part("likeness of a key's two changes", same, ">", other, "to those of other facts before", sames),
        ],
    )


def controls(ds):
    """A head that forgets; keys that do not come back."""
    return {
        "the head that keeps least in place of the one that keeps most": ds.isel(which=[1, 1]),
        "new keys in place of those that come back": ds.isel(kind=slice(None, None, -1)),
    }


def draw(ds):
    """The state, its change, and how alike the changes are."""
    state = ds[["state"]]
    before = state.state.shift(token=1, fill_value=0)
    state = state.assign(change=(state.state - before).assign_attrs(ds.state.attrs | {"symbol": "ΔS"}))
    likeness = ds.alike.isel(kind=0, drop=True).mean("sample", keep_attrs=True).to_dataset()
    panels = [(state, "state", "state"), (state, "change", "its change"), (likeness, "alike", "changes of two facts")]
    return plot.maps(*panels, slider="token", start=behind(AGAIN[0][0]), title=claim(ds).title)
