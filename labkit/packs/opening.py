"""A pack from anywhere as a run: every field typed, every array of the size that the book says, nothing half read."""

import pathlib
from collections.abc import Callable

import torch

from labkit import identity, plan
from labkit.errors import InputError
from labkit.notation import select
from labkit.packs import codec, container, labels, requests
from labkit.packs.packed import HEADS, Answer, Datasets, Packed, PackedSeams
from labkit.trace import Run, fields
from labkit.trace import open_run as open_saved


def open_run(path: str | pathlib.Path) -> Run:
    """Open what `Run.save` or `lk.pack` wrote; no model is needed.

    Args:
        path: a folder of `Run.save`, or the file of a pack.

    Returns:
        `Run`. Of a pack it answers the readings that were stored, with the same arguments and all or some of their
        layers and heads; where numbers were stored with fewer bits a variable says by how much they differ at most,
        in `attrs["stored_error"]`. Other readings, and whatever needs the model, raise a `SeamError` that says what
        there is.

    Raises:
        InputError: nothing that was saved, another format, or something that contradicts itself.
        CheckpointError: it is damaged, or cannot be read. BudgetError: it would not fit into memory.
    """
    path = pathlib.Path(path)
    return _opened(path) if path.is_file() else open_saved(path)


def _opened(path):
    raw, payload = container.read(path)
    facts = fields.typed(raw, FIELDS, container.WHAT)
    spec, count = facts["spec"], facts["count"]
    _agree(0 < facts["prompt_length"] <= count, f"{facts['prompt_length']} given of {count} tokens", "1 of them to all")
    outside = sorted(layer for layer, _ in facts["parity"] if layer >= spec.layers)
    _agree(not outside, f"parity of layers {outside[:5]}", f"below {spec.layers}")
    answered = [_answer(request, layers, spec) for request, layers in facts["answered"]]
    of_run = {name: facts[name] for name in ("ids", "position_ids", "tokens") if facts[name] is not None}
    for name, stored in of_run.items():
        kind = "text" if name == "tokens" else "int64"
        _agree((stored.kind, stored.shape) == (kind, (count,)), f"{name} {list(stored.shape)}", f"{count} of {kind}")
    for (layer, name), stored in facts["seams"].items():
        known = layer < spec.layers and name in spec.seams[spec.kind(layer)]
        _agree(known, f"a seam {ascii(name)[:80]} of layer {layer}", "those of its layers, by the spec")
        seam = spec.seams[spec.kind(layer)][name]
        shape, kinds = (count, *seam.shape(spec)), codec.REAL if seam.indexes is None else codec.WHOLE
        _agree(stored.shape == shape and stored.kind in kinds, f"seam {name} {list(stored.shape)}", str(shape))
    every = [*of_run.values(), *facts["seams"].values()]
    every += [part.stored for each in answered for made in each.layers.values() for part in _parts(made)]
    every += [part.stored for made in facts["datasets"].values() for part in _parts(made)]
    array = _arrays(every, container.cut(payload, facts["blobs"]), facts["blobs"], count)
    kept = {name: torch.from_numpy(array(stored)) for name, stored in of_run.items() if name != "tokens"}
    if "ids" in kept:
        low, high = int(kept["ids"].min()), int(kept["ids"].max())
        _agree(low >= 0 and high < spec.vocab, f"ids from {low} to {high}", f"0 to {spec.vocab - 1}")
    for (layer, name), stored in facts["seams"].items():
        if (named := spec.seams[spec.kind(layer)][name].indexes) is not None and stored.count:
            low, high, most = array(stored).min(), array(stored).max(), spec.axis_sizes[named]
            _agree(low >= 0 and high < most, f"{name} from {low} to {high}", f"0 to {most - 1}")
    for each in answered:
        for layer, made in each.layers.items():
            _check_heads(each.request, made, array, spec, layer)
    held = kept | {"tokens": tuple(array(facts["tokens"]).tolist()), "size": path.stat().st_size}
    held |= {"seams": PackedSeams({at: _tensor(array(stored), stored) for at, stored in facts["seams"].items()})}
    held |= {"seam_errors": {at: stored.error for at, stored in facts["seams"].items() if stored.error}}
    held |= {"datasets": Datasets(facts["datasets"], array)}
    held |= {"written": facts["labkit"], "position_ids": kept.get("position_ids")}
    own = ("count", "length", "prompt_length", "model", "spec", "scaling", "parity", "identity", "bits", "mark")
    return Packed({name: facts[name] for name in own}, held, answered, array)


def _agree(good, got, expected):
    if not good:
        raise InputError("a pack contradicts itself", got=got, expected=expected)


def _parts(made):
    return [*made.variables.values(), *made.coords.values()]


def _tensor(values, stored):
    made = torch.from_numpy(values)
    return made.view(torch.bfloat16) if stored.kind == "bfloat16" else made


