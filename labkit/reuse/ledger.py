"""The ledger: what every call of a session could reuse, what it recomputed, and what that cost.

For call j with prompt x_j, generated g_j, and y_j = x_j ‖ g_j without its last token, which is sampled and not read:

    shared      max over earlier i of LCP(x_j, y_i), the common beginning
    attention   min(shared down to a whole block, |x_j| - 1)   what keys and values alone would allow
    state       the deepest snapshot on that path, at most attention   what a hybrid can use: a state cannot be cut
    recomputed  |x_j| - state, of a hybrid; |x_j| - attention of a model with attention alone
    penalty     attention - state

A snapshot is saved at a position only if the call computes it, and serves from the next call on. Prefill FLOPs and
seconds, decode seconds and bytes are those of the cost card (`labkit.spec`): lower bounds at batch 1. Nothing here runs
a model.
"""

from collections.abc import Sequence

import numpy as np
import xarray

from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import Quantity, label
from labkit.progress import counter
from labkit.reuse.call import Call, calls, count_of
from labkit.reuse.schemes import alone, depths, schemes
from labkit.reuse.tree import Book, Node, Tree
from labkit.spec import Spec, compute, memory, read
from labkit.thinking import Session
from labkit.thinking.given import check_tokenizer

COLUMNS = {
    name: Quantity(symbol, meaning, units, "fraction" if units == "fraction" else "positive", "labkit.reuse")
    for name, symbol, units, meaning in (
        ("prompt", "prompt", "tokens", "tokens of the prompt"),
        ("generated", "generated", "tokens", "tokens that were generated"),
        ("thinking", "thinking", "tokens", "tokens of the generated thinking block"),
        ("shared", "shared", "tokens", "beginning of the prompt that is in the cache"),
        ("attention", "attention", "tokens", "what keys and values alone would allow to reuse"),
        ("state", "state", "tokens", "what is reused, from the deepest saved state"),
        ("recomputed", "recomputed", "tokens", "tokens of the prompt that are read again or anew"),
        ("penalty", "penalty", "tokens", "tokens that are read again for want of a saved state"),
        ("prefill_flops", "prefill", "FLOP", "floating-point operations of reading the prompt"),
        ("prefill_seconds", "prefill", "s", "time of reading the prompt"),
        ("decode_seconds", "decode", "s", "time of generating"),
        ("kv_bytes", "keys and values", "bytes", "keys and values of all cached tokens"),
        ("dead_bytes", "dead keys and values", "bytes", "those that no later call reaches"),
        ("snapshots", "snapshots", "1", "saved states"),
        ("snapshot_bytes", "saved states", "bytes", "bytes of all saved states"),
        ("window_share", "window", "fraction", "share of the model's window that prompt and answer fill"),
    )
}


@public
def replay(
    messages: Sequence | Session,
    *,
    policy: str = "strip",
    tokenizer=None,
    variant: str = "3.6",
    tools: list | None = None,
    enable_thinking: bool | None = None,
    progress: bool = False,
    **book,
) -> xarray.Dataset:
    """Account for a session, call by call.

    Args:
        messages: a `thinking.Session`; OpenAI messages with `reasoning_content`; or a list of `reuse.Call`.
        policy: "strip", "preserve" or "drop" (a client that does not send reasoning back).
        tokenizer: None takes that of nano, whose counts are not those of a real checkpoint.
        variant, tools, enable_thinking: of `thinking.render`.
        progress: show a bar.
        book: arguments of `Ledger`: `snapshots`, `spec`, `block`, `slots`, `budget` and the rest.

    Returns:
        Dataset over call: `COLUMNS`, in tokens, FLOPs, seconds, bytes and shares of the window; `turn`.

    Raises:
        InputError: an unknown policy, scheme, GPU; no calls; a block or budget that is not positive.
    """
    ledger = Ledger(**book)
    if not isinstance(messages, Session) and messages and isinstance(messages[0], Call):
        session, count = messages, len(messages)
    else:
        tokenizer = small_tokenizer() if tokenizer is None else tokenizer
        check_tokenizer(tokenizer, "reuse.replay")
        options = dict(policy=policy, variant=variant, tools=tools, enable_thinking=enable_thinking)
        session, count = calls(messages, tokenizer, **options), count_of(messages)
    for call in counter(session, show=progress, unit="call", total=count):
        ledger.add(call)
    return ledger.dataset(policy=policy)


