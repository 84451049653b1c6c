"""Prompts: from what a user gives to checked token ids, padded batches and positions whose logits are kept."""

from collections.abc import Sequence

import torch

from labkit.arguments import number, whole
from labkit.errors import InputError
from labkit.notation import is_index, whole_numbers

COLDEST = 1e-4  # below, logits over it overflow


def encode(prompt: str | Sequence[int] | torch.Tensor, tokenizer, vocab: int) -> torch.Tensor:
    """Token ids [T] on the CPU, from a text or from ids; see `Lab.encode`."""
    if isinstance(prompt, str):
        if tokenizer is None:
            hint = 'labkit.wrap(lab.model, "path/of/a/tokenizer") reads texts with it'
            raise InputError("this lab has no tokenizer", got="a text", expected="token ids [T]", hint=hint)
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        ids = prompt
    try:
        ids = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError):
        raise InputError("not token ids", got=type(prompt).__name__, expected="a text or integers [T]") from None
    if ids.numel() == 0:
        raise InputError("the prompt is empty", got="0 tokens", expected="at least 1 token")
    if ids.ndim != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(
            "a prompt is one sequence of token ids",
            got=f"{ids.dtype}, shape {list(ids.shape)}",
            expected="integers [T]",
            hint="a list of prompts is traced as a batch: lab.trace([ids_a, ids_b])",
        )
    ids = ids.to("cpu", torch.long)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab:
        raise InputError(
            "token ids out of range",
            got=low if low < 0 else high,
            expected=f"0 to {vocab - 1}",
            hint="ids must come from this model's own tokenizer, lab.tokenizer",
        )
    return ids


def kept_positions(rows: list[torch.Tensor], logits: str | Sequence[int]) -> list[torch.Tensor]:
    """Positions whose logits are kept, one tensor per row."""
    if isinstance(logits, str):
        if logits not in ("last", "all"):
            raise InputError("unknown choice of logits", got=logits, expected="'last', 'all' or positions")
        return [torch.arange(len(r)) if logits == "all" else torch.tensor([len(r) - 1]) for r in rows]
    wanted = torch.as_tensor(whole_numbers(logits, "logits"), dtype=torch.long)
    if not len(wanted):
        raise InputError("no logits chosen", expected="'last', 'all' or positions", hint='lab.trace("red fox")')
    for row in rows:
        if (outside := wanted[(wanted < -len(row)) | (wanted >= len(row))]).numel():
            raise InputError("logits of tokens that do not exist", got=outside.tolist(), expected=f"{len(row)} tokens")
    return [torch.where(wanted < 0, wanted + len(row), wanted) for row in rows]


def start(batch: bool, grad: bool, *, cache, position_ids, chunk: int | None, cuts: list[int]) -> int | None:
    """Refuse a batch that does not start cold, and gradients through more than one pass; returns the chunk as an int.

    Raises:
        InputError: either of them, a chunk that is no number of tokens, something else than a cache.
    """
    chunk = None if chunk is None else whole(chunk, "chunk", least=1)
    check_cache(cache)
    if batch and (cache is not None or position_ids is not None):
        got = "a list of prompts and a cache" if cache is not None else "a list of prompts and position_ids"
        raise InputError("a batch starts cold", got=got, hint="trace them one by one")
    many = {"a list of prompts": batch, "a cache": cache is not None, f"chunk={chunk}": chunk is not None}
    many["a state edit that splits the prompt"] = bool(cuts)
    if grad and any(many.values()):
        got = ", ".join(name for name, given in many.items() if given)
        raise InputError("gradients need one prompt in one pass", got=got, hint='lab.trace("red fox", grad=True)')
    return chunk


def check_cache(cache) -> None:
    """Refuse what is no cache; None is none.

    Raises:
        InputError: a snapshot, a run, a number, ...
    """
    if cache is None or hasattr(cache, "get_seq_length"):
        return
    snapshot = type(cache).__name__ == "Snapshot"
    hint = "cache=lab.restore(snap)" if snapshot else "cache=lab.cache()"
    raise InputError("not a cache", got=type(cache).__name__, expected="what lab.cache or lab.restore gives", hint=hint)


def check_beginning(snap, rows: list[torch.Tensor]) -> None:
    """Refuse what is no state before the first token, and one before rows of different lengths; None is none.

    Raises:
        InputError: no snapshot, one that holds tokens, or padded rows, whose padding it would decay along.
    """
    if snap is None:
        return
    what, call = "generating begins with a state before the first token", "steering.begin(lab, tuned)"
    if type(snap).__name__ != "Snapshot":
        raise InputError(what, got=type(snap).__name__, expected=f"what {call} gives", hint="lab.generate(prompt)")
    if snap.length:
        hint = "lab.step(lab.restore(snap), token) goes on from tokens"
        raise InputError(what, got=f"a snapshot of {snap.length} tokens", expected=f"what {call} gives", hint=hint)
    if len(lengths := sorted({len(row) for row in rows})) > 1:
        got, expected = f"{lengths[0]} and {lengths[-1]} tokens", "prompts of one length, or one at a time"
        raise InputError("a state before padding would decay along it", got=got, expected=expected)


