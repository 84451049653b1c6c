"""Every figure matches its golden data and is drawn soundly; so do the tools that say it."""

import dataclasses
import html
import json
import re
import types

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray

import figures
from figures import _golden
from labkit import claims, spec
from labkit.claims import Claim, Part

ENTRIES = figures.entries()
LONGEST = 150  # signs of a sentence
FIRST = {"implied_beside_softmax", "exact_beside_heuristic", "decay_and_write"}
LARGEST_JSON, LARGEST_GOLDEN = 500_000, 200_000
ADDRESS = re.compile(r"\bhttps?:|//\w")
MARKUP = re.compile(r"<(?!/?(?:br|b|i|sub|sup|span|extra)\b[^<>]*>)")
HOSTILE = ["<think>", "</script><script>", "a & b", "\u2028", "<img src=x onerror=alert(1)>"]

every_figure = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])


@pytest.fixture(scope="session")
def nano():
    import labkit

    return labkit.load("nano")


def test_the_first_figures_are_there():
    assert {entry.name for entry in ENTRIES} >= FIRST


@every_figure
def test_data_matches_golden(entry, nano):
    change = _golden.compare(_golden.read(entry.golden), entry.module.data(nano), entry.tolerance)
    assert not change.failures, "\n".join(change.failures)


@every_figure
def test_drawing_is_sound(entry):
    assert unsound(entry.module.draw(_golden.read(entry.golden))) == []


@every_figure
def test_draw_leaves_its_input_unchanged(entry):
    dataset = _golden.read(entry.golden)
    entry.module.draw(dataset)
    xarray.testing.assert_identical(dataset, _golden.read(entry.golden))


@every_figure
def test_the_claim_holds_and_every_part_of_it_falls_on_a_control(entry):
    assert entry.fault(_golden.read(entry.golden)) is None


@every_figure
def test_the_title_is_the_claim(entry):
    dataset = _golden.read(entry.golden)
    for stored, claim in ((dataset, entry.module.claim(dataset)), *refuted(entry, dataset)):
        drawn = html.unescape(entry.module.draw(stored).layout.title.text.replace("<br>", " "))
        assert drawn == claim.title
        assert len(claim.sentence) <= LONGEST


def refuted(entry, dataset):
    """(dataset, claim) of each control."""
    return [(other, entry.module.claim(other)) for other in entry.module.controls(dataset).values()]


@every_figure
def test_the_sentence_follows_the_numbers(entry):
    """On a control, or with other numbers, the sentence is another one: it is made of the data."""
    dataset = _golden.read(entry.golden)
    assert re.search(r"\d", entry.module.claim(dataset).sentence)
    assert any(claim.title != entry.module.claim(dataset).title for _, claim in refuted(entry, dataset))


@every_figure
def test_a_control_is_more_than_a_number_in_its_own_place(entry):
    """A baseline compared with itself fails whatever is so; some control breaks a part by numbers of its own."""
    broken = [part for _, claim in refuted(entry, _golden.read(entry.golden)) for part in claim.parts if not part.holds]
    assert [str(part) for part in broken if part.got != part.than or part.got == 0]


@every_figure
def test_what_the_numbers_are_of_is_said(entry):
    attrs = _golden.read(entry.golden).attrs
    assert {name for name in figures.FACTS if not attrs.get(name)} == set()
    assert attrs["model"] in {"nano", *(path.stem for path in spec.config.published().values())}


def flipped(claim, n):
    """The claim with the sign of one part turned around."""
    around = {">": "<", "<": ">", "≥": "<", "≤": ">", "=": ">"}
    parts = list(claim.parts)
    parts[n] = dataclasses.replace(parts[n], sign=around[parts[n].sign])
    return Claim(claim.sentence, parts)


@every_figure
def test_a_flipped_sign_is_found(entry, monkeypatch):
    dataset, claim = _golden.read(entry.golden), entry.module.claim
    for n, part in enumerate(claim(dataset).parts):
        if part.sign in claims.SIGNS:
            monkeypatch.setattr(entry.module, "claim", lambda ds, n=n: flipped(claim(ds), n))
            assert entry.fault(dataset).startswith("the numbers do not carry the sentence")


FLIPS = {
    "overwritten_key": ('before - after, ">", others', 'before - after, "<", others'),
    "work_by_load": ('grown, ">", 0', 'grown, "<", 0'),
    "thinking_and_answers": ('said, ">", chance', 'said, "<", chance'),
}


@pytest.mark.parametrize("name", FLIPS)
def test_a_sign_flipped_in_the_source_stops_the_build(name, tmp_path):
    old, new = FLIPS[name]
    source = (figures.HERE / f"{name}.py").read_text(encoding="utf-8")
    assert source.count(old) == 1
    (tmp_path / f"{name}.py").write_text(source.replace(old, new), encoding="utf-8")
    (entry,) = figures.entries(tmp_path)
    assert entry.fault(_golden.read(figures.HERE / "golden" / f"{name}.json"))


