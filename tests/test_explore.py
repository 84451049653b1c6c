"""The explorer: its views equal the readings and the code they show, at any model, choice, edit and prompt."""

import dataclasses
import itertools
import json
import math
import queue
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import siblings
import sights
import tiny
import torch
import xarray

import labkit as lk
from labkit.errors import InputError, LayerError
from labkit.explore import Choice, Explorer, choices, forms, kept, runs, stopping, toggles, views
from labkit.explore.asks import Ask, Made, named
from labkit.explore.choices import WIDE
from labkit.spec import ATTENTION, DELTANET

FACTS = " fox red. whale blue. crow green. lion gold. fox white. bear black. fox"
IDS = tiny.ids(23).tolist()
ALL = [view.name for view in views.VIEWS]


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


@pytest.fixture
def explorer(nano):
    made = Explorer(nano)
    made.run(FACTS)
    made.pick(layer=4, head=2, query_head=7, token=13)
    return made


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(code, **names):
    """What `ds` is after code was executed in a fresh cell."""
    space = dict(names)
    exec(code, space)
    return space["ds"]


# views and their code ----------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("show", choices.SHOWS)
def test_the_code_of_a_view_runs_as_it_stands_and_makes_its_data(explorer, name, show):
    explorer.toggle("never_write_here", 4, 2, 12)
    explorer.toggle("head", 3, 5)
    shown = explorer.shown(name, show)
    assert shown.error is None and shown.data.sizes
    assert ran(shown.code).identical(shown.data)
    lines = {"before": 4, "after": 5, "difference": 7 if name != "next" else 5}
    assert len(shown.code.splitlines()) == lines[show] + bool(shown.view.draw)


def test_without_edits_the_code_is_three_lines_and_the_picture(explorer, nano):
    shown = explorer.shown("reads")
    assert shown.show == "before"
    one, load, two, three, drawn = shown.code.splitlines()
    assert (one, load) == ("import labkit as lk", "lab = lk.load('nano')")
    assert two == f"run = lab.trace({FACTS!r})"
    assert three == "ds = lk.deltanet.implied_row(run, layer=4, token=13, heads=2)"
    assert drawn.startswith("lk.draw.bars(ds, ")
    own = lk.deltanet.implied_row(nano.trace(FACTS), layer=4, token=13, heads=2)
    assert shown.data.identical(own)


def test_views_are_the_readings_of_the_chosen_place(explorer, nano):
    run = nano.trace(FACTS)
    state = lk.deltanet.memory(run, layer=4, tokens=13, heads=2).state
    assert explorer.shown("state").data.state.identical(state)
    row = lk.attention.pattern(run, layer=7, rows=13, heads=7).weight
    assert explorer.shown("row").data.weight.identical(row)
    whole = lk.attention.pattern(run, layer=7, heads=7).weight.values[0]
    assert np.allclose(np.nan_to_num(explorer.shown("map").data.mass.values[0]), whole, atol=1e-6)
    for name in ("keep", "write", "recalled", "erased", "written", "decayed"):
        view = "gates" if name in ("keep", "write") else "ledger"
        own = lk.deltanet.memory(run, layer=4, tokens=None, heads=2)[name]
        assert explorer.shown(view).data[name].identical(own)
    gates = explorer.shown("gate").data.gate
    assert gates.sizes == {"query_head": 12, "token": 1}
    last = explorer.shown("next").data
    top = nano.trace(nano.encode(FACTS)[:14]).top(k=8)
    assert last.best.values.ravel().tolist() == top.id.values.ravel().tolist()
    assert np.allclose(last.probability.values.ravel(), top.probability.values.ravel(), atol=1e-5)
    assert explorer.answer() == int(top.id[0])
    added = explorer.shown("logit").data
    assert math.isclose(float(added.added.sum() + added.embedding.sum()), float(added.logit.sum()), rel_tol=1e-4)


