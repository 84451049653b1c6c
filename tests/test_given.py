"""One thing in another's place: a lab where a spec belongs, a name where a tokenizer does, a number where names do."""

import pickle
import re

import pytest
import torch

import labkit
from labkit import attribution, deltanet, draw, export, plan, reuse, spec, thinking, yarn
from labkit.errors import CallError, InputError
from labkit.spec import given

MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
OF_SPEC = sorted(name for name in spec.__all__ if given.takes_spec(getattr(spec, name)))
MORE = {"tokens": 10, "gpu": "H200"}
TURN = dict(visible=1, generated=1, thinking=1, position=1)


@pytest.fixture(scope="module")
def lab():
    return labkit.load("nano")


@pytest.fixture(scope="module")
def run(lab):
    return lab.trace("red fox")


def refused(call, *parts, kind=InputError):
    """The error of a call, whose rows hold these parts in this order."""
    with pytest.raises(kind, match="(?s)" + ".*".join(map(re.escape, parts))) as caught:
        call()
    return caught.value


# ------------------------------------------------------------------------------------------------------- specs


def test_functions_of_a_spec_are_all_checked():
    assert len(OF_SPEC) > 20 and {"kv_bytes", "cache_bytes", "weight_bytes", "decode_seconds", "stack"} <= set(OF_SPEC)
    assert not {"read", "size", "find_gpu", "dtype_bytes", "Spec"} & set(OF_SPEC)


@pytest.mark.parametrize("name", OF_SPEC)
def test_something_else_than_a_spec_names_the_call_that_is_right(name, lab, run):
    function = getattr(spec, name)
    known = given.inspect.signature(function).parameters
    more = {word: value for word, value in MORE.items() if word in known}
    function(lab.spec, **more)
    spelled = f"spec.{name} reads a spec"
    hints = {"Qwen3.6-27B": "spec.read('Qwen3.6-27B')", "x": 'spec.read("Qwen3.6-27B")', 3: "lab.spec"}
    for value, hint in (
        (lab, "lab.spec"),
        (run, "run.spec"),
        (lab.model.config, "spec.read(model.config)"),
        *hints.items(),
    ):
        error = refused(lambda value=value: function(value, **more), spelled, "expected: lab.spec, or")
        assert error.hint.startswith(f"spec.{name}({hint}")
        names = {"spec": spec, "lab": lab, "run": run, "model": lab.model}
        eval(error.hint, names)
    refused(lambda: function(object(), **more), spelled, "got: object", f"spec.{name}(lab.spec")
    refused(lambda: function(spec=lab, **more), spelled, "got: a lab", "spec=lab.spec")
    refused(lambda: function(**more), f"spec.{name} needs spec", kind=CallError)
    assert pickle.loads(pickle.dumps(function)) is function


def test_functions_of_a_spec_are_called_as_they_are_spelled(lab):
    refused(lambda: spec.kv_bytes(lab.spec), "spec.kv_bytes needs tokens", kind=CallError)
    refused(
        lambda: spec.prefill_flops(lab.spec, 9, 3), "try: spec.prefill_flops(lab.spec, 9, cached=3)", kind=CallError
    )
    refused(lambda: spec.prefill_flops(lab.spec, 9, cache=3), "has no argument 'cache'", "cached=3", kind=CallError)
    refused(lambda: spec.kv_bytes(lab.spec, -1), "tokens out of range")
    with pytest.raises(TypeError, match="concatenate|multiply"):  # of something else than the spec: left as it is
        spec.core_flops(lab.spec, "x")


def test_within_the_folder_nothing_is_checked():
    assert spec.memory.kv_bytes is spec.kv_bytes.__wrapped__ and spec.compute.weight_bytes is spec.memory.weight_bytes


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("plan.fit", lambda it: plan.fit(it)),
        ("reuse.break_even_turn", lambda it: reuse.break_even_turn(it, **TURN)),
        ("reuse.preset", lambda it: reuse.preset("mlx-lm", it)),
        ("yarn.wavelengths", lambda it: yarn.wavelengths(it)),
    ],
)
def test_specs_elsewhere(name, call, lab, run):
    refused(lambda: call(lab), f"{name} reads a spec", "got: a lab", f"try: {name}(", "lab.spec")
    refused(lambda: call(run), f"{name} reads a spec", "got: a run", "run.spec")
    refused(lambda: call("Qwen3.6-27B"), f"{name} reads a spec", "got: a text", "spec.read('Qwen3.6-27B')")
    refused(lambda: call(lab.model.config), f"{name} reads a spec", "spec.read(model.config)")
    refused(lambda: call(None), f"{name} reads a spec", "got: NoneType")


