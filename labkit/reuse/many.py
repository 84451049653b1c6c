"""The sessions of a folder side by side: what their prompts add up to, what could be reused, and what was billed."""

import pathlib
from collections.abc import Iterable

import numpy as np
import xarray

from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import label
from labkit.progress import counter
from labkit.reuse.call import POLICIES, Encoder, calls, names, thinks
from labkit.reuse.ledger import COLUMNS, Ledger, add, shared_by, small_tokenizer
from labkit.tables import columns
from labkit.thinking import Session, read_session
from labkit.thinking.given import check_tokenizer

ENDINGS = (".json", ".jsonl", ".traj", ".ndjson")
NUMBERS = {"prompt": COLUMNS["prompt"], "recomputed": COLUMNS["recomputed"], "ideal": COLUMNS["attention"]}


def sessions(folder: str | pathlib.Path, *, progress: bool = False) -> tuple[dict[str, Session], dict[str, str]]:
    """({name: session}, {name: why it cannot be read}) of the files in a folder and the folders in it.

    Files that another session was read with (sub-agents, say) are part of that one alone.

    Raises:
        InputError: no folder, or no file in it that may be a session.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", got=str(folder), expected="a folder of recorded sessions")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not paths:
        raise InputError(
            "no sessions in this folder", got=str(folder), expected=f"files ending in {', '.join(ENDINGS)}"
        )
    found, failed = {}, {}
    for path in counter(paths, show=progress, unit="file", title="reading"):
        name = str(path.relative_to(folder))
        try:
            found[name] = read_session(path)
        except InputError as error:
            failed[name] = error.what + (f" ({error.got})" if error.got is not None else "")
    along = {other.resolve() for session in found.values() for other in session.along}
    names = [name for name in (*found, *failed) if (folder / name).resolve() not in along]
    return {name: found[name] for name in names if name in found}, {n: failed[n] for n in names if n in failed}


@public
def across(
    found: dict[str, Session],
    tokenizer=None,
    *,
    policies: Iterable[str] = ("strip", "preserve"),
    snapshots: str = "end+before_think",
    variant: str = "3.6",
    progress: bool = False,
    **options,
) -> xarray.Dataset:
    """Totals of many sessions; each has a cache of its own, and replies without thinking if it recorded none.

    Args:
        found: `{name: session}`, of `sessions`. tokenizer: None is that of nano. policies, variant, options: as for
            `compare`. snapshots: where states are saved.

    Returns:
        Dataset over (session, policy): `prompt` tokens, `recomputed` with these snapshots, `ideal`, what attention
        alone would compute; over session: `calls`, `problems`, `billed`, `billed_cached` (NaN where nothing is said).

    Raises:
        InputError: no session, or an option that `compare` refuses.
    """
    tokenizer = small_tokenizer() if tokenizer is None else tokenizer
    check_tokenizer(tokenizer, "reuse.across")
    encode, policies = Encoder(tokenizer), names(policies, "policies", "reuse.across")
    if not policies:
        raise InputError("no policies to compare", got="none", expected=", ".join(POLICIES))
    if not found:
        raise InputError("no sessions to compare", got="none", expected="{name: thinking.read_session(path)}")
    totals = {name: np.zeros((len(found), len(policies))) for name in NUMBERS}
    for s, session in enumerate(counter(found.values(), show=progress, unit="session", total=len(found))):
        asked = None if thinks(session) else False
        for p, policy in enumerate(policies):
            ledgers = [Ledger(snapshots="none", attention_only=True, **options), Ledger(snapshots=snapshots, **options)]
            ideal, real = shared_by(*ledgers)
            for call in calls(session, encode, policy=policy, variant=variant, enable_thinking=asked):
                add((ideal, real), call)
            books = ideal.dataset(), real.dataset()
            sums = (books[1].prompt, books[1].recomputed, books[0].recomputed)
            for name, values in zip(totals, sums, strict=True):
                totals[name][s, p] = float(values.sum())
    values = {name: (("session", "policy"), totals[name], quantity) for name, quantity in NUMBERS.items()}
    counts = {
        "calls": [len(one.calls) for one in found.values()],
        "problems": [len(one.problems) for one in found.values()],
    }
    counts |= {name: [_billed(one, name) for one in found.values()] for name in ("input", "cached")}
    for name, own in {"calls": "calls", "problems": "problems", "input": "billed", "cached": "billed_cached"}.items():
        values[own] = ("session",), np.array(counts[name], float), None if own in ("calls", "problems") else "tokens"
    facts = {"reading": "reuse.across", "snapshots": snapshots, "model": ideal.spec.name}
    formats = ("session", [one.format for one in found.values()])
    return label(values, coords={"session": list(found), "policy": policies, "format": formats}, attrs=facts)


def across_text(ds: xarray.Dataset, failed: dict[str, str] | None = None) -> str:
    """The dataset of `across` for the terminal, the largest session first, and the `failed` files with their
    reasons.
    """
    policies = ds.policy.values.tolist()
    head = ["session", "format", "calls", "prompts", *(f"computed, {policy}" for policy in policies), "ideal", "billed"]
    rows = []
    for s in np.argsort(-ds.prompt.sum("policy").values, kind="stable"):
        row = ds.isel(session=s)
        numbers = [int(row.calls), int(row.prompt[0]), *(int(value) for value in row.recomputed), int(row.ideal[0])]
        told = f"{float(row.billed):,.0f}" if np.isfinite(row.billed) else "-"
        rows.append([str(row.session.item()), str(row.format.item()), *(f"{value:,}" for value in numbers), told])
    lines = [f"states saved at {ds.attrs['snapshots']}; ideal: attention alone, {policies[0]}", ""]
    lines.append(columns(head, rows, left=2))
    lines += [f"\nnot read, {name}: {reason}" for name, reason in (failed or {}).items()]
    return "\n".join(lines)


def _billed(session, name):
    told = [getattr(call.usage, name) for call in session.calls if call.usage and getattr(call.usage, name) is not None]
    return float(sum(told)) if told else np.nan