def test_a_claim_without_a_control_and_an_idle_part_are_found():
    dataset = xarray.Dataset({"weight": ("token", [1.0, 3.0])})
    entry = planted(lambda ds: {})
    assert entry.fault(dataset) == "no control"
    assert planted(lambda ds: {"halved": ds / 2}).fault(dataset) == "no control breaks: mean"
    assert planted(lambda ds: {"halved": ds / 2, "turned": -ds}).fault(dataset) is None
    assert "holds on its control too: same" in planted(lambda ds: {"same": ds}).fault(dataset)


def planted(controls):
    """A figure that claims two things of two numbers."""
    parts = lambda ds: [Part("largest", ds.weight.max(), ">", 2), Part("mean", ds.weight.mean(), ">", 0.5)]  # noqa: E731
    module = types.SimpleNamespace(claim=lambda ds: Claim("so", parts(ds)), controls=controls)
    return figures.Entry("one", module, None)


@every_figure
def test_caption_and_golden_data_are_complete(entry):
    assert 10 < len(entry.question) <= 90
    assert entry.question.endswith("?")
    assert len(entry.caption) >= 2
    assert entry.caption[-1].startswith("Source: ")
    assert entry.golden.stat().st_size <= LARGEST_GOLDEN
    for name, rule in entry.tolerance.items():
        assert name in _golden.read(entry.golden).variables
        assert rule.keys() <= {"rtol", "atol", "reason"}
        assert len(rule["reason"]) > 10


def test_every_golden_file_has_a_figure():
    assert {path.stem for path in figures.HERE.glob("golden/*")} == {entry.name for entry in ENTRIES}