def test_a_preset_and_a_rate(lab):
    refused(lambda: reuse.preset([], lab.spec), "no such preset", "mlx-lm")
    refused(lambda: reuse.break_even_turn(lab.spec, **TURN, rate="x"), "rate is a finite number")
    assert reuse.break_even_turn(lab.spec, **TURN, rate=1e12) > 0


# ------------------------------------------------------------------------------------------------------- tokenizers

OF_TOKENIZER = {
    "reuse.compare": lambda it: reuse.compare(MESSAGES, it),
    "reuse.divergences": lambda it: reuse.divergences(MESSAGES, it),
    "reuse.replay": lambda it: reuse.replay(MESSAGES, tokenizer=it),
    "reuse.calls": lambda it: reuse.calls(MESSAGES, it),
    "reuse.billed": lambda it: reuse.billed(thinking.read_session(thinking.examples()["garden"]), it),
    "reuse.across": lambda it: reuse.across({"a": thinking.read_session(thinking.examples()["garden"])}, it),
    "thinking.divergence": lambda it: thinking.divergence("a", "b", it),
    "thinking.spans": lambda it: thinking.spans(MESSAGES, it),
    "thinking.rendered": lambda it: thinking.rendered(MESSAGES, it),
    "thinking.variant_of": lambda it: thinking.variant_of(it),
}
ABLE = ("reuse.replay", "reuse.billed", "reuse.across", "thinking.divergence")  # None is nano's, or none is needed


@pytest.mark.parametrize("name", OF_TOKENIZER)
def test_something_else_than_a_tokenizer_is_told(name, lab):
    call = OF_TOKENIZER[name]

    class Processor:
        tokenizer = lab.tokenizer

        def apply_chat_template(self):
            raise AssertionError

    refused(lambda: call(lab), f"{name} needs a tokenizer", "got: a lab", "try: tokenizer=lab.tokenizer")
    refused(lambda: call(Processor()), f"{name} needs a tokenizer", "try: tokenizer=processor.tokenizer")
    refused(lambda: call(type(lab.tokenizer)), f"{name} needs a tokenizer")
    for value in ("Qwen3.6-27B", 3, [], *(() if name in ABLE else (None,))):
        refused(lambda value=value: call(value), f"{name} needs a tokenizer", "try: tokenizer=reuse.small_tokenizer()")


def test_calls_without_a_tokenizer(lab):
    refused(lambda: reuse.compare(MESSAGES), "reuse.compare needs tokenizer", kind=CallError)
    alone = labkit.wrap(lab.model)
    refused(lambda: reuse.play(alone, MESSAGES), "reuse.play needs a tokenizer", "got: none", "tokenizer=")


def test_policies_and_schemes_are_lists(lab):
    ask = lambda **given: reuse.compare(MESSAGES, lab.tokenizer, **given)  # noqa: E731
    refused(lambda: ask(policies="strip"), "policies is a list of names", "got: 'strip'", "try: policies=['strip']")
    refused(lambda: ask(schemes=3), "schemes is a list of names", "got: 3", "try: schemes=['end']")
    refused(lambda: ask(schemes=[3]), "schemes is a list of names")
    refused(lambda: ask(policies=None), "policies is a list of names")
    refused(lambda: ask(policies=[]), "no policies to compare")
    assert ask(policies=("strip", "strip"), schemes=["end"]).sizes["policy"] == 1
    found = {"a": thinking.read_session(thinking.examples()["garden"])}
    refused(lambda: reuse.across(found, policies="strip"), "reuse.across: policies is a list of names")


# ------------------------------------------------------------------------------------------------------- snapshots


