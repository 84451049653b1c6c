"""Prefill long prompts in chunks: online probes eat each chunk, and nothing else is kept.

A probe names the seams it needs, is shown one chunk at a time as a `Run` (with the states that entered the chunk in
`run.start`), and keeps small rows. Memory beyond the model's own cache does not grow with the prompt, apart from those
rows. An interrupted run can go on from its checkpoint folder and ends with the identical dataset.
"""

import json
import pathlib

import torch

from labkit import cache as _cache
from labkit.errors import InputError, LabError
from labkit.notation import label, select
from labkit.trace import SEAMS, Recorder, Run, Seams, Start, parameters_of


class Interrupted(LabError, KeyboardInterrupt):
    """A stream that was stopped; `dataset` holds what the finished chunks gave."""

    def __init__(self, *args, dataset=None, **facts):
        super().__init__(*args, **facts)
        self.dataset = dataset


class Probe:
    """Base of online probes: named rows that grow chunk by chunk.

    A subclass sets `layers` in `needs`, adds rows in `eat` and turns them into a dataset in `result`.

    Args:
        layers: layers to watch; None for all that fit the probe.
        block: rows are reduced over so many tokens, so that results stay small at a million tokens; 1 keeps all.
    """

    def __init__(self, *, layers=None, block=64):
        if block < 1:
            raise InputError("a block holds at least one token", got=block)
        self.asked, self.block = layers, block
        self.layers: tuple[int, ...] = ()
        self.rows: dict[str, list[torch.Tensor]] = {}

    def needs(self, spec):
        """Settle `self.layers` for this model; returns `{layer: seam names}`."""
        raise NotImplementedError

    def eat(self, run):
        """Look at one chunk."""
        raise NotImplementedError

    def result(self, model):
        """The dataset of everything eaten so far."""
        raise NotImplementedError

    def signature(self):
        """What must be equal for a checkpoint to be continued."""
        return [type(self).__name__, list(self.layers), self.block]

    def add(self, name, value):
        """Append a row; it moves to the CPU."""
        self.rows.setdefault(name, []).append(value.detach().cpu())

    def column(self, name):
        """All rows of a name, joined."""
        joined = torch.cat(self.rows[name])
        self.rows[name] = [joined]
        return joined

    def reduced(self, x, how):
        """[token, ...] -> [block, ...] by "mean" or "sum"; the last block may be shorter."""
        parts = [getattr(part, how)(0) for part in x.split(self.block)]
        return torch.stack(parts)


class Capture(Probe):
    """Keep whole seams at chosen tokens."""

    def __init__(self, seam, *, tokens, layers=None):
        super().__init__(layers=layers, block=1)
        self.seam, self.tokens = seam, tokens

    def needs(self, spec):
        fits = [at for at in range(spec.layers) if self.seam in SEAMS[spec.kind(at)]]
        if not fits:
            raise InputError("unknown seam", got=self.seam, expected=sorted({n for kind in SEAMS.values() for n in kind}))
        self.layers = tuple(fits if self.asked is None else select(self.asked, spec.layers, "layer"))
        if wrong := sorted(set(self.layers) - set(fits)):
            raise InputError(f"these layers have no seam {self.seam!r}", got=wrong, expected=fits)
        self.dims = SEAMS[spec.kind(self.layers[0])][self.seam].dims
        return {layer: (self.seam,) for layer in self.layers}

    def signature(self):
        return [*super().signature(), self.seam, list(self.tokens)]

    def eat(self, run):
        here = [t - run.start.length for t in self.tokens if 0 <= t - run.start.length < len(run)]
        if here:
            self.add("at", run.positions[here])
            self.add("kept", torch.stack([run.seams[layer, self.seam][here] for layer in self.layers], 1))

    def result(self, model):
        coords = {"token": self.column("at"), "layer": list(self.layers)}
        facts = {"model": model, "reading": f"stream.capture {self.seam}"}
        return label({self.seam: (("token", "layer", *self.dims), self.column("kept"))}, coords=coords, attrs=facts)


def capture(seam, *, tokens, layers=None):
    """A probe that keeps one seam, whole, at chosen absolute token positions: (token, layer, ...).

    Args:
        seam: name from `labkit.trace.SEAMS`.
        tokens: absolute positions.
        layers: layers that have this seam; None for all of them.
    """
    return Capture(seam, tokens=[int(t) for t in tokens], layers=layers)


