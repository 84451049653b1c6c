"""One figure is one module in this folder; the folder is the registry.

A module whose name does not begin with an underscore is a figure:

    '''Question that the figure answers, one line: its heading?

    How to read it, what was done and what the control is; paragraphs are parted by blank lines. No results: those are
    numbers of the claim.

    Source: where the quantity is defined.
    '''

    PLACE = ("states", 30)   # the probe that it belongs to (PROBES) and its place there

    def data(lab):      # labkit.Lab -> xarray.Dataset, by library calls only; its attributes hold `made(...)`
    def claim(ds):      # xarray.Dataset -> labkit.claims.Claim: the answer, with its numbers, as comparisons
    def controls(ds):   # xarray.Dataset -> {what was done: Dataset}: the claim must fail on each, every part on one
    def draw(ds):       # xarray.Dataset -> plotly Figure, titled claim(ds).title; never changes ds

Beside it lies `golden/<name>.json`, the numbers that `data` gave when somebody last looked at them. A
variable that may move further than others says so in the module:
`TOLERANCE = {"weight": {"rtol": 1e-3, "atol": 1e-5, "reason": "..."}}`.

`python -m figures` draws them all (`--only NAME`, `--update`, `--png`, `--data`, `--out FOLDER`).
"""

import dataclasses
import importlib.util
import inspect
import pathlib
import types

from labkit import claims
from labkit.errors import InputError

HERE = pathlib.Path(__file__).parent
PROBES = {  # in the order of the notebooks
    "states": "What the recurrent states hold",
    "attention": "Where attention looks, and how the two kinds share the work",
    "thinking": "What thinking does to the cache",
    "yarn": "Beyond the window",
    "causes": "From a picture to a cause",
}
FACTS = ("model", "vocabulary", "sample", "interval")
PARTS = ("data", "claim", "controls", "draw")


def made(model: str, *, vocabulary: str = "none", sample: str, interval: str = "none") -> dict:
    """Attributes of a figure's data that say what its numbers are of; they stand under the figure.

    Args:
        model: its name; of the model that the numbers are about, not of the one that happened to be loaded.
        vocabulary: whose tokens are counted: `vocabulary(lab)`, or "none" where no text is read.
        sample: how many of what, drawn by which seeds: "8 prompts, seeds 0 to 7", "one prompt of 18 tokens".
        interval: how the intervals were made: "95 %, Student's t over 8 prompts".
    """
    return {"model": model, "vocabulary": vocabulary, "sample": sample, "interval": interval}


def vocabulary(lab) -> str:
    """Whose tokens a lab counts: "nano, 2,560"."""
    return f"{lab.name}, {lab.spec.vocab:,}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A figure as the folder holds it: its module and its golden data (which may not exist yet)."""

    name: str
    module: types.ModuleType
    golden: pathlib.Path

    @property
    def question(self):
        """First line of the module's docstring: the heading."""
        return inspect.cleandoc(self.module.__doc__ or "").partition("\n")[0].strip()

    @property
    def place(self):
        """(probe, place in it), to sort by."""
        probe, number = self.module.PLACE
        return list(PROBES).index(probe), number

    def verdict(self, dataset):
        """(claim, {control: claim}) of a dataset; raises nothing if they fail."""
        controls = self.module.controls(dataset)
        return self.module.claim(dataset), {name: self.module.claim(other) for name, other in controls.items()}

    def fault(self, dataset):
        """Why the claim must not be shown as true, or None: it does not hold, or no control refutes a part of it."""
        claim, controls = self.verdict(dataset)
        try:
            claims.check(claim, controls)
        except claims.ClaimError as error:
            return str(error)
        if not controls:
            return "no control"
        idle = [part.what for n, part in enumerate(claim.parts) if all(c.parts[n].holds for c in controls.values())]
        return f"no control breaks: {'; '.join(idle)}" if idle else None

    @property
    def caption(self):
        """The paragraphs after the question, each on one line."""
        _, _, rest = inspect.cleandoc(self.module.__doc__ or "").partition("\n")
        return [" ".join(part.split()) for part in rest.split("\n\n") if part.strip()]

    @property
    def tolerance(self):
        """`{variable: {"rtol", "atol", "reason"}}` where it differs from the default."""
        return getattr(self.module, "TOLERANCE", {})


def entries(folder=HERE, only=None):
    """The figures of a folder, by probe and place.

    Args:
        folder: where the modules lie; `golden/` is below it.
        only: names to keep; None is all.

    Raises:
        InputError: a name that is not there, a module without one of its parts, or in no place.
    """
    folder = pathlib.Path(folder)
    names = sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    if unknown := [name for name in only or () if name not in names]:
        raise InputError("no such figure", got=", ".join(unknown), expected=", ".join(names) or "none")
    found = [_entry(folder, name) for name in names if only is None or name in only]
    return sorted(found, key=lambda entry: (*entry.place, entry.name))


def _entry(folder, name):
    place = importlib.util.spec_from_file_location(f"figures.{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    hint = "begin the file's name with an underscore if it is not a figure"
    if missing := [part for part in PARTS if not callable(getattr(module, part, None))]:
        what = f"{name}.py: a figure needs data(lab), claim(ds), controls(ds) and draw(ds)"
        raise InputError(what, got=f"no {missing[0]}", hint=hint)
    probe, *_ = place = getattr(module, "PLACE", ("none",))
    if probe not in PROBES or len(place) != 2:
        expected = f'PLACE = ("{next(iter(PROBES))}", 10); probes: {", ".join(PROBES)}'
        raise InputError(f"{name}.py: a figure has a place", got=place, expected=expected, hint=hint)
    return Entry(name, module, folder / "golden" / f"{name}.json")