class Ledger:
    """The ledger of one session: it is shown the calls one after the other, and says what each could reuse and cost.

    Several ledgers can be kept in one pass over the calls.

    Args:
        snapshots: where states are saved: names of `labkit.reuse.schemes`, some with a number, joined by "+".
        spec: `labkit.spec.Spec` of the model whose costs are counted; None is Qwen3.6-27B.
        block: tokens of a block of keys and values that is reused whole; 1 for token-exact engines.
        spare: tokens at the end of what is shared that are read again for a draft model, in whole blocks.
        slots: 1 keeps the last sequence alone; None keeps every sequence.
        budget: bytes that snapshots may take, or `most`, how many; the one that was of no use longest is dropped.
        attention_only: count as if every layer were attention: reuse is what keys and values allow.
        gpu, dtype, quantize, kv_dtype: of the cost card.

    Raises:
        InputError: an unknown scheme or GPU, a block or budget that is not positive.
    """

    def __init__(
        self,
        *,
        snapshots: str = "end+before_think",
        spec: Spec | None = None,
        block: int = 1,
        spare: int = 0,
        slots: int | None = None,
        budget: float | None = None,
        most: int | None = None,
        attention_only: bool = False,
        gpu: str = "H200",
        dtype: str = "bfloat16",
        quantize: str | None = None,
        kv_dtype: str | None = None,
    ):
        self.spec = read("Qwen3.6-27B") if spec is None else spec
        self.scheme, self.marks, self.each = snapshots, schemes(snapshots), memory.snapshot_bytes(self.spec, dtype)
        block, slots = whole(block, "block", least=1), None if slots is None else whole(slots, "slots", least=1, most=1)
        self.spare = whole(spare, "spare", least=0)
        budget = None if budget is None else number(budget, "budget", least=0)
        most = None if most is None else whole(most, "most", least=1)
        keep = most if budget is None else int(budget // self.each)
        if budget is not None and keep < 1:
            got, least = f"{budget:,.0f} bytes", f"{self.each:,} or more"
            raise InputError("the budget holds not one snapshot", got=got, expected=least)
        self.block, self.slots, self.attention_only = block, slots, attention_only
        self.cost = _Cost(self.spec, gpu, dtype, quantize, kv_dtype)
        self.book, self.tree, self.rows = Book(keep), Tree(), []

    def add(self, call: Call) -> None:
        """Look up one call in the tree, put it in, and save the snapshots that it passes."""
        add((self,), call)

    def look(self, call: Call, shared: int, node: Node) -> tuple[int, int]:
        """(attention, state): what of a prompt is reused, if it shares so many tokens with the path to a node."""
        attention = min(shared // self.block * self.block, len(call.prompt) - 1)
        if self.attention_only:
            return attention, attention
        limit = attention // self.block * self.block - self.spare if self.spare else attention
        return attention, self.book.best(node, max(0, limit))

    def take(self, call: Call, shared: int, found: tuple[int, int], end: Node, length: int) -> None:
        """Save the snapshots of a call that is in the tree now, down to `end`, and write its row."""
        attention, state = found
        book, prompt = self.book, len(call.prompt)
        if "live" in self.marks and book.live is not None:
            book.drop(*book.live)
        first = {depth: book.save(end, depth) for depth in depths(self.marks, call, length, state, shared)}
        passing = first.get(length) and alone(self.marks, call, length, state, shared)
        book.live = (end, length) if passing else None
        row = {
            "prompt": prompt,
            "generated": len(call.generated),
            "thinking": call.thinking,
            "shared": shared,
            "attention": attention,
            "state": state,
            "recomputed": prompt - state,
            "penalty": attention - state,
            "turn": call.turn,
            "snapshots": len(book.order),
        }
        self.rows.append(row | self.cost.of(call))

    def dataset(self, **facts) -> xarray.Dataset:
        """What `replay` returns, of the calls so far; `facts` become attributes.

        Raises:
            InputError: no call yet.
        """
        if not self.rows:
            raise InputError("a session without calls", got="none", expected="at least one")
        columns = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        columns |= self.cost.prefill(columns["prompt"], columns["state"])
        if self.slots is None:
            self.tree.match(self.tree.last, len(self.rows) - 1)  # the last path may still go on
            columns |= _bytes(self.tree, len(self.rows), self.cost.kv)
        else:
            cached = columns["prompt"] + np.maximum(columns["generated"] - 1, 0)
            columns |= {"kv_bytes": cached * self.cost.kv, "dead_bytes": np.zeros(len(self.rows))}
        columns["snapshot_bytes"] = columns["snapshots"] * self.each
        facts |= {"snapshots": self.scheme, "model": self.spec.name, "gpu": self.cost.gpu.name, "block": self.block}
        values = {name: (("call",), columns[name], quantity) for name, quantity in COLUMNS.items()}
        coords = {"call": np.arange(len(self.rows)), "turn": ("call", columns["turn"])}
        return label(values, coords=coords, attrs=facts | {"reading": "reuse.replay"})


def add(ledgers: Sequence[Ledger], call: Call) -> tuple[int, np.ndarray]:
    """Show one call to ledgers that share a tree (`shared_by`): it is looked up and put in once.

    Returns:
        (shared tokens, what followed them in the cached sequence that shares them: nothing if the prompt continues it).
    """
    tree, j = ledgers[0].tree, len(ledgers[0].rows)
    shared, node = tree.match(call.prompt, j)
    beyond = tree.beyond(node)
    found = [ledger.look(call, shared, node) for ledger in ledgers]
    if ledgers[0].slots == 1:
        tree.only(node)
    cached = np.concatenate([call.prompt, call.generated[:-1]])
    end = tree.add(cached, j, tree.match(cached))
    for ledger, pair in zip(ledgers, found, strict=True):
        ledger.take(call, shared, pair, end, len(cached))
    return shared, beyond


def shared_by(*ledgers: Ledger) -> tuple[Ledger, ...]:
    """The same `ledgers`, which now keep their sequences in one tree; all with the same number of slots.

    Raises:
        InputError: different numbers of slots, or a ledger with calls in it.
    """
    if len({ledger.slots for ledger in ledgers}) > 1 or any(ledger.rows for ledger in ledgers):
        raise InputError("these ledgers cannot share a tree", expected="empty ones with the same number of slots")
    for ledger in ledgers:
        ledger.tree = ledgers[0].tree
    return ledgers


class _Cost:
    """Costs of calls on one card."""

    def __init__(self, spec, gpu, dtype, quantize, kv_dtype):
        self.spec, self.gpu, self.kv_dtype = spec, compute.find_gpu(gpu), kv_dtype or dtype
        self.options = dict(dtype=dtype, quantize=quantize)
        self.kv = memory.kv_bytes_per_token(spec, self.kv_dtype)

    def of(self, call: Call) -> dict[str, float]:
        """Decode time of the generated tokens, each read with everything before it; share of the window."""
        begin, count = len(call.prompt), len(call.generated)
        middle = begin + (count - 1) / 2  # bytes are linear in the length
        seconds = count * compute.decode_seconds(self.spec, middle, self.gpu, kv_dtype=self.kv_dtype, **self.options)
        return {"decode_seconds": seconds, "window_share": (begin + count) / self.spec.window}

    def prefill(self, tokens: np.ndarray, cached: np.ndarray) -> dict[str, np.ndarray]:
        """FLOPs and seconds of reading prompts of which a part is cached."""
        pairs = list(zip(tokens.tolist(), cached.tolist(), strict=True))
        flops = [compute.prefill_flops(self.spec, n, cached=c)["total"] for n, c in pairs]
        seconds = [compute.prefill_seconds(self.spec, n, self.gpu, cached=c, **self.options) for n, c in pairs]
        return {"prefill_flops": np.array(flops), "prefill_seconds": np.array(seconds)}


def _bytes(tree, count, kv):
    """Bytes of all cached tokens after each call, and of those that no later call reaches."""
    born, dead = np.zeros(count + 1), np.zeros(count + 1)
    for node in tree.nodes():
        born[node.born] += len(node.tokens)
        if node.used < count - 1:
            dead[node.used] += len(node.tokens)
    return {"kv_bytes": born.cumsum()[:count] * kv, "dead_bytes": dead.cumsum()[:count] * kv}


def small_tokenizer():
    """The tokenizer of nano: the special tokens of the family with 2,560 words, for when there is no other."""
    from tokenizers import Tokenizer

    from labkit import nano
    from labkit.nano import tokens

    return tokens.wrapped(Tokenizer.from_file(str(nano.FOLDER / "tokenizer.json")))
