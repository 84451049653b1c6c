"""Calls as a person expects them: one layer or many, one spelling, one answer for what is given in a wrong place."""

import importlib
import inspect
import re

import numpy as np
import pytest
import tiny
import torch
import xarray

import labkit
from labkit import attention, attribution, calling, deltanet, draw, edit, plan, residual, yarn
from labkit.errors import CallError, InputError, LabError, LayerError

MECHANISMS = "deltanet attention residual attribution experts mtp yarn steering features edit".split()
READINGS = sorted(plan.readings())
NEEDED = {"source": 3, "at": 5, "segments": ["a"] * 7 + ["b"] * 16}
RUNS = ("other", "changed")


def subject(parameter):
    """ "Run", "Lab", "Spec", ... of a parameter's annotation."""
    return str(getattr(parameter.annotation, "__name__", parameter.annotation)).rpartition(".")[2]


def functions(*subjects):
    """(name, function) of the public functions whose first argument is of this kind."""
    for module in MECHANISMS:
        held = getattr(labkit, module)
        for name in held.__all__:
            function = getattr(held, name)
            if inspect.isfunction(function):
                first = next(iter(inspect.signature(function).parameters.values()))
                if not subjects or subject(first) in subjects:
                    yield f"{module}.{name}", function


@pytest.fixture(scope="module")
def made():
    """A lab whose model has every kind of layer and experts, and a run."""
    lab = tiny.make_lab(tiny.model(experts=True))
    return lab, lab.trace(tiny.ids(23))


def ask(name, made, **given):
    """A reading by name, with what it needs beside."""
    lab, run = made
    module, _, function = name.partition(".")
    read, needs = getattr(getattr(labkit, module), function), plan.readings()[name]
    options = {word: value for word, value in NEEDED.items() if word in needs.options}
    more = [lab if word == "lab" else run for word in needs.options if word in ("lab", *RUNS)]
    if "change" in needs.options:
        more.append(torch.ones(run.spec.dk, run.spec.dv))
    return read(run, *more, **options | given)


def layers_of(name, made):
    return list(made[1].spec.layers_of(plan.readings()[name].kind))


# ------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_takes_one_layer_or_many(name, made):
    """A list gives an axis `layer` whose entries are the readings of each; so do a range, an array and None."""
    fitting = layers_of(name, made)
    first, last = fitting[0], fitting[-1]
    one, other = ask(name, made, layer=first), ask(name, made, layer=last)
    assert isinstance(one, xarray.Dataset) and "layer" not in one.dims and int(one.layer) == first
    both = ask(name, made, layer=[last, first])
    assert next(iter(both.dims)) == "layer" or all(array.dims[0] == "layer" for array in both.data_vars.values())
    assert both.layer.values.tolist() == [last, first]
    for variable in one.data_vars:
        for single in (one, other):
            found = both[variable].sel(layer=int(single.layer))
            if found.dtype.kind == "f":  # layers that stand together may have more entries than one has alone
                np.testing.assert_array_equal(found.reindex_like(single[variable]), single[variable])
    same = [ask(name, made, layer=given) for given in (np.array([last, first]), torch.tensor([last, first]))]
    assert all(each.identical(both) for each in same)
    assert ask(name, made, layer=[first]).layer.values.tolist() == [first], "a list of one has the axis"
    whole = ask(name, made, layer=None)
    assert whole.layer.values.tolist() == fitting and whole.identical(ask(name, made, layer=fitting))
    if fitting == list(range(len(fitting))):
        assert whole.identical(ask(name, made, layer=range(len(fitting))))


