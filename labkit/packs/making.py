"""A run as a pack: what it will take, told before anything is computed; the readings; the file, read back at once."""

import pathlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from labkit import folders
from labkit.errors import InputError
from labkit.packs import container, labels, opening, requests, sizes
from labkit.packs.codec import Blobs
from labkit.packs.labels import BLANK
from labkit.packs.sizes import Size
from labkit.trace import Run, fields

AT_MOST = 8_000_000


def pack(
    run: Run,
    path: str | pathlib.Path,
    *,
    readings: Iterable[Callable | tuple[Callable, Mapping]] = (),
    seams: Iterable[tuple[int, str]] = (),
    datasets: Mapping[str, "xarray.Dataset"] | None = None,  # noqa: F821
    bits: int = 32,
    texts: bool = True,
    at_most: int | None = AT_MOST,
) -> Size:
    """Compute readings of a run and write them into one file, which `lk.open_run` opens without the model.

        lk.pack(run, "fox.pack", readings=[deltanet.half_life, (attention.summary, dict(layer=[3, 7], block=512))])

    Args:
        run: `Run`, also one that was opened. path: a new file, or a pack that is replaced.
        readings: each a reading, or `(reading, arguments by name)`; without `layer` it is of all layers of its kind
            that the run watched. Another run or the lab is given by its name too: `dict(other=second, layer=0)`.
        seams: `(layer, name)` of seams to keep as they are.
        datasets: `{name: Dataset}` of what else was measured, of `lab.stream` for example; `run.datasets` gives them.
        bits: 32 keeps every number as it was computed. 16 and 8 round real numbers: by at most 2^-11 of the largest
            number of a variable; by at most 1/504 of the range within 256 neighbours. Whole numbers and coordinates
            are never rounded.
        texts: whether token ids and texts are kept. Without them nothing in the file names a token, but numbers of a
            run can tell a lot about its prompt to somebody who has the model.
        at_most: bytes that the file may have; None for any number.

    Returns:
        `Size` of what was written, with the largest error that rounding made.

    Raises:
        InputError: no readings, arguments that a file cannot hold, a file that is no pack in its place. BudgetError:
            more than `at_most`, before anything is computed where it can be told; names what to leave out.
        LayerError, SeamError, ParityError: of the readings. CheckpointError: it cannot be written.
    """
    if not isinstance(run, Run):
        raise InputError(
            "lk.pack packs a run", got=type(run).__name__, expected="what lab.trace or lab.generate returns"
        )
    if run.pictures is not None:
        hint = "pack readings of a text run, or keep a reading by itself: ds.to_netcdf(path)"
        raise InputError("a run with pictures is not packed", got=repr(run), expected="a run of text", hint=hint)
    path, bits = pathlib.Path(path), sizes.width(bits)
    chosen, seams = [sizes.chosen(each, run.spec, run) for each in readings], _places(run, seams)
    datasets = _named(datasets or {})
    if not chosen and not seams and not datasets:
        raise InputError("nothing to pack", hint="lk.pack(run, path, readings=[deltanet.half_life])")
    if path.exists() and not (path.is_file() and container.is_pack(path)):
        raise InputError("something else lies in this place", got=str(path), expected="a new file, or a pack")
    asked = [_request(each, run, texts) for each in chosen]
    whole = sizes.Request(run.spec, len(run), int(run.positions[-1]) + 1, chosen, seams, datasets, texts)
    whole.size(bits, at_most).refuse(whole.cheaper(bits))
    blobs, answered, parts, errors = Blobs(), [], {}, {}
    for each, request in zip(chosen, asked, strict=True):
        before, filled = blobs.nbytes, []
        more, named = requests.extra(each.read, each.options)
        for layer in each.layers:
            data = each.read(run, *more, layer=layer, **named)
            made = labels.record(data, blobs, bits=bits, texts=texts)
            filled.append([layer, made])
            errors[request.reading] = max(errors.get(request.reading, 0.0), _error(data, made))
        answered.append([[request.reading, request.arguments], filled])
        parts[sizes.named(each, parts)] = blobs.nbytes - before
    before, kept = blobs.nbytes, []
    for layer, name in seams:
        before_it = getattr(run, "seam_errors", {}).get((layer, name), 0.0)
        kept.append([layer, name, _seam(run.seams[layer, name], blobs, bits, before_it)])
    parts |= {"seams": blobs.nbytes - before} if seams else {}
    before = blobs.nbytes
    measured = [[name, labels.record(data, blobs, bits=bits, texts=texts)] for name, data in datasets.items()]
    parts |= {"datasets": blobs.nbytes - before} if datasets else {}
    before = blobs.nbytes
    book = _book(run, blobs, texts) | {"bits": bits, "seams": kept, "answered": answered, "datasets": measured}
    parts[sizes.WORDS] = blobs.nbytes - before
    content = container.made(book, blobs)
    parts["labels"] = len(content) - sum(parts.values())
    written = Size(parts, bits, at_most, {name: error for name, error in errors.items() if error})
    written.refuse(whole.cheaper(bits))
    _write(path, content)
    return written


