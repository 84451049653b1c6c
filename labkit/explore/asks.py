"""Calls as records: one record both makes the data of a view and writes the code that is shown for it."""

import dataclasses
import functools
import importlib
import types
from collections.abc import Mapping, Sequence

Prompt = str | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Ask:
    """One call of labkit.

    Attributes:
        name: "deltanet.memory". subjects: names of what stands before the options, "run" and "lab".
        options: arguments by name, plain numbers, texts, lists and ranges. keep: variables of its Dataset; () for all.
    """

    name: str
    subjects: tuple[str, ...] = ()
    options: Mapping = dataclasses.field(default_factory=dict)
    keep: tuple[str, ...] = ()

    @functools.cached_property
    def text(self) -> str:
        """The call as one writes it."""
        options = [f"{key}={value!r}" for key, value in self.options.items()]
        return f"lk.{self.name}({', '.join([*self.subjects, *options])})" + (
            f"[{list(self.keep)}]" if self.keep else ""
        )

    def make(self, **given) -> object:
        """What the call returns.

        Args:
            given: the subjects by their names.
        """
        head, *rest = self.name.split(".")
        function = functools.reduce(getattr, rest, importlib.import_module(f"labkit.{head}"))
        made = function(*(given[name] for name in self.subjects), **self.options)
        return made[list(self.keep)] if self.keep else made


@dataclasses.dataclass(frozen=True)
class Made:
    """How a run is made: `lab.trace` of a prompt, under edits or not.

    Attributes:
        prompt: a text, or token ids. options: of `lab.trace`. edits: calls that make the edits.
        lab: the name of the lab in the user's code. before: a line that makes it, or "".
    """

    prompt: Prompt
    options: Mapping = dataclasses.field(default_factory=dict)
    edits: tuple[Ask, ...] = ()
    lab: str = "lab"
    before: str = ""

    def line(self, name: str, *, edited: bool) -> str:
        """The line that makes the run of this name; two of them with edits."""
        prompt = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        trace = f"{name} = {self.lab}.trace({prompt!r}{options})"
        if not edited:
            return trace
        return f"with {self.lab}.edit({', '.join(edit.text for edit in self.edits)}):\n    {trace}"

    def code(self, ask: Ask, show: str, draw: str = "") -> str:
        """Code that makes what a view shows, as `ds`, and draws it.

        Args:
            show: "before", "after" the edits, or the "difference" of the two. draw: a call that draws `ds`, or "".
        """
        lines = ["import labkit as lk", *([self.before] if self.before else [])]
        call = ask.text.replace(", lab", f", {self.lab}", 1) if "lab" in ask.subjects else ask.text
        if show == "difference":
            lines += [self.line("before", edited=False), self.line("after", edited=True)]
            lines += [f"read = lambda run: {call}", "ds = read(after) - read(before)"]
            draw = draw.replace("(ds", "(ds.drop_attrs()", 1)
        else:
            lines += [self.line("run", edited=show == "after"), f"ds = {call}"]
        return "\n".join([*lines, *([draw] if draw else [])])


def named(lab, space: Mapping | None = None) -> tuple[str, str]:
    """(name of a lab in the user's code, a line that makes it where it has no name there).

    Args:
        space: the user's names; None asks the running IPython, if there is one.
    """
    if space is None:
        space = _space()
    names = [name for name, value in space.items() if value is lab and not name.startswith("_")]
    if names:
        return min(names, key=lambda name: (name != "lab", name)), ""
    made = lab.source
    known = isinstance(made, functools.partial) and made.func.__name__ == "load"
    if not known or not all(isinstance(value, str | int | type(None)) for value in made.keywords.values()):
        return "lab", ""
    return "lab", _loaded(made)


def _loaded(made: functools.partial) -> str:
    import inspect

    usual = {name: each.default for name, each in inspect.signature(made.func).parameters.items()}
    told = {key: value for key, value in made.keywords.items() if usual.get(key, ...) != value}
    first = repr(told.pop("model", None) or made.keywords.get("model"))
    return f"lab = lk.load({', '.join([first, *(f'{key}={value!r}' for key, value in told.items())])})"


def _space() -> Mapping:
    """The user's names in the running IPython; nothing elsewhere."""
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "user_ns", {}) if not isinstance(shell, types.NoneType) else {}


def plain(prompt: str | Sequence) -> Prompt:
    """A prompt that can be compared and kept: a text as it is, ids as a tuple of ints."""
    if isinstance(prompt, str):
        return prompt
    from labkit.notation import whole_numbers

    return tuple(whole_numbers(prompt, "prompt", least=0))
