"""One door to the delta rule: the same reads and final state from every form of it."""

import torch

from labkit.deltanet.equation.chunked import tiled
from labkit.deltanet.equation.reference import Decay, Keys, State, Values, Write, check, scan
from labkit.errors import InputError


def delta_rule(
    q: Keys,
    k: Keys,
    v: Values,
    *,
    g: Decay,
    beta: Write,
    state: State | None = None,
    form: str = "chunks",
    outputs: bool = True,
) -> tuple[Values | None, State]:
    """Reads and final state of any number of tokens; decay per head or per channel, as the shape of `g` says.

    Args:
        q, k: queries, scaled, and keys of length one. v: values. g: log α, per head or channel. beta: β.
        state: before the first token; None for zeros.
        form: "loop", the reference; "chunks", matrix products within chunks, tile by tile.
        outputs: False spares the reads where only the state is wanted.

    Returns:
        (out, or None without outputs; state after the last token).

    Raises:
        InputError: an unknown form; gates that cannot be log α and β (`reference.check`).
    """
    if form not in FORMS:
        raise InputError(
            "unknown form of the delta rule",
            got=form,
            expected=", ".join(FORMS),
            hint='deltanet.delta_rule(q, k, v, g=g, beta=beta, form="chunks")',
        )
    check(k, g, beta)  # of all tokens, before the first tile is walked
    return FORMS[form](q, k, v, g=g, beta=beta, state=state, outputs=outputs)


def _loop(q, k, v, *, g, beta, state, outputs):
    out, _, _, state = scan(q, k, v, g=g, beta=beta, state=state)
    return out if outputs else None, state


def _chunks(q, k, v, *, g, beta, state, outputs):
    reads = []
    for _, count, part in tiled(q, k, v, g=g, beta=beta, state=state, outputs=outputs):
        reads.append(part.flat(part.out, count) if outputs else None)
        state = part.state
    return torch.cat(reads) if outputs else None, state


FORMS = {"loop": _loop, "chunks": _chunks}  # a kernel goes in here: the same arguments, reads and final state