def _places(run, seams):
    """`[(layer, seam)]`, each of them kept in the run.

    Raises:
        InputError: no such pairs. SeamError: one that was not kept.
    """
    given = list(seams)
    if wrong := [each for each in given if not isinstance(each, tuple | list) or len(each) != 2]:
        raise InputError("seams are pairs (layer, name)", got=ascii(wrong[0])[:80], hint='seams=[(0, "resid_post")]')
    for layer, name in given:
        run.seams[layer, name]
    return [(int(layer), name) for layer, name in dict.fromkeys(map(tuple, given))]


def _named(datasets):
    """Datasets by name.

    Raises:
        InputError: no Mapping of them, or names that are no identifiers.
    """
    good = isinstance(datasets, Mapping) and all(hasattr(data, "data_vars") for data in datasets.values())
    if not good or not all(isinstance(name, str) and name.isidentifier() for name in datasets):
        hint = "datasets={'updates': lab.stream(ids, probes=[deltanet.updates()])}"
        raise InputError("datasets are given by name", got=ascii(datasets)[:80], hint=hint)
    return dict(datasets)


def _write(path, whole):
    """Put the file in its place once it opens."""
    with folders.told("a pack could not be written", path):
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        with folders.whole(path.resolve()) as draft:
            draft.write_bytes(whole)
            opening.open_run(draft)


def _book(run, blobs, texts):
    """What a pack says of the run itself."""
    ids, tokens = run.ids if texts else None, run.tokens if texts else [BLANK] * len(run)
    placed = None if run.position_ids is None else run.position_ids.cpu().numpy()
    return {
        "count": len(run),
        "length": int(run.positions[0]),
        **fields.stated(run),
        "mark": requests.mark(run) if texts else None,
        "ids": None if ids is None else blobs.add(ids.cpu().numpy()).to_json(),
        "position_ids": None if placed is None else blobs.add(placed).to_json(),
        "tokens": blobs.add(np.array(tokens)).to_json(),
    }


def _seam(seam, blobs, bits, error):
    seam = seam.detach().cpu()
    if seam.dtype == torch.bfloat16:
        return blobs.add(seam.view(torch.uint16).numpy(), bits, error, kind="bfloat16").to_json()
    return blobs.add(seam.numpy(), bits, error).to_json()


def _error(data, made):
    """The largest stored error of a variable, over its largest number."""
    worst = 0.0
    for name, (_, stored, _) in made["variables"].items():
        values = np.abs(data[name].values[np.isfinite(data[name].values)].astype(np.float64))
        worst = max(worst, stored[-1] / max(values.max(initial=0), 1e-300)) if stored[-1] else worst
    return worst


def _request(asked, run, texts):
    """The comparable form of one entry."""
    more, named = requests.extra(asked.read, asked.options)
    request = requests.asked(asked.read, run, more, asked.layers, named)
    others = [name for name, value in request.arguments.items() if isinstance(value, dict) and requests.RUN in value]
    if others and not texts:
        got = f"{request.reading} with {others[0]}="
        raise InputError("another run is known by its tokens, which texts=False leaves out", got=got, hint="texts=True")
    return request
