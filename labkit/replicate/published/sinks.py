"""How much attention lies on the first token, and how far the output gates are open: arXiv 2505.06708.

A model has gates or has none, so one of the two shares can be measured; whether gates are the cause takes two models
that differ in nothing else.
"""

import numpy as np

from labkit import attention
from labkit.replicate import asking
from labkit.replicate.record import Number, Paper, measured

GATED, PLAIN, OPEN = "share on the first token, with gates", "share on the first token, no gates", "mean gate"
TABLE = "table 4, 15B mixture of experts; 46.7 and 4.8 % also finisky.github.io/en/gated-attention"


def _measure(lab, texts, samples, length):
    rows = asking.rows(lab, texts, samples or 6, length or min(512, lab.spec.window))
    first, gate = [], []
    for ids in rows:
        run = lab.trace(ids, layers=lab.spec.attention_layers, logits="last")
        ds = attention.summary(run, layer=lab.spec.attention_layers, sink=1, block=len(ids))
        first.append(float(ds.sink.mean()))
        gate.append(float(ds.gate.mean()) if "gate" in ds else np.nan)
    gated = bool(np.isfinite(gate).all())
    name, even = GATED if gated else PLAIN, float(np.mean(1 / np.arange(1, len(rows[0]) + 1)))
    ours = {name: asking.mean(first)} | ({OPEN: asking.mean(gate)} if gated else {})
    controls = {name: asking.span([even])} | ({OPEN: asking.span([0.5])} if gated else {})
    how = f"{len(rows)} pieces of {len(rows[0])} tokens, {asking.source(texts)}; mean over heads, layers, tokens"
    facts = dict(how=how, interval="95 %, Student's t over the texts", unable=asking.untrained(lab, rows))
    return measured(PAPER, lab, ours, controls, **facts)


PAPER = Paper(
    arxiv="2505.06708",
    title="Gated Attention for Large Language Models: Non-linearity, Sparsity, and Attention-Sink-Free",
    claim="Gates on the output of attention take the sink away: without them 46.7 % of the attention lies on the first "
    "token, with them 4.8 %, and their mean is 0.116.",
    model="15B mixture of experts, trained with and without gates",
    numbers=(
        Number(GATED, 0.048, "4.8 %", TABLE, "secondary", (-np.inf, 0.15), "nearer to 4.8 than to 46.7 %, as factors"),
        Number(PLAIN, 0.467, "46.7 %", TABLE, "secondary", (0.15, np.inf), "nearer to 46.7 than to 4.8 %, as factors"),
        Number(OPEN, 0.116, "0.116", TABLE, "secondary", (0.058, 0.232), "within a factor of two"),
    ),
    control="a head that looks at all tokens evenly; a gate that is neither open nor shut, 0.5",
    reasons=(
        "a sink is learned over many tokens of natural text: a small model may have none, with or without gates",
        "gates need not shut where there is nothing to keep out",
    ),
    reads="text",
    measure=_measure,
)