@pytest.mark.parametrize("name", ["exact", "logit", "circuit"])
def test_a_snapshot_has_a_place_of_its_own(name, lab, run):
    call = getattr(attribution, name)
    cache = lab.cache()
    lab.trace("red fox", cache=cache)
    for value, got in ((cache, "HybridCache"), (run, "a run"), (3, "int"), ("x", "a text"), (lab, "a lab")):
        ask = lambda value=value: call(lab, " blue", of=" fox", snap=value)  # noqa: E731
        told = f"attribution.{name}: snap is a snapshot"
        refused(ask, told, f"got: {got}", "expected: what lab.snapshot returns", "try: snap=lab.snapshot(cache)")
    call(lab, " blue", of=" fox", snap=lab.snapshot(cache))


def test_seams_are_names(lab):
    for call in (lab.trace, lab.generate):
        refused(lambda call=call: call("red fox", seams=3), "seams are names", "got: seams=3", "seams=['resid_post']")
        refused(lambda call=call: call("red fox", seams=[3]), "seams are names")
        refused(lambda call=call: call("red fox", seams=["x"]), "unknown seam", "resid_post")
    names = ("resid_post", "mixer_in")
    kept = lab.trace("red fox", seams=(name for name in names)).seams.keys()
    assert kept == lab.trace("red fox", seams=list(names)).seams.keys() and len(kept) == 2 * lab.spec.layers


# ------------------------------------------------------------------------------------------------------- figures, files


@pytest.fixture(scope="module")
def ds(run):
    return deltanet.memory(run, layer=0)


def test_lines_and_bars_of_a_wrong_form(ds):
    one = ds.isel(head=0)
    for value in (3, "keep", ("keep",), ("keep", "write", "keep"), {}):
        refused(lambda value=value: draw.lines(one, "keep", interval=value), "an interval is two variables", "keep")
        refused(lambda value=value: draw.bars(one, "keep", interval=value), "an interval is two variables")
        refused(lambda value=value: draw.heatmap(ds, "keep", interval=value), "an interval is two variables")
    refused(lambda: draw.lines(one, "keep", interval=("keep", "x")), "no such variable")
    for value in (3, [1], {"a": "x"}, {"a": None}, {"a": torch.zeros(2)}):
        refused(
            lambda value=value: draw.lines(one, "keep", levels=value), "levels is named numbers", "levels={'a name': 1}"
        )
        refused(lambda value=value: draw.lines(one, "keep", at=value), "at is named numbers", "at={'a name': 1}")
        refused(lambda value=value: draw.bars(one, "keep", levels=value), "levels is named numbers")
    draw.lines(one, "keep", levels={"a": torch.tensor(0.5), "b": one.keep.mean()}, at={"c": 1.5})
    refused(lambda: draw.lines(one, "keep", x=None), "no such dim", "got: x=None", "expected: token")
    refused(lambda: draw.lines(one, ["keep"]), "no such variable in this dataset", "got: ['keep']", "keep")


def test_a_title_is_a_text(ds):
    one = ds.isel(head=0)
    for call in (draw.lines, draw.bars, draw.tokens):
        for value in (3, ["a"], b"a", {}):
            refused(
                lambda call=call, value=value: call(one, "keep", title=value), "a title is a text", "expected: a text"
            )
    refused(lambda: draw.heatmap(ds, "keep", title=3), "a title is a text", "got: 3")
    refused(lambda: draw.maps((ds, "keep", "left"), title=3), "a title is a text")
    assert draw.lines(one, "keep", title="a fox").layout.title.text == "a fox"


def test_files_have_names(ds, tmp_path):
    figure = draw.lines(ds.isel(head=0), "keep")
    calls = {
        "export.to_csv": lambda path: export.to_csv(ds, path),
        "export.to_netcdf": lambda path: export.to_netcdf(ds, path),
        "export.open_netcdf": export.open_netcdf,
        "draw.save": lambda path: draw.save(figure, path),
        "draw.page": lambda path: draw.page(path, [figure], title="a"),
    }
    for name, call in calls.items():
        for value in (None, "", ".", "..", "a\0b", 3, b"x", ds):
            ask = lambda value=value, call=call: call(value)  # noqa: E731
            refused(ask, f"{name} needs the path of a file", "got: path=", f"try: {name}(")
    for name in ("export.to_csv", "export.to_netcdf", "draw.page"):
        assert calls[name](str(tmp_path / name)) == tmp_path / name and calls[name](tmp_path / name).exists()
