"""Answers to many questions: kept on disk as they come, counted by a bar, and handed over when somebody interrupts."""

import contextlib
import dataclasses
import json
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence

from labkit import folders
from labkit.errors import CheckpointError, InputError
from labkit.identity import difference, lasting
from labkit.notation import Quantity
from labkit.progress import counter
from labkit.rotary import Scaling
from labkit.stream import Interrupted, Unwritten

FORMAT = 2
SHORT, LONGEST = 16, 2**20  # digits of a mark; bytes of a line
RIGHT = Quantity("right", "share of right answers", "fraction", "fraction", "this run")


@contextlib.contextmanager
def interruptible(dataset: Callable, *, total: int, unit: str, show: bool, hint: str) -> Iterator:
    """A bar to update; Ctrl-C inside becomes `Interrupted`, which carries `dataset()`, NaN where nothing was measured.

    A disk that is full becomes `Unwritten`, which carries it too.

    Raises:
        Interrupted: on Ctrl-C. Unwritten: an answer could not be written.
    """
    with counter(total=total, unit=unit, show=show) as bar:
        try:
            yield bar
        except KeyboardInterrupt:
            data = dataset()
            first = next(iter(data.values()))
            done = f"{int(first.notnull().sum())} of {first.size}"
            raise Interrupted(f"stopped after {done} answers", hint=hint, dataset=data) from None
        except CheckpointError as error:
            facts = dict(got=error.got, expected=error.expected, hint=error.hint)
            raise Unwritten(error.what, **facts, dataset=dataset()) from error


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
    """(margin, right) by (task, scaling, length, depth, seed), one line of JSON each in a file; None is no file.

    Opened by `with`, which reads the file and keeps other writers away. The first line says what was asked; every line
    carries the mark of that and one of its own, so that a damaged one, even the first, costs no other.
    """

    def __init__(self, folder, lab):
        self.known, self.path = {}, None if folder is None else pathlib.Path(folder) / "answers.jsonl"
        self.facts, self.model = {"format": FORMAT, "identity": lasting(lab)}, lab.name
        self.window = lab.spec.window
        self._scope = contextlib.ExitStack()

    def __enter__(self):
        if self.path is not None:
            with contextlib.ExitStack() as scope:
                scope.enter_context(folders.lock(self.path.with_name("answers.lock")))
                folders.check_room(self.path.parent, 0)
                with folders.told("answers cannot be read", self.path):
                    self._read()
                self._scope = scope.pop_all()
        return self

    def __exit__(self, *error):
        self._scope.close()

    def key(self, task: str, scaling: Scaling, length: int, depth: float, seed: int) -> tuple:
        """What an answer is known by in the file; of its scaling all, spelt out."""
        return task, json.dumps(dataclasses.asdict(scaling.plain(self.window))), length, depth, seed

    def write(self, key: tuple, margin: float, right: bool) -> None:
        """Keep one answer.

        Raises:
            CheckpointError: the file cannot be written, say because the disk is full.
        """
        self.known[key] = margin, right
        if self.path is not None:
            line = [*key, margin, right, self._head()["sha256"][:SHORT]]
            text = json.dumps([*line, folders.mark(line)[:SHORT]]) + "\n"
            with folders.told("an answer could not be written", self.path), self.path.open("ab") as out:
                out.write(text.encode())

    def _read(self):
        """Fill `known`; a file with damaged lines is written anew without them.

        Raises:
            InputError: answers of another request, or format.
        """
        raw = self.path.read_bytes() if self.path.exists() else b""
        *values, last = [folders.parsed(line) if len(line) <= LONGEST else None for line in raw.split(b"\n")]
        damaged, good, head = 0, [], self._head()
        for value in values if last is None else [*values, last]:  # what a kill cut off within a line is no damage
            if _is_head(value):
                if value.get("sha256") != head["sha256"]:
                    self._refuse(value)
            elif _is_answer(value):
                if value[-2] != head["sha256"][:SHORT]:
                    self._refuse({})
                good.append(value)
            else:
                damaged += 1
        if damaged:
            text = f"{self.path}: {damaged} of {len(values)} lines are damaged, and are asked again"
            warnings.warn(text, stacklevel=2)
        self.known = {tuple(key): (margin, right) for *key, margin, right, _, _ in good}
        text = "".join(json.dumps(value) + "\n" for value in [head, *good])
        if text.encode() != raw:
            folders.write_text(self.path, text)

    def _head(self):
        return self.facts | {"sha256": folders.mark(self.facts)}

    def _refuse(self, facts):
        before = facts.get("identity")
        got = difference(before, self.facts["identity"]) if isinstance(before, dict) else "lines of another first line"
        if facts and facts.get("format") != FORMAT:
            got = f"format {folders.brief(facts.get('format'))}, now {FORMAT}"
        hint = "give another folder, or delete this one"
        raise InputError(
            "answers of another model or edits", got=got, expected=f"those of {self.model} as it is now", hint=hint
        )


def _is_head(value):
    """Whether a line is a first line as it was written; that of another format carries no mark, or another one."""
    if not isinstance(value, dict):
        return False
    facts = {name: fact for name, fact in value.items() if name != "sha256"}
    own = value.get("sha256") == folders.mark(facts)
    return own or ("sha256" not in value and "format" in value and value["format"] != FORMAT)


def _is_answer(value):
    """Whether a line is an answer as it was written: the key, margin, right, and two marks."""
    kinds = (str, str, int, float | int, int, float | int, bool, str, str)
    if not isinstance(value, list) or len(value) != len(kinds) or not all(map(isinstance, value, kinds)):
        return False
    return value[-1] == folders.mark(value[:-1])[:SHORT]
