"""What kind of head a query head is, by measured scores on prompts that are made for the question; how alike heads are.

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

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.arguments import whole
from labkit.attention.softmax import SEAMS, TILE, Softmax, chosen, map_cost, parts_cost
from labkit.calling import check_data, public
from labkit.errors import InputError, LayerError
from labkit.lab import Lab
from labkit.notation import QUANTITIES, Quantity, label, select, whole_numbers
from labkit.plan import Cost, Plan, make
from labkit.reading import Request, reading
from labkit.spec.memory import dtype_bytes
from labkit.trace import Run, layers_of

if TYPE_CHECKING:
    import xarray

BAR, SPREAD = 0.25, 0.75
SINKS, NEAR, BEGIN = 4, 8, 16
SCORES = {
    name: Quantity(name, meaning, "fraction", "fraction", source)
    for name, meaning, source in (
        ("sink", "attention mass on the first sources", "arXiv 2309.17453"),
        ("previous", "attention weight on the token before", "arXiv 2209.11895"),
        ("induction", "attention weight on what followed the same token earlier", "arXiv 2209.11895"),
        ("local", "attention mass close by, beyond that of an even head", "this run"),
        ("retrieval", "attention weight on the value of the asked key", "arXiv 2404.15574"),
        ("diffuse", "entropy over its largest possible value", "this run"),
    )
}
NAMES = tuple(SCORES)


@public
def scores(
    lab: Lab,
    *,
    layers: Sequence[int] | int | None = None,
    length: int = 64,
    samples: int = 4,
    seed: int = 0,
    pool: Sequence[int] | None = None,
    facts: Sequence[tuple] | None = None,
) -> "xarray.Dataset":
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
        Dataset over (layer, query_head): the scores and `gate`, if heads have one, each with its standard deviation
        over the samples as `<name>_spread`; parity is the worst of all prompts.

    Raises:
        InputError: a run or a text in place of the lab, rows that do not fit the window. LayerError, ParityError;
        BudgetError: maps that would not fit, raised before anything is traced.
    """
    if not hasattr(lab, "trace"):
        expected = "a lab: the prompts are made for the question"
        raise InputError("attention.scores asks a lab", got=repr(lab), expected=expected, hint="attention.scores(lab)")
    spec = lab.spec
    layers = list(spec.attention_layers) if layers is None else select(layers, spec.layers, "layer")
    if wrong := [layer for layer in layers if spec.kind(layer) != "attention"]:
        known = spec.attention_layers
        what, hint = "attention.scores: these are no gated attention layers", "attention.scores(lab)"
        raise LayerError(what, got=wrong, expected=f"of {list(known)}", hint=hint)
    length, samples = whole(length, "length", least=BEGIN + 1), whole(samples, "samples", least=1)
    seed = whole(seed, "seed", least=0)
    longest = max([2 * length, *(len(lab.encode(prompt)) for prompt, *_ in facts or ())])
    scores_plan(lab, longest, layers).refuse()
    pool = torch.tensor(_plain(lab) if pool is None else whole_numbers(pool, "pool"))
    if len(pool) < length:
        raise InputError("too few tokens to draw a row without repeats", got=len(pool), expected=f"at least {length}")
    generator, heads, columns, proofs = torch.Generator().manual_seed(seed), range(spec.query_heads), {}, []

    def read(prompt, reader, score):
        run, tables = lab.trace(prompt, layers=layers, seams=spec.having("attention", SEAMS)), []
        for layer in layers:
            softmax = Softmax(run, layer, heads=heads, rows=select(reader, len(run), "token"))
            tables.append(score(softmax.maps(), softmax.x.gate))
            proofs.append(softmax.proof("attention.scores"))
        for name in tables[0]:
            columns.setdefault(name, []).append(torch.stack([table[name] for table in tables]))

    for _ in range(samples):
        row = pool[torch.randperm(len(pool), generator=generator)[:length]]
        score = lambda p, gate: scored(p, length) | ({} if gate is None else {"gate": gate.float().mean((0, 2))})
        read(torch.cat([row, row]), None, score)
    for prompt, reader, source in facts or ():
        read(prompt, reader, lambda p, gate, at=source: {"retrieval": p[:, 0, select(at, p.shape[2], "source")[0]]})
    dims, variables = ("layer", "query_head"), {}
    for name, column in columns.items():
        column, quantity = torch.stack(column), SCORES.get(name) or QUANTITIES[name]
        deviation = f"standard deviation of: {quantity.long_name}"
        variables[name] = (dims, column.mean(0), quantity)
        spread = dataclasses.replace(quantity, symbol=f"sd({quantity.symbol})", long_name=deviation, scale="positive")
        variables[f"{name}_spread"] = (dims, column.std(0, unbiased=len(column) > 1), spread)
    worst = max(proofs, key=lambda each: each["parity"])
    attrs = {"model": lab.name, "layer": layers, "reading": "attention.scores", "samples": samples, "seed": seed}
    return label(variables, coords={"layer": layers, "query_head": heads}, attrs=attrs | worst)