def check_capture(capture: object) -> bool | None:
    """Whether steps are to be recorded: True, False, or None where that can be had.

    Raises:
        InputError: anything else.
    """
    if capture is None or isinstance(capture, bool):
        return capture
    raise InputError("capture is True, False or None", got=f"capture={capture!r}", hint="lab.generate(prompt)")


def step(token: int | Sequence[int] | torch.Tensor, cache, vocab: int) -> torch.Tensor:
    """The next token of every row of a cache, [batch].

    Raises:
        InputError: no cache or an empty one, ids out of range, another number of ids than rows.
    """
    check_cache(cache)
    if cache is None or not cache.get_seq_length():
        got, hint = "no cache" if cache is None else "an empty cache", 'lab.trace("red fox", cache=cache)'
        raise InputError("a step goes on from a prompt", got=got, expected="a cache that holds tokens", hint=hint)
    tokens = encode([token] if is_index(token) else token, None, vocab)
    rows = next(len(layer.keys) for layer in cache.layers if getattr(layer, "keys", None) is not None)
    if len(tokens) != rows:
        hint = "lab.trace(ids, cache=cache)" if rows == 1 else None
        raise InputError("one token for every row", got=f"{len(tokens)} ids", expected=f"{rows} of them", hint=hint)
    return tokens


def choices(max_new_tokens: int, temperature: float, seed: int) -> tuple[int, float, int]:
    """What decides on the tokens that are generated, as plain numbers.

    Raises:
        InputError: no tokens, a temperature or a seed below 0, something else than numbers.
    """
    most, seed = whole(max_new_tokens, "max_new_tokens", least=1), whole(seed, "seed", least=0)
    temperature = number(temperature, "temperature", least=0)
    if 0 < temperature < COLDEST:
        raise InputError(
            "temperature out of range", got=temperature, expected=f"0, which is greedy, or from {COLDEST} on"
        )
    return most, temperature, seed


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """ids, mask and positions [batch, T], padded on the left; no mask when nothing is padded."""
    length = max(len(row) for row in rows)
    if all(len(row) == length for row in rows):
        return torch.stack(rows), None, None
    ids = torch.stack([torch.cat([row.new_zeros(length - len(row)), row]) for row in rows])
    mask = torch.stack([torch.arange(length) >= length - len(row) for row in rows]).long()
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


def placed(
    row: torch.Tensor, position_ids: Sequence[int] | torch.Tensor, before: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, mask and rotary positions [1, T] of tokens at chosen rotary positions, after `before` cached ones.

    The mask is all ones: without one, transformers takes every step other than 1 for the border of a packed sequence
    and cuts attention there.
    """
    try:
        position_ids = torch.as_tensor(position_ids)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            "not rotary positions", got=type(position_ids).__name__, expected="whole numbers [T]"
        ) from None
    if position_ids.shape != row.shape or position_ids.is_floating_point() or position_ids.dtype == torch.bool:
        got = f"{position_ids.dtype}, shape {list(position_ids.shape)}"
        raise InputError("one rotary position per token", got=got, expected=f"whole numbers [{len(row)}]")
    if int(position_ids.min()) < 0 or int(position_ids.max()) >= 2**24:
        got = f"{int(position_ids.min())} to {int(position_ids.max())}"
        raise InputError("rotary positions out of range", got=got, expected=f"0 to {2**24 - 1}, exact in float32")
    return row[None], torch.ones(1, before + len(row), dtype=torch.long), position_ids.to("cpu", torch.long)[None]


def check_passes(lab, rows: list[torch.Tensor], chunk: int | None, before: int) -> None:
    """Refuse a run whose rows would be read under different scalings, inside `yarn.dynamic`; `before` cached tokens."""
    longest = max(map(len, rows))
    if lab.scopes.unrotated is None or before + longest <= lab.spec.window:
        return
    cuts = [cut for cut in lab.scopes.cuts if before < cut < before + longest]
    if cuts or (chunk is not None and chunk < longest):
        got = f"{longest} tokens" + (f" after {before}" if before else "")
        got += f", a state edit at {cuts[0]}" if cuts else f" in chunks of {chunk}"
        hint = "trace pass by pass with one cache, or lab.stream; each pass is a run of its own"
        raise InputError("under yarn.dynamic every pass has its own scaling", got=got, expected="one pass", hint=hint)
    if len(set(map(len, rows))) > 1:
        got = f"prompts of {sorted(set(map(len, rows)))} tokens"
        raise InputError("under yarn.dynamic the length decides", got=got, hint="trace the prompts one by one")
