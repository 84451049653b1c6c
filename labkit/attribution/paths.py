"""Paths through the frozen network, one step at a time: what comes into a node along each of its edges.

    logit   from the stream at the token that answers
    mlp     from the stream before it, at its token
    write   a head's value at a token, from the stream there (and up to three tokens before: the convolution)
    read    what a head reads at a token, from values that are there:
                attention        Σ_j P_tj v_j
                Gated DeltaNet   Σ_i N_ti β_i v_i - Σ_i N_ti β_i r_i        N_ti = Σ_κ q̃_tκ k_iκ exp(c_tκ - c_iκ)
    erase   what token i takes away of what is read at t: -N_ti β_i r_i, from all values that its key calls up,
                r_i = Σ_j<i ρ_ij v_j

So a value reaches a read as if nothing were ever erased, and what later tokens erase of it comes back as negative
edges: together they are the implied attention A_tj. The stream is the sum of embedding, heads and MLPs below. A node
has a slope, what one unit of it is worth to the logit along the paths that were followed down to it; an edge brings
slope times what the sender adds. Every map here is linear without a constant, so edges into a node add up to it.

Delta rule: arXiv 2412.06464, eq. 10, with net writes u = β (v - r).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from labkit import deltanet
from labkit.attribution.frozen import Frozen
from labkit.deltanet.equation import tiled
from labkit.lab import Lab
from labkit.trace import Run

BRANCHES = ("resid_pre", "mixer_out", "mlp_out", "resid_post")


class Node(NamedTuple):
    """Something in the frozen network that has a number of the logit.

    Attributes:
        part: "logit", "mlp", "read", "erase", "write", "token" (its embedding), "cache".
        layer, head, token: where; -1 where it has none. Heads are value heads or query heads, tokens relative.
        reader: of an erase, the token from whose read it is taken; else -1.
    """

    part: str
    layer: int = -1
    head: int = -1
    token: int = -1
    reader: int = -1


CACHE = Node("cache")


class Edge(NamedTuple):
    """What a sender brings to a receiver's number; `slope` is what one unit of the sender is worth along this edge."""

    sender: Node
    kind: str
    value: float
    slope: torch.Tensor | None


