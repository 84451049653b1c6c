"""The memory circuit: token → write → erase → read → head → logit, as a graph whose edges add up to the logit.

From the logit downwards, layer by layer: each node gathers what it is worth along the paths that were followed down to
it, looks what comes into it (`paths`), and hands on along the edges that bring at least `least` of the logit. What the
others bring is one edge, its "rest". So at every node as much comes in as goes out, and what tokens, cache and rests
bring together is the logit. Gates, norms and routing are held, as in `attribution.exact`: the graph says how values
flowed, not why they were routed so; whether a head matters is told by taking it away (`attribution.confirm`).

Linear replacement and attribution graphs of transformers: Ameisen et al., "Circuit Tracing" (2025); here through the
delta rule, without replacement.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.arguments import number
from labkit.attribution import costs
from labkit.attribution.frozen import asked, proof
from labkit.attribution.paths import Node, Paths, difference
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, label
from labkit.orders import by_size
from labkit.reading import axis
from labkit.residual.stream import Answers

if TYPE_CHECKING:
    import xarray

NAME = "attribution.circuit"
MOST = 5000  # nodes
BROUGHT = Quantity("c", "what comes to the logit along drawn paths, all routing held", "nat", "signed", "this run")
REST = Node("rest")
SOURCES = ("token", "cache", "rest")
WITHIN = ("write", "erase", "read", "mlp")  # of a layer, from the values upwards


@public
@torch.enable_grad()
def circuit(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    of: Answers,
    against: Answers | None = None,
    token: int = -1,
    snap: Snapshot | None = None,
    least: float = 0.05,
) -> "xarray.Dataset":
    """The paths along which a logit came from tokens and cache, through values, erasing, heads and MLPs.

    Args:
        prompt, of, against, token, snap: as of `attribution.exact`.
        least: share of the logit (or difference) below which an edge is no edge of its own.

    Returns:
        Dataset over (edge), by falling size and rests last: `value`, with the coordinates `sender`, `receiver` (numbers
        of nodes) and `kind`: "stream" along the residual stream, "write" what a token stored, as decay alone would
        leave it, "erase" what later tokens took of it, "attend" by softmax, "state" or "window" from the cache, "rest".
        Over (node), the logit first: `flow`, what it brings to the logit, with the coordinates `part`, `at_layer`,
        `at_head`, `at_token`, `reader` (-1 where it has none), and `level`, how far up the stack it is. `written` and
        `erased` (read, source), what each token stored and what was taken of it again, of every read of a Gated
        DeltaNet head. `logit`. Attributes: `rest`, the share of the logit that comes along rests; `undrawn`, their
        absolute sum beside that of all sources; `residual`, how far the sources are from the frozen network's logit;
        `imbalance`, the largest difference of what comes into a node and what goes out.

    Raises:
        InputError: a share that is none, or one so small that too many nodes would be drawn. Else as
            `attribution.exact`.
    """
    least = number(least, "least", least=0.0, most=1.0)
    run, at, ids, name = asked(lab, prompt, of, against, token, snap, NAME)
    paths = Paths(lab, run, at, ids)
    edges, flows, imbalance = _followed(paths, Node("logit", run.spec.layers, token=at), least)
    sources = sum(value for sender, _, _, value in edges if sender.part in SOURCES)
    own = difference(run.logits[0], ids)
    rests = [value for sender, _, _, value in edges if sender.part == "rest"]
    size = sum(abs(value) for sender, _, _, value in edges if sender.part in SOURCES)
    facts = {"model": run.model, "reading": NAME, "answer": name, "least": least}
    facts |= proof(run, NAME, torch.tensor(sources, device=own.device) - own)
    facts |= {"residual": abs(sources - paths.whole), "imbalance": imbalance}
    facts |= {"rest": sum(rests) / paths.whole, "undrawn": sum(map(abs, rests)) / size}
    return _labelled(run, edges, flows, paths.splits, own, facts)


circuit.plans = costs.circuit


def _followed(paths, logit, least):
    """(edges (sender, receiver, kind, value), {node: flow}, largest difference of in and out), from the logit down."""
    bar, whole = least * abs(paths.whole), paths.whole
    flows, slopes, edges, imbalance = {logit: whole}, {logit: None}, [], 0.0
    waiting = {logit: None}
    while waiting:
        node = max(waiting, key=_height)
        waiting.pop(node)
        found, total = paths.into(node, slopes.pop(node), bar)
        imbalance = max(imbalance, abs(total - flows[node]))
        kept = {}
        for edge in found:
            place = edge.sender, edge.kind
            kept[place] = kept.get(place, 0.0) + edge.value
            if edge.sender.part not in SOURCES:
                waiting[edge.sender] = None
                slopes[edge.sender] = slopes.get(edge.sender, 0) + edge.slope
        for (sender, kind), value in kept.items():
            edges.append((sender, node, kind, value))
            flows[sender] = flows.get(sender, 0.0) + value
        edges.append((REST, node, "rest", total - sum(kept.values())))
        flows[REST] = flows.get(REST, 0.0) + edges[-1][-1]
        if len(flows) > MOST:
            hint = f"least={min(1.0, max(0.01, 4 * least)):g}"
            raise InputError(f"{NAME}: too many nodes", got=f"least={least:g}", expected=f"at most {MOST}", hint=hint)
    return edges, flows, imbalance


def _height(node):
    """By what a node must wait for: those above it in the stack have handed on to it."""
    return node.layer, WITHIN.index(node.part) if node.part in WITHIN else len(WITHIN)


def _labelled(run, edges, flows, splits, own, facts):
    nodes = [list(flows)[n] for n in by_size(list(flows.values()))]
    nodes = sorted(nodes, key=lambda node: (node.part in SOURCES, -node.layer))
    place = {node: n for n, node in enumerate(nodes)}
    edges = [edges[n] for n in by_size([value for *_, value in edges])]
    edges = sorted(edges, key=lambda edge: (1, place[edge[1]]) if edge[2] == "rest" else (0, 0))
    reads = [node for node in nodes if node in splits]
    none = (torch.zeros(len(run)),) * 2
    stored, taken = (
        torch.stack(part)[: len(reads)] for part in zip(*(splits[node] for node in reads), none, strict=True)
    )
    variables = {
        "value": (("edge",), torch.tensor([value for *_, value in edges], dtype=torch.float64), BROUGHT),
        "flow": (("node",), torch.tensor([flows[node] for node in nodes], dtype=torch.float64), BROUGHT),
        "written": (("read", "source"), stored, BROUGHT),
        "erased": (("read", "source"), taken, BROUGHT),
        "logit": ((), own, "vocab_logit"),
    }
    first = run.start.length
    column = lambda field: [getattr(node, field) for node in nodes]  # noqa: E731
    absolute = lambda field: [t + first if t >= 0 else -1 for t in column(field)]  # noqa: E731
    coords = {
        "sender": ("edge", [place[edge[0]] for edge in edges]),
        "receiver": ("edge", [place[edge[1]] for edge in edges]),
        "kind": ("edge", [edge[2] for edge in edges]),
        "part": ("node", column("part")),
        "at_layer": ("node", [-1 if node.part == "logit" else node.layer for node in nodes]),
        "at_head": ("node", column("head")),
        "at_token": ("node", absolute("token")),
        "reader": ("node", absolute("reader")),
        "node_text": ("node", [_text(node, run, facts["answer"]) for node in nodes]),
        "node_short": ("node", [_short(node, run) for node in nodes]),
        "at_token_text": ("node", [run.tokens[node.token] if node.token >= 0 else "" for node in nodes]),
        "level": ("node", [_level(node) for node in nodes]),
        "level_text": ("node", [_row(node, run.spec) for node in nodes]),
        "read": [place[node] for node in reads],
        **axis(run, "source"),
    }
    return label(variables, coords=coords, attrs=facts)


def _level(node):
    """Places in the stack, from 0: tokens, then the parts of each layer, then the logit."""
    return 0 if node.part in SOURCES else 1 + len(WITHIN) * node.layer + _height(node)[1] % len(WITHIN)


def _row(node, spec):
    """What a level is called: "layer 4, reads"."""
    if node.part in ("logit", *SOURCES):
        return "logit" if node.part == "logit" else "tokens"
    stored = {"deltanet": "writes", "attention": "values"}[spec.kind(node.layer)]
    called = {"write": stored, "erase": "erased", "read": "reads", "mlp": "MLP"}
    return f"layer {node.layer}, {called[node.part]}"


def _short(node, run):
    """A name for a node whose place says the rest: "h3"."""
    if node.part in ("write", "erase", "read"):
        return f"h{node.head}"
    return {"logit": "logit", "mlp": "MLP"}.get(node.part) or (node.part if node.token < 0 else run.tokens[node.token])


def _text(node, run, answer):
    """What a node is called: "L5 h3 reads", "L5 h3 ␣red", "␣fox"."""
    where = f"L{node.layer} h{node.head}" if node.head >= 0 else f"L{node.layer}"
    if node.part in ("cache", "rest"):
        return node.part
    token = run.tokens[node.token]
    return {
        "logit": answer,
        "token": token,
        "mlp": f"L{node.layer} MLP",
        "read": f"{where} reads",
        "write": f"{where} {token}",
        "erase": f"{where} erased by {token}",
    }[node.part]
