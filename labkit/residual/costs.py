"""What the lens and the contributions need: seams of a run, and logits of some rows at a time or of all that speak.

Held against counted bytes by `tests/test_budgets.py`.
"""

import dataclasses
from collections.abc import Sequence

from labkit.arguments import whole
from labkit.lab import Lab
from labkit.notation import is_index, select
from labkit.plan import Plan, make
from labkit.spec import Spec
from labkit.spec.memory import dtype_bytes

SCRATCH = 1 << 26  # bytes of logits at a time
LENS_ROWS = 7  # rows of logits that the lens holds of every row that it reads: both, their logarithms, and products


def step(spec: Spec) -> int:
    """Rows that the lens reads at a time."""
    return max(1, SCRATCH // (4 * spec.vocab))


def lens_parts(spec: Spec, layers: int, rows: int, answers: int, top: int, width: int) -> dict[str, int]:
    """Bytes of `residual.lens` beside the run."""
    some = min(step(spec), rows)
    logits = (4 * LENS_ROWS * spec.vocab + 2 * width * spec.hidden) * some
    return {"result": layers * rows * (12 * top + 8 + 16 * answers), "logits of some rows": logits}


def contribution_parts(spec: Spec, rows: int, answers: int, width: int) -> dict[str, int]:
    """Bytes of `residual.contributions` beside the run."""
    wide = max(4, width)
    logits = rows * spec.vocab * (2 * width + (wide if wide != width else 0))
    vectors = wide * rows * spec.hidden * (2 * answers + 2)
    return {"result": wide * 2 * spec.layers * rows * (answers + 1), "branches": vectors, "logits": logits}


def lens(
    lab: Lab,
    tokens: int,
    layers: int | Sequence[int] | None = None,
    *,
    rows: int | Sequence[int] | None = None,
    of: object = None,
    top: int = 5,
    seam: str = "resid_post",
) -> Plan:
    """Of `residual.lens` of a prompt of so many tokens.

    Args:
        rows: what the call names `tokens`. of: its answers, of which the number counts.
    """
    spec, chosen = lab.spec, select(layers, lab.spec.layers, "layer")
    watched = sorted({*chosen, spec.layers - 1})
    seams = ["resid_post"] if seam == "resid_post" else [seam, "resid_post"]
    run = make(lab, tokens=tokens, layers=watched, seams=seams)
    read = len(select(rows, tokens, "token"))
    parts = lambda count, read: lens_parts(  # noqa: E731
        spec, count, read, _count(of), whole(top, "top", least=1, most=spec.vocab), dtype_bytes(lab.dtype)
    )
    less = {"layers=[-1]": (1, read), "rows=-1": (len(chosen), 1)}
    return _plan(run, "residual.lens", parts(len(chosen), read), {way: parts(*size) for way, size in less.items()})


def contributions(
    lab: Lab,
    tokens: int,
    layers: None = None,
    *,
    rows: int | Sequence[int] | None = -1,
    of: object = None,
    against: object = None,
) -> Plan:
    """Of `residual.contributions` of a prompt of so many tokens; arguments as of `lens`."""
    run = make(lab, tokens=tokens, seams=["resid_pre", "resid_post", "mixer_out", "mlp_out"])
    count, width = max(1, _count(of)), dtype_bytes(lab.dtype)
    parts = lambda read: contribution_parts(lab.spec, read, count, width)  # noqa: E731
    return _plan(run, "residual.contributions", parts(len(select(rows, tokens, "token"))), {"rows=-1": parts(1)})


def _plan(run, want, parts, less):
    made = {"seams": run.kept, **parts}
    peak = sum(made.values())
    cheaper = {way: max(run.peak, run.kept + sum(other.values())) for way, other in less.items()}
    cheaper = sorted(((way, cost) for way, cost in cheaper.items() if cost < peak), key=lambda way: -way[1])
    facts = dict(parts=made if peak > run.peak else run.parts, kept=run.kept + parts["result"], cheaper=tuple(cheaper))
    return dataclasses.replace(run, want=want, **facts)


def _count(of):
    return 0 if of is None else 1 if is_index(of) or isinstance(of, str) else len(of)
