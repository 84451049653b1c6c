"""What a cache takes by length, what a saved state is worth; of a recorded session, what can be used again."""

import numpy as np
import xarray

from labkit import draw, reuse, spec
from labkit.notation import label
from labkit.report.section import Section

STEPS = 12
MOST = 4  # windows


def _bytes(task):
    one, dtype = task.spec, task.lab.dtype
    tokens = np.unique(np.geomspace(1, MOST * one.window, STEPS).round().astype(int))
    kv = np.array([spec.kv_bytes(one, int(n), dtype) for n in tokens]) / 2**30
    held = np.full(len(tokens), spec.snapshot_bytes(one, dtype) / 2**30)
    size = np.stack([kv, held])
    coords = {"held": ["keys and values", "recurrent states and windows"], "cached": tokens}
    ds = label({"size": (("held", "cached"), size, "gibibytes")}, coords=coords)
    ds["cached"].attrs.update(long_name="cached tokens", units="tokens")
    worth = float(spec.snapshot_tokens(one, dtype))
    facts = {"model": task.lab.name, "reading": "spec.kv_bytes", "prompt": len(task), "window": one.window}
    facts |= {"kv": spec.kv_bytes(one, len(task), dtype), "snapshot": spec.snapshot_bytes(one, dtype)}
    return ds.assign_attrs(facts | {"worth": worth, "sample": "counted from the configuration, no run"})


def _bytes_said(ds):
    kv, states = (spec.size(ds.attrs[name]) for name in ("kv", "snapshot"))
    worth = ds.attrs["worth"]
    equal = f"; a saved state is worth {worth:,.0f} tokens of keys and values" if np.isfinite(worth) else ""
    return f"After this prompt keys and values take {kv}, a saved state {states}{equal}"


def _bytes_drawn(ds, title):
    at = {"this prompt": ds.attrs["prompt"], "the window": ds.attrs["window"]}
    return draw.lines(ds, "size", x="cached", color="held", at=at, title=title)


def _session(task):
    return "" if task.session is not None else "the prompt is a text: what of a session can be used again needs one"


def _words(task):
    return task.lab.tokenizer or reuse.small_tokenizer()


def _options(task):
    from labkit.reuse import call

    return {"spec": task.spec} | ({} if call.thinks(task.session) else {"enable_thinking": False})


def _schemes(task):
    ds = reuse.compare(task.session, _words(task), **_options(task))
    kept = [name for name in ds.data_vars if ds[name].dtype.kind in "iuf"]
    count = len(task.session.calls)
    return ds[kept].assign_attrs(reading="reuse.compare", sample=f"a session of {count} calls")


def _schemes_said(ds):
    low, where = place_of(ds.recomputed, np.nanargmin)
    high, other = place_of(ds.recomputed, np.nanargmax)
    return f"Of its prompts {low:,.0f} ({where}) to {high:,.0f} tokens ({other}) are computed again"


def place_of(array: xarray.DataArray, which) -> tuple[float, str]:
    """(value, entries) of the number that `which` finds: "strip, end"."""
    index = np.unravel_index(int(which(array.values)), array.shape)
    words = [str(array[dim].values[n]) for dim, n in zip(array.dims, index, strict=True)]
    return float(array.values[index]), ", ".join(words)


def _timeline(task):
    ds = reuse.timeline(reuse.replay(task.session, tokenizer=_words(task), snapshots="end", **_options(task)))
    return ds.assign_attrs(reading="reuse.replay", sample=f"a session of {len(task.session.calls)} calls")


def _timeline_said(ds):
    return f"{float(ds.tokens.sum()):,.0f} tokens were read or written in {ds.sizes['call']} calls"


SECTIONS = [
    Section(
        "cache",
        "cache",
        "What does a cache of this length take?",
        "Bytes by cached tokens, counted from the configuration: keys and values grow with every token, the "
        "states of the Gated DeltaNet layers do not. Going back to a place needs a state that was saved there.",
        _bytes,
        _bytes_drawn,
        _bytes_said,
    ),
    Section(
        "schemes",
        "cache",
        "What of this session must be computed again?",
        "Tokens of prompts that are computed although they were read before, by where states are saved and by whether "
        "thinking stays in the prompt; the first bars are a model with attention alone.",
        _schemes,
        lambda ds, title: draw.bars(ds, "recomputed", x="scheme", color="policy", title=title),
        _schemes_said,
        applies=_session,
    ),
    Section(
        "timeline",
        "cache",
        "What is each prompt of it made of?",
        "Call by call, with thinking dropped as the chat template does and a state saved where a request ends: "
        "tokens that come from the cache, that are read again, that are new, and that are generated.",
        _timeline,
        lambda ds, title: draw.bars(ds, "tokens", x="call", color="term", stacked=True, title=title),
        _timeline_said,
        applies=_session,
    ),
]