def test_before_after_and_difference(explorer, nano):
    explorer.pick(token=18)
    explorer.toggle("never_write_here", 4, 2, 15)
    with nano.edit(lk.deltanet.never_write(layer=4, heads=2, tokens=15)):
        changed = nano.trace(FACTS)
    read = lambda run: lk.deltanet.memory(run, layer=4, tokens=18, heads=2).state  # noqa: E731
    before, after = read(nano.trace(FACTS)), read(changed)
    assert explorer.shown("state", "before").data.state.identical(before)
    assert explorer.shown("state").data.state.equals(after)
    change = explorer.shown("state", "difference").data.state
    assert np.array_equal(change, after - before) and abs(change).max() > 1e-3
    explorer.pick(token=14)  # before the edit, nothing changes
    assert not explorer.shown("state", "difference").data.state.any()
    told = forms.form(explorer, explorer.shown("state", "difference"))["told"]
    assert "Nothing changes here" in told
    assert "minus without" in forms.form(explorer, explorer.shown("lens", "after"))["told"].replace(
        "With the edits.", "minus without"
    )


def test_an_edit_is_seen_in_the_next_token(nano):
    made = Explorer(nano)
    made.run(FACTS)
    said = lambda show: made.shown("next", show).data.text.values.ravel()[0]  # noqa: E731
    made.pick(layer=4)
    assert said("before") == " white"
    for head in range(nano.spec.value_heads):
        made.toggle("never_write_here", 4, head, 15)
    assert (said("before"), said("after")) == (" white", " red")
    made.toggle("never_write_here", 4, 0, 15)
    assert len(made.choice.toggles) == nano.spec.value_heads - 1


@pytest.mark.parametrize("sort", list(toggles.SORTS))
@pytest.mark.parametrize("kind", [DELTANET, ATTENTION])
def test_every_edit_acts_and_its_own_layer_can_still_be_read(explorer, nano, sort, kind):
    if kind not in toggles.SORTS[sort].kinds:
        with pytest.raises(InputError, match="no such edit"):
            explorer.toggle(sort, 7)
        return
    (edit,) = [on for on in explorer.offered() if on.sort == sort and nano.spec.kind(on.layer) == kind]
    explorer.toggle(*dataclasses.astuple(edit))
    before, after = (explorer.shown("logit", show).data for show in ("before", "after"))
    assert float(abs(after.added - before.added).max()) > 1e-7
    for name in ALL:
        assert explorer.shown(name, "after").error is None, name
    if sort == "mixer":
        assert not after.added.sel(layer=edit.layer, term="mixer").any()
    if sort == "mlp":
        assert not after.added.sel(layer=edit.layer, term="mlp").any()
    if sort == "head" and kind == ATTENTION:
        gates = explorer.shown("gate", "after").data.gate
        assert not gates.sel(query_head=edit.head).any() and gates.any()
    if sort.startswith("never"):
        data = explorer.shown("gates", "after").data.isel(head=0)
        full, value = ("write", 0) if "write" in sort else ("keep", 1)
        where = slice(None) if "here" not in sort else explorer.choice.token
        assert (data[full].values[where] == value).all()
        assert sort.endswith("here") == bool((data[full] != value).any())


# models of every kind ----------------------------------------


