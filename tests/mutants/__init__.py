"""Mutants: small wrong changes of an equation or a reading, each of which must make a law fail.

    python -m tests.mutants [WORD ...] [--workers 2] [--list]

Every module of this folder (but those with an underscore) holds a list `MUTANTS`; the folder is the registry. To add
one, write

    Mutant("labkit/draw/plots.py", "high - trace.y", "trace.y - high", "tests/test_draw.py::test_an_interval_reaches")

into the module of its part: the file, a text that stands in it exactly once, the text that replaces it, and the test
that must fail, as pytest takes it; of a parametrised test the name without brackets is enough. A mutant that changes
nothing in any result is none: choose one that a user would be misled by.

Each is applied to a copy of the checkout and its test is run there; the test must pass in the copy as it is. The status
is 1 if a mutant survives, if its text is not found exactly once, or if its test cannot be run.
"""

import dataclasses
import importlib
import pathlib
import pkgutil

ROOT = pathlib.Path(__file__).parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One wrong change: in `file`, `old` becomes `new`, and `test` must fail."""

    file: str
    old: str
    new: str
    test: str

    def __str__(self):
        lines = [" ".join(text.split()) for text in (self.old, self.new)]
        return f"{self.file.removeprefix('labkit/')}: {lines[0]}  ->  {lines[1] or 'nothing'}"

    def applied(self, text: str) -> str:
        """The text of the file with the change in it.

        Raises:
            ValueError: the old text does not stand in it exactly once, or nothing is changed.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"its text stands {count} times in {self.file}")
        if self.old == self.new:
            raise ValueError("it changes nothing")
        return text.replace(self.old, self.new)


def collected() -> list[Mutant]:
    """The mutants of all modules of this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [mutant for module in modules for mutant in module.MUTANTS]
