"""How a public call is given what it needs: its subject first, everything else by name, one spelling for each word.

    @public
    def grid(lab: Lab, *, lengths=None, heads=None): ...

    grid(run)            a run where a lab belongs       InputError, which names the call that is right
    grid(lab, head=2)    another spelling of `heads`     CallError, which says the right one
    grid(lab, [64])      a value without its name        CallError, which gives it one

What a subject must be is read from its annotation: `Run`, `Lab` or `Spec`. Calls that take a dataset say themselves of
which reading it must be.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

from labkit.errors import CallError, InputError

PLAIN = bool | int | float | str | list | tuple | range  # values that a hint can repeat
LONGEST = 600  # letters of one value in a hint
# What a subject is called, what gives one, and what stands for it in a hint.
SUBJECTS = {
    "Run": ("a run", "what lab.trace or lab.generate returns", "run"),
    "Lab": ("a lab", "what labkit.load or labkit.wrap returns", "lab"),
    "Spec": ("a spec", "lab.spec, or what labkit.spec.read returns", "lab.spec"),
    "Snapshot": ("a snapshot", "what lab.snapshot returns", "snap"),
}
MADE = {("Spec", "Run"): "run.spec", ("Spec", "PreTrainedConfig"): "spec.read(model.config)"}
MADE |= {("Lab", "Module"): "labkit.wrap(model)", ("Snapshot", "object"): "lab.snapshot(cache)"}
UNNAMED = {"run": "Run", "lab": "Lab", "spec": "Spec"}  # subjects without an annotation
# What may stand in a hint for an argument that is missing.
EXAMPLES = {"prompt": "red fox", "prompts": ["red fox"], "name": "keep"}
# Other spellings of an argument: each is tried where the one that was given is unknown.
TWINS = {
    "head": ("heads",),
    "heads": ("head",),
    "query_head": ("heads",),
    "query_heads": ("heads",),
    "value_head": ("heads",),
    "value_heads": ("heads",),
    "layer": ("layers",),
    "layers": ("layer",),
    "token": ("tokens", "rows"),
    "tokens": ("token", "rows"),
    "row": ("rows", "tokens", "token"),
    "rows": ("row", "tokens", "token"),
    "answer": ("of",),
    "foil": ("against",),
    "prompt": ("prompts",),
    "position": ("token", "tokens", "at"),
    "positions": ("tokens", "token", "at"),
}


def public(function: Callable, name: str | None = None, first: Callable | None = None) -> Callable:
    """A function of a module that checks, before it is called, its subjects and how its arguments are spelled.

    Args:
        name: of the call, if it is not that of its package and its own.
        first: called with the first argument, whatever else was given, and raises where that is wrong.

    Raises (when it is called):
        InputError: something else where a run, a lab, a spec or a snapshot belongs.
        CallError: an unknown or missing argument, or one without its name.
    """
    name, parameters = name or called(function), inspect.signature(function).parameters
    kinds, options = subjects_of(parameters), options_of(parameters)

    @functools.wraps(function)
    def call(*given, **chosen):
        if first is not None and (given or next(iter(kinds), None) in chosen):
            first(given[0] if given else chosen[next(iter(kinds))])
        check_subjects(name, kinds, given, chosen)
        check_names(name, parameters, given, chosen)
        check_whole(name, parameters, given, chosen)
        check_options(name, options, chosen)
        return function(*given, **chosen)

    return call


def called(function: Callable) -> str:
    """ "deltanet.memory": the package below labkit and the function; "lab.trace" of a method of `Lab`."""
    if function.__qualname__.startswith("Lab."):
        return f"lab.{function.__name__}"
    return f"{function.__module__.removeprefix('labkit.').split('.')[0]}.{function.__name__}"


def subjects_of(parameters: Mapping) -> dict[str, tuple[str, ...]]:
    """`{parameter: kinds}` of the parameters that may be given without their names, none of what is no subject."""
    hints = {name: each.annotation for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD}
    found = {name: _words(hint, UNNAMED.get(name, "")) for name, hint in hints.items()}
    return {name: words if set(words) <= SUBJECTS.keys() else () for name, words in found.items()}


def _words(hint, unnamed=""):
    """The names in an annotation, `("Snapshot", "None")`; `unnamed` where there is none."""
    hint = unnamed if hint is inspect.Parameter.empty else hint
    told = hint if isinstance(hint, str) else getattr(hint, "__name__", str(hint))
    return tuple(word.rpartition(".")[2] for word in told.split(" | "))


def options_of(parameters: Mapping) -> dict[str, tuple[str, ...]]:
    """`{parameter: kinds}` of a snapshot that is given by name, `snap: Snapshot | None`; None is a kind too. Of other
    subjects by name, a run to patch from or a state to start with, the calls themselves say what they are for.
    """
    snap = parameters.get("snap")
    return {} if snap is None or snap.kind is not snap.KEYWORD_ONLY else {"snap": _words(snap.annotation)}


def check_options(name: str, options: Mapping[str, tuple[str, ...]], chosen: Mapping) -> None:
    """Refuse something else where a subject is given by name: an InputError; `options` as of `options_of`."""
    for word, kinds in options.items():
        value = chosen.get(word, FITS)
        if not fits(value, kinds) and not (value is None and "None" in kinds):
            (what, expected, _), right = SUBJECTS[kinds[0]], f"{word}={made(value, kinds)}"
            raise InputError(f"{name}: {word} is {what}", got=described(value), expected=expected, hint=right)


def check_subjects(name: str, kinds: Mapping[str, tuple[str, ...]], given: Sequence, chosen: Mapping) -> None:
    """Refuse a text, a lab, a model, an array, ... where something else belongs, and name the call that is right.

    Args:
        name: of the call. kinds: as of `subjects_of`. given, chosen: what it was given.

    Raises:
        InputError: the first subject that is something else.
    """
    pairs = [(value, kinds[word]) for word, value in zip(kinds, given, strict=False)]
    wrong = [(value, kind) for value, kind in pairs if kind and not fits(value, kind)]
    wrong += [(chosen[word], kind) for word, kind in kinds.items() if kind and not fits(chosen.get(word, FITS), kind)]
    if wrong:
        value, kind = wrong[0]
        told = [made(value, kind) if kind else repeated(value) for value, kind in pairs]
        options = [
            f"{word}={made(it, kinds[word]) if kinds.get(word) else repeated(it)}" for word, it in chosen.items()
        ]
        options = [option for option in options if not option.endswith("=...")]
        if isinstance(value, str) and kind[0] == "Lab" and len(given) < len(kinds):  # the prompt, in the lab's place
            told.append(repeated(value))
        what, expected, _ = SUBJECTS[kind[0]]
        hint = f"{name}({', '.join(told + options)})"
        raise InputError(f"{name} reads {what}", got=described(value), expected=expected, hint=hint)


FITS = object()  # an argument that was not given


def fits(value: object, kinds: Sequence[str]) -> bool:
    """Whether a value can be a subject of these kinds; labs and specs of the user's own are taken as they are."""
    names = {each.__name__ for each in type(value).__mro__}
    if value is FITS or names & set(kinds):
        return True
    if not {"Lab", "Spec"} & set(kinds):
        return False
    if isinstance(value, PLAIN | bytes | Mapping) or value is None or hasattr(value, "shape"):
        return False
    return not names & ({"Dataset", "DataArray", "Module", "Path", "PreTrainedConfig"} | SUBJECTS.keys())


