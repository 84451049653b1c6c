"""What a page draws of a view: numbers, words and colours as JSON can hold them, of a bounded size."""

import base64

import numpy as np

from labkit.draw.theme import SIGNED, UNSIGNED
from labkit.explore.asks import Prompt
from labkit.explore.explorer import Explorer, Shown
from labkit.notation import visible

MOST = 5  # places that are named beside a row
PROMPT = "\uf8ff"  # stands in code for the prompt, which travels once; a sign that no repr contains
TOLD = {"before": "", "after": " With the edits.", "difference": " With the edits minus without."}


def form(explorer: Explorer, shown: Shown) -> dict:
    """A view for the page: `form`, `title`, `told`, `code`, `error`, and what its form needs."""
    view = shown.view
    code = shown.code.replace(written(explorer.choice.prompt), PROMPT)
    facts = {"name": view.name, "title": view.title, "told": view.told, "code": code, "error": shown.error}
    facts["missing"] = shown.missing
    facts |= {"show": shown.show, "form": None}
    if shown.data is not None:
        facts |= FORMS[view.form](explorer, shown)
        changes = shown.show != "difference" or any(bool((array != 0).any()) for array in shown.data.values())
        facts["told"] += TOLD[shown.show] if changes else " Nothing changes here: it lies before all edits."
    return facts


def written(prompt: Prompt) -> str:
    """A prompt as code has it."""
    return repr(prompt if isinstance(prompt, str) else list(prompt))


