"""Which memories say the answer when a fact has changed, and what did erasing take away?

A key has two values, and the key is asked for. The difference of the two answers' logits is followed back: from the
logit to heads that read, to what tokens stored in them, and to the tokens. Rows are places in the stack, columns are
tokens; an edge is as wide as what it brings, dashed where it speaks for the old value. An edge is drawn if it brings
15% of the difference; all others into a node are one grey stub, so that what comes in goes out; undrawn is the share of
the difference that stubs bring, and of all edges by size. Gates and routing are held. In nano a fact is stored at the
token behind it.

Look at the head where a dashed edge from the old value and a green one meet: what was stored there, and what the token
behind the new fact erased of it. Whether the heads matter is told by taking them away, in other prompts of the same
form; h0 is head 0. The controls take away as many other heads, and read the same head where no key comes back.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10; gates held as in arXiv 2202.07304.
"""

import numpy as np

import figures
from figures._fact_prompts import behind, stated
from figures._state_samples import average
from labkit import attribution
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("causes", 50)
PROMPT = " fox red. whale blue. {} white. crow green. lion gold. fox"
ORDER, LEAST, COUNTED = (0, 1, 0, 2, 3), 0.15, range(8)
OLD, NEW = behind(0), behind(2)  # the tokens behind the two facts
FAINT = 0.01  # share down to which the control is followed
TOLERANCE = {
    name: {"rtol": 1e-3, "atol": 1e-3, "reason": "nats, differences of logits in float32"}
    for name in ("value", "flow", "together", "others")
}


def data(lab):
    """The circuit; left (kind), what is left of the old value in its head; together, others, order (sample)."""
    run = lab.encode(PROMPT.format("fox"))
    ask = lambda animal, least: attribution.circuit(  # noqa: E731
        lab, PROMPT.format(animal), of=" white", against=" red", least=least
    )
    ds, other = ask("fox", LEAST), ask("seal", FAINT)
    taken = ds.erased.sel(source=OLD)
    node = int(taken.read[np.argmax(np.abs(taken.values))])
    head = int(ds.at_layer[node]), int(ds.at_head[node])
    ds["stored"] = "kind", [_of_old(each, head, each.written) for each in (ds, other)]
    ds["taken"] = "kind", [_of_old(each, head, each.erased) for each in (ds, other)]
    asked = [_asked(seed) for seed in COUNTED]
    prompts, new, old = (list(column) for column in zip(*asked, strict=True))
    found = attribution.confirm(lab, prompts, of=new, against=old, least=LEAST, draws=2)
    ds["together"], ds["others"] = found.together, found.others.mean("draw", keep_attrs=True)
    ds["difference"], ds["heads"] = found.logit, found.heads
    sample = f"one prompt of {len(run)} tokens; heads taken away in {len(COUNTED)} others, seeds 0 to 7"
    interval = f"95 %, Student's t over {len(COUNTED)} prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return ds.drop_dims("read").assign_attrs({"layer": head[0], "head": head[1]} | facts)


def _of_old(ds, head, values):
    """What the token behind the old value brings to the last read of a head."""
    place = [int(n) for n in ds.read.values if (int(ds.at_layer[n]), int(ds.at_head[n])) == head]
    last = [n for n in place if int(ds.at_token[n]) == int(ds.source[-1])]
    return float(values.sel(read=last[0], source=OLD)) if last else np.nan


def _asked(seed):
    """(prompt, new value, old value) of a key with two values among others."""
    text = stated(seed, ORDER)
    words = text.replace(".", "").split()
    return f"{text} {words[0]}", f" {words[5]}", f" {words[1]}"


def claim(ds):
    """Heads of the circuit are missed more than others; the old value is erased where its key comes back."""
    more, ends = average(ds.together - ds.others)
    erased, alone = (-ds.taken / ds.stored).values
    without = float(ds.together.mean())
    whole = float(ds.difference.mean())
    return Claim(
        f"Here head {ds.attrs['head']} of layer {ds.attrs['layer']} erases {erased:.0%} of the old value; "
        f"{ds.sizes['sample']} prompts lose {without:.1f} of {whole:.1f} nats without heads drawn, "
        f"{float(ds.others.mean()):.1f} without others; "
        f"undrawn {ds.attrs['rest']:.0%}, {ds.attrs['undrawn']:.0%} by size",
        [
            Part("nats more that the drawn heads are missed than as many others", more, ">", 0, "", ends),
            Part("share of the old value in this head that later tokens erase", erased, ">", 0.5),
            Part(
                "share of the old value in this head that later tokens erase",
                erased,
                ">",
                alone,
                "where no key comes back",
            ),
        ],
    )


def controls(ds):
    """Others in place of the drawn heads; a prompt in which no key comes back."""
    swapped = ds.assign(together=ds.others, others=ds.together)
    alone = ds.assign({name: ds[name].isel(kind=[1, 0]) for name in ("stored", "taken")})
    return {"as many other heads in place of those drawn": swapped, "another key in place of the second fox": alone}


def draw(ds):
    """Nodes by token and place in the stack."""
    return plot.graph(ds, title=claim(ds).title)