def described(value: object) -> str:
    """ "a text", "a run", "a model of transformers", or the name of its type."""
    names = {each.__name__ for each in type(value).__mro__}
    told = {word: what for word, (what, *_) in SUBJECTS.items()}
    told |= {"str": "a text", "Module": "a model of transformers", "Dataset": "a dataset"}
    return next((told[word] for word in told if word in names), type(value).__name__)


def made(value: object, kinds: Sequence[str]) -> str:
    """How a subject of these kinds is made of what was given in its place, as code."""
    kind = kinds[0]
    if fits(value, kinds):
        return SUBJECTS[kind][2]
    names = {each.__name__ for each in type(value).__mro__}
    if kind == "Run":
        prompt = value if isinstance(value, str) and value else "red fox"
        return f"lab.trace({prompt[:40]!r})"
    if kind == "Spec" and isinstance(value, str):  # a model's name
        return f"spec.read({value!r})" if "qwen" in value.lower() else 'spec.read("Qwen3.6-27B")'
    return next((code for (what, of), code in MADE.items() if what == kind and of in names), SUBJECTS[kind][2])


def repeated(value: object) -> str:
    """A value as code, an ellipsis where that is no plain or no short one."""
    text = repr(value) if isinstance(value, PLAIN) or value is None else "..."
    text = text if len(text) <= LONGEST else "..."
    word = {"Run": "run", "Lab": "lab", "Dataset": "ds"}
    return next((word[each.__name__] for each in type(value).__mro__ if each.__name__ in word), text)


