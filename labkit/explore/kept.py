"""Where a choice is kept, so that it is there again after the kernel was restarted: a small file beside the notebook.

The kernel's memory is gone by then, and what a notebook keeps of its widgets cannot be read from Python. The folder
that a kernel starts in is that of its notebook, in JupyterLab, Notebook and VS Code.
"""

import json
import pathlib
import re
from collections.abc import Mapping

from labkit.errors import InputError, LabError
from labkit.explore.choices import Choice, read
from labkit.folders import parsed, told, write_text
from labkit.spec import Spec

FOLDER = ".labkit/explore"
LARGEST = 2**24  # bytes: more was not written here


def place(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """The file of a name.

    Raises:
        InputError: a name that is no plain word.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w. -]{0,63}", name):
        expected = "letters, digits, spaces, dots and dashes, at most 64 of them"
        raise InputError("a panel is kept under a plain name", got=repr(name)[:80], expected=expected)
    return (pathlib.Path.cwd() if folder is None else folder) / FOLDER / f"{name}.json"


def write(path: pathlib.Path, choice: Choice, *, model: str, given: object) -> None:
    """Keep a choice, whole or not at all.

    Args:
        model: its name. given: the prompt that the cell gave.

    Raises:
        CheckpointError: the disk says no.
    """
    with told("what is chosen in the explorer cannot be kept", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"model": model, "given": given, "choice": choice.facts()}, indent=1))


def taken_up(
    path: pathlib.Path, spec: Spec, cards: Mapping[str, tuple[str, ...]], *, model: str, given: object
) -> tuple[Choice | None, str]:
    """(the choice that was kept, a sentence on why it was not taken up or "").

    A prompt that the cell gives anew wins over the one that was kept.
    """
    try:
        if not path.exists():
            return None, ""
        facts = parsed(path.read_bytes()) if path.stat().st_size <= LARGEST else None
        if not isinstance(facts, dict):
            raise InputError("it holds no choice", got=path.name)
        if facts.get("model") != model:
            return None, f"What was kept as {path.name} is of the model {str(facts.get('model'))[:80]}."
        choice = read(facts.get("choice"), spec, cards)
    except (LabError, OSError, TypeError, ValueError) as error:
        return None, f"What was kept as {path.name} cannot be read ({str(error).splitlines()[0]})."
    return (choice, "") if given is None or given == facts.get("given") else (None, "")