def scores_plan(lab: Lab, tokens: int, layers: int | Sequence[int] | None = None) -> Plan:
    """What `scores` needs for prompts of so many tokens, twice the `length` of its rows: one map at a time."""
    layers = layers_of(lab.spec, layers, "attention", "attention.scores")
    whole = make(lab, tokens=tokens, layers=layers, seams=lab.spec.having("attention", SEAMS))
    heads, group = lab.spec.query_heads, lab.spec.query_heads // lab.spec.kv_heads
    request = Request(lab.spec, tokens, tokens, heads, tokens, dtype_bytes(lab.dtype), {}, group)
    cost = map_cost(request)
    # Judging copies half of the rows, twice, beside the map and what entered it.
    entered = tokens * (2 * lab.spec.query_heads + lab.spec.kv_heads) * lab.spec.head_dim * request.width
    judged = max(cost.scratch, 4 * request.heads * tokens * (tokens + 3 * lab.spec.head_dim) + entered)
    parts = {"seams": whole.kept, "result": cost.result, "scratch of the reading": judged}
    parts = parts if sum(parts.values()) > whole.peak else whole.parts
    shorter = tokens // 2
    less = [(f"length={shorter // 2}", make(lab, tokens=shorter, want="attention.pattern", layers=layers[:1]).peak)]
    facts = dict(want="attention.scores", parts=parts, kept=0, cheaper=tuple(less) if shorter > 2 * BEGIN else ())
    return dataclasses.replace(whole, **facts)


scores.plans = scores_plan


def scored(p: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
    """Scores [query_head] of the maps p [query_head, token, source] of a row of `length` tokens that is read twice."""
    first = torch.arange(BEGIN, length, device=p.device)
    second = torch.arange(length + 1, 2 * length, device=p.device)
    distance = first[:, None] - torch.arange(p.shape[2], device=p.device)[None]
    near = ((distance >= 0) & (distance < NEAR) & (distance != 1)).to(p)
    even = near.sum(-1) / (first + 1.0)
    return {
        "sink": p[:, BEGIN:, :SINKS].sum(-1).mean(1),
        "previous": p[:, first, first - 1].mean(1),
        "induction": p[:, second - 1, second - length].mean(1),
        "local": (((p[:, first] * near).sum(-1) - even) / (1 - even)).mean(1),
        "diffuse": (torch.special.entr(p[:, first]).sum(-1) / torch.log(first + 1.0)).mean(1),
    }


@public
def classes(data: "xarray.Dataset") -> "xarray.Dataset":
    """The class of every head, as texts: `kind` (layer, query_head), from `scores`.

    Raises:
        InputError: another dataset.
    """
    check_data(data, "attention.classes", "attention.scores(lab)", ["sink", "diffuse"])
    present = [name for name in NAMES if name in data and name != "diffuse"]
    top, which = torch.stack([torch.tensor(data[name].values) for name in present]).max(0)
    kinds = torch.where(top >= BAR, which, torch.where(torch.tensor(data.diffuse.values) >= SPREAD, -2, -1))
    names = [*present, "diffuse", "none"]
    return data.assign(kind=(("layer", "query_head"), [[names[int(i)] for i in row] for row in kinds]))


def _plain(lab):
    """The ids that can be drawn: all but the added and special tokens, which stand first with some tokenizers."""
    if lab.tokenizer is None:
        return list(range(lab.spec.vocab))
    special = {*lab.tokenizer.all_special_ids, *getattr(lab.tokenizer, "added_tokens_decoder", ())}
    return [i for i in range(min(len(lab.tokenizer), lab.spec.vocab)) if i not in special]


def _similarity_cost(request: Request) -> Cost:
    request = request if request.chosen else dataclasses.replace(request, rows=min(request.rows, TILE))
    cost = parts_cost(request, 4 * request.heads**2, 4 * (request.rows > TILE))  # then a part before is there
    return dataclasses.replace(cost, flops=cost.flops + float(request.rows) * request.heads**2 * request.sources)


@reading("attention", seams=SEAMS, instead="deltanet.spectrum(run, layer={layer})", cost=_similarity_cost)
def similarity(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
    samples: int | None = None,
) -> "xarray.Dataset":
    """How alike the query heads of a layer attend: overlap Σ_j min(p_j, p'_j), mean over rows; 1 is the same map.

    Args:
        heads: query heads, which are compared with each other; None for all.
        rows: reading tokens, relative to the run's first; range(len(run)) for all. samples: instead, so many of them,
            evenly spaced. Neither takes 64 samples.

    Returns:
        Dataset: `similarity` (query_head, other_head), with the kv head of each as coordinate `kv_head`.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    rows, text = chosen(rows, TILE if rows is None and samples is None else samples, len(run))
    heads = select(heads, run.spec.query_heads, "query_head")
    softmax = Softmax(run, layer, heads=heads, rows=rows)
    total = torch.zeros(len(heads), len(heads), dtype=torch.float64, device=softmax.x.q.device)
    for part in softmax.parts():
        p = softmax.maps(part)
        for n in range(len(heads)):
            total[n] += torch.minimum(p, p[n]).sum(-1, dtype=torch.float64).sum(-1)
    kv_heads = [run.spec.kv_head(head) for head in heads]
    coords = {"query_head": heads, "other_head": heads, "kv_head": ("query_head", kv_heads)}
    variables = {"similarity": (("query_head", "other_head"), (total / len(rows)).float(), "similarity")}
    return label(variables, coords=coords, attrs={"rows": text} | softmax.proof("attention.similarity"))
