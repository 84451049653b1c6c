"""Answers to many questions: kept on disk as they come, counted by a bar, and handed over when somebody interrupts."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from labkit.errors import InputError
from labkit.notation import Quantity
from labkit.progress import counter
from labkit.rotary import Scaling
from labkit.stream import Interrupted

RIGHT = Quantity("right", "share of right answers", "fraction", "fraction", "this run")


@contextlib.contextmanager
def interruptible(dataset: Callable, *, total: int, unit: str, show: bool, hint: str) -> Iterator:
    """A bar to update; Ctrl-C inside becomes `Interrupted`, which carries `dataset()`, NaN where nothing was measured.

    Raises:
        Interrupted: on Ctrl-C.
    """
    with counter(total=total, unit=unit, show=show) as bar:
        try:
            yield bar
        except KeyboardInterrupt:
            data = dataset()
            first = next(iter(data.values()))
            done = f"{int(first.notnull().sum())} of {first.size}"
            raise Interrupted(f"stopped after {done} answers", hint=hint, dataset=data) from None


def distinct(scalings: Sequence[Scaling]) -> list[Scaling]:
    """The scalings as a list.

    Raises:
        InputError: two that would have one name along the axis.
    """
    names = list(map(str, scalings))
    if len(set(names)) < len(names):
        hint = "compare those in separate calls and datasets"
        raise InputError("scalings of one name", got=", ".join(names), hint=hint)
    return list(scalings)


class Answers:
    """(margin, right) by (task, scaling, length, depth, seed), one line of JSON each in a file; None is no file."""

    def __init__(self, folder, lab):
        self.known, self.path = {}, None if folder is None else pathlib.Path(folder) / "answers.jsonl"
        self.facts = {"format": 1, "model": lab.name, "edits": [repr(edit) for edit in lab.scopes.edits]}
        self.window = lab.spec.window
        head, *lines = _lines(self.path)
        if head is not None and head != self.facts:
            got, expected = (f"{facts.get('model')}, edits {facts.get('edits')}" for facts in (head, self.facts))
            hint = "give another folder, or delete this one"
            raise InputError("answers of another model or edits", got=got, expected=expected, hint=hint)
        if head is None and self.path is not None:
            self.path.unlink(missing_ok=True)  # nothing in it but what a kill left
        for *key, margin, right in lines:
            self.known[tuple(key)] = margin, right

    def key(self, task: str, scaling: Scaling, length: int, depth: float, seed: int) -> tuple:
        """What an answer is known by in the file; of its scaling all, spelt out."""
        return task, json.dumps(dataclasses.asdict(scaling.plain(self.window))), length, depth, seed

    def write(self, key: tuple, margin: float, right: bool) -> None:
        """Keep one answer."""
        self.known[key] = margin, right
        if self.path is not None:
            fresh = not self.path.is_file()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(self.facts) + "\n" if fresh else "")
                out.write("\n" * (not fresh and self._cut()) + json.dumps([*key, margin, right]) + "\n")

    def _cut(self):
        """Whether the file ends within a line."""
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) != b"\n"


def _lines(path):
    """The header and the answers of a file, as objects; a header of None where there is no whole one."""
    if path is None or not path.is_file():
        return [None]
    objects = []
    for line in path.read_text("utf-8").splitlines():
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError:
            if not objects:
                return [None]
            continue  # a line that a kill cut off; its question is asked again
    return objects or [None]
