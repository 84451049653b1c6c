"""Runs on disk: `run.safetensors` and `run.json`, no pickle; what is opened is whole, and agrees with itself.

`run.json` carries its own digest and that of the tensors, so that other bytes than those that were written are noticed.
Both files may come from elsewhere all the same: every field is of its type (`FIELDS`), and every tensor has the name,
the axes and the kind of number that the spec and the tokens give it (`_expected`), before a `Run` is made of them.
"""

import pathlib
from collections.abc import Callable

import torch

from labkit import folders, identity
from labkit.errors import InputError
from labkit.families import DELTANET, FAMILIES
from labkit.trace import fields
from labkit.trace.run import TOLERANCE, Run, Seams, Start

FORMAT = 3
FACTS, TENSORS = "run.json", "run.safetensors"
PARTS = ("conv", "state", "keys", "values")


def save(run: Run, folder: str | pathlib.Path) -> None:
    """Write a run into a new or empty folder, which is there whole or not at all; see `Run.save`."""
    folder = pathlib.Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError("the folder to save into is not empty", got=str(folder), hint="give a new folder")
    facts = {
        "format": FORMAT,
        "tokens": list(run.tokens),
        "length": run.start.length,
        "placed": run.start.placed,
        **fields.stated(run),
    }
    target = folder.resolve()
    with folders.told("a run could not be saved", folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        with folders.whole(target) as draft:
            draft.mkdir()
            facts["tensors"] = folders.write_tensors(draft / TENSORS, _tensors(run))
            folders.write_text(draft / FACTS, folders.signed(facts))


def _tensors(run):
    tensors = {"ids": run.ids, "logits": run.logits, "logit_tokens": run.logit_tokens}
    given = {"position_ids": run.position_ids, "start_position_ids": run.start.position_ids}
    tensors |= {name: value for name, value in given.items() if value is not None}
    tensors |= {"rotary/cos": run.rotary[0], "rotary/sin": run.rotary[1]}
    tensors |= {f"seams/{layer}/{name}": value for (layer, name), value in run.seams.items()}
    tensors |= {f"parameters/{layer}/{name}": value for (layer, name), value in run.parameters.items()}
    tensors |= {f"states/{layer}": value for layer, value in run.states.items()}
    for part in PARTS:
        tensors |= {f"start/{part}/{layer}": value for layer, value in getattr(run.start, part).items()}
    return tensors


def open_run(folder: str | pathlib.Path) -> Run:
    """Read back what `Run.save` wrote into a `folder`; no model is needed.

    Raises:
        InputError: no run lies there, it was written in another format, or it contradicts itself.
        CheckpointError: a file of it is damaged, or cannot be read.
    """
    folder = pathlib.Path(folder)
    if not (folder / FACTS).is_file() or not (folder / TENSORS).is_file():
        raise InputError("no saved run here", got=str(folder), expected=f"{FACTS} and {TENSORS}")
    raw = folders.read_signed(folder / FACTS, FORMAT, "a saved run")
    facts = _facts(raw)
    tensors = folders.read_tensors(folder / TENSORS, facts["tensors"])
    _check(tensors, facts)
    states: dict[int, torch.Tensor] = {}
    groups: dict[str, dict] = {"seams": {}, "parameters": {}} | {part: {} for part in PARTS}
    for key, value in tensors.items():
        head, *rest = key.split("/")
        if head == "states":
            states[int(rest[0])] = value
        elif head == "start":
            groups[rest[0]][int(rest[1])] = value
        elif head in groups:
            groups[head][int(rest[0]), rest[1]] = value
    start = {part: groups[part] for part in PARTS} | {"placed": facts["placed"]}
    return Run(
        ids=tensors["ids"],
        tokens=facts["tokens"],
        logits=tensors["logits"],
        logit_tokens=tensors["logit_tokens"],
        seams=Seams(groups["seams"]),
        rotary=(tensors["rotary/cos"], tensors["rotary/sin"]),
        parameters=groups["parameters"],
        start=Start(facts["length"], **start, position_ids=tensors.get("start_position_ids")),
        spec=facts["spec"],
        prompt_length=facts["prompt_length"],
        model=facts["model"],
        parity=facts["parity"],
        scaling=facts["scaling"],
        position_ids=tensors.get("position_ids"),
        identity=facts["identity"],
        states=states,
    )


# ------------------------------------------------------------------------------------------------ fields of run.json

FIELDS: dict[str, Callable] = {
    "format": fields.count,
    "tokens": fields.texts,
    "prompt_length": fields.count,
    "model": fields.text,
    "length": fields.count,
    "placed": fields.truth,
    "spec": fields.spec,
    "scaling": fields.scaling,
    "parity": fields.parity,
    "identity": identity.of_json,
    "tensors": fields.text,
}


def _facts(raw):
    """The typed fields of run.json.

    Raises:
        InputError: one is missing, too many, of another type, or out of range.
    """
    typed = fields.typed(raw, FIELDS, "a saved run")
    length, given, spec = len(typed["tokens"]), typed["prompt_length"], typed["spec"]
    _agree(0 < given <= length, f"{given} given of {length} tokens", "1 of them to all")
    outside = sorted(layer for layer, _ in typed["parity"] if layer >= spec.layers)
    _agree(not outside, f"parity of layers {outside[:5]}", f"below {spec.layers}")
    _agree(typed["length"] or not typed["placed"], "placed keys of no tokens", "tokens in the cache before")
    return typed


def _agree(good, got, expected):
    if not good:
        raise InputError("a saved run contradicts itself", got=got, expected=expected)


# ------------------------------------------------------------------------------------------------------------ tensors

SMALL = {  # shapes of the small weights, by their names in the families' records; of others only the names are known
    "conv1d.weight": lambda spec: (spec.conv_channels, 1, spec.conv),
    "A_log": lambda spec: (spec.value_heads,) if spec.decays == 1 else (1, 1, spec.value_heads, 1),
    "dt_bias": lambda spec: (spec.value_heads * spec.decays,),
    "norm.weight": lambda spec: (spec.dv,),
}


def _expected(tensors, facts):
    """`{name: (shape, bound of whole numbers)}` of every tensor that a run with these fields may hold.

    A shape of None is any; a bound of None is for real numbers.
    """
    spec, tokens, length = facts["spec"], len(facts["tokens"]), facts["length"]
    kept = tensors["logit_tokens"].numel() if "logit_tokens" in tensors else 0
    shapes = {"ids": ((tokens,), spec.vocab), "logit_tokens": ((kept,), tokens), "logits": ((kept, spec.vocab), None)}
    shapes |= {f"rotary/{part}": ((tokens, spec.rotary_dim), None) for part in ("cos", "sin")}
    shapes |= {"position_ids": ((tokens,), fields.MOST), "start_position_ids": ((3, length), fields.MOST)}
    for layer in range(spec.layers):
        kind = spec.kind(layer)
        for name, seam in spec.seams[kind].items():
            below = None if seam.indexes is None else spec.axis_sizes[seam.indexes]
            shapes[f"seams/{layer}/{name}"] = (tokens, *seam.shape(spec)), below
        for name in FAMILIES[spec.family].parameters[kind]:
            shapes[f"parameters/{layer}/{name}"] = SMALL.get(name, lambda spec: None)(spec), None
        sizes = zip(("keys", "values"), spec.cached, strict=True)
        parts = {part: (heads, length, width) for part, (heads, width) in sizes}
        if kind == DELTANET:
            held = min([*getattr(tensors.get(f"states/{layer}"), "shape", ())[:1], tokens])  # as many as were kept
            shapes[f"states/{layer}"] = (held, spec.value_heads, spec.dk, spec.dv), None
            parts = {"conv": (spec.conv_channels, spec.conv), "state": (spec.value_heads, spec.dk, spec.dv)}
        shapes |= {f"start/{part}/{layer}": (shape, None) for part, shape in parts.items()}
    return shapes


def _check(tensors, facts):
    """Refuse tensors that are not those of a run with these fields.

    Raises:
        InputError: names the first that is missing or too many, or has another shape, dtype or range.
    """
    expected = _expected(tensors, facts)
    for name, value in sorted(tensors.items()):
        _agree(name in expected, f"a tensor {folders.brief(name)!r}", "those of its layers, by the spec")
        shape, below = expected[name]
        _agree(shape in (None, tuple(value.shape)), f"{name} {list(value.shape)}", str(shape))
        kinds = tuple(TOLERANCE) if below is None else (torch.int64,)
        _agree(value.dtype in kinds, f"{name} of {value.dtype}", " or ".join(map(str, kinds)))
        if below is not None and value.numel():
            low, high = int(value.min()), int(value.max())
            _agree(low >= 0 and high < below, f"{name} from {low} to {high}", f"0 to {below - 1}")
        if name.startswith("rotary"):
            _agree(bool(value.isfinite().all()), f"{name} that is not finite", "cosines and sines")
    needed = ["ids", "logits", "logit_tokens", "rotary/cos", "rotary/sin"]
    spec, warm = facts["spec"], facts["length"] > 0
    groups = [name.split("/") for name in tensors if "/" in name and not name.startswith("states/")]
    layers = {int(group[-2 if group[0] in ("seams", "parameters") else -1]) for group in groups if group[0] != "rotary"}
    for layer in sorted(layers):
        delta = spec.kind(layer) == DELTANET
        needed += [f"parameters/{layer}/{name}" for name in FAMILIES[spec.family].parameters[spec.kind(layer)]]
        needed += [f"start/{part}/{layer}" for part in (PARTS[:2] if delta else PARTS[2:]) if warm]
    lost = sorted(set(needed) - set(tensors))
    _agree(not lost, f"no {', '.join(lost[:3])}", "all parts of every layer in it")
    started = sorted(name for name in tensors if name.startswith("start"))
    _agree(warm or not started, f"{', '.join(started[:3])} of no tokens", "none where nothing was cached")