@pytest.mark.parametrize("name", READINGS)
def test_layers_and_heads_count_from_the_end_and_from_arrays(name, made):
    layer, spec = layers_of(name, made)[-1], made[1].spec
    told = ask(name, made, layer=layer)
    for given in (layer - spec.layers, np.int64(layer), torch.tensor(layer)):
        assert ask(name, made, layer=given).identical(told), given
    with pytest.raises(InputError, match="layer out of range"):
        ask(name, made, layer=-spec.layers - 1)
    if "heads" not in plan.readings()[name].options:
        return
    axis, count = ("head", spec.value_heads) if plan.readings()[name].kind == "deltanet" else ("query_head", None)
    count = count or spec.query_heads
    if name == "deltanet.response":  # its change has a part for every head
        return
    alone = ask(name, made, layer=layer, heads=count - 1)
    assert alone[axis].values.tolist() == [count - 1], "an int is one head, and the axis stays"
    for given in ([count - 1], -1, [-1], np.int64(-1), torch.tensor([count - 1]), range(count - 1, count)):
        assert ask(name, made, layer=layer, heads=given).identical(alone), given
    with pytest.raises(InputError, match=f"{axis} out of range"):
        ask(name, made, layer=layer, heads=count)


def test_no_layer_at_all_is_all_that_the_run_kept(made):
    lab, _ = made
    run = lab.trace(tiny.ids(9), layers=[1, 2])
    assert deltanet.memory(run, layer=None).layer.values.tolist() == [1]
    assert attention.pattern(run, layer=None).layer.values.tolist() == [2]
    with pytest.raises(InputError, match="no layer chosen"):
        deltanet.memory(run, layer=[])


@pytest.mark.parametrize("name", ["lens", "lens_by_path", "lens_controls"])
def test_lenses_take_one_layer_or_many(name, made):
    lab, run = made
    runs = [run, lab.trace(tiny.ids(11, seed=3))]
    given = dict(of=[5, 9]) | ({"draws": 1} if name == "lens_controls" else {})
    read = lambda **layers: getattr(residual, name)(runs if name == "lens_controls" else run, lab, **given, **layers)  # noqa: E731
    one, several = read(layers=2), read(layers=[0, 2])
    assert "layer" not in one.dims and several.layer.values.tolist() == [0, 2]
    variable = "found" if name == "lens_controls" else "came" if name == "lens_by_path" else "entropy"
    np.testing.assert_allclose(several[variable].sel(layer=2), one[variable], rtol=1e-5, atol=1e-6)
    assert read(layers=2 - run.spec.layers)[variable].identical(one[variable])
    assert read(layers=np.array([0, 2])).identical(several)
    with pytest.raises(CallError, match=f"residual.{name} has no argument 'layer'(?s:.)*layers=3"):
        read(layer=3)


def test_edits_traces_and_plans_count_layers_from_the_end(made):
    lab, run = made
    last = run.spec.layers - 1
    assert lab.trace(run.ids, layers=-1).seams.keys() == lab.trace(run.ids, layers=last).seams.keys()
    ways = {
        "scale": lambda layer: edit.scale("gated", layer=layer, heads=-1, factor=0.0),
        "patch": lambda layer: edit.patch("mixer_out", layer=layer, run=run, tokens=[3], source=[5]),
        "never_write": lambda layer: deltanet.never_write(layer=layer, heads=[-1]),
        "forget": lambda layer: deltanet.forget(run, layer=layer, source=2, at=4, heads=-1),
        "clamp_keep": lambda layer: deltanet.clamp_keep(run, layer=layer, value=0.5),
        "associate": lambda layer: deltanet.associate(run, layer=layer, source=2, value=3, at=4),
        "replace_state": lambda layer: deltanet.replace_state(0.0, layer=layer, at=4),
    }
    layer = run.spec.deltanet_layers[-1]
    plain = lab.logits(run.ids[None])
    for name, way in ways.items():
        said = []
        for each in (layer, layer - run.spec.layers, np.int64(layer)):
            with lab.edit(way(each)):
                said.append(lab.logits(run.ids[None]))
        assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2]), name
        assert not torch.equal(said[0], plain), name
        if name not in ("patch",):
            with pytest.raises(InputError, match="layer out of range"), lab.edit(way(-run.spec.layers - 1)):
                pass


# ------------------------------------------------------------------------------------------------------- spelling


