"""The checkpoint folder of a stream: a kill at any moment leaves it usable, and damage costs what is damaged.

    stream.json           the request, and of every checkpoint the digests of its files and the rows so far; signed
    stream.before.json    the same, one checkpoint earlier
    kv-<done>             keys and values of the tokens since the checkpoint before, and the rows of the probes
    states-<done>         windows and states after `done` tokens, and the last token's logits; of few checkpoints

A piece that is missing or damaged ends what can be continued: the stream warns, and goes on from the last checkpoint
before it whose states are kept. Less than twice of what comes after the damage is computed again (see `points.kept`).
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import math
import pathlib
import re
import warnings

import torch

from labkit import cache as _cache
from labkit import folders
from labkit.errors import CheckpointError, InputError
from labkit.identity import difference, lasting
from labkit.spec.memory import kv_bytes_per_token, snapshot_bytes
from labkit.stream.points import Point, fit, kept, names, read

FORMAT = 2
BOOK, BEFORE, LOCK = "stream.json", "stream.before.json", "stream.lock"
OURS = re.compile(r"(kv|states)-\d{9}\.safetensors")
HINT = "delete the folder, and the stream begins anew"


class Store:
    """A checkpoint folder, opened by `with`; nobody else writes it meanwhile."""

    def __init__(self, folder, lab, ids, probes, chunk, every=1):
        self.folder, self.lab, self.ids, self.probes = pathlib.Path(folder), lab, ids, probes
        self.chunk, self.every = chunk, every
        self.facts = {
            "format": FORMAT,
            "ids": _digest(ids),
            "chunk": chunk,
            "probes": [probe.signature() for probe in probes],
            "identity": lasting(lab),
            "scaling": dataclasses.asdict(_scaling(lab)),
        }
        self.points: tuple[Point, ...] = ()  # what the folder holds for good; replaced in one step
        self.logits = None
        self._scope, self._writer, self._writing = contextlib.ExitStack(), None, None

    def __enter__(self):
        self._scope.enter_context(folders.lock(self.folder / LOCK))
        self._writer = self._scope.enter_context(concurrent.futures.ThreadPoolExecutor(1, "labkit-checkpoint"))
        return self

    def __exit__(self, *error):
        self._scope.close()

    @property
    def written(self) -> int:
        """Tokens that the folder holds."""
        return self.points[-1].done if self.points else 0

    # -------------------------------------------------------------------------------------------------- continuing

    def resume(self, cache: _cache.HybridCache) -> tuple[_cache.HybridCache, int]:
        """(cache, tokens done): the empty cache that is given, filled as the last whole checkpoint left it.

        Warns of what is damaged, and from where the stream goes on instead.

        Raises:
            InputError: the folder belongs to another request.
            CheckpointError: everything in it is damaged; names the first piece. Or what is to come cannot be written.
        """
        damage: list[CheckpointError] = []
        points = self._book(damage)
        pieces = self._pieces(points, damage)
        for n in range(len(pieces), 0, -1):
            if (held := self._states(points[n - 1], pieces[:n], damage)) is not None:
                cache = self._filled(cache, points[:n], pieces[:n], held)
                break
        if damage and not self.points:
            first = damage[0]
            raise CheckpointError("nothing of this checkpoint can be continued", got=first.got, hint=HINT) from first
        if damage:
            found = "; ".join(dict.fromkeys(str(error.got) for error in damage))
            text = f"a checkpoint is damaged, and the stream goes on from token {self.written:,}: {found}"
            warnings.warn(text, stacklevel=2)
        if self.written < len(self.ids):
            folders.check_room(self.folder, self._to_come())
            folders.remove_drafts(self.folder)
        return cache, self.written

    def _book(self, damage):
        """The points of the newest book that can be read; none where the folder has none."""
        for name in (BOOK, BEFORE):
            path = self.folder / name
            if name == BOOK and not path.exists() and not (self.folder / BEFORE).exists():
                return ()  # new, or killed before its first checkpoint was whole
            try:
                facts = folders.read_signed(path, FORMAT, "the book of a checkpoint")
                sizes = dict(tokens=len(self.ids), chunk=self.chunk, probes=len(self.probes))
                points = None if self._differing(facts) else read(facts.get("points"), path, **sizes)
            except CheckpointError as error:
                damage.append(error)
                continue
            if points is None:
                raise InputError(
                    "this checkpoint belongs to another request",
                    got=f"different {'; '.join(self._differing(facts))}",
                    expected="the same model, adapters, edits, rotary scaling, kernels, prompt, chunk and probes",
                    hint="give another folder, or delete this one",
                )
            return points
        return ()

    def _differing(self, facts):
        names = [key for key, value in self.facts.items() if facts.get(key) != value]
        if "identity" in names and isinstance(facts.get("identity"), dict):
            names[names.index("identity")] = difference(facts["identity"], self.facts["identity"])
        return names

    def _pieces(self, points, damage):
        """The tensors of all pieces up to the first that is damaged."""
        pieces, done, spec = [], 0, self.lab.spec
        for point in points:
            path, cached = self.folder / names(point.done)[0], dict(zip(("keys", "values"), spec.cached, strict=True))
            sizes = {name: (1, heads, point.done - done, width) for name, (heads, width) in cached.items()}
            try:
                piece = folders.read_tensors(path, point.piece)
                shapes = {f"{name}/{layer}": sizes[name] for name, layer in self._kept_layers()}
                fit(path, {name: value for name, value in piece.items() if not name.startswith("probe/")}, shapes)
            except CheckpointError as error:
                damage.append(error)
                break
            pieces.append(piece)
            done = point.done
        return pieces

    def _states(self, point, pieces, damage):
        """The tensors of a point's states; None where they are not kept, damaged, or of other pieces than these."""
        path, rows = self.folder / names(point.done)[1], collections.Counter()
        if point.states is None:
            return None
        for piece in pieces:
            rows.update({name[6:]: len(value) for name, value in piece.items() if name.startswith("probe/")})
        try:
            held = folders.read_tensors(path, point.states)
            fit(path, held, self._state_shapes(point))
            if dict(rows) != point.rows:
                got = f"{sum(rows.values())} rows of probes"
                raise CheckpointError(
                    "the pieces do not add up", got=f"{path}: {got}", expected=sum(point.rows.values())
                )
        except CheckpointError as error:
            damage.append(error)
            return None
        return held

    def _kept_layers(self):
        return [(name, layer) for layer in self.lab.spec.attention_layers for name in ("keys", "values")]

    def _state_shapes(self, point):
        spec = self.lab.spec
        shapes = {f"conv/{layer}": (1, spec.conv_channels, spec.conv) for layer in spec.deltanet_layers}
        shapes |= {f"state/{layer}": (1, spec.value_heads, spec.dk, spec.dv) for layer in spec.deltanet_layers}
        return shapes | ({"logits": (spec.vocab,)} if point.done == len(self.ids) else {})

    def _filled(self, cache, points, pieces, held):
        """A cache as the last of these points left it; and the probes' rows."""
        parts = {name: {} for name in ("keys", "values", "conv", "state")}
        for name, layer in self._kept_layers():
            parts[name][layer] = torch.cat([piece[f"{name}/{layer}"] for piece in pieces], 2).to(self.lab.device)
        for layer in self.lab.spec.deltanet_layers:
            for name in ("conv", "state"):
                parts[name][layer] = held[f"{name}/{layer}"].to(self.lab.device)
        for name in points[-1].rows:
            place, own = name.split("/", 1)
            rows = [piece[key] for piece in pieces if (key := f"probe/{name}") in piece]
            self.probes[int(place)].rows[own] = rows
        self.logits, self.points = held.get("logits"), points
        late = self.lab.scopes.unrotated is not None  # keys before rotation, at positions that count on
        position_ids = torch.arange(self.written, device=self.lab.device).expand(3, 1, -1) if late else None
        facts = dict(ids=self.ids[: self.written], scaling=self.lab.scaling, position_ids=position_ids)
        facts |= dict(identity=self.lab.identity(), edits=((0, tuple(self.lab.scopes.edits)),))
        return _cache.restore(_cache.Snapshot(self.written, **parts, **facts), cache)

    def _to_come(self):
        """Bytes that the rest will take: keys and values, and the states that are kept at its end; without rows."""
        spec, dtype, rest = self.lab.spec, self.lab.dtype, len(self.ids) - self.written
        states = len(kept(len(self.points) + math.ceil(rest / (self.chunk * self.every)))) + 1
        return rest * kv_bytes_per_token(spec, dtype) + states * snapshot_bytes(spec, dtype)

    # ----------------------------------------------------------------------------------------------------- writing

    def write(
        self,
        cache: _cache.HybridCache,
        held: dict[int, tuple[torch.Tensor, torch.Tensor]],
        done: int,
        logits: torch.Tensor | None,
    ) -> None:
        """Begin to write what is finished, once the write before has ended; what is computed next runs beside it.

        What is written stays what it is meanwhile: keys and values of tokens that were read and rows that were joined
        do not change, and `held` are copies. The book is replaced last, so a kill at any moment leaves a usable folder.

        Raises:
            CheckpointError: the write before met an error; the folder is as it was before that.
        """
        self.finish()
        if done <= self.written:
            return
        before, rows, grown = self.points[-1].rows if self.points else {}, {}, {}
        for name, layer in self._kept_layers():
            grown[f"{name}/{layer}"] = getattr(cache.layers[layer], name)[:, :, self.written : done]
        for i, probe in enumerate(self.probes):  # only the rows since the last checkpoint
            for name in probe.rows:
                key, column = f"{i}/{name}", probe.column(name)
                rows[key] = len(column)
                if key not in before or len(column) > before[key]:
                    grown[f"probe/{key}"] = column[before.get(key, 0) :]
        tensors = {f"conv/{layer}": conv for layer, (conv, _) in held.items()}
        tensors |= {f"state/{layer}": state for layer, (_, state) in held.items()}
        tensors |= {} if logits is None else {"logits": logits}
        self._writing = self._writer.submit(self._write, self.points, done, grown, tensors, rows)

    def look(self) -> None:
        """Raise what a write that has ended met; never waits."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the write that was begun.

        Raises:
            CheckpointError: it met an error, say because the disk is full; the folder is as it was.
        """
        if self._writing is not None:
            concurrent.futures.wait([self._writing])
            ended, self._writing = self._writing, None
            ended.result()

    def _write(self, before, done, grown, tensors, rows):
        """In the writer's thread."""
        if before is not self.points:  # an interrupt came as a write began, and this one is the same again
            return
        with folders.told("a checkpoint could not be written", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            paths = [self.folder / name for name in names(done)]
            marks = [folders.write_tensors(*pair) for pair in zip(paths, (grown, tensors), strict=True)]
            points, stay = [*before, Point(done, *marks, rows)], kept(len(before) + 1)
            points = [p if n in stay else Point(p.done, p.piece, None, {}) for n, p in enumerate(points, 1)]
            if before:
                folders.write_text(self.folder / BEFORE, self._text(before))
            folders.write_text(self.folder / BOOK, self._text(points))
            self.points = tuple(points)
            self._sweep()

    def _text(self, points):
        done, listed = points[-1].done, [dataclasses.asdict(point) for point in points]
        return folders.signed(self.facts | {"done": done, "points": listed})

    def _sweep(self):
        """Remove pieces and states that the book does not name: of states thinned out, of damage, of kills."""
        named = {names(point.done)[0] for point in self.points}
        named |= {names(point.done)[1] for point in self.points if point.states is not None}
        for path in self.folder.iterdir():
            if OURS.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)


def _scaling(lab):
    """What a stream runs under; inside `yarn.dynamic` the length of the pass before does not count."""
    if lab.scopes.unrotated is not None:
        return dataclasses.replace(lab.scaling, length=None)
    return lab.scaling.plain(lab.spec.window)


def _digest(ids):
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()