# --------------------------------------------------------------------------------------------------- fields of the book


def _optional(kind: Callable) -> Callable:
    return lambda value: None if value is None else kind(value)


def _bits(value):
    return fields.require(type(value) is int and value in codec.BITS, value)


def _seams(value):
    rows = fields.rows(value, 3)
    read = {(fields.count(layer), fields.text(name)): codec.of_json(stored) for layer, name, stored in rows}
    fields.require(len(read) == len(rows), "a seam twice")
    return read


def _answered(value):
    return [(requests.of_json(request), _layers(layers)) for request, layers in fields.rows(value, 2)]


def _layers(value):
    rows = fields.rows(value, 2)
    read = {fields.count(layer): labels.of_json(made) for layer, made in rows}
    fields.require(read and len(read) == len(rows), "a layer twice, or none")
    return read


def _datasets(value):
    rows = fields.rows(value, 2)
    read = {fields.text(name): labels.of_json(made) for name, made in rows}
    fields.require(len(read) == len(rows) and all(map(str.isidentifier, read)), [*read])
    return read


FIELDS: dict[str, Callable] = {
    "labkit": fields.text,
    "count": fields.count,
    "length": fields.count,
    "prompt_length": fields.count,
    "model": fields.text,
    "spec": fields.spec,
    "scaling": fields.scaling,
    "parity": fields.parity,
    "identity": identity.of_json,
    "bits": _bits,
    "mark": _optional(fields.text),
    "ids": _optional(codec.of_json),
    "position_ids": _optional(codec.of_json),
    "tokens": codec.of_json,
    "seams": _seams,
    "answered": _answered,
    "datasets": _datasets,
    "blobs": container.pieces,
    "payload": fields.text,
}


def _answer(request, layers, spec):
    """One request with its layers, each a Dataset that a reading of it can have given."""
    kind, _, _ = request.reading.partition(".")
    _agree(kind in HEADS, f"a reading {request.reading[:80]}", " or ".join(HEADS))
    axis, count = HEADS[kind][0], getattr(spec, HEADS[kind][1])
    for layer, made in layers.items():
        _agree(layer in spec.layers_of(kind), f"{request.reading} of layer {layer}", f"{kind} layers")
        try:
            labels.check_reading(made, request.reading, layer, (axis, count))
        except fields.Odd as odd:
            _agree(False, f"{request.reading} of layer {layer}: {odd}", "what that reading gives")
    outlines = [made.outline for made in layers.values()]
    _agree(outlines.count(outlines[0]) == len(outlines), f"{request.reading} of unlike layers", "the same axes")
    return Answer(request, layers)


def _check_heads(request, made, array, spec, layer):
    """Heads of a Dataset are different ones of the layer, those that were asked for; its layer is that of its place."""
    axis, size = HEADS[spec.kind(layer)]
    _agree(array(made.coords["layer"].stored).tolist() == layer, "another layer inside", str(layer))
    if axis in made.sizes:
        heads = array(made.coords[axis].stored).tolist()
        good = len(set(heads)) == len(heads) and all(0 <= head < getattr(spec, size) for head in heads)
        _agree(good, f"{axis} {str(heads)[:60]}", f"different ones below {getattr(spec, size)}")
        if "heads" in request.arguments and not request.owned:  # an edit says itself of which heads it is
            asked = select(request.arguments["heads"], getattr(spec, size), axis)
            _agree(heads == asked, f"{axis} {str(heads)[:60]}", str(asked)[:60])


# --------------------------------------------------------------------------------------------------------------- arrays


def _arrays(every, pieces, lengths, count):
    """`stored -> array`, all of them read, once each.

    Raises:
        InputError: one that is not what the book says. BudgetError: all of them would not fit.
    """
    # The measured error takes no part in an array: what differs in it alone is one array.
    different = {_key(stored): stored for stored in every}
    outside = [stored.blob for stored in every if stored.blob >= len(pieces)]
    _agree(not outside, f"array {outside[:3]} of {len(pieces)}", "those that are there")
    held = sum(stored.nbytes + lengths[stored.blob][1] for stored in different.values())
    plan.admit("labkit.open_run", count, {"readings": held}, torch.device("cpu"))
    read = {}
    for key, stored in different.items():
        size = lengths[stored.blob][1]
        _agree(
            stored.packed in (None, size), f"an array {list(stored.shape)} of {size} bytes", f"{stored.packed} bytes"
        )
        raw = codec.inflated(pieces[stored.blob], size, container.WHAT)
        try:
            read[key] = codec.decoded(stored, raw)
        except fields.Odd as odd:
            _agree(False, f"an array {list(stored.shape)}: {odd}", stored.kind)
    return lambda stored: read[_key(stored)]


def _key(stored):
    return stored.kind, stored.code, stored.shape, stored.blob, stored.scale
