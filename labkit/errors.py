"""One exception family. Every message says what is wrong, what was got, what was expected and what to try.

    try:
        lab.trace("")
    except labkit.LabError as error:
        error.what, error.got, error.expected, error.hint

As text, `str(error)`, or as Python shows it:

    labkit.errors.InputError: the prompt is empty
      got: 0 tokens
      expected: at least 1
      try: lab.trace("red fox")

An `InputError` is a `ValueError` too, a `SeamError` a `RuntimeError`, and so on.
"""

import pathlib

__all__ = [
    "BackendError",
    "BudgetError",
    "CallError",
    "CheckpointError",
    "ClaimError",
    "InputError",
    "LabError",
    "LayerError",
    "ParityError",
    "SeamError",
    "first_line",
    "install_hint",
    "one_line",
]

DISTRIBUTION = "labkit-hybrid"  # what pip calls this package; `labkit` on the public index is another one


class LabError(Exception):
    """Base of every error labkit raises on purpose.

    Args:
        what: one sentence, lower case, that names the broken rule.
        got: the offending value or size.
        expected: the values or sizes that would have been accepted.
        hint: the call, option or package that helps; shown after `try:`.
    """

    def __init__(self, what: str, *, got=None, expected=None, hint=None):
        self.what, self.got, self.expected, self.hint = what, got, expected, hint
        rows = (("got", got), ("expected", expected), ("try", hint))
        super().__init__("\n".join([what, *(f"  {name}: {text}" for name, text in rows if text is not None)]))


class InputError(LabError, ValueError):
    """A prompt, index, option or combination of options that makes no sense."""


class CallError(InputError, TypeError):
    """An argument that a call does not have, needs, or takes by name only; the hint is the call as it must be."""


class LayerError(LabError, ValueError):
    """A question that does not fit the kind of the layer; the hint names the call that does."""


class SeamError(LabError, RuntimeError):
    """A seam that was asked for never fired, or was not kept in this run."""


class ParityError(LabError, ArithmeticError):
    """What was recomputed from the seams disagrees with the model's own next seam."""


class BudgetError(LabError, MemoryError):
    """A request that would need more memory than there is; refused before it starts."""


class CheckpointError(LabError, OSError):
    """Weights, or a folder of results, that are missing, incomplete, damaged, unsafe to read or cannot be written."""


class ClaimError(LabError, AssertionError):
    """A sentence that its numbers do not carry, or that holds on the control that ought to refute it."""


class BackendError(LabError, RuntimeError):
    """A device, package or kernel that is needed and not there."""


def first_line(error: BaseException, most: int = 200) -> str:
    """What an error of somebody else's says, in one line of at most so many characters; its type if it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:most]


def one_line(error: BaseException, most: int = 200) -> str:
    """The type of an error and all that it says, as one line of at most so many characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def install_hint(extra: str) -> str:
    """The command that installs an extra: from the checkout that labkit is imported from, else from the index.

    Args:
        extra: a name of pyproject.toml's optional dependencies.
    """
    root = pathlib.Path(__file__).resolve().parent.parent
    project = root / "pyproject.toml"
    if project.is_file() and f'name = "{DISTRIBUTION}"' in project.read_text("utf-8"):
        return f'pip install -e "{"." if root.samefile(".") else root}[{extra}]"'
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def __dir__():
    return sorted(__all__)
