"""Every public name says what it is: its arguments, what it raises, its axes, and where its equation comes from."""

import ast
import inspect
import re
import textwrap

import pytest

import labkit as lk
from labkit.arguments import WORDS

LEFT = {"self", "cls", "args", "kwargs", "options", "further"}
FOREIGN = {"draw.Figure"}  # a figure of plotly with labkit's look; its arguments are plotly's


def public():
    """(name, function or class) of everything that the package offers by name."""
    for entry in lk.__all__:
        value = getattr(lk, entry)
        if not inspect.ismodule(value):
            yield entry, value
            continue
        listed = getattr(value, "__all__", None) or [
            name
            for name, one in vars(value).items()
            if not name.startswith("_") and getattr(one, "__module__", None) == value.__name__
        ]
        for name in listed:
            one = getattr(value, name)
            if inspect.isfunction(one) or inspect.isclass(one):
                yield f"{entry}.{name}", one


PUBLIC = dict(public())
OURS = {
    name: one for name, one in PUBLIC.items() if (one.__module__ or "").startswith("labkit") and name not in FOREIGN
}


def said(one):
    """Its docstring; of a class with those of labkit that it comes from."""
    if not inspect.isclass(one):
        return inspect.getdoc(one) or ""
    bases = [base for base in one.__mro__ if base.__module__.startswith("labkit")]
    return "\n".join(filter(None, (vars(base).get("__doc__") for base in bases)))


def arguments(one):
    """Names of the arguments that somebody gives."""
    try:
        return [name for name in inspect.signature(one).parameters if name not in LEFT and not name.startswith("_")]
    except ValueError:
        return []


def raised(function):
    """Errors of labkit that the function's own lines raise."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    names = [node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {name.id for name in names if isinstance(name, ast.Name) and name.id.endswith("Error")}


def test_there_is_something_to_walk():
    assert len(OURS) > 300 and {"deltanet.memory", "Lab", "claims.Part", "check.predict"} <= OURS.keys()


@pytest.mark.parametrize("name", OURS)
def test_it_says_what_it_is_and_names_its_arguments(name):
    one, text = OURS[name], said(OURS[name])
    assert text.strip() and not text.startswith(f"{getattr(one, '__name__', '')}("), "no docstring of its own"
    unnamed = [
        word
        for word in arguments(one)
        if word not in WORDS and not re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text)
    ]
    assert unnamed == []


@pytest.mark.parametrize("name", [name for name, one in OURS.items() if inspect.isfunction(one)])
def test_it_says_what_it_raises(name):
    text = said(OURS[name])
    assert {error for error in raised(OURS[name]) if error not in text} == set()


READINGS = [name for name, one in OURS.items() if hasattr(one, "needs") and inspect.isfunction(one)]


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_says_its_axes_and_its_source(name):
    one, text = OURS[name], said(OURS[name])
    home = inspect.getmodule(inspect.unwrap(one))
    assert re.search(r"\((?:\w+, )*\w+(?:, \.\.\.)?,?\)|\[\w+", text), "no axes"
    assert re.search(r"arXiv|Source|eq\.|transformers|\d{4}", text + (home.__doc__ or "")), "no source"


@pytest.mark.parametrize("name", [name for name, one in OURS.items() if inspect.isclass(one)])
def test_methods_of_a_class_are_documented(name):
    own = [one for one in OURS[name].__mro__ if one.__module__.startswith("labkit")]
    methods = {key: value for one in reversed(own) for key, value in vars(one).items() if not key.startswith("_")}
    spoken = lambda value: inspect.isfunction(value) and value.__name__ != "<lambda>" or isinstance(value, property)
    functions = {key: value for key, value in methods.items() if spoken(value)}
    assert [key for key in functions if not (inspect.getdoc(getattr(OURS[name], key)) or "").strip()] == []


def test_the_common_words_are_used():
    used = {word for one in OURS.values() for word in arguments(one)}
    assert set(WORDS) <= used
