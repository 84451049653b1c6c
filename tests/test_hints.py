"""Every hint that is code runs: calls named by errors are found in the source, resolved, and executed on nano."""

import ast
import inspect
import pathlib
import re

import pytest
import torch

import labkit
from labkit import errors, notation, plan

PACKAGE = pathlib.Path(labkit.__file__).parent
ROOTS = (
    "lab",
    "labkit",
    "run",
    "edit",
    "deltanet",
    "attention",
    "experts",
    "residual",
    "attribution",
    "features",
    "steering",
    "sweeps",
    "distributed",
    "yarn",
    "stream",
    "reuse",
    "thinking",
    "draw",
    "words",
    "export",
    "ds",
)
CALL = re.compile(rf"\b(?:{'|'.join(ROOTS)})\.[a-z_][\w.]*\(")
# What an f-string would put in, by the last name of the expression.
FILLED = {"layer": 0, "heads": [0], "name": "'keep'", "dim": "token", "prompt": "'red fox'", "STRIP": 4}
FILLED |= {"edge": "token", "MOST": 4}


def hints():
    """(place, text) of every `hint=`, `instead=` and `hint = ...` of the package, placeholders filled."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.keyword) and node.arg in ("hint", "instead")
            targets = node.targets if isinstance(node, ast.Assign) else []
            named = named or any(isinstance(target, ast.Name) and target.id == "hint" for target in targets)
            values = [node.value] if named else []
            for value in values:
                for part in ast.walk(value):
                    if isinstance(part, ast.JoinedStr) or (
                        isinstance(part, ast.Constant) and isinstance(part.value, str)
                    ):
                        yield f"{path.relative_to(PACKAGE)}:{part.lineno}", filled(part)


def filled(node):
    """The text of a string or an f-string, placeholders by `FILLED`; an unknown one becomes an ellipsis."""
    if isinstance(node, ast.Constant):
        text = node.value  # of a layer of the kind that the call is about: nano is D D D A · D D D A
        return text.replace("{layer}", "3" if "attention." in text or '"v"' in text else "0")
    parts = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(value.value)
        else:
            names = re.findall(r"\w+", ast.unparse(value.value))
            parts.append(next((str(FILLED[name]) for name in reversed(names) if name in FILLED), "..."))
    return "".join(parts)


def calls(text):
    """Calls in a text, from a known root to the closing parenthesis."""
    for match in CALL.finditer(text):
        depth = 0
        for end in range(match.end() - 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                yield text[match.start() : end + 1]
                break


CALLS = sorted({(call, place) for place, text in hints() for call in calls(text)})


@pytest.fixture(scope="module")
def names():
    """What a reader of an error has at hand: a lab, a run, a cache, a snapshot, a dataset, and the modules."""
    lab = labkit.load("nano")
    run, cache = lab.trace("red fox, blue whale"), lab.cache()
    lab.trace(run.ids[:4], cache=cache)
    snap = lab.snapshot(cache)
    modules = {name: getattr(labkit, name) for name in ROOTS if name in labkit.__all__}
    facts = dict(ids=run.ids, rest=run.ids[4:], text="red fox", prompt="red fox", ids_a=run.ids[:3], ids_b=run.ids[:5])
    data = labkit.deltanet.memory(run, layer=0)
    return modules | facts | dict(lab=lab, labkit=labkit, run=run, cache=cache, snap=snap, ds=data, torch=torch)


def test_hints_are_found():
    assert len(CALLS) > 15
    assert {call for call, _ in CALLS} >= {"lab.cache()", 'lab.trace("red fox", grad=True)'}
    sample = 'f"{first}; deltanet.memory(run, layer={layer}) or draw.lines(ds, (1, 2))"'
    assert list(calls(filled(ast.parse(sample).body[0].value))) == [
        "deltanet.memory(run, layer=0)",
        "draw.lines(ds, (1, 2))",
    ]


@pytest.mark.parametrize(("call", "place"), CALLS, ids=[call for call, _ in CALLS])
def test_calls_in_hints_exist_and_run(call, place, names):
    """Names resolve and keywords are known; a call without an ellipsis runs as it stands."""
    tree = ast.parse(call, mode="eval").body
    function = eval(ast.unparse(tree.func), dict(names))
    assert callable(function), place
    known = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        assert {word.arg for word in tree.keywords} <= known.keys(), f"{place}: {list(known)}"
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    whole = ... not in values and not any("path" in str(value) for value in values)
    if whole and all(node.id in names for node in ast.walk(tree) if isinstance(node, ast.Name)):
        eval(call, dict(names))


@pytest.mark.parametrize("name", sorted(plan.readings()))
def test_a_reading_asked_of_the_other_kind_names_a_call_that_runs(name, names):
    needs, lab, run = plan.readings()[name], names["lab"], names["run"]
    layer = lab.spec.attention_layers[0] if needs.kind == "deltanet" else lab.spec.deltanet_layers[0]
    function = eval(name, dict(names))
    extra = {"lab": [lab], "other": [run], "change": [0], "changed": [run]}
    more = [value for key in needs.options[1:] for value in extra.get(key, [])]
    with pytest.raises(errors.LayerError) as caught:
        function(run, *more, layer=layer)
    assert str(layer) in caught.value.hint
    eval(caught.value.hint, dict(names))


@pytest.mark.parametrize("name", sorted(plan.readings()))
@pytest.mark.parametrize("wrong", ["red fox", "lab"])
def test_a_reading_of_no_run_names_the_right_call(name, wrong, names):
    function = eval(name, dict(names))
    with pytest.raises(errors.InputError, match=f"(?s){name} reads a run.*got: a (text|lab).*try: {name}\\(lab.trace"):
        function(names["lab"] if wrong == "lab" else wrong, layer=0)


def test_every_reading_is_listed_and_names_its_seams():
    dense, mixed = labkit.load("nano").spec, labkit.spec.read("Qwen3.6-35B-A3B")
    assert len(plan.readings()) > 12
    for name, needs in plan.readings().items():
        spec = mixed if needs.kind == "experts" else dense
        asked = set(needs.of(spec))
        for kind in spec.seams if needs.kind == "experts" else (needs.kind,):
            assert {"read", "gated", "router"} & asked and asked <= set(spec.seams[kind]), name
        cost = needs.cost(needs.request(spec, 128))
        larger = needs.cost(needs.request(spec, 256))
        assert 0 < cost.result <= larger.result and 0 <= cost.scratch <= larger.scratch and cost.flops >= 0, name


def test_axes_and_quantities_have_no_twins():
    assert len({quantity.long_name for quantity in notation.QUANTITIES.values()}) == len(notation.QUANTITIES)
