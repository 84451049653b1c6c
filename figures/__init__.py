"""One figure is one module in this folder; the folder is the registry.

A module whose name does not begin with an underscore is a figure:

    '''Claim, one line: the title in the gallery.

    How to read it, and what would refute it; paragraphs are parted by blank lines.

    Source: where the quantity is defined.
    '''

    def data(lab):     # labkit.Lab -> xarray.Dataset, by library calls only
    def draw(ds):      # xarray.Dataset -> plotly Figure; never changes ds

Beside it lies `golden/<name>.json`, the numbers that `data` gave when somebody last looked at them. A
variable that may move further than others says so in the module:
`TOLERANCE = {"weight": {"rtol": 1e-3, "atol": 1e-5, "reason": "..."}}`.

`python -m figures` draws them all (`--only NAME`, `--update`, `--png`, `--out FOLDER`).
"""

import dataclasses
import importlib.util
import inspect
import pathlib
import types

from labkit.errors import InputError

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Entry:
    """A figure as the folder holds it: its module and its golden data (which may not exist yet)."""

    name: str
    module: types.ModuleType
    golden: pathlib.Path

    @property
    def claim(self):
        """First line of the module's docstring."""
        return inspect.cleandoc(self.module.__doc__ or "").partition("\n")[0].strip()

    @property
    def caption(self):
        """The paragraphs after the claim, each on one line."""
        _, _, rest = inspect.cleandoc(self.module.__doc__ or "").partition("\n")
        return [" ".join(part.split()) for part in rest.split("\n\n") if part.strip()]

    @property
    def tolerance(self):
        """`{variable: {"rtol", "atol", "reason"}}` where it differs from the default."""
        return getattr(self.module, "TOLERANCE", {})


def entries(folder=HERE, only=None):
    """The figures of a folder in alphabetical order.

    Args:
        folder: where the modules lie; `golden/` is below it.
        only: names to keep; None is all.

    Raises:
        InputError: a name that is not there, or a module without `data` or `draw`.
    """
    folder = pathlib.Path(folder)
    names = sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    if unknown := [name for name in only or () if name not in names]:
        raise InputError("no such figure", got=", ".join(unknown), expected=", ".join(names) or "none")
    return [_entry(folder, name) for name in names if only is None or name in only]


def _entry(folder, name):
    place = importlib.util.spec_from_file_location(f"figures.{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    if missing := [part for part in ("data", "draw") if not callable(getattr(module, part, None))]:
        hint = "begin the file's name with an underscore if it is not a figure"
        what = f"{name}.py: a figure needs data(lab) and draw(ds)"
        raise InputError(what, got=f"no {missing[0]}", hint=hint)
    return Entry(name, module, folder / "golden" / f"{name}.json")