def run(lab, ids, *, probes, chunk=2048, progress=False, checkpoint=None, every=16, kv_device=None):
    """Feed a prompt chunk by chunk to the model and to the probes.

    Args:
        lab: `Lab`.
        ids: [T] token ids.
        probes: from `stream.capture`, `deltanet.gates`, `deltanet.norms`, `deltanet.ledger_sums`, ...
        chunk: tokens per forward pass; a multiple of 64 keeps the kernels' own partition, so that results do not
            depend on it beyond rounding.
        progress: show a bar with tokens per second and time left.
        checkpoint: a folder. What lies there from an interrupted run of the same request is continued; every `every`
            chunks, and when interrupted, what is finished is written.
        kv_device: "cpu" lets keys and values rest in host memory while an accelerator computes.

    Returns:
        Dataset: the probes' variables merged, and `logits` (vocab) of the last token.

    Raises:
        InputError: no probes, a block that does not divide the chunk, a checkpoint of another request.
        Interrupted: on Ctrl-C; carries the dataset of the finished chunks.
    """
    if not probes:
        raise InputError("nothing to watch", got="no probes", hint="probes=[deltanet.gates()]")
    if bad := [probe.block for probe in probes if chunk % probe.block]:
        raise InputError("a chunk must hold whole blocks", got=f"chunk {chunk}, blocks {bad}", expected="a multiple")
    if len(blocks := {probe.block for probe in probes if not isinstance(probe, Capture)}) > 1:
        raise InputError("probes of one stream share their block", got=sorted(blocks), expected="one block size")
    lab._admit(len(ids))
    wanted = {}
    for probe in probes:
        for layer, names in probe.needs(lab.spec).items():
            wanted.setdefault(layer, set()).update(names)
    wanted = {layer: sorted(names) for layer, names in sorted(wanted.items())}
    store = None if checkpoint is None else Store(checkpoint, lab, ids, probes, chunk)
    cache, done = (lab.cache(), 0) if store is None else store.resume()
    if kv_device is not None:
        cache = _resting(lab, cache, kv_device)
    parameters = parameters_of(lab.model, lab.spec, wanted)
    bar = _bar(len(ids), done, progress)
    logits = None if store is None else store.logits
    held = _states(cache)
    try:
        with Recorder(lab.model, lab.spec, wanted) as seen:
            for a in range(done, len(ids), chunk):
                part = ids[a : a + chunk]
                start = _cache.start_of(cache, wanted) if a else Start()
                last = a + len(part) == len(ids)
                found = lab._feed(part[None], cache=cache, columns=[len(part) - 1] if last else [])
                seams, rotary = seen.joined(len(part))
                seen.clear()
                shown = Run(
                    ids=part,
                    tokens=(),
                    logits=torch.empty(0),
                    logit_tokens=torch.empty(0, dtype=torch.long),
                    seams=Seams({key: value[0] for key, value in seams.items()}),
                    rotary=tuple(piece[0] for piece in rotary),
                    parameters=parameters,
                    start=start,
                    spec=lab.spec,
                    prompt=len(part),
                    model=lab.name,
                )
                sizes = [{name: len(rows) for name, rows in probe.rows.items()} for probe in probes]
                try:
                    for probe in probes:
                        probe.eat(shown)
                except BaseException:
                    for probe, size in zip(probes, sizes, strict=True):
                        probe.rows = {name: rows[: size[name]] for name, rows in probe.rows.items() if name in size}
                    raise
                logits = found[0, 0] if last else logits
                done, held = a + len(part), _states(cache)
                bar.update(len(part))
                if store is not None and ((a // chunk + 1) % every == 0 or last):
                    store.write(cache, held, done, logits)
    except KeyboardInterrupt:
        if store is not None:
            store.write(cache, held, done, logits)
        raise Interrupted(
            f"stream stopped after {done} of {len(ids)} tokens",
            hint="call it again with the same checkpoint folder to go on"
            if store is not None
            else "error.dataset holds what was finished; give checkpoint=folder to be able to go on",
            dataset=_merged(lab, probes, None, done) if done else None,
        ) from None
    finally:
        bar.close()
    return _merged(lab, probes, logits, done)


def _merged(lab, probes, logits, done):
    import xarray

    results = [probe.result(lab.name) for probe in probes]  # NaN where a probe does not watch a layer
    found = xarray.merge(results, combine_attrs="drop_conflicts", compat="no_conflicts", join="outer")
    found.attrs |= {"model": lab.name, "reading": "lab.stream", "tokens": done}
    if logits is not None:
        found = found.merge(label({"logits": (("vocab",), logits)}))
    return found


def _bar(total, done, progress):
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, unit="tok", unit_scale=True, disable=not progress, desc="stream")


def _states(cache):
    """Copies of windows and states: an interrupt can fall between two layers of a forward pass."""
    linear = {i: layer for i, layer in enumerate(cache.layers) if _cache.is_linear(layer) and layer.has_previous_state[0]}
    return {i: (layer.conv_states[0].clone(), layer.recurrent_states[0].clone()) for i, layer in linear.items()}


def _resting(lab, cache, device):
    """A cache whose keys and values rest on the CPU between their layers' turns (transformers' offloading cache)."""
    if str(device) != "cpu":
        raise InputError("keys and values can rest on the CPU alone", got=device, expected="'cpu' or None")
    if lab.device.type == "cpu":
        return cache
    cache.offloading = True
    cache.only_non_sliding = False
    cache.prefetch_stream = torch.Stream(lab.device) if not hasattr(cache, "prefetch_stream") else cache.prefetch_stream
    return cache


class Store:
    """A checkpoint folder: `stream.json`, the states, the probes' rows, and keys and values piece by piece."""

    def __init__(self, folder, lab, ids, probes, chunk):
        self.folder, self.lab, self.ids, self.probes = pathlib.Path(folder), lab, ids, probes
        self.facts = {
            "format": 1,
            "model": lab.name,
            "ids": _digest(ids),
            "chunk": chunk,
            "probes": [probe.signature() for probe in probes],
            "edits": [repr(edit) for edit in lab._edits],
        }
        self.written, self.pieces, self.logits = 0, [], None

    def resume(self):
        """(cache, tokens done): empty, or as the last checkpoint left it.

        Raises:
            InputError: the folder belongs to another request.
        """
        from safetensors.torch import load_file

        cache = self.lab.cache()
        book = self.folder / "stream.json"
        if not book.is_file():
            return cache, 0
        facts = json.loads(book.read_text(encoding="utf-8"))
        if differ := [key for key, value in self.facts.items() if facts.get(key) != value]:
            raise InputError(
                "this checkpoint belongs to another request",
                got=f"different {', '.join(differ)}",
                expected="the same model, prompt, chunk, probes and edits",
                hint="give another folder, or delete this one",
            )
        self.written, self.pieces = facts["done"], facts["pieces"]
        held = load_file(self.folder / facts["states"])
        parts = {name: {} for name in ("keys", "values", "conv", "state")}
        for piece in self.pieces:
            for key, value in load_file(self.folder / piece).items():
                name, layer = key.split("/")
                parts[name].setdefault(int(layer), []).append(value)
        for name in ("keys", "values"):
            parts[name] = {layer: torch.cat(rows, 2).to(self.lab.device) for layer, rows in parts[name].items()}
        for key, value in held.items():
            kind, *rest = key.split("/")
            if kind in ("conv", "state"):
                parts[kind][int(rest[0])] = value.to(self.lab.device)
            elif kind == "logits":
                self.logits = value
            else:
                self.probes[int(rest[0])].rows[rest[1]] = [value]
        snap = _cache.Snapshot(self.written, **parts, ids=self.ids[: self.written])
        return self.lab.restore(snap), self.written

    def write(self, cache, held, done, logits):
        """Write what is finished; the book is replaced last, so a kill at any moment leaves a usable folder."""
        from safetensors.torch import save_file

        if done <= self.written:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        piece, states = f"kv-{done:09d}.safetensors", f"states-{done:09d}.safetensors"
        grown = {}
        for index, layer in enumerate(cache.layers):
            if not _cache.is_linear(layer):
                for name in ("keys", "values"):
                    grown[f"{name}/{index}"] = getattr(layer, name)[:, :, self.written : done]
        tensors = {f"conv/{layer}": conv for layer, (conv, _) in held.items()}
        tensors |= {f"state/{layer}": state for layer, (_, state) in held.items()}
        for i, probe in enumerate(self.probes):
            tensors |= {f"probe/{i}/{name}": probe.column(name) for name in probe.rows}
        if logits is not None:
            tensors["logits"] = logits
        for name, group in ((piece, grown), (states, tensors)):
            save_file({k: v.detach().cpu().clone().contiguous() for k, v in group.items()}, self.folder / name)
        old = self.folder / f"states-{self.written:09d}.safetensors"
        self.pieces, self.written = [*self.pieces, piece], done
        draft = self.folder / "stream.json.new"
        draft.write_text(json.dumps(self.facts | {"done": done, "pieces": self.pieces, "states": states}, indent=1))
        draft.replace(self.folder / "stream.json")
        old.unlink(missing_ok=True)


def _digest(ids):
    import hashlib

    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()