class Paths:
    """The frozen network of a run after its pass: `into` gives the edges of one node.

    Attributes:
        logit: of the frozen network, a tensor of one number; `whole` is that number.
        splits: `{read of a Gated DeltaNet head: (stored, erased)}`, each [token], of the reads that were asked for.
    """

    def __init__(self, lab: Lab, run: Run, at: int, ids: list[int]):
        self.run, self.spec, self.frozen = run, run.spec, Frozen(lab, run)
        with self.frozen.scope():
            flow = lab.trace(run.ids, logits=[at], seams=list(BRANCHES), grad=True)
        self.graph, self.wide = flow.graph, self.frozen.wide
        self.logit = difference(flow.logits[0], ids)
        self.whole = float(self.logit.detach())
        self.rules, self.splits = {}, {}

    def into(self, node: Node, slope: torch.Tensor | None, bar: float) -> tuple[list[Edge], torch.Tensor]:
        """(edges into a node that bring at least `bar`, what all of them bring).

        Args:
            slope: what one unit of the node is worth; None for the logit itself.
        """
        edges = Counted(bar)
        getattr(self, f"_{node.part}")(node, slope, edges)
        return edges.kept, edges.total

    def _logit(self, node, slope, edges):
        self._stream(self._back(self.logit, self.graph[self.spec.layers - 1, "resid_post"]), self.spec.layers, 0, edges)

    def _mlp(self, node, slope, edges):
        out, mid = (self.graph[node.layer, seam] for seam in ("mlp_out", "mixer_out"))
        whole = torch.zeros_like(out).view(1, len(self.run), -1)
        whole[0, node.token] = slope.to(out.dtype)
        self._stream(self._back(out, mid, whole.view_as(out)), node.layer, 1, edges)

    def _write(self, node, slope, edges):
        frozen, layer = self.frozen, node.layer
        values, stream = frozen.values[layer], self.graph[layer, "resid_pre"]
        whole = torch.zeros_like(values)
        whole[len(values) - len(self.run) + node.token, node.head] = slope
        window = frozen.cached.get((layer, "convolution"))
        if window is not None:
            back = self._back(values, window, whole)
            edges.add(lambda _: CACHE, "window", (back * window.detach()).sum()[None], None)
        self._stream(self._back(values, stream, whole), layer, 0, edges)

    def _stream(self, slope, layer, mixer, edges):
        """Edges from what the stream is the sum of: all layers below one, and its own mixer if `mixer` is 1."""
        slope = slope.view(len(self.run), -1)
        at = slope.abs().amax(-1).nonzero()[:, 0].tolist()
        rows = slope[at].to(self.wide)
        take = lambda place: self.graph[place].detach().view(len(self.run), -1)[at].to(self.wide)  # noqa: E731
        embedding = (rows * take((0, "resid_pre"))).sum(-1)
        edges.add(lambda n: Node("token", token=at[n]), "stream", embedding, rows)
        for below in range(layer):
            brought = (rows * take((below, "mlp_out"))).sum(-1)
            edges.add(lambda n, below=below: Node("mlp", below, token=at[n]), "stream", brought, rows)
        for below in range(layer + mixer):
            out, heads = self.graph[below, "mixer_out"], self.frozen.mixed[below]
            each = self._back(out, heads, slope.view_as(out))[at]
            brought = (each * heads.detach()[at]).sum(-1)
            count = heads.shape[1]
            made = lambda n, below=below, count=count: Node("read", below, n % count, at[n // count])  # noqa: E731
            edges.add(made, "stream", brought.flatten(), each.flatten(0, 1))

    def _read(self, node, slope, edges):
        layer, head, t = node.layer, node.head, node.token
        mixed, reads = self.frozen.mixed[layer], self.frozen.reads[layer]
        whole = torch.zeros_like(mixed)
        whole[t, head] = slope
        slope = self._back(mixed, reads, whole)[t, head]
        if self.spec.kind(layer) == "attention":
            self._attend(node, slope, edges)
            return
        rule = self._rule(layer)
        seen, x = rule.row(t, head, "write")
        each = (seen * rule.beta[:, head])[: t + 1, None] * slope
        brought = (each * rule.v[: t + 1, head]).sum(-1)
        edges.add(lambda j: Node("write", layer, head, j), "write", brought, each)
        stored, left = torch.zeros_like(seen), self._left(node, slope)
        stored[: t + 1] = brought
        self.splits[node] = stored, left - stored
        taken = -(each * rule.recalled[: t + 1, head]).sum(-1)
        edges.add(lambda i: Node("erase", layer, head, i, t), "erase", taken, -each)
        self._start(rule, head, x, slope, edges)

    def _attend(self, node, slope, edges):
        values = self.frozen.values[node.layer].detach()[:, node.head]
        each, before = self._of_values(node, slope), len(values) - len(self.run)
        brought = (each * values).sum(-1)
        if before:
            edges.add(lambda _: CACHE, "attend", brought[:before].sum()[None], None)
        made = lambda j: Node("write", node.layer, node.head, j)  # noqa: E731
        edges.add(made, "attend", brought[before:][: node.token + 1], each[before:])

    def _left(self, node, slope):
        """[token] what each value brings to a read, after all that was erased of it."""
        values = self.frozen.values[node.layer].detach()[:, node.head]
        return (self._of_values(node, slope) * values).sum(-1)

    def _of_values(self, node, slope):
        """[source, channel] what a unit of each value is worth to a read of this slope."""
        values, reads = self.frozen.values[node.layer], self.frozen.reads[node.layer]
        whole = torch.zeros_like(reads)
        whole[node.token, node.head] = slope
        return self._back(reads, values, whole)[:, node.head]

    def _erase(self, node, slope, edges):
        rule, head, i = self._rule(node.layer), node.head, node.token
        asked = rule.g[i, head].exp() * rule.k[i]  # [key_head, key]: r_i = S_{i-1}ᵀ (α_i ⊙ k_i)
        if i:
            seen, x = rule.row(i - 1, head, "value", asked[None])
            each = seen[:i, None] * slope
            brought = (each * rule.v[:i, head]).sum(-1)
            edges.add(lambda j: Node("write", node.layer, head, j), "erase", brought, each)
        else:
            x = asked[head // (rule.v.shape[1] // rule.k.shape[1])]
        self._start(rule, head, x, slope, edges)

    def _start(self, rule, head, x, slope, edges):
        """What a query, carried back to the start, reads of the cached state."""
        if rule.state is not None:
            edges.add(lambda _: CACHE, "state", ((x @ rule.state[head]) @ slope)[None], None)

    def _rule(self, layer):
        if layer not in self.rules:
            self.rules[layer] = Rule(self.frozen, layer)
        return self.rules[layer]

    def _back(self, out, to, slope=None):
        (found,) = torch.autograd.grad(out, to, slope, retain_graph=True, materialize_grads=True)
        return found


class Rule:
    """The delta rule of one layer as the frozen network has it, with what the memory says to every key.

    Attributes:
        q, k, v, g, beta, state: as in `deltanet.equation`. recalled: r [token, head, value].
    """

    def __init__(self, frozen: Frozen, layer: int):
        given, wide = deltanet.inputs(frozen.run, layer), frozen.wide
        self.q, self.k, self.g, self.beta = (getattr(given, name).to(wide) for name in ("q", "k", "g", "beta"))
        self.v = frozen.values[layer].detach()
        self.state = None if given.state is None else given.state.to(wide)
        facts = dict(g=self.g, beta=self.beta, state=self.state)
        parts = tiled(self.q, self.k, self.v, outputs=False, **facts)  # one tile at a time is alive
        self.recalled = torch.cat([part.flat(part.recalled, count) for _, count, part in parts])

    def row(self, t: int, head: int, form: str, query: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(weights [token], what is left of the query at the start [key]) of one read; see `deltanet.implied`."""
        facts = dict(rows=[t], heads=[head], form=form, queries=query)
        weights, x = deltanet.implied(self.q, self.k, g=self.g, beta=self.beta, **facts)
        return weights[0, 0], x[0, 0]


class Counted:
    """Edges of one node: those that bring at least `bar` are kept, all are counted.

    Attributes:
        kept: list of `Edge`. total: what all edges bring.
    """

    def __init__(self, bar: float):
        self.bar, self.kept, self.total = bar, [], 0.0

    def add(self, sender: Callable, kind: str, brought: torch.Tensor, slopes: torch.Tensor | None) -> None:
        """Add edges that are alike.

        Args:
            sender: number -> `Node`. brought: [edge]. slopes: [edge, channel].
        """
        brought = brought.detach()
        self.total += float(brought.sum())
        for n in ((brought != 0) & (brought.abs() >= self.bar)).nonzero()[:, 0].tolist():
            slope = None if slopes is None else slopes[n]
            self.kept.append(Edge(sender(n), kind, float(brought[n]), slope))


def difference(row: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """The logit of the first id in a row [vocab], less that of the second if there are two."""
    return row[ids[0]] - row[ids[1]] if len(ids) == 2 else row[ids[0]]
