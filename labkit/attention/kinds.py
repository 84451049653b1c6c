"""What kind of head a query head is, by measured scores on prompts that are made for the question.

Every score is a mean of attention weights, at most 1, and its definition is public:

    sink        mass on the first 4 sources, reading tokens beyond the 16th           arXiv 2309.17453
    previous    weight on the token before, on a row of random tokens                 arXiv 2209.11895
    induction   weight on the token after the earlier copy of the reading token,
                on a row of random tokens that is read twice                          arXiv 2209.11895
    local       mass m on the last 8 sources but the previous one, on random tokens,
                beyond that of an even head, e: (m - e) / (1 - e)                     here
    retrieval   weight on the value of the asked key, on facts among other text       arXiv 2404.15574
    diffuse     entropy over its largest possible value ln(t + 1), on random tokens   here

A head is of the class of its largest score, if that is above `BAR`; "none" otherwise; diffuse counts above `SPREAD`.
The output gate is reported beside (arXiv 2505.06708): a closed head does nothing, whatever it attends to.
"""

import torch

from labkit.attention.readings import inputs, weights
from labkit.errors import InputError
from labkit.notation import label, select

NAMES = ("sink", "previous", "induction", "local", "retrieval", "diffuse")
BAR, SPREAD = 0.25, 0.75
SINKS, NEAR, BEGIN = 4, 8, 16


def scores(lab, *, layers=None, length=64, samples=4, seed=0, pool=None, facts=None):
    """Scores of every query head.

    Args:
        lab: `Lab`.
        layers: attention layers; None for all.
        length: tokens of the random row, which is read twice. samples: rows. seed: of the rows.
        pool: token ids the random rows are drawn from; None for all ordinary ones. A model that knows few words well is
            asked about those.
        facts: prompts with what is asked and found: triples (prompt, reading token, token of the answer), positions
            counted from 0, negative from the end; None leaves `retrieval` out.

    Returns:
        Dataset over (layer, query_head): the scores and `gate`, each with its standard deviation over the samples as
        `<name>_spread`.

    Raises:
        InputError: rows that do not fit the window, a layer of the other kind.
    """
    spec = lab.spec
    layers = list(spec.attention_layers) if layers is None else select(layers, spec.layers, "layer")
    if wrong := [layer for layer in layers if spec.kind(layer) != "attention"]:
        raise InputError("head classes are of attention layers", got=wrong, expected=list(spec.attention_layers))
    if length <= BEGIN or samples < 1:
        raise InputError(
            "rows too short or none", got=f"length={length}, samples={samples}", expected=f"over {BEGIN}, 1"
        )
    pool = torch.arange(_plain(lab)) if pool is None else torch.as_tensor(pool)
    if len(pool) < length:
        raise InputError("too few tokens to draw a row without repeats", got=len(pool), expected=f"at least {length}")
    draw = torch.Generator().manual_seed(seed)
    held = {name: [] for name in (*NAMES, "gate") if name != "retrieval"}
    keep = ["q", "k", "v", "gate", "gated"]
    for _ in range(samples):
        row = pool[torch.randperm(len(pool), generator=draw)[:length]]
        run = lab.trace(torch.cat([row, row]), layers=layers, seams=keep)
        found = [_row(run, layer, length) for layer in layers]
        for name in held:
            held[name].append(torch.stack([one[name] for one in found]))
    if facts is not None:
        held["retrieval"] = [_retrieval(lab, layers, keep, *fact) for fact in facts]
    dims, values = ("layer", "query_head"), {}
    for name, samples_ in held.items():
        stacked = torch.stack(samples_)
        values[name] = (dims, stacked.mean(0))
        values[f"{name}_spread"] = (dims, stacked.std(0, unbiased=len(stacked) > 1))
    coords = {"layer": layers, "query_head": range(spec.query_heads)}
    facts_ = {"model": lab.name, "reading": "attention.scores", "samples": samples, "seed": seed}
    data = label(values, coords=coords, attrs=facts_)
    for name in data.data_vars:
        data[name].attrs.setdefault("scale", "fraction")
        data[name].attrs.setdefault("units", "fraction")
    return data


def classes(data):
    """The class of every head, as texts: `kind` (layer, query_head), from `scores`."""
    present = [name for name in NAMES if name in data and name != "diffuse"]
    best = torch.stack([torch.tensor(data[name].values) for name in present])
    top, which = best.max(0)
    kinds = [
        [
            present[int(which[i, j])]
            if top[i, j] >= BAR
            else "diffuse"
            if data.diffuse.values[i, j] >= SPREAD
            else "none"
            for j in range(best.shape[2])
        ]
        for i in range(best.shape[1])
    ]
    return data.assign(kind=(("layer", "query_head"), kinds))


def _plain(lab):
    """How many ids, from 0, can be drawn: all that are no special tokens of the tokenizer."""
    if lab.tokenizer is None:
        return lab.spec.vocab
    special = [i for i in lab.tokenizer.all_special_ids if i is not None]
    return min([*special, len(lab.tokenizer)])


def _row(run, layer, length):
    """Scores of one layer on a row that is read twice, each [query_head]."""
    heads = range(run.spec.query_heads)
    x = inputs(run, layer)
    p, mixed = weights(x, rows=range(len(run)), heads=heads)
    run.check_parity(layer, "attention.scores", mixed * x.gate.float(), run.seams[layer, "gated"])
    first = torch.arange(BEGIN, length, device=p.device)
    second = torch.arange(length + 1, 2 * length, device=p.device)
    entropy = -(p * p.clamp(min=1e-30).log()).sum(-1)[:, first]
    far = first[:, None] - torch.arange(p.shape[2], device=p.device)[None]
    near = ((far >= 0) & (far < NEAR) & (far != 1)).to(p)
    even = near.sum(-1) / (first + 1.0)
    return {
        "sink": p[:, BEGIN:, :SINKS].sum(-1).mean(1),
        "previous": p[:, first, first - 1].mean(1),
        "induction": p[:, second - 1, second - length].mean(1),
        "local": (((p[:, first] * near).sum(-1) - even) / (1 - even)).mean(1),
        "diffuse": (entropy / torch.log(first + 1.0)).mean(1),
        "gate": x.gate.float().mean((0, 2)),
    }


def _retrieval(lab, layers, keep, prompt, reader, source):
    run = lab.trace(prompt, layers=layers, seams=keep)
    (t,), (j,) = select(reader, len(run), "token"), select(source, len(run), "source")
    found = []
    for layer in layers:
        x = inputs(run, layer)
        p, mixed = weights(x, rows=[t], heads=range(run.spec.query_heads))
        run.check_parity(layer, "attention.scores", mixed * x.gate[[t]].float(), run.seams[layer, "gated"][[t]])
        found.append(p[:, 0, j])
    return torch.stack(found)