def check_names(name: str, parameters: Mapping, given: Sequence, chosen: Mapping) -> None:
    """Refuse arguments that are unknown, or without a name.

    Args:
        name: of the call. parameters: of its signature. given, chosen: what it was given.

    Raises:
        CallError: either of them.
    """
    places, named = _arguments(parameters)
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    right = {**dict(zip(places, given, strict=False)), **chosen}
    expected, hint = ", ".join(named or places), lambda: _call(name, parameters, right)  # noqa: E731
    if len(given) > len(places):
        free = [word for word in named if word not in chosen]
        free.sort(key=lambda word: parameters[word].default is not parameters[word].empty)
        right |= dict(zip(free, given[len(places) :], strict=False))
        got = ", ".join(map(repeated, given[len(places) :]))
        first = ", ".join(word for word in places if word != "self") or "nothing"
        raise CallError(f"{name}: all but {first} is given by name", got=got, expected=expected, hint=hint())
    for word in chosen:
        twin = next((each for each in TWINS.get(word, ()) if each in parameters and each not in chosen), None)
        if word in parameters or (anything and twin is None):
            continue
        near = difflib.get_close_matches(word, [each for each in (*places, *named) if each not in right], 1)
        twin = twin or next(iter(near), None)
        got = f"{word}={repeated(chosen[word])}"
        value = right.pop(word)
        right |= {} if twin is None else {twin: value}
        raise CallError(f"{name} has no argument {word!r}", got=got, expected=expected, hint=hint())


def check_whole(
    name: str, parameters: Mapping, given: Sequence, chosen: Mapping, examples: Mapping | None = None
) -> None:
    """Refuse a call that lacks an argument.

    Args:
        name, parameters, given, chosen: as of `check_names`. examples: values of what may be missing, for the hint.

    Raises:
        CallError: it does.
    """
    places, named = _arguments(parameters)
    right = {**dict(zip(places, given, strict=False)), **chosen}
    required = [word for word in (*places, *named) if parameters[word].default is parameters[word].empty]
    if lost := [word for word in required if word not in right]:
        given = EXAMPLES | dict(examples or {})
        hint = _call(name, parameters, right | {word: given.get(word, ...) for word in lost})
        expected = ", ".join(word for word in (*places, *named) if word != "self")
        raise CallError(f"{name} needs {' and '.join(lost)}", got=f"no {lost[0]}", expected=expected, hint=hint)


def _arguments(parameters):
    """Names of arguments that may be given without them, and of all others."""
    places = [word for word, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    return places, [word for word, each in parameters.items() if each.kind is each.KEYWORD_ONLY]


def check_data(data: object, name: str, made_by: str, variables: Sequence[str] = ()) -> None:
    """Refuse what is not the dataset of a certain call.

    Args:
        name: of the call that reads it. made_by: the call that makes one, as code. variables: that it has.

    Raises:
        InputError: something else, or a dataset without these variables.
    """
    known = getattr(data, "data_vars", None)
    if known is None or not set(variables) <= set(known):
        got = described(data) if known is None else f"a dataset of {', '.join(map(str, known)) or 'nothing'}"
        what, hint = f"{name} reads a dataset of {made_by.partition('(')[0]}", f"{name}({made_by})"
        raise InputError(what, got=got, expected=", ".join(variables) or None, hint=hint)


def check_ends(pair: Sequence[tuple[int, str]], ends: str, name: str, hint: str) -> None:
    """Refuse to compare prompts at different tokens, unless that was asked for.

    What differs between them is then what the tokens themselves are, which is seldom the question.

    Args:
        pair: (id, text) of the token at which each is compared. ends: "same" or "any". name: of the call.
        hint: the call that compares all the same.

    Raises:
        InputError: other tokens, or another word.
    """
    if ends not in ("same", "any"):
        raise InputError(f"{name}: unknown ends", got=f"ends={repeated(ends)}", expected="'same' or 'any'")
    (one, text), (other, its) = pair
    if ends == "same" and int(one) != int(other):
        expected = "the same token, as at the end of a common question"
        raise InputError(
            f"{name}: the prompts are at different tokens", got=f"{text!r} and {its!r}", expected=expected, hint=hint
        )


def _call(name, parameters, values):
    """A call as code, its subjects first, each by the name that stands for it."""
    kinds, told = subjects_of(parameters), []
    for word in parameters:
        if word in values and word != "self":
            value = values[word]
            kind = kinds.get(word, ())
            text = SUBJECTS[kind[0]][2] if kind else "..." if value is ... else repeated(value)
            told.append(text if word in kinds else f"{word}={text}")
    return f"{name}({', '.join(told)})"