def unsound(figure):
    """What is wrong with a drawn figure, one line each."""
    packed = figure.to_json()
    plain = json.loads(packed)
    layout, traces = plain["layout"], list(figure.data)
    traces += [trace for frame in figure.frames for trace in frame.data]
    wrong = [] if len(packed) <= LARGEST_JSON else [f"{len(packed)} bytes of JSON"]
    wrong += [] if layout.get("title", {}).get("text") else ["no title"]
    axes = {key: axis for key, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", key)}
    titled = {key for key, axis in axes.items() if axis.get("title", {}).get("text")}
    matched = {re.sub("^[xy]", r"\g<0>axis", axis["matches"]) for axis in axes.values() if "matches" in axis}
    bare = {key for key, axis in axes.items() if "matches" not in axis} - titled - matched
    wrong += [f"{key} has no title" for key in sorted(bare)]
    wrong += [f"no {letter} axis has a title" for letter in "xy" if letter not in {key[0] for key in titled}]
    wrong += [f"address in the figure: {text}" for text in strings(plain) if ADDRESS.search(text)]
    wrong += [f"not escaped: {text}" for text in strings(plain) if MARKUP.search(text)]
    for trace in traces:
        holes = [key for key in "xyz" if not complete(getattr(trace, key, None))]
        wrong += [f"{trace.type}: {key} is not finite" for key in holes]
        if trace.type == "heatmap" and trace.showscale is not False:
            shared = layout.get(trace.coloraxis, {}).get("colorbar", {}).get("title", {}).get("text")
            wrong += [] if trace.colorbar.title.text or shared else ["colour bar without a title"]
    return wrong


def complete(values):
    """Numbers are finite, save above the diagonal of a square map or in its last columns, where nothing can be read."""
    array = np.asarray([] if values is None else values)
    if array.dtype == object and not any(isinstance(value, str) for value in array.flat):
        array = array.astype(float)
    if array.dtype.kind != "f":
        return True
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        array = np.tril(np.nan_to_num(array, nan=np.inf))
    while array.ndim == 2 and array.shape[1] > 1 and np.isnan(array[:, -1]).all():
        array = array[:, :-1]
    return bool(np.isfinite(array).all())


def strings(part):
    """Every string value of a figure's JSON; packed arrays are numbers, not text."""
    if isinstance(part, dict):
        return [text for key, value in part.items() if key != "bdata" for text in strings(value)]
    if isinstance(part, list):
        return [text for value in part for text in strings(value)]
    return [part] if isinstance(part, str) else []


def sound():
    """A figure with which `unsound` finds nothing wrong."""
    z = np.where(np.tri(3, dtype=bool), 0.5, np.nan)
    figure = go.Figure(go.Heatmap(z=z, colorbar_title_text="weight (1)", name="&lt;think&gt;<br>"))
    return figure.update_layout(title_text="a claim", xaxis_title_text="source", yaxis_title_text="token")


FAULTS = {
    "no title": lambda figure: figure.update_layout(title_text=""),
    "xaxis has no title": lambda figure: figure.update_layout(xaxis_title_text=None),
    "colour bar without a title": lambda figure: figure.update_traces(colorbar_title_text=None),
    "not escaped: <think>": lambda figure: figure.update_traces(name="<think>"),
    "not escaped: <a href='x'>": lambda figure: figure.update_layout(xaxis_title_text="<a href='x'>"),
    "address in the figure: https://a.org": lambda figure: figure.update_traces(name="https://a.org"),
    "heatmap: z is not finite": lambda figure: figure.update_traces(z=[[1, None], [float("nan"), 1]]),
    "bytes of JSON": lambda figure: figure.update_traces(z=np.ones((300, 300))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unsound_figure_is_found(fault):
    figure = sound()
    assert unsound(figure) == []
    FAULTS[fault](figure)
    assert any(fault in line for line in unsound(figure))


# golden data ----------------------------------------


def dataset():
    """Three axes of different sizes, with a hole, whole numbers, truth values and hostile text."""
    weight = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    weight[0, 0, 1:] = np.nan
    variables = {
        "weight": (("head", "token", "source"), weight, {"units": "1"}),
        "count": (("token",), np.array([3, 1, 4])),
        "kept": (("source",), np.array([True, False, True, True, False])),
        "parity": ((), np.float32(3e-8)),
    }
    coords = {"token": np.arange(3), "source_text": ("source", HOSTILE)}
    attrs = {"layer": np.int64(2), "model": "nano", "parity": 2.5e-8}
    return xarray.Dataset(variables, coords=coords, attrs=attrs)


def test_golden_data_comes_back_exactly(tmp_path):
    _golden.write(tmp_path / "golden" / "one.json", dataset())
    again = _golden.read(tmp_path / "golden" / "one.json")
    xarray.testing.assert_identical(again, dataset())
    assert again.weight.dtype == np.float32
    change = _golden.compare(again, dataset())
    assert (change.absolute, change.failures) == (0.0, ())
    _golden.write(tmp_path / "two.json", again)
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "golden" / "one.json").read_bytes()


def change_weight(ds, by):
    ds.weight[1, 2, 3] += by


CHANGES = {
    "weight: 1 of 30 values not within rtol 1e-04, atol 1e-06": lambda ds: change_weight(ds, 0.01),
    "[head 1, token 2, source 3] golden": lambda ds: change_weight(ds, 0.01),
    "weight: 5 of 30 values not within": lambda ds: ds.weight.__setitem__((1, 1), np.nan),
    "weight: golden axes {'head': 2, 'token': 3, 'source': 5}": lambda ds: ds.transpose("token", ...),
    "weight: golden unit '1', now 'norm'": lambda ds: ds.weight.attrs.update(units="norm"),
    "count: only in the golden data": lambda ds: ds.drop_vars("count"),
    "more: only in the new data": lambda ds: ds.assign(more=1.0),
    "count: 1 of 3 values not exactly equal": lambda ds: ds["count"].__setitem__(1, 2),
    "[source 0] golden <think>, now think": lambda ds: ds.assign_coords(
        source_text=("source", ["think", *HOSTILE[1:]])
    ),
    "kept: golden type bool, now int64": lambda ds: ds.assign(kept=ds.kept.astype("int64")),
    "attribute layer: golden 2, now 3": lambda ds: ds.attrs.update(layer=3),
}


@pytest.mark.parametrize("line", CHANGES)
def test_a_change_is_named(tmp_path, line):
    _golden.write(tmp_path / "one.json", dataset())
    new = dataset()
    replaced = CHANGES[line](new)
    change = _golden.compare(_golden.read(tmp_path / "one.json"), new if replaced is None else replaced)
    assert any(line in failure for failure in change.failures), change.failures
    assert str(change).endswith("CHANGED")


def test_noise_passes_and_tolerance_is_per_variable():
    noisy, moved = dataset(), dataset()
    noisy["weight"] = noisy.weight * (1 + 1e-6)
    noisy.attrs["parity"] = 9e-8
    change = _golden.compare(dataset(), noisy)
    assert change.failures == ()
    assert 0 < change.absolute < 1e-5
    assert 0.001 < change.share < 0.05
    change_weight(moved, 0.01)
    assert _golden.compare(dataset(), moved, {"count": {"atol": 0.1}}).failures
    assert not _golden.compare(dataset(), moved, {"weight": {"atol": 0.1}}).failures


def test_infinity_is_not_golden(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        _golden.write(tmp_path / "one.json", xarray.Dataset({"weight": ("token", [1.0, np.inf])}))
