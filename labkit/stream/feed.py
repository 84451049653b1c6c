"""The loop: feed a chunk, show it to the probes, forget it."""

import contextlib
import os
import pathlib
from collections.abc import Sequence

import torch

from labkit import cache as _cache
from labkit import passes
from labkit import plan as _plan
from labkit.arguments import whole
from labkit.errors import CheckpointError, InputError, LabError
from labkit.notation import label
from labkit.progress import counter
from labkit.rotary import Scaling
from labkit.spec import Spec
from labkit.spec.memory import dtype_bytes
from labkit.stream.probe import Probe, check_distinct, listed
from labkit.stream.store import Store
from labkit.trace import Recorder, Run, Start, parameters_of


class Interrupted(LabError, KeyboardInterrupt):
    """A stream that was stopped; `dataset` holds what the finished chunks gave, `facts` are those of every error."""

    def __init__(self, *args, dataset=None, **facts):
        super().__init__(*args, **facts)
        self.dataset = dataset


class Unwritten(CheckpointError):
    """A checkpoint that could not be written; `dataset` and `facts` as of `Interrupted`."""

    def __init__(self, *args, dataset=None, **facts):
        super().__init__(*args, **facts)
        self.dataset = dataset


def run(
    lab,
    ids: torch.Tensor,
    *,
    probes: Probe | Sequence[Probe],
    chunk: int = 2048,
    progress: bool = False,
    checkpoint: str | pathlib.Path | None = None,
    every: int = 16,
    kv_device: torch.device | str | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """Feed a prompt chunk by chunk to the model and to the probes.

    Args:
        lab: `Lab`.
        ids: [T] token ids.
        probes: from `stream.capture`, `deltanet.gates`, `deltanet.norms`, `deltanet.updates`, ...
        chunk: tokens per forward pass; a multiple of 64 keeps the kernels' own partition, so that results do not
            depend on it beyond rounding.
        progress: show a bar with tokens per second and time left.
        checkpoint: a folder. What lies there from an interrupted run of the same request is continued; every `every`
            chunks, and when interrupted, what is finished is written, beside what is computed next. One process at a
            time; that there is room for keys, values and states is tried first.
        kv_device: "cpu" lets keys and values rest in host memory while an accelerator computes.

    Returns:
        Dataset: the probes' variables merged, and `logits` (vocab) of the last token.

    Raises:
        InputError: no probes, one that is given twice, a chunk or `every` below 1, a block that does not divide the
            chunk, a checkpoint of another request or without a name, a probe of tokens that the prompt does not have.
        BudgetError: it would not fit; raised before the model runs.
        CheckpointError: the folder cannot be written, has no room, or is damaged from its first piece on; where only
            later pieces are, a warning names them and the stream goes on from the last good checkpoint.
        Unwritten: the disk is full, found a chunk later; carries the dataset of the finished chunks.
        Interrupted: on Ctrl-C; carries it too.
    """
    probes = listed(probes)
    chunk, every = whole(chunk, "chunk", least=1), whole(every, "every", least=1)
    if checkpoint is not None and not (isinstance(checkpoint, str | os.PathLike) and str(checkpoint).strip()):
        raise InputError("a checkpoint is a folder", got=f"checkpoint={checkpoint!r}", expected="its path, or None")
    if bad := [probe.block for probe in probes if chunk % probe.block]:
        raise InputError("a chunk must hold whole blocks", got=f"chunk {chunk}, blocks {bad}", expected="a multiple")
    if len(blocks := {probe.block for probe in probes if probe.blocks}) > 1:
        raise InputError("probes of one stream share their block", got=sorted(blocks), expected="one block size")
    lab.check_room(len(ids))
    wanted = {}
    for probe in probes:
        probe.check(len(ids))
        probe.rows = {}  # a probe may have watched another stream before
        for layer, names in probe.needs(lab.spec).items():
            wanted.setdefault(layer, set()).update(names)
    check_distinct(probes)
    check_merge(probes, lab.spec)
    wanted = {layer: sorted(names) for layer, names in sorted(wanted.items())}
    _admit(lab, len(ids), probes, wanted, chunk, kv_device)
    if checkpoint is None:
        return _fed(lab, ids, probes, wanted, None, chunk, progress, every, kv_device)
    with Store(checkpoint, lab, ids, probes, chunk, every) as store:
        return _fed(lab, ids, probes, wanted, store, chunk, progress, every, kv_device)


def _fed(lab, ids, probes, wanted, store, chunk, progress, every, kv_device):
    """The loop, with a store that is open or None."""
    cache, done = lab.cache(offloading=kv_device is not None and lab.device.type != "cpu"), 0
    if store is not None:
        cache, done = store.resume(cache)
    cache.reserve(len(ids))
    identity = lab.identity()
    parameters = parameters_of(lab.scopes.watched, lab.spec, wanted)
    bar = counter(total=len(ids), done=done, unit="tok", show=progress, title="stream")
    logits = None if store is None else store.logits
    kept = done, _states(cache), [probe.lengths() for probe in probes], logits  # of whole chunks; set in one step
    try:
        with lab.scopes.call() as call, Recorder(call, lab.model, lab.spec, wanted) as seen:
            for a in range(done, len(ids), chunk):
                part = ids[a : a + chunk]
                start = _cache.start_of(cache, wanted) if a else Start()
                last = a + len(part) == len(ids)
                fed = passes.feed(lab, part[None], cache=cache, columns=[len(part) - 1] if last else [])
                (seams,), rotary = seen.joined(len(part))
                seen.clear()
                shown = Run(
                    ids=part,
                    tokens=(),
                    logits=torch.empty(0),
                    logit_tokens=torch.empty(0, dtype=torch.long),
                    seams=seams,
                    rotary=tuple(piece[0] for piece in rotary),
                    parameters=parameters,
                    start=start,
                    spec=lab.spec,
                    prompt_length=len(part),
                    model=lab.name,
                    scaling=lab.scaling,
                    identity=identity,
                )
                for probe in probes:
                    probe.eat(shown)
                del shown, seams, rotary, start  # not to be held through the next forward pass
                logits = fed[0, 0] if last else logits
                kept = a + len(part), _states(cache), [probe.lengths() for probe in probes], logits
                bar.update(len(part))
                if store is not None:
                    with _told(lab, probes, kept):
                        if (a // chunk + 1) % every == 0 or last:
                            store.write(cache, kept[1], kept[0], logits)
                        if last:
                            store.finish()
                        store.look()
    except KeyboardInterrupt:
        done, *_, lengths, _ = kept
        for probe, rows in zip(probes, lengths, strict=True):
            probe.cut(rows)
        if store is not None:
            with _told(lab, probes, kept):
                store.write(cache, kept[1], kept[0], kept[3])
                store.finish()
        raise Interrupted(
            f"stream stopped after {done} of {len(ids)} tokens",
            hint="call it again with the same checkpoint folder to go on"
            if store is not None
            else "error.dataset holds what was finished; give checkpoint=folder to be able to go on",
            dataset=_merged(lab, probes, None, done) if done else None,
        ) from None
    finally:
        bar.close()
    return _merged(lab, probes, logits, len(ids))


@contextlib.contextmanager
def _told(lab, probes, kept):
    """Say why a checkpoint could not be written, and hand over what is finished."""
    try:
        yield
    except CheckpointError as error:
        facts = dict(got=error.got, expected=error.expected, hint=error.hint)
        raise Unwritten(error.what, **facts, dataset=_merged(lab, probes, None, kept[0])) from error


def _admit(lab, tokens, probes, wanted, chunk, kv_device):
    """Refuse a stream that would not fit: model, keys and values, what the probes need and keep; before it runs."""
    sizes = dict(tokens=tokens, chunk=min(chunk, tokens), width=dtype_bytes(lab.dtype))
    costs = [probe.cost(lab.spec, **sizes) for probe in probes]
    _plan.admit_stream(lab, tokens=tokens, wanted=wanted, costs=costs, chunk=chunk, kv_device=kv_device)


def check_merge(probes: Sequence[Probe], spec: Spec) -> None:
    """Refuse probes whose datasets could not be merged, before anything runs.

    Raises:
        InputError: two probes of one variable with different axes, or one axis with two sizes.
    """
    variables, axes = {}, {}
    for probe in probes:
        for name, sizes in probe.outputs(spec).items():
            if variables.setdefault(name, tuple(sizes)) != tuple(sizes):
                got = f"{name} over {variables[name]} and {tuple(sizes)}"
                raise InputError(
                    "two probes give one variable different axes", got=got, hint="watch them in two streams"
                )
            for axis, size in sizes.items():
                if size is not None and axes.setdefault(axis, (size, name))[0] != size:
                    got = f"{axis}: {axes[axis][0]} of {axes[axis][1]}, {size} of {name}"
                    raise InputError("probes of one stream share their axes", got=got, hint="watch them in two streams")


def _merged(lab, probes, logits, done):
    import xarray

    results = [probe.result(lab.name) for probe in probes]  # NaN where a probe does not watch a layer
    merged = xarray.merge(results, combine_attrs="drop_conflicts", compat="no_conflicts", join="outer")
    merged.attrs |= {"model": lab.name, "reading": "lab.stream", "tokens": done}
    for fact in ("parity", "tolerance"):  # the worst of the probes
        if values := [result.attrs[fact] for result in results if fact in result.attrs]:
            merged.attrs[fact] = max(values)
    if lab.scaling != Scaling():
        merged.attrs["scaling"] = str(lab.scaling)
    if logits is not None:
        merged = merged.merge(label({"logits": (("vocab",), logits, "vocab_logit")}))
    return merged


def _states(cache):
    """Copies of windows and states: an interrupt can fall between two layers of a forward pass."""
    linear = {
        i: layer for i, layer in enumerate(cache.layers) if _cache.is_linear(layer) and layer.has_previous_state[0]
    }
    return {i: (layer.conv_states[0].clone(), layer.recurrent_states[0].clone()) for i, layer in linear.items()}
