"""The views of the explorer: which reading each is of, and in which form it is shown. A new view is an entry here.

DeltaNet layers     reads, state, gates, ledger
attention layers    row, map, gate; of latent attention handed, over
stream              lens, logit; and next, which is always there
"""

import dataclasses
from collections.abc import Callable

from labkit.explore.asks import Ask
from labkit.explore.choices import CARDS, Choice
from labkit.families import FAMILIES
from labkit.spec import ATTENTION, DELTANET, Spec

MAP = 48  # tokens each way of a map
TOP = 8  # tokens that are named


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a view looks: a choice, on a model, in a prompt of so many tokens; `answer` is the id that is followed."""

    spec: Spec
    choice: Choice
    length: int
    answer: int | None = None

    def layer(self, kind: str) -> int | None:
        """The layer of a kind that is on the screen."""
        return self.choice.pair(self.spec)[kind]


@dataclasses.dataclass(frozen=True)
class View:
    """One view.

    Attributes:
        name: in a choice. title: of its tab. told: one sentence on what is seen and where to look.
        card: "deltanet", "attention" or "stream": where it stands, and which part of a run it reads.
        ask: `Place -> Ask`. form: how it is drawn, a function of `labkit.explore.forms`. draw: the same by `lk.draw`.
        shows: whether a model has it.
        lacks: `Place -> str`, why there is nothing to see under the edits that are on; "" if there is.
    """

    name: str
    title: str
    told: str
    card: str
    ask: Callable
    form: str
    draw: str
    shows: Callable = lambda spec: True
    lacks: Callable = lambda at: ""


def _memory(token, *keep):
    def ask(at):
        tokens = at.choice.token if token else None
        options = {"layer": at.layer(DELTANET), "tokens": tokens, "heads": at.choice.head}
        return Ask("deltanet.memory", ("run",), options, keep)

    return ask


def _reads(at):
    options = {"layer": at.layer(DELTANET), "token": at.choice.token, "heads": at.choice.head}
    return Ask("deltanet.implied_row", ("run",), options)


def _row(at):
    options = {"layer": at.layer(ATTENTION), "heads": at.choice.query_head, "rows": at.choice.token}
    return Ask("attention.pattern", ("run",), options, ("weight",))


def _map(at):
    first = max(0, min(at.choice.token - MAP // 2, at.length - MAP))
    seen = range(first, min(first + MAP, at.length))
    options = {"layer": at.layer(ATTENTION), "heads": at.choice.query_head, "rows": seen, "sources": seen}
    return Ask("attention.window", ("run",), options, ("mass",))


def _gate(at):
    return Ask("attention.pattern", ("run",), {"layer": at.layer(ATTENTION), "rows": at.choice.token}, ("gate",))


def _handed(one):
    def ask(at):
        chosen = {"tokens": at.choice.token} if one else {"heads": at.choice.query_head}
        return Ask("explore.handed", ("run",), {"layer": at.layer(ATTENTION), **chosen})

    return ask


def _latent(spec):
    return ATTENTION in FAMILIES[spec.family].unread


def _mapped(spec):
    return not _latent(spec)


def _unproven(at):
    """A map is proven by what its head hands on; where there is no gate to close, a head that is off hands on 0."""
    layer, head = at.layer(ATTENTION), at.choice.query_head
    off = any((on.sort, on.layer, on.head) == ("head", layer, head) for on in at.choice.toggles)
    if not off or "gate" in at.spec.seams[ATTENTION]:
        return ""
    return f"Head {head} is off: it hands on nothing by which its map could be proven. Show it before the edits."


def _lens(at):
    return Ask("residual.lens", ("run", "lab"), {"tokens": at.choice.token, "of": at.answer, "top": 3})


def _logit(at):
    return Ask("residual.contributions", ("run", "lab"), {"of": at.answer, "tokens": at.choice.token})


def _next(at):
    options = {"layers": at.spec.layers - 1, "tokens": at.choice.token, "top": min(TOP, at.spec.vocab)}
    return Ask("residual.lens", ("run", "lab"), options)


STREAM = "stream"
INSIDE = "Latent attention makes its keys and values inside the layer, so there is no map to show."
LEDGER = ("recalled", "erased", "written", "decayed")
VIEWS = (
    View(
        "reads",
        "what it reads",
        "What the head's read at the token owes to the value of each token, exactly; signed, and not a share.",
        DELTANET,
        _reads,
        "by_source",
        'lk.draw.bars(ds, "weight", x="source")',
    ),
    View(
        "state",
        "its state",
        "The memory of the head after the token: for each channel of a key, the value it would say.",
        DELTANET,
        _memory(True, "state"),
        "state",
        'lk.draw.heatmap(ds, "state")',
    ),
    View(
        "gates",
        "keep and write",
        "Which share of the state each token lets stand, and how strongly it writes.",
        DELTANET,
        _memory(False, "keep", "write"),
        "by_token",
        'lk.draw.lines(ds, "keep", x="token")',
    ),
    View(
        "ledger",
        "recall and erase",
        "What the state says for each token's key, and what the token then erases, writes and lets decay.",
        DELTANET,
        _memory(False, *LEDGER),
        "by_token",
        'lk.draw.lines(ds, "erased", x="token")',
    ),
    View(
        "row",
        "what it looks at",
        "The share of its attention that the head gives to each token; shares sum to 1.",
        ATTENTION,
        _row,
        "by_source",
        'lk.draw.bars(ds.isel(query_head=0, token=0), "weight", x="source")',
        _mapped,
        _unproven,
    ),
    View(
        "map",
        "map",
        "The same for the tokens around: reading tokens run down, the tokens that they read run right.",
        ATTENTION,
        _map,
        "map",
        'lk.draw.heatmap(ds.isel(query_head=0), "mass")',
        _mapped,
        _unproven,
    ),
    View(
        "gate",
        "output gate",
        "How far the gate of each head is open at the token: with a closed gate a head adds nothing.",
        ATTENTION,
        _gate,
        "by_head",
        'lk.draw.bars(ds.isel(token=0), "gate", x="query_head")',
        lambda spec: "gate" in spec.seams[ATTENTION],
    ),
    View(
        "handed",
        "what heads hand on",
        "How much each head hands to the output projection at the token. " + INSIDE,
        ATTENTION,
        _handed(True),
        "by_head",
        'lk.draw.bars(ds.isel(token=0), "length", x="query_head")',
        _latent,
    ),
    View(
        "over",
        "over the tokens",
        "How much the head hands to the output projection at each token. " + INSIDE,
        ATTENTION,
        _handed(False),
        "by_token",
        'lk.draw.lines(ds, "length", x="token")',
        _latent,
    ),
    View(
        "lens",
        "logit lens",
        "What the stream would say next if the model ended after each layer; and how likely the answer is there.",
        STREAM,
        _lens,
        "said",
        'lk.draw.lines(ds, "answer_probability", x="layer")',
    ),
    View(
        "logit",
        "what made the logit",
        "What the mixer and the MLP of each layer add to the logit of the answer directly; the sum is the logit.",
        STREAM,
        _logit,
        "branches",
        'lk.draw.bars(ds.isel(answer=0), "added", x="layer", color="term")',
    ),
    View(
        "next",
        "next token",
        "The likeliest tokens after the chosen one.",
        "next",
        _next,
        "likeliest",
        "",
    ),
)
NUMBERS = {"lens": ("answer_probability", "answer_logit"), "logit": ("added",)}  # whose difference makes sense


def of(spec: Spec) -> dict[str, tuple[str, ...]]:
    """`{card: names of its views}` of a model."""
    return {card: tuple(view.name for view in VIEWS if view.card == card and view.shows(spec)) for card in CARDS}


def spoken(spec: Spec) -> dict[str, str]:
    """What the layers of a kind are called."""
    soft = "gated attention" if "gate" in spec.seams[ATTENTION] else "attention"
    return {DELTANET: "Gated DeltaNet", ATTENTION: "latent attention" if spec.latent else soft}


def absent(spec: Spec, kind: str) -> str:
    """Why there is no layer of a kind on the screen."""
    words = {DELTANET: "Gated DeltaNet", ATTENTION: "attention"}[kind]
    if not spec.layers_of(kind):
        return f"This model has no {words} layer."
    letter = {DELTANET: "D", ATTENTION: "A"}[kind]
    return f"This block has no {words} layer. Choose one, {letter}, in the row of layers."


def by_name(name: str) -> View:
    """The view of a name."""
    return next(view for view in VIEWS if view.name == name)