@pytest.mark.parametrize("kinds", ["D", "A", "DDA", "AAD", "DADDA", "DDDA" * 16])
def test_models_of_any_layers(kinds, here):
    words = {"D": "linear_attention", "A": "full_attention"}
    names = [words[kind] for kind in kinds]
    lab = tiny.make_lab(tiny.model(num_hidden_layers=len(kinds), layer_types=names))
    panel = lab.explore(IDS, name="all")
    panel.answer({"do": "ready", "number": 1})
    for layer in {0, len(kinds) // 2, len(kinds) - 1}:
        panel.answer({"do": "pick", "changes": {"layer": layer}})
        shown = panel.shown
        assert shown["problem"] == "" and len(shown["kinds"]) == len(kinds)
        assert [card["error"] for card in shown["cards"].values()] == [None] * len(shown["cards"])
        assert shown["pair"][lab.spec.kind(layer)] == layer
        for name in ALL if len(kinds) < 9 else ("reads", "row", "lens"):
            card = next((card for card, names in panel.explorer.views.items() if name in names), "stream")
            if name != "next" and name not in panel.explorer.views[card]:
                continue
            if card != "stream" and panel.explorer.layer_of(card) is None:
                continue
            view = panel.explorer.shown(name)
            assert view.error is None
            assert ran(view.code, lab=lab).identical(view.data)
            json.dumps(forms.form(panel.explorer, view))


MODELS = {
    "qwen3_5": tiny.model,
    "qwen3_5_moe": lambda: tiny.model(family="qwen3_5_moe"),
    "qwen3_next": lambda: tiny.model(family="qwen3_next"),
    "olmo_hybrid": siblings.olmo,
    "nothing rotated": lambda: siblings.olmo(rope_theta=None),
    "kimi_linear": siblings.kimi,
    "images": sights.image_text,
    "images, experts": lambda: sights.image_text(experts=True),
}


@pytest.mark.parametrize("family", MODELS)
def test_every_card_of_every_family_shows_or_explains(family, here):
    """Every view of every layer, without edits and under each that is offered; and what it shows, its code makes."""
    lab = tiny.make_lab(MODELS[family]())
    panel = lab.explore(IDS, name=None)
    panel.answer({"do": "ready", "number": 1})
    made, missing = panel.explorer, set()
    for layer in range(lab.spec.layers):
        panel.answer({"do": "pick", "changes": {"layer": layer}})
        facts, there = (
            panel.shown,
            [card for card in choices.CARDS if card == "stream" or made.layer_of(card) is not None],
        )
        assert facts["problem"] == "" and [*facts["cards"]] == there
        assert all(facts["absent"][card].endswith(".") for card in {*choices.CARDS} - {*there})
        names = [name for card in there for name in made.views[card]]
        for on in [None, *made.offered()]:
            if on is not None:
                made.toggle(*dataclasses.astuple(on))
            for name in [*names, "next"] if on is None or layer == 0 or on.sort == "head" else names[::3]:
                shown = made.shown(name)
                assert shown.error is None and (shown.data is None) == bool(shown.missing), (name, on, shown.error)
                assert json.dumps(forms.form(made, shown))
                missing |= {(on.sort, name)} if shown.missing else set()
                if shown.data is not None and on is None:
                    assert ran(shown.code, lab=lab).identical(shown.data)
            forms.ribbon(made)
            if on is not None:
                made.toggle(*dataclasses.astuple(on))
    proven_by_the_head = "gate" not in lab.spec.seams[ATTENTION] and not lab.spec.latent
    assert missing == ({("head", "row"), ("head", "map")} if proven_by_the_head else set())


def test_of_a_head_without_a_gate_that_is_off_the_panel_says_why_there_is_no_map(here):
    lab = tiny.make_lab(siblings.olmo())
    panel = lab.explore(IDS, name=None, layer=2, query_head=4)
    panel.answer({"do": "ready", "number": 1})
    panel.answer({"do": "toggle", "toggle": ["head", 2, 4, None], "number": 2})
    card = panel.shown["cards"]["attention"]
    assert (card["form"], card["error"]) == (None, None)
    assert card["missing"] == (
        "Head 4 is off: it hands on nothing by which its map could be proven. Show it before the edits."
    )
    for changes in ({"show": "before"}, {"show": "after", "query_head": 3}):
        panel.answer({"do": "pick", "changes": changes, "number": 3})
        card = panel.shown["cards"]["attention"]
        assert (card["form"], card["error"], card["missing"]) == ("bars", None, "")


def test_latent_attention_shows_what_its_heads_hand_on(here):
    lab = tiny.make_lab(siblings.kimi())
    made = Explorer(lab)
    made.run(IDS)
    made.pick(layer=4, query_head=3, token=11)
    assert made.views[ATTENTION] == ("handed", "over") and made.choice.attention == "handed"
    gated = lab.trace(IDS).seams[4, "gated"]
    for name, place in (("handed", {"token": 0}), ("over", {"query_head": 0})):
        shown = made.shown(name)
        own = [math.sqrt(sum(float(x) ** 2 for x in y)) for y in (gated[11] if name == "handed" else gated[:, 3])]
        np.testing.assert_allclose(shown.data.length.isel(place), own, rtol=1e-5)
        assert "no map to show" in forms.form(made, shown)["told"]
    assert (made.shown("handed").data.sizes, made.shown("over").data.sizes) == (
        {"query_head": 6, "token": 1},
        {"query_head": 1, "token": 23},
    )
    made.toggle("head", 4, 3)
    length = made.shown("handed").data.length.values.ravel()
    assert length[3] == 0 and (length[[0, 1, 2, 4, 5]] > 0).all()
    assert forms.ribbon(made)["weights"] is None
    with pytest.raises(InputError, match="no such attention view"):
        made.pick(attention="row")
    with pytest.raises(LayerError, match="(?s)layer 0 is a Gated DeltaNet layer.*expected: .*2, 4"):
        lk.explore.handed(lab.trace(IDS), layer=0)


def test_layers_are_called_what_they_are():
    named = lambda spec: views.spoken(spec)[ATTENTION]  # noqa: E731
    assert named(lk.spec.read("Qwen3.6-27B")) == "gated attention"
    assert named(tiny.make_lab(siblings.olmo()).spec) == "attention"
    assert named(tiny.make_lab(siblings.kimi()).spec) == "latent attention"


@pytest.mark.parametrize(
    ("kinds", "layer", "card", "told"),
    [
        ("A", 0, DELTANET, "This model has no Gated DeltaNet layer."),
        ("D", 0, ATTENTION, "This model has no attention layer."),
        ("AAD", 1, DELTANET, "This block has no Gated DeltaNet layer. Choose one, D, in the row of layers."),
        ("AAD", 2, ATTENTION, "This block has no attention layer. Choose one, A, in the row of layers."),
    ],
)
def test_a_card_without_a_layer_says_so(kinds, layer, card, told, here):
    words = {"D": "linear_attention", "A": "full_attention"}
    model = tiny.model(num_hidden_layers=len(kinds), layer_types=[words[kind] for kind in kinds])
    panel = tiny.make_lab(model).explore(IDS, name=None, layer=layer)
    panel.answer({"do": "ready", "number": 1})
    assert panel.shown["absent"] == {card: told} and card not in panel.shown["cards"]


def test_errors_of_the_library_are_words_and_others_say_what_they_are(lab, here, monkeypatch):
    panel = lab.explore(IDS, name=None)
    panel.answer({"do": "run", "prompt": "5 9999", "number": 1})
    assert "out of range" in panel.shown["problem"] and "Error:" not in panel.shown["problem"]
    monkeypatch.setattr(Explorer, "run", lambda self, prompt: 1 / 0)
    panel.answer({"do": "run", "prompt": "5", "number": 2})
    assert panel.shown["problem"] == "ZeroDivisionError: division by zero"


def test_a_block_is_a_pair():
    spec = lk.spec.read("Qwen3.6-27B")
    pair = lambda layer, beside=None: tuple(Choice(layer=layer, beside=beside).pair(spec).values())  # noqa: E731
    assert pair(0) == (0, 3) and pair(2) == (2, 3) and pair(4) == (4, 7) and pair(62) == (62, 63)
    assert pair(3) == (2, 3) and pair(3, beside=1) == (1, 3) and pair(7, beside=1) == (6, 7)
    picked = Choice().picked(spec, None, views.of(spec), layer=5)
    assert picked.picked(spec, None, views.of(spec), layer=7).pair(spec) == {DELTANET: 5, ATTENTION: 7}


# long prompts, in parts ----------------------------------------


def test_long_prompts_stay_bounded(lab):
    made = Explorer(lab)
    made.run(tiny.ids(500).tolist())
    assert made.choice.token == 499 and made.choice.window(500) == range(500 - WIDE, 500)
    size = lambda: len(json.dumps([forms.form(made, made.shown(name)) for name in ALL] + [forms.ribbon(made)]))  # noqa: E731
    long = size()
    made.pick(token=3)
    assert made.choice.first == 0
    made.pick(token=WIDE - 1)
    assert made.choice.first == 0, "the window stays while the token is in it"
    made.pick(token=WIDE)
    assert made.choice.first == WIDE - WIDE // 2
    made.run(tiny.ids(WIDE).tolist())
    assert long < size() + 4000
    assert made.shown("map").data.sizes["source"] == views.MAP


def test_large_runs_are_made_in_parts(lab, monkeypatch):
    monkeypatch.setattr(runs, "LARGE", 1000)
    made = Explorer(lab)
    made.run(IDS)
    made.toggle("mixer", 3)
    for layer in (0, 3, 4):
        made.pick(layer=layer)
        for name, show in itertools.product(ALL, choices.SHOWS):
            if views.by_name(name).card == DELTANET and made.layer_of(DELTANET) is None:
                continue
            shown = made.shown(name, show)
            assert shown.error is None, shown.error
            assert ran(shown.code, lab=lab).identical(shown.data)
    assert "layers=[3, 4]" in made.shown("row").code and "seams=['resid_pre'" in made.shown("lens").code
    assert len(made.runs._made) <= runs.KEPT


def test_progress_counts_layers_and_changes_nothing(lab):
    told = []
    made = Explorer(lab, told=lambda done, of: told.append((done, of)))
    made.run(IDS)
    assert told == [(n + 1, 5) for n in range(5)]
    plain = lab.trace(IDS)
    own = made.runs.of("mixer", [0])
    assert torch.equal(own.logits, plain.logits) and own.identity == plain.identity
    assert tiny.hooks(lab.model) == []


# interrupts and errors ----------------------------------------


def test_an_interrupted_run_leaves_the_panel_as_it_was(lab, here):
    panel = lab.explore(IDS, name="one")
    panel.answer({"do": "ready", "number": 1})
    assert panel.shown["ran"]

    def stop(done, of):
        if done == 3:
            raise KeyboardInterrupt

    panel.explorer.told = stop
    panel.answer({"do": "run", "prompt": "7 8 9", "number": 2})
    assert panel.shown["problem"].startswith("Interrupted") and panel.shown["ribbon"]["count"] == len(IDS)
    assert tiny.hooks(lab.model) == [] and panel.progress == {}
    panel.explorer.told = None
    panel.answer({"do": "run", "prompt": "7 8 9", "number": 3})
    assert panel.shown["problem"] == "" and panel.shown["ribbon"]["count"] == 3 and panel.shown["number"] == 3


def test_an_interrupt_is_heard_on_another_thread_than_the_main_one(lab, here, monkeypatch):
    """As kernels answer clicks: the main thread listens meanwhile, and afterwards no longer."""
    calls, panel = queue.SimpleQueue(), lab.explore(IDS, name=None)
    panel.answer({"do": "ready", "number": 1})
    monkeypatch.setattr(stopping, "_main_loop", lambda: SimpleNamespace(add_callback=calls.put))
    reached, go, before = threading.Event(), threading.Event(), signal.getsignal(signal.SIGINT)

    def told(done, of):
        reached.set()
        assert go.wait(60)
        panel._tell(done, of)

    panel.explorer.told = told
    answering = threading.Thread(target=panel.answer, args=({"do": "run", "prompt": "7 8 9", "number": 2},))
    answering.start()
    calls.get(timeout=60)()
    assert reached.wait(60)
    signal.raise_signal(signal.SIGINT)
    go.set()
    answering.join(60)
    calls.get(timeout=60)()
    assert panel.shown["problem"].startswith("Interrupted") and panel.shown["ribbon"]["count"] == len(IDS)
    assert tiny.hooks(lab.model) == [] and signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_views_are_made(lab, here, monkeypatch):
    panel = lab.explore(IDS, name=None)
    panel.answer({"do": "ready", "number": 1})
    monkeypatch.setattr(Ask, "make", lambda self, **given: (_ for _ in ()).throw(KeyboardInterrupt))
    panel.answer({"do": "pick", "changes": {"layer": 3}, "number": 2})
    assert "Click again" in panel.shown["problem"] and panel.shown["number"] == 2
    monkeypatch.undo()
    panel.answer({"do": "pick", "changes": {"layer": 3}, "number": 3})
    assert panel.shown["problem"] == "" and panel.shown["cards"]["deltanet"]["error"] is None


WRONG = [
    ({"do": "run", "prompt": ""}, "empty"),
    ({"do": "run", "prompt": "5 x 6"}, "whole numbers"),
    ({"do": "run", "prompt": "5 9999"}, "out of range"),
    ({"do": "run", "prompt": " ".join(["5"] * 513)}, "longer than the model's window"),
    ({"do": "pick", "changes": {"layer": 5}}, "layer out of range"),
    ({"do": "pick", "changes": {"layer": "0"}}, "layer is a whole number"),
    ({"do": "pick", "changes": {"token": 23}}, "token out of range"),
    ({"do": "pick", "changes": {"token": -1}}, "token out of range"),
    ({"do": "pick", "changes": {"deltanet": "row"}}, "no such deltanet view"),
    ({"do": "pick", "changes": {"show": "later"}}, "no such show view"),
    ({"do": "pick", "changes": {"wish": 1}}, "not a part of a choice"),
    ({"do": "pick", "changes": {"prompt": "x"}}, "a prompt is read, not picked"),
    ({"do": "pick", "changes": 7}, "TypeError"),
    ({"do": "toggle", "toggle": ["burn", 0]}, "no edit of the explorer"),
    ({"do": "toggle", "toggle": ["head", 0, 9]}, "head of an edit out of range"),
    ({"do": "toggle", "toggle": ["head", 0]}, "this edit does not fit its head"),
    ({"do": "toggle", "toggle": ["never_write", 2, 0]}, "this kind of layer has no such edit"),
    ({"do": "toggle", "toggle": ["never_write_here", 0, 0, 23]}, "token of an edit out of range"),
]


@pytest.mark.parametrize(("content", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_makes_no_sense_is_told_in_the_panel_and_changes_nothing(lab, here, content, told):
    panel = lab.explore(IDS, name=None)
    panel.answer({"do": "ready", "number": 1})
    before = panel.explorer.choice
    panel.answer(content | {"number": 2})
    assert told in panel.shown["problem"] and panel.shown["number"] == 2
    assert panel.explorer.choice == before and panel.shown["cards"]["stream"]["error"] is None


def test_an_error_inside_a_view_is_its_text(explorer, monkeypatch):
    explorer.toggle("mixer", 4)
    monkeypatch.setattr(Ask, "make", lambda self, **given: 1 / 0)
    shown = explorer.shown("logit", "after")
    assert shown.data is None and "ZeroDivisionError: division by zero" in shown.error
    assert forms.form(explorer, shown)["form"] is None


def test_before_a_run_there_is_nothing_to_see(nano):
    with pytest.raises(InputError, match="(?s)nothing was run yet.*try: lab.explore"):
        Explorer(nano).shown("reads")


# tokens are data ----------------------------------------


def test_hostile_prompts_stay_text(nano, here):
    hostile = "<script>alert(1)</script>\u202e'\"\\ {lab} `x` </pre>\n\tfox"
    made = Explorer(nano)
    made.run(hostile)
    shown = made.shown("reads")
    assert ran(shown.code).identical(shown.data)
    facts = json.dumps([forms.form(made, made.shown(name)) for name in ALL if name != "next"], ensure_ascii=False)
    assert "\u202e" not in "".join(forms.ribbon(made)["texts"])
    assert json.loads(facts)


# what is kept ----------------------------------------


def test_a_choice_survives_a_restart(lab, here):
    panel = lab.explore(IDS, name="one")
    panel.answer({"do": "ready", "number": 1})
    panel.answer({"do": "run", "prompt": "5, 6 7 8 9 10 11", "number": 2})
    for changes in (
        {"layer": 3},
        {"head": 4},
        {"token": 2},
        {"deltanet": "ledger"},
        {"show": "difference"},
        {"answer": 17},
    ):
        panel.answer({"do": "pick", "changes": changes})
    panel.answer({"do": "toggle", "toggle": ["never_forget_here", 3, 4, 2]})
    assert panel.shown["problem"] == ""
    again = tiny.make_lab(lab.model).explore(IDS, name="one")
    assert again.explorer.choice == panel.explorer.choice and again.explorer.runs is None
    again.answer({"do": "ready", "number": 1})
    assert again.explorer.choice == panel.explorer.choice
    drop = lambda shown: {key: part for key, part in shown.items() if key != "number"}  # noqa: E731
    assert drop(again.shown) == drop(panel.shown)
    assert [path.name for path in (here / ".labkit" / "explore").iterdir()] == ["one.json"]


def test_what_the_cell_gives_anew_wins(lab, here):
    panel = lab.explore(IDS, name="one")
    panel.answer({"do": "ready"})
    panel.answer({"do": "pick", "changes": {"token": 4}})
    assert lab.explore(IDS, name="one").explorer.choice.token == 4
    assert lab.explore(name="one").explorer.choice.token == 4
    assert lab.explore(IDS[:9], name="one").explorer.choice == Choice(prompt=tuple(IDS[:9]))
    assert lab.explore(IDS, name="one", layer=2).explorer.choice.layer == 2
    assert lab.explore(IDS, name="two").explorer.choice == Choice(prompt=tuple(IDS))
    assert lab.explore(IDS, name=None).explorer.choice == Choice(prompt=tuple(IDS))


def test_a_damaged_file_is_told_and_left_until_the_next_click(lab, here):
    path = kept.place("one")
    path.parent.mkdir(parents=True)
    for damage in (
        '{"model": "tiny", "choice"',
        "[]",
        '{"model": "tiny", "choice": {"layer": 77}}',
        "\x00",
        '{"model": "other"}',
    ):
        path.write_text(damage)
        panel = lab.explore(IDS, name="one")
        assert "one.json" in panel.shown["note"] and panel.explorer.choice == Choice(prompt=tuple(IDS))
        assert path.read_text() == damage
        panel.answer({"do": "ready"})
        panel.answer({"do": "pick", "changes": {"token": 4}})
        assert lab.explore(IDS, name="one").explorer.choice.token == 4


def test_a_disk_that_says_no_is_told_once(lab, here):
    (here / ".labkit").write_text("a file where a folder belongs")
    panel = lab.explore(IDS, name="one")
    panel.answer({"do": "ready"})
    panel.answer({"do": "pick", "changes": {"token": 4}})
    assert "cannot be kept" in panel.shown["note"] and panel.path is None and panel.explorer.choice.token == 4


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".x", 7, "x" * 80])
def test_names_are_plain_words(lab, here, name):
    with pytest.raises(InputError, match="a panel is kept under a plain name"):
        lab.explore(IDS, name=name)


def test_edits_of_tokens_that_a_new_prompt_lacks_are_told(lab, here):
    panel = lab.explore(IDS, name=None)
    panel.answer({"do": "ready"})
    panel.answer({"do": "toggle", "toggle": ["never_write_here", 0, 1, 20]})
    panel.answer({"do": "toggle", "toggle": ["mixer", 1, None, None]})
    panel.answer({"do": "run", "prompt": "5 6 7"})
    assert "1 of the edits" in panel.shown["note"] and [on.sort for on in panel.explorer.choice.toggles] == ["mixer"]


# the panel ----------------------------------------


def test_without_a_screen_the_repr_says_what_to_do(lab, here):
    panel = lab.explore(IDS, name=None)
    assert repr(panel).startswith("Panel(tiny, nothing run yet): shown as the last value of a cell")
    panel.answer({"do": "ready"})
    assert "layer 0, head 0, token 22" in repr(panel) and "panel.explorer" in repr(panel)


def test_the_page_asks_nothing_of_a_network():
    from labkit.explore.panel import HERE, Panel

    text = "".join((HERE / name).read_text("utf-8") for name in ("pictures.js", "panel.js", "panel.css"))
    for word in ("http:", "https:", "fetch(", "import ", "innerHTML", "insertAdjacentHTML", "eval(", "@import", "url("):
        assert word not in text.replace("http://www.w3.org/2000/svg", ""), word
    assert "export default { render }" in Panel._esm


def test_the_lab_in_code_is_called_as_the_user_calls_it(lab, nano):
    assert named(lab, {"x": 1, "mine": lab, "_1": lab}) == ("mine", "")
    assert named(lab, {"a": lab, "lab": lab}) == ("lab", "")
    assert named(lab, {}) == ("lab", "")
    assert named(nano, {}) == ("lab", "lab = lk.load('nano')")
    code = Made("x", lab="mine").code(Ask("residual.lens", ("run", "lab"), {"tokens": 1}), "before")
    assert "run = mine.trace('x')" in code and "lk.residual.lens(run, mine, tokens=1)" in code


def test_numbers_travel_whole():
    values = xarray.DataArray(np.array([[0.5, np.nan], [-1.25, 3e-9]]))
    raw = np.frombuffer(__import__("base64").b64decode(forms.packed(values)), "<f4")
    assert raw.tolist()[0] == 0.5 and math.isnan(raw[1]) and raw[2] == -1.25