def packed(values) -> str:
    """Numbers as the bytes of float32, in base64: not-a-number survives, and a page need not parse them."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def _range(array, show="before"):
    """(low, high, kind) of the scale of a variable: symmetric around 0 if signed."""
    values = np.asarray(array, dtype=float)
    finite = values[np.isfinite(values)]
    top = float(np.abs(finite).max(initial=0)) or 1.0
    scale = "signed" if show == "difference" else array.attrs.get("scale", "positive")
    if scale == "signed" or finite.min(initial=0) < 0:
        return -top, top, "signed"
    return 0.0, 1.0 if scale == "fraction" and top > 0.2 else top, scale


def _named(array, show):
    symbol, units = array.attrs.get("symbol", str(array.name)), array.attrs.get("units", "1")
    sign = "Δ " if show == "difference" else ""
    told = array.attrs.get("long_name", "")
    return {"symbol": f"{sign}{symbol}", "units": "" if units in ("1", "fraction") else units, "long": told}


def _stops(kind):
    return [[at, tone] for at, tone in (SIGNED if kind == "signed" else UNSIGNED)]


def _map(values, show, **words):
    low, high, kind = _range(values, show)
    return {
        "form": "map",
        "z": packed(values.values),
        "shape": list(values.shape),
        "low": low,
        "high": high,
        "stops": _stops(kind),
        **_named(values, show),
        **words,
    }


def state(explorer: Explorer, shown: Shown) -> dict:
    """The state of a head [key, value]."""
    values = shown.data["state"].squeeze("head", drop=True).transpose("key", "value")
    return _map(values, shown.show, down="channel of the key", right="channel of the value")


def a_map(explorer: Explorer, shown: Shown) -> dict:
    """A window on the map of a head, [token, source]."""
    values = shown.data["mass"].squeeze("query_head", drop=True).transpose("token", "source")
    first, chosen = int(values.token[0]), explorer.choice.token
    places = {"rows": values.token_text.values.tolist(), "columns": values.source_text.values.tolist()}
    names = {"down": "reading token", "right": "token that is read", "first": first, "row": chosen - first}
    return _map(values, shown.show, pick="token", **names, **places)


def by_source(explorer: Explorer, shown: Shown) -> dict:
    """A row of weights, of the tokens that are seen, and the heaviest of all."""
    row = shown.data["weight"].squeeze(drop=True)
    values, seen = row.values.reshape(-1), explorer.choice.window(explorer.length)
    order = np.argsort(-np.nan_to_num(np.abs(values)))[:MOST]
    low, high, kind = _range(row, shown.show)
    tokens = explorer.runs.of("mixer", explorer.layers).tokens
    most = [{"at": int(at), "text": tokens[at], "value": float(values[at])} for at in order if values[at]]
    bars = {"values": packed(values[seen.start : seen.stop]), "first": seen.start, "low": low, "high": high}
    return {"form": "bars", **bars, "most": most, "pick": "token", "kind": kind, **_named(row, shown.show)}


def by_head(explorer: Explorer, shown: Shown) -> dict:
    """A number of every query head at the token."""
    (row,) = shown.data.squeeze("token", drop=True).values()
    low, high, kind = _range(row, shown.show)
    high = 1.0 if kind == "fraction" else high
    bars = {"values": packed(row.values), "first": 0, "low": low, "high": high, "most": [], "pick": "query_head"}
    return {"form": "bars", **bars, "kind": kind, "chosen": explorer.choice.query_head, **_named(row, shown.show)}


def by_token(explorer: Explorer, shown: Shown) -> dict:
    """Numbers of every token that is seen, a line each."""
    seen, lines = explorer.choice.window(explorer.length), []
    for name, array in shown.data.data_vars.items():
        row = array.squeeze(array.dims[0], drop=True).values[seen.start : seen.stop]
        lines.append({"name": str(name), "values": packed(row), **_named(array, shown.show)})
    ranges = [_range(array, shown.show) for array in shown.data.data_vars.values()]
    low, high = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    return {"form": "lines", "lines": lines, "first": seen.start, "low": low, "high": high, "pick": "token"}


def said(explorer: Explorer, shown: Shown) -> dict:
    """What the stream says after each layer, and how likely the answer is."""
    data, spec = shown.data, explorer.lab.spec
    chance = data["answer_probability"].values.reshape(spec.layers)
    rows = [{"layer": layer, "kind": spec.kind(layer), "chance": float(chance[layer])} for layer in range(spec.layers)]
    if "text" in data:
        for row in rows:
            at = data.isel(layer=row["layer"])
            row["said"] = [
                {"text": text, "chance": float(p)}
                for text, p in zip(at.text.values.ravel(), at.probability.values.ravel(), strict=True)
            ]
    low, high, _ = _range(data["answer_probability"], shown.show)
    high = high if shown.show == "difference" else 1.0
    return {"form": "said", "rows": rows, "answer": str(data.answer.values[0]), "low": low, "high": high}


def branches(explorer: Explorer, shown: Shown) -> dict:
    """What mixer and MLP of each layer add to the logit."""
    data, spec = shown.data, explorer.lab.spec
    added = data["added"].transpose("layer", "term", "answer").isel(answer=0)
    rows = [
        {"layer": layer, "kind": spec.kind(layer), "mixer": float(added[layer, 0]), "mlp": float(added[layer, 1])}
        for layer in range(spec.layers)
    ]
    top = float(np.abs(added.values).max()) or 1.0
    facts = {"form": "branches", "rows": rows, "low": -top, "high": top, "answer": str(data.answer.values[0])}
    if "logit" in data:
        facts |= {"embedding": float(data.embedding.values.flat[0]), "logit": float(data.logit.values.flat[0])}
    return facts


def likeliest(explorer: Explorer, shown: Shown) -> dict:
    """The likeliest next tokens."""
    data = shown.data
    ids, texts, shares = (data[name].values.ravel() for name in ("best", "text", "probability"))
    rows = [
        {"id": int(i), "text": str(text), "chance": float(p)} for i, text, p in zip(ids, texts, shares, strict=True)
    ]
    return {"form": "likeliest", "rows": rows}


FORMS = {
    "by_source": by_source,
    "by_head": by_head,
    "by_token": by_token,
    "state": state,
    "map": a_map,
    "said": said,
    "branches": branches,
    "likeliest": likeliest,
}


def ribbon(explorer: Explorer) -> dict:
    """The tokens that are seen, and what the chosen head of the chosen layer takes from each."""
    seen, length = explorer.choice.window(explorer.length), explorer.length
    run = explorer.runs.of("mixer", explorer.layers)
    facts = {
        "first": seen.start,
        "count": length,
        "texts": [visible(text) for text in run.tokens[seen.start : seen.stop]],
    }
    kind = explorer.lab.spec.kind(explorer.choice.layer)
    name = "reads" if kind == "deltanet" else "row"
    if name not in explorer.views[kind]:
        return facts | {"weights": None}
    row = explorer.shown(name)
    if row.data is None:
        return facts | {"weights": None}
    values = row.data["weight"].values.reshape(-1)
    top = float(np.nanmax(np.abs(values))) or 1.0
    return facts | {"weights": packed(values[seen.start : seen.stop] / top), "kind": kind}
