"""The checkpoint folder of a stream: a kill at any moment leaves it usable."""

import dataclasses
import hashlib
import json
import pathlib

import torch

from labkit import cache as _cache
from labkit.errors import InputError


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
            "edits": [repr(edit) for edit in lab.scopes.edits],
            "scaling": dataclasses.asdict(_scaling(lab)),
        }
        self.written, self.pieces, self.logits = 0, [], None
        self.rows = {}  # (probe, name) -> rows that are written

    def resume(self, cache: _cache.HybridCache) -> tuple[_cache.HybridCache, int]:
        """(cache, tokens done): the empty cache that is given, filled as the last checkpoint left it.

        Raises:
            InputError: the folder belongs to another request.
        """
        from safetensors.torch import load_file

        book = self.folder / "stream.json"
        if not book.is_file():
            return cache, 0
        facts = json.loads(book.read_text(encoding="utf-8"))
        if differ := [key for key, value in self.facts.items() if facts.get(key) != value]:
            raise InputError(
                "this checkpoint belongs to another request",
                got=f"different {', '.join(differ)}",
                expected="the same model, prompt, chunk, probes, edits and rotary scaling",
                hint="give another folder, or delete this one",
            )
        self.written, self.pieces = facts["done"], facts["pieces"]
        held = load_file(self.folder / facts["states"])
        parts = {name: {} for name in ("keys", "values", "conv", "state")}
        for piece in self.pieces:
            for key, value in load_file(self.folder / piece).items():
                name, place, *rest = key.split("/")
                if name == "probe":
                    self.probes[int(place)].rows.setdefault(rest[0], []).append(value)
                    self.rows[int(place), rest[0]] = self.rows.get((int(place), rest[0]), 0) + len(value)
                else:
                    parts[name].setdefault(int(place), []).append(value)
        for name in ("keys", "values"):
            parts[name] = {layer: torch.cat(rows, 2).to(self.lab.device) for layer, rows in parts[name].items()}
        for key, value in held.items():
            kind, *rest = key.split("/")
            if kind in ("conv", "state"):
                parts[kind][int(rest[0])] = value.to(self.lab.device)
            else:
                self.logits = value
        late = self.lab.scopes.unrotated is not None  # keys before rotation, at positions that count on
        position_ids = torch.arange(self.written, device=self.lab.device).expand(3, 1, -1) if late else None
        facts = dict(ids=self.ids[: self.written], scaling=self.lab.scaling, position_ids=position_ids)
        snap = _cache.Snapshot(self.written, **parts, **facts)
        return _cache.restore(snap, cache), self.written

    def write(
        self,
        cache: _cache.HybridCache,
        held: dict[int, tuple[torch.Tensor, torch.Tensor]],
        done: int,
        logits: torch.Tensor | None,
    ) -> None:
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
        for i, probe in enumerate(self.probes):  # only the rows since the last checkpoint
            for name in probe.rows:
                column, known = probe.column(name), self.rows.get((i, name), 0)
                if len(column) > known:
                    grown[f"probe/{i}/{name}"] = column[known:]
                self.rows[i, name] = len(column)
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


def _scaling(lab):
    """What a stream runs under; inside `yarn.dynamic` the length of the pass before does not count."""
    if lab.scopes.unrotated is not None:
        return dataclasses.replace(lab.scaling, length=None)
    return lab.scaling.plain(lab.spec.window)


def _digest(ids):
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()