def spelled():
    """(name, function, argument, its twin) of every public function that chooses heads, layers or tokens."""
    for name, function in functions():
        parameters = inspect.signature(function).parameters
        for word, twin in (("heads", "head"), ("layers", "layer"), ("layer", "layers"), ("tokens", "token")):
            if (
                word in parameters
                and twin not in parameters
                and parameters[word].kind is inspect.Parameter.KEYWORD_ONLY
            ):
                yield name, function, word, twin


SPELLED = list(spelled())
LOW = {"deltanet.implied"}  # the equation itself, of tensors


@pytest.mark.parametrize(("name", "function", "word", "twin"), SPELLED, ids=[f"{row[0]}-{row[3]}" for row in SPELLED])
def test_another_spelling_names_the_right_one(name, function, word, twin, made):
    if name in LOW:
        pytest.skip("of tensors")
    lab, run = made
    cache = lab.cache()
    lab.trace(run.ids[:3], cache=cache)
    places = [
        {"Run": run, "Lab": lab, "Spec": lab.spec, "Snapshot": lab.snapshot(cache)}.get(subject(each), "red fox")
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    with pytest.raises(CallError, match=re.escape(f"{name} has no argument {twin!r}")) as caught:
        function(*places, **{twin: 2})
    assert f"{word}=2" in caught.value.hint and word in caught.value.expected
    assert isinstance(caught.value, InputError | TypeError)


def test_many_functions_are_walked():
    assert len(SPELLED) > 60 and {row[0] for row in SPELLED} > {"deltanet.memory", "edit.scale", "residual.lens"}
    assert all(
        "head" not in inspect.signature(function).parameters for name, function in functions() if "open" not in name
    )


CALLS = {
    "a value without its name": (lambda lab, run: deltanet.memory(run, 2), "by name", "memory(run, layer=2)"),
    "several of them": (lambda lab, run: deltanet.memory(run, 1, [3]), "by name", "memory(run, layer=1, tokens=[3])"),
    "no layer": (lambda lab, run: deltanet.memory(run), "needs layer", "deltanet.memory(run, layer=0)"),
    "no map": (lambda lab, run: attention.pattern(run), "needs layer", "attention.pattern(run, layer=2)"),
    "no lab": (lambda lab, run: residual.lens(run), "needs lab", "residual.lens(run, lab)"),
    "a slip": (lambda lab, run: deltanet.memory(run, layre=1), "no argument 'layre'", "deltanet.memory(run, layer=1)"),
    "rows": (lambda lab, run: attention.pattern(run, layer=2, tokens=[1]), "no argument 'tokens'", "rows=[1]"),
    "a trace": (lambda lab, run: lab.trace([3], layer=2), "lab.trace has no argument 'layer'", "trace([3], layers=2)"),
    "more": (lambda lab, run: lab.generate([3], layer=2), "lab.generate has no", "lab.generate([3], layers=2)"),
    "a plan": (lambda lab, run: lab.plan(4), "all but nothing is given by name", "lab.plan(tokens=4)"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_that_is_spelled_otherwise_is_told_how(case, made):
    call, what, hint = CALLS[case]
    with pytest.raises(CallError, match=re.escape(what)) as caught:
        call(*made)
    assert hint in caught.value.hint


# ------------------------------------------------------------------------------------------------------- subjects


WRONG = {
    "a text": lambda lab, run: "red fox",
    "a lab": lambda lab, run: lab,
    "a run": lambda lab, run: run,
    "a model of transformers": lambda lab, run: lab.model,
    "ndarray": lambda lab, run: np.zeros((3, 4)),
    "Tensor": lambda lab, run: torch.zeros(3),
    "list": lambda lab, run: [1, 2, 3],
    "NoneType": lambda lab, run: None,
    "a dataset": lambda lab, run: deltanet.memory(run, layer=0),
}
SUBJECTS = [*functions("Run"), *functions("Lab"), *functions("Spec")]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_belongs_elsewhere_names_the_right_call(wrong, made):
    """Of every public function whose subject is a run, a lab or a spec; the hint is a call of the same function."""
    for name, function in SUBJECTS:
        first = next(iter(inspect.signature(function).parameters.values()))
        value = WRONG[wrong](*made)
        if type(value).__name__ == subject(first):
            continue
        with pytest.raises(InputError) as caught:
            function(value)
        what = {"Run": "a run", "Lab": "a lab", "Spec": "a spec"}[subject(first)]
        assert caught.value.what == f"{name} reads {what}" and caught.value.got == wrong, name
        assert caught.value.hint.startswith(f"{name}("), name
        if subject(first) == "Run":
            assert "lab.trace(" in caught.value.hint, name
        if wrong == "a model of transformers" and subject(first) == "Lab":
            assert "labkit.wrap(model)" in caught.value.hint, name
    assert len(SUBJECTS) > 50


def test_the_second_subject_is_looked_at_too(made):
    lab, run = made
    with pytest.raises(InputError, match=r"(?s)residual.lens reads a lab.*a run.*try: residual.lens\(run, lab"):
        residual.lens(run, run)
    with pytest.raises(InputError, match=r"(?s)state_difference reads a run.*a lab.*run, lab.trace\('red fox'\), "):
        deltanet.state_difference(run, lab, layer=1)
    with pytest.raises(InputError, match=r"(?s)attribution.exact reads a lab.*exact\(lab, 'red fox', of=3\)"):
        attribution.exact("red fox", of=3)
    with pytest.raises(InputError, match=r"(?s)yarn.wavelengths reads a spec.*wavelengths\(run.spec\)"):
        yarn.wavelengths(run)


DATASETS = [("attention.classes", "scores"), ("yarn.cell_means", "grid"), ("mtp.failures", "drafts")]


@pytest.mark.parametrize(("name", "made_by"), DATASETS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_dataset_of_another_call_is_refused(name, made_by, wrong, made):
    module, _, function = name.partition(".")
    with pytest.raises(InputError):
        getattr(getattr(labkit, module), function)(WRONG[wrong](*made))


@pytest.mark.parametrize("wrong", [kind for kind in WRONG if kind != "a dataset"])
@pytest.mark.parametrize(
    "name", ["heatmap", "frames", "lines", "bars", "tokens", "graph", "maps", "page", "panel", "zoom"]
)
def test_draw_is_given_something_else(name, wrong, made, tmp_path):
    value = WRONG[wrong](*made)
    if name in ("panel", "zoom") and callable(value):
        return  # they call what they are given
    given = {"page": (tmp_path / "a.html", value), "maps": (value,)}.get(name, (value,))
    more = {"page": dict(title="a"), "panel": dict(layer=[1]), "zoom": dict(x=3, y=3)}.get(name, {})
    with pytest.raises(InputError) as caught:
        getattr(draw, name)(*given, **more)
    assert caught.value.hint is not None
    if name in ("heatmap", "frames", "lines", "bars", "tokens", "graph"):
        assert caught.value.what == "draw takes a labelled dataset" and caught.value.got == wrong
        said = {"a text": "lab.trace('red fox')", "a run": "memory(run", "ndarray": "('token', 'source',)"}
        assert said.get(wrong, "") in caught.value.hint


def test_hints_of_draw_run(made):
    lab, run = made
    names = dict(draw=draw, deltanet=deltanet, run=run, labkit=labkit, array=np.zeros((3, 4)))
    for value in (run, np.zeros((3, 4))):
        with pytest.raises(InputError) as caught:
            draw.lines(value)
        eval(caught.value.hint, names)


# ------------------------------------------------------------------------------------------------------- edits


def test_edits_come_one_by_one_or_in_lists(made):
    lab, run = made
    one, two, three = (edit.scale("mixer_out", layer=layer, factor=0.5) for layer in range(3))
    ways = [(one, two, three), ([one, two, three],), ([one, (two,)], three), (each for each in [[one], [[two, three]]])]
    said = []
    for way in ways:
        with lab.edit(*way):
            said.append(lab.logits(run.ids[None]))
    assert all(torch.equal(each, said[0]) for each in said) and not torch.equal(said[0], lab.logits(run.ids[None]))
    with lab.edit(edit.ablate([0, 2])), lab.edit([]):
        assert not torch.equal(lab.logits(run.ids[None]), said[0])
    for wrong in ("mixer_out", ["mixer_out"], [one, None], {"a": one}, run.ids):
        with pytest.raises(InputError, match="not an edit"), lab.edit(wrong):
            pass


def test_an_edit_of_no_seam_or_no_function_is_refused():
    with pytest.raises(InputError, match=r"(?s)an edit acts at a seam.*ndarray.*edit.scale"):
        edit.scale(np.zeros(3), layer=0, factor=0.0)
    with pytest.raises(InputError, match="an edit calls a function"):
        edit.function(3, seam="v", layer=0)
    with pytest.raises(InputError, match="an edit calls a function"):
        edit.state(3, layer=0, at=0)


# ------------------------------------------------------------------------------------------------------- comparisons


def test_prompts_at_different_tokens_are_compared_when_asked(made):
    lab, run = made
    ids = run.ids.clone()
    ids[-1] = (ids[-1] + 1) % 40
    other = lab.trace(ids)
    with pytest.raises(InputError, match="(?s)at different tokens.*the same token") as caught:
        deltanet.state_difference(run, other, layer=1)
    asked = eval(caught.value.hint, dict(deltanet=deltanet, run=run, other=other))
    assert float(asked.difference.max()) > 1e-4
    before = deltanet.state_difference(run, other, layer=1, token=-2)
    assert float(before.difference.max()) == 0, "there they are the same"
    with pytest.raises(InputError, match="(?s)unknown ends.*'same' or 'any'"):
        deltanet.state_difference(run, run, layer=1, ends="some")


@pytest.mark.parametrize("sweep", ["patch_sweep", "patch_slopes"])
def test_pairs_that_end_differently_are_patched_when_asked(sweep, made):
    lab, run = made
    ids = run.ids.clone()
    ids[-1] = (ids[-1] + 1) % 40
    patch = getattr(attribution, sweep)
    given = dict(of=5, against=9, layers=[2], heads=[1], tokens=[-1])
    with pytest.raises(InputError, match=rf'(?s){sweep}: the prompts are at different tokens.*try: .*ends="any"'):
        patch(lab, [(run.ids, run.ids), (run.ids, ids)], **given)
    assert abs(float(patch(lab, [(run.ids, ids)], **given, ends="any").change.max())) > 0
    patch(lab, [(run.ids, torch.cat([ids[:-1].flip(0), run.ids[-1:]]))], **given)


def test_check_ends_names_what_it_got():
    with pytest.raises(InputError, match="(?s)x: the prompts are at different tokens.*' red' and ' blue'.*x.again"):
        calling.check_ends([(3, " red"), (4, " blue")], "same", "x", "x.again()")
    calling.check_ends([(3, " red"), (4, " blue")], "any", "x", "")
    calling.check_ends([(3, " red"), (torch.tensor(3), " red")], "same", "x", "")


# ------------------------------------------------------------------------------------------------------- help


MODULES = labkit._MODULES


@pytest.mark.parametrize("name", MODULES)
def test_dir_lists_public_names_alone(name):
    module = importlib.import_module(f"labkit.{name}")
    assert dir(module) == sorted(module.__all__) and not [each for each in dir(module) if each.startswith("_")]
    assert len(set(module.__all__)) == len(module.__all__) and all(hasattr(module, each) for each in dir(module))


def test_dir_of_labkit_lists_public_names_alone():
    assert dir(labkit) == sorted(labkit.__all__)


def test_layer_kinds_are_told_before_arguments_that_lack(made):
    with pytest.raises(LayerError, match="layer 2 is a gated attention layer"):
        deltanet.forgetting(made[1], layer=2)
    assert issubclass(CallError, LabError)
