"""Packs answer as their run did: every reading, exactly or within the error that they state; and they hold no more."""

import dataclasses
import json
import re
import zlib

import numpy as np
import pytest
import tiny
import torch
import xarray

import labkit
from labkit import attention, deltanet, draw, edit, experts, folders, packs, plan, stream
from labkit.errors import BudgetError, CheckpointError, InputError, LayerError, SeamError
from labkit.packs import codec, container, sizes
from labkit.rotary import Scaling


def halved(state):
    """A change of a state."""
    return state / 2


MODULES = {"attention": attention, "deltanet": deltanet, "experts": experts}
READINGS = sorted(plan.readings())
WORDS = ["question", "thought", "answer", "thought"]
OPTIONS = {  # arguments that a reading cannot be called without, and some that it can
    "attention.bands": [{}, {"scaling": Scaling("yarn", 4.0), "rows": [-3, 20]}],
    "attention.summary": [{"block": 8}, {"samples": 7, "links": 5, "segments": WORDS * 10}],
    "attention.pattern": [{}, {"rows": range(-9, -1), "logits": True}],
    "deltanet.measured": [{"at": 5}],
    "deltanet.response": [{"change": 0.1, "at": 5}, {"change": edit.state(halved, layer=1, at=9)}],
    "deltanet.forgetting": [{"source": 3}],
    "deltanet.recall": [{"source": [3, 9]}, {"source": 4, "token": 20}],
    "deltanet.memory": [{}, {"tokens": None}, {"tokens": [0, 7, -1]}],
    "deltanet.written_by": [{"segments": WORDS * 10}],
}
LAYERS = {"attention": [2, 4], "deltanet": [0, 1, 3], "experts": [0, 2, 3]}


@pytest.fixture(scope="module")
def made():
    """A lab, a run, and what readings take beside: another run, one under an edit."""
    lab = tiny.make_lab(tiny.model(experts=True))
    run = lab.trace(tiny.ids(40))
    with lab.edit(deltanet.replace_state(0.0, layer=1, at=5)):
        changed = lab.trace(run.ids)
    other = lab.trace(torch.cat([tiny.ids(40, seed=3)[:30], run.ids[30:]]))
    return lab, run, {"lab": lab, "other": other, "changed": changed}


def asked(name, more):
    """(reading, its layers, arguments by name) of every request of a reading that is tested."""
    kind, function = name.split(".")
    read = getattr(MODULES[kind], function)
    beside = {option: more[option] for option in read.needs.options if option in more}
    for options in OPTIONS.get(name, [{}]):
        edited = getattr(options.get("change"), "layer", None)
        yield read, LAYERS[kind] if edited is None else [edited], beside | options


def call(read, run, layer, options, **changes):
    """The reading, its arguments by name, as a user writes it; of a packed run without a lab."""
    options = options | changes
    names = [option for option in ("lab", "other", "changed", "change") if option in read.needs.options]
    more = [None if option == "lab" and isinstance(run, packs.Packed) else options[option] for option in names]
    return read(run, *more, layer=layer, **{key: value for key, value in options.items() if key not in names})


def packed(run, path, name, more, **options):
    """A run out of a pack of all tested requests of one reading."""
    entries = [(read, {"layer": layers} | options) for read, layers, options in asked(name, more)]
    written = labkit.pack(run, path, readings=entries, **options)
    assert written.bytes == path.stat().st_size
    return labkit.open_run(path)


@pytest.mark.parametrize("name", READINGS)
def test_every_reading_answers_as_the_run_did(made, tmp_path, name):
    _, run, more = made
    again = packed(run, tmp_path / "pack", name, more)
    for read, layers, options in asked(name, more):
        for layer in (layers, layers[:1], layers[-1]):
            xarray.testing.assert_identical(call(read, again, layer, options), call(read, run, layer, options))
        if "heads" in read.needs.options and not hasattr(options.get("change"), "layer"):
            for heads in ([3, 1], 5):
                own, stored = (call(read, each, layers, options, heads=heads) for each in (run, again))
                assert not set(own.attrs) ^ set(stored.attrs) and own.sizes == stored.sizes
                xarray.testing.assert_allclose(stored, own, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("name", READINGS)
def test_what_is_rounded_says_by_how_much(made, tmp_path, name, bits):
    _, run, more = made
    again = packed(run, tmp_path / "pack", name, more, bits=bits)
    for read, layers, options in asked(name, more):
        stored, own = (call(read, each, layers[0], options) for each in (again, run))
        xarray.testing.assert_identical(stored.coords.to_dataset(), own.coords.to_dataset())
        assert stored.attrs == own.attrs
        for variable in own.data_vars:
            there, back = own[variable].values.astype(float), stored[variable].values.astype(float)
            fine = np.isfinite(there)
            np.testing.assert_array_equal(np.where(fine, 0, there), np.where(fine, 0, back))
            error = np.abs(there[fine] - back[fine]).max(initial=0)
            assert error == pytest.approx(stored[variable].attrs.get("stored_error", 0), abs=1e-12)
            largest = np.abs(there[fine]).max(initial=0)
            spread = there[fine].max(initial=0) - there[fine].min(initial=0)
            # And the rounding of float32, as which most are given back.
            assert error <= (largest * 2**-11 if bits == 16 else spread / 504 * 1.001) + largest * 2**-24
            if own[variable].dtype.kind == "i":
                assert error == 0


# ---------------------------------------------------------------------------------------------------------- one array

ARRAYS = {
    "nothing": np.zeros((0, 3), np.float32),
    "one": np.float32(0.1).reshape(()),
    "odd": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32),
    "wide": np.linspace(-3e300, 1e-300, 700).reshape(7, 100),
    "small": np.full((3, 300), 1e-40, np.float32),
    "halves": np.array([0.1, 6e4], np.float16),
    "extremes": np.array([2**63 - 1, -(2**63), 0, 7]),
    "bytes": np.array([[255, 0], [3, 4]], np.uint8),
    "truths": np.array([True, False, True]),
    "texts": np.array([["a", "<b>"], ["", "日本"]]),
    "no texts": np.array([], dtype="<U3"),
    "alone": np.array("fox"),
}


@pytest.mark.parametrize("bits", [32, 16, 8])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back(name, bits):
    blobs, array = codec.Blobs(), ARRAYS[name]
    stored = codec.of_json(json.loads(json.dumps(blobs.add(array, bits).to_json())))
    again = codec.decoded(stored, codec.inflated(blobs.parts[0], blobs.sizes[0], "it"))
    assert again.shape == array.shape and again.dtype.kind == array.dtype.kind
    if bits == 32 or array.dtype.kind != "f":
        assert again.tobytes() == array.tobytes() or array.dtype.kind == "U" and (again == array).all()
        assert array.dtype.kind == "U" or again.dtype == array.dtype
    elif array.size:
        fine = np.isfinite(array)
        error, largest = np.abs(again[fine].astype(float) - array[fine]).max(), float(np.abs(array[fine]).max())
        assert error == stored.error and error <= (2**-11 if bits == 16 else 1 / 252) * largest
        np.testing.assert_array_equal(again[~fine], array[~fine])


def test_equal_arrays_are_stored_once():
    blobs = codec.Blobs()
    blobs.add(np.arange(3000))
    before = blobs.nbytes
    assert blobs.add(np.arange(3000)).blob == 0 and blobs.nbytes == before < 100


# ------------------------------------------------------------------------------------------------------- what it holds


@pytest.fixture
def fox(made, tmp_path):
    """A pack of three readings and two seams, and its path."""
    _, run, more = made
    path = tmp_path / "fox.pack"
    readings = [
        deltanet.half_life,
        (deltanet.memory, dict(layer=[0, 1], tokens=None, heads=[1, 4, 7])),
        (deltanet.state_difference, dict(layer=0, other=more["other"])),
        (attention.summary, dict(layer=[2], block=8)),
    ]
    labkit.pack(run, path, readings=readings, seams=[(0, "resid_post"), (2, "gate")])
    return labkit.open_run(path), path


def test_a_packed_run_is_the_run(made, fox):
    _, run, _ = made
    again, path = fox
    assert isinstance(again, labkit.Run) and len(again) == len(run) and again.layers == (0, 1, 2, 3)
    for name in ("tokens", "spec", "identity", "scaling", "model", "prompt_length", "position_ids"):
        assert getattr(again, name) == getattr(run, name), name
    assert again.parity.items() <= run.parity.items() and (1, "deltanet.memory") in again.parity
    assert torch.equal(again.ids, run.ids) and torch.equal(again.positions, run.positions)
    for at in ((0, "resid_post"), (2, "gate")):
        assert torch.equal(again.seams[at], run.seams[at])
    assert str(path.stat().st_size) in repr(again).replace(",", "") and "attention.summary(run, layer=[2]" in repr(
        again
    )


def test_heads_and_layers_may_be_fewer_and_arguments_written_otherwise(made, fox):
    _, run, more = made
    again, _ = fox
    own = deltanet.memory(run, layer=[1], tokens=None, heads=[7, 1])
    stored = deltanet.memory(again, layer=[1], tokens=None, heads=[-2, np.int64(1)])
    xarray.testing.assert_allclose(stored, own)
    assert attention.summary(again, layer=2, block=np.int64(8), heads=None).identical(
        attention.summary(run, layer=2, block=8)
    )
    for token in (-1, 39, torch.tensor(39)):
        assert deltanet.state_difference(again, more["other"], layer=0, token=token).attrs["layer"] == 0


def test_another_run_is_known_by_what_it_is(made, fox, tmp_path):
    lab, run, more = made
    again, _ = fox
    labkit.pack(more["other"], tmp_path / "other", readings=[deltanet.half_life])
    other = labkit.open_run(tmp_path / "other")
    assert deltanet.state_difference(again, other, layer=0).identical(
        deltanet.state_difference(run, more["other"], layer=0)
    )
    cache = lab.cache()
    lab.trace(tiny.ids(3), cache=cache)
    warm = lab.trace(more["other"].ids, cache=cache)
    with lab.edit(deltanet.replace_state(0.0, layer=1, at=5)):
        edited = lab.trace(more["other"].ids)
    for wrong in (run, again, more["changed"], warm, edited):
        with pytest.raises(SeamError, match="does not hold that deltanet.state_difference"):
            deltanet.state_difference(again, wrong, layer=0)


def test_what_a_pack_does_not_hold_is_said_with_what_it_holds(fox):
    again, _ = fox
    refused = pytest.raises(SeamError, match="(?s)does not hold that deltanet.memory.*got: .*expected: .*try: ")
    for options in (
        dict(layer=0),
        dict(layer=0, tokens=None),
        dict(layer=[1, 3], tokens=None, heads=1),
        dict(layer=0, tokens=None, heads=[1, 2]),
        dict(layer=0, tokens=[39], heads=1),
    ):
        with refused as error:
            deltanet.memory(again, **options)
        told = error.value.hint.split(", with fewer")[0]
        assert told == "deltanet.memory(run, layer=[0, 1], tokens=None, heads=[1, 4, 7])"
        assert eval(told, {"deltanet": deltanet, "run": again}).sizes["head"] == 3
    with pytest.raises(SeamError, match="(?s)no deltanet.survival; readings attention.summary, deltanet.half_life"):
        deltanet.survival(again, layer=0)
    with pytest.raises(LayerError, match=r"attention.pattern\(run, layer=2\)"):
        deltanet.memory(again, layer=2)
    with pytest.raises(InputError, match="head out of range"):
        deltanet.half_life(again, layer=0, heads=9)
    with pytest.raises(SeamError, match="(?s)seam 'qkv' of layer 0 is not in this pack.*'resid_post' of layer 0"):
        deltanet.inputs(again, 0)
    for name in ("logits", "rotary", "parameters", "start"):
        with pytest.raises(SeamError, match=f"a pack holds no {name}"):
            getattr(again, name)
    with pytest.raises(InputError, match="saved already"):
        again.save("folder")
    assert not hasattr(again, "wishes")


def test_a_change_with_a_part_for_every_head_is_asked_for_as_it_was(made, tmp_path):
    _, run, _ = made
    change = torch.linspace(-1, 1, 9 * 10 * 14).view(9, 10, 14)
    labkit.pack(run, tmp_path / "pack", readings=[(deltanet.response, dict(layer=1, at=5, change=change))])
    again = labkit.open_run(tmp_path / "pack")
    own = deltanet.response(run, change, layer=1, at=5)
    assert deltanet.response(again, change.clone(), layer=1, at=5).identical(own)
    for wrong, options in ((change, {"heads": [0]}), (change + 1, {}), (0.1, {})):
        with pytest.raises(SeamError, match="does not hold that deltanet.response"):
            deltanet.response(again, wrong, layer=1, at=5, **options)


def test_an_answer_can_be_changed_and_the_next_is_as_before(fox):
    again, _ = fox
    deltanet.half_life(again, layer=0)["decay_only"][:] = 7
    assert (deltanet.half_life(again, layer=0)["decay_only"] != 7).all()


def test_a_pack_is_packed_again_smaller_and_errors_add_up(made, fox, tmp_path):
    _, run, _ = made
    again, _ = fox
    facts = dict(readings=[(deltanet.memory, dict(layer=1, tokens=None, heads=[4]))], seams=[(2, "gate")])
    labkit.pack(again, tmp_path / "8", bits=8, **facts)
    labkit.pack(labkit.open_run(tmp_path / "8"), tmp_path / "32", bits=32, **facts)
    twice, own = labkit.open_run(tmp_path / "32"), deltanet.memory(run, layer=1, tokens=None, heads=[4])
    stored = deltanet.memory(twice, layer=1, tokens=None, heads=4)
    for name in own.data_vars:
        error = float(abs(stored[name] - own[name]).max())
        assert 0 < error <= stored[name].attrs["stored_error"] * (1 + 1e-6)
    error = float((twice.seams[2, "gate"] - run.seams[2, "gate"]).abs().max())
    assert error == pytest.approx(twice.seam_errors[2, "gate"]) and error > 0


@pytest.mark.parametrize("bits", [32, 8])
def test_what_a_stream_measured_is_packed_too(made, tmp_path, bits):
    lab, run, _ = made
    probes = [deltanet.updates(block=16), attention.watch(block=16), stream.capture("resid_post", tokens=[3, 11])]
    data = lab.stream(run.ids, probes=probes, chunk=32)
    planned = packs.estimate(run.spec, tokens=40, datasets={"sums": data}, bits=bits)
    assert labkit.pack(run, tmp_path / "pack", datasets={"sums": data}, bits=bits).bytes < planned.bytes
    again = labkit.open_run(tmp_path / "pack")
    assert list(again.datasets) == ["sums"] and "datasets sums" in repr(again)
    stored = again.datasets["sums"]
    if bits == 32:
        xarray.testing.assert_identical(stored, data)
    for name in data.data_vars:
        error = float(abs(stored[name] - data[name]).max())
        assert error == pytest.approx(stored[name].attrs.get("stored_error", 0), abs=1e-12)
    labkit.pack(again, tmp_path / "again", datasets=again.datasets)
    assert labkit.open_run(tmp_path / "again").datasets["sums"].identical(stored)
    with pytest.raises(SeamError, match="(?s)no such dataset.*expected: sums"):
        again.datasets["more"]
    with pytest.raises(BudgetError, match="datasets"):
        labkit.pack(run, tmp_path / "pack", datasets={"sums": data}, at_most=999)
    for wrong in (data, {"a b": data}, {"a": 3}):
        with pytest.raises(InputError, match="datasets are given by name"):
            labkit.pack(run, tmp_path / "pack", datasets=wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_seams_of_fewer_bits_stay_as_they_are(tmp_path, dtype):
    lab = tiny.make_lab(tiny.model(dtype=dtype))
    run = lab.trace(tiny.ids(19))
    for bits, exact in ((32, True), (16, True), (8, False)):
        labkit.pack(run, tmp_path / "pack", readings=[deltanet.half_life], seams=[(1, "qkv")], bits=bits)
        seam, own = labkit.open_run(tmp_path / "pack").seams[1, "qkv"], run.seams[1, "qkv"]
        assert seam.dtype == dtype and torch.equal(seam, own) == exact
        assert float((seam.float() - own.float()).abs().max()) <= float(own.abs().max()) / 100


def test_runs_of_every_kind_are_packed(made, tmp_path):
    lab, _, _ = made
    cache = lab.cache()
    lab.trace(tiny.ids(7), cache=cache)
    runs = [
        lab.trace(tiny.ids(11), cache=cache, position_ids=range(20, 31)),
        lab.generate(tiny.ids(9), max_new_tokens=3),
        lab.trace(tiny.ids(9), grad=True),
        lab.trace([tiny.ids(12), tiny.ids(5)])[1],
        lab.trace(tiny.ids(1)),
    ]
    for run in runs:
        labkit.pack(run, tmp_path / "pack", readings=[deltanet.memory, attention.pattern], seams=[(0, "qkv")])
        again = labkit.open_run(tmp_path / "pack")
        assert deltanet.memory(again, layer=[0, 3]).identical(deltanet.memory(run, layer=[0, 3]))
        assert attention.pattern(again, layer=4).identical(attention.pattern(run, layer=4))
        assert again.prompt_length == run.prompt_length and torch.equal(again.positions, run.positions)
        assert (again.position_ids is None) == (run.position_ids is None)


# -------------------------------------------------------------------------------------------------------------- texts


def bytes_within(path):
    """All that a pack says, its book and its arrays, uncompressed."""
    facts, payload = container.read(path)
    parts = container.cut(payload, container.pieces(facts["blobs"]))
    return json.dumps(facts, ensure_ascii=False).encode() + b"".join(map(zlib.decompress, parts))


@pytest.mark.parametrize("name", READINGS)
def test_without_texts_nothing_names_a_token(made, tmp_path, name):
    _, run, more = made
    spoken = dataclasses.replace(run, tokens=tuple(f"secret{i}" for i in range(40)), parity={})
    entries = [(read, {"layer": layers} | options) for read, layers, options in asked(name, more)]
    if {"other", "changed"} & set(entries[0][1]):
        with pytest.raises(InputError, match="texts=False leaves out"):
            labkit.pack(spoken, tmp_path / "pack", readings=entries, texts=False)
        return
    labkit.pack(spoken, tmp_path / "with", readings=entries)
    assert b"secret" in bytes_within(tmp_path / "with")
    labkit.pack(spoken, tmp_path / "pack", readings=entries, texts=False)
    assert b"secret" not in bytes_within(tmp_path / "pack")
    again = labkit.open_run(tmp_path / "pack")
    assert set(again.tokens) == {"·"} and again.mark is None and len(again) == 40
    with pytest.raises(SeamError, match="texts=False"):
        again.ids  # noqa: B018
    for read, layers, options in asked(name, more):
        stored, own = call(read, again, layers, options), call(read, run, layers, options)
        for variable in own.data_vars:
            np.testing.assert_array_equal(stored[variable], own[variable])


def figures(data, name):
    """`{what: JSON}` of every figure of a variable that `draw` makes, or the text of the error that it makes instead.

    Of more axes than a figure has, the first entries.
    """
    made = {}
    one, two, three = (data[name].dims[-count:] for count in (1, 2, 3))
    ways = [(draw.lines, one, {}), (draw.tokens, one, {}), (draw.bars, one, {"x": one[0]}), (draw.lines, two, {})]
    ways += [(draw.heatmap, two, {}), (draw.maps, two, {}), (draw.frames, three, {"along": three[0]})]
    for function, kept, options in ways:
        part = data.isel({dim: 0 for dim in data[name].dims if dim not in kept})
        part = part.isel({three[0]: slice(3)}) if function is draw.frames else part
        given = [(part, name, "it")] if function is draw.maps else [part, name]
        try:
            made[function.__name__, kept] = function(*given, **options).to_json()
        except InputError as error:
            made[function.__name__, kept] = str(error)
    return made


@pytest.mark.parametrize("name", READINGS)
def test_figures_of_a_pack_are_those_of_the_run_and_texts_are_inert(made, tmp_path, name):
    _, run, more = made
    tokens = ("<script>alert(1)</script>", "\u202e$x$%{y}") * 20
    hostile = dataclasses.replace(run, tokens=tokens, model="<b>x</b>", parity={})
    again, drawn = packed(hostile, tmp_path / "pack", name, more), []
    for read, layers, options in [*asked(name, more)][:1]:
        own, stored = (call(read, each, layers[0], options) for each in (hostile, again))
        for variable in {own[each].dims: each for each in own.data_vars if own[each].dims}.values():
            there, back = figures(own, variable), figures(stored, variable)
            assert there == back
            drawn += [text for text in back.values() if text.startswith("{")]
    assert drawn, "of no variable a figure"
    for text in drawn:
        text = json.dumps(json.loads(text), ensure_ascii=False)
        assert "<script" not in text and "\u202e" not in text


# --------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("bits", [32, 16, 8])
@pytest.mark.parametrize("name", READINGS)
def test_an_estimate_is_above_what_a_pack_takes(made, tmp_path, name, bits):
    _, run, more = made
    entries = [(read, {"layer": layers} | options) for read, layers, options in asked(name, more)]
    planned = packs.estimate(run.spec, tokens=40, readings=entries, bits=bits)
    written = labkit.pack(run, tmp_path / "pack", readings=entries, bits=bits)
    assert written.bytes <= planned.bytes
    numbers = planned.bytes - len(written.parts) * sizes.SHARED - sizes.NAMED * sum(len(e[1]["layer"]) for e in entries)
    assert written.bytes > 0.2 * numbers


def test_a_pack_that_is_too_large_is_refused_before_anything_is_computed(made, tmp_path):
    _, run, _ = made
    run = dataclasses.replace(run, parity={})
    facts = dict(readings=[deltanet.memory, (attention.pattern, {})], seams=[(0, "qkv")])
    told = packs.estimate(run.spec, tokens=40, **facts)
    for at_most in (told.bytes - 1, told.bytes // 2, 20_000):
        with pytest.raises(
            BudgetError, match=f"(?s)too large.*attention.pattern of 2 layers.*at_most={at_most:,}"
        ) as error:
            labkit.pack(run, tmp_path / "pack", at_most=at_most, **facts)
    assert not run.parity and not list(tmp_path.iterdir())
    with pytest.raises(BudgetError, match=r"try: bits=16 \(.* or bits=8 \(.* or attention.pattern of layer=2 alone"):
        labkit.pack(run, tmp_path / "pack", at_most=told.bytes - 1, **facts)
    assert "still too much" in str(error.value)
    labkit.pack(run, tmp_path / "pack", at_most=told.bytes - 1, bits=16, **facts)
    labkit.pack(run, tmp_path / "pack", at_most=None, **facts)


# --------------------------------------------------------------------------------------------------------------- files


def test_other_formats_are_refused_by_name(fox):
    _, path = fox
    raw = path.read_bytes()
    line, rest = raw.split(b"\n", 1)
    newer, older = b"labkit pack 2, labkit 9.1.0", b"labkit pack 0, labkit 0.2.9"
    path.write_bytes(newer + b"\n" + rest)
    with pytest.raises(InputError, match="(?s)a newer format.*format 2, of labkit 9.1.0.*format 1.*pip install -U"):
        labkit.open_run(path)
    path.write_bytes(older + b"\n" + rest)
    with pytest.raises(InputError, match="(?s)an older format.*format 0, of labkit 0.2.9.*pack the run again"):
        labkit.open_run(path)
    path.write_bytes(line.replace(b"0.", b"1.", 1) + b"\n" + rest)
    with pytest.raises(CheckpointError, match="other words"):
        labkit.open_run(path)
    path.write_bytes(b"PK" + raw)
    with pytest.raises(InputError, match="no pack"):
        labkit.open_run(path)
    with pytest.raises(InputError, match="no saved run here"):
        labkit.open_run(path.with_name("nowhere"))


def test_every_flipped_bit_is_noticed_or_says_the_same(made, tmp_path):
    """A compressed book can say the same in two ways: then the file is whole."""
    _, run, _ = made
    path, same = tmp_path / "pack", 0
    labkit.pack(run, path, readings=[(deltanet.half_life, dict(layer=0))])
    raw, facts = path.read_bytes(), container.read(path)[0]
    for at in range(0, len(raw), 3):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])
        try:
            labkit.open_run(path)
        except (CheckpointError, InputError):
            continue
        same += 1
        assert container.read(path)[0] == facts
    assert same <= 2
    for at in range(0, len(raw), 97):
        path.write_bytes(raw[:at])
        with pytest.raises((CheckpointError, InputError)):
            labkit.open_run(path)


def test_a_pack_replaces_a_pack_whole_and_nothing_else(made, tmp_path, monkeypatch):
    _, run, _ = made
    path = tmp_path / "pack"
    path.write_text("a letter")
    with pytest.raises(InputError, match="something else lies in this place"):
        labkit.pack(run, path, readings=[deltanet.half_life])
    with pytest.raises(InputError, match="something else lies in this place"):
        labkit.pack(run, tmp_path, readings=[deltanet.half_life])
    path.unlink()
    labkit.pack(run, path, readings=[deltanet.half_life])
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "fsync", full)
        with pytest.raises(CheckpointError, match="(?s)a pack could not be written.*No space left"):
            labkit.pack(run, path, readings=[deltanet.survival])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    labkit.pack(run, tmp_path / "new" / "pack", readings=[deltanet.survival])
    assert labkit.open_run(tmp_path / "new" / "pack").readings


def rewritten(path, change):
    """Change facts and parts of a pack, and sign it again."""
    facts, payload = container.read(path)
    blobs = codec.Blobs()
    lengths = container.pieces(facts["blobs"])
    blobs.parts = [bytes(part) for part in container.cut(payload, lengths)]
    blobs.sizes = [size for _, size in lengths]
    change(facts, blobs)
    for name in ("labkit", "payload"):
        facts.pop(name)
    facts.pop("blobs")
    path.write_bytes(container.made(facts, blobs))


def test_bytes_that_grow_without_end_are_refused_before_there_is_room_for_them(fox):
    _, path = fox

    def bomb(facts, blobs):
        blob = facts["tokens"][3]
        blobs.parts[blob], blobs.sizes[blob] = zlib.compress(bytes(2**20)), 2**30
        facts["tokens"] = ["float32", "exact", [2**28], blob, 1.0, 0.0]

    rewritten(path, bomb)
    with pytest.raises(InputError, match="(?s)field of a pack makes no sense.*blobs: "):
        labkit.open_run(path)


def test_arrays_that_are_many_are_refused_before_there_is_room_for_them(fox):
    _, path = fox

    def many(facts, blobs):
        """One blob, read as arrays of many shapes."""
        blobs.parts.append(zlib.compress(bytes(2**24), 9))
        blobs.sizes.append(2**24)
        facts["answered"][0][1] = facts["answered"][0][1][:1]
        made = facts["answered"][0][1][0][1]
        for i in range(30_000):
            made["coords"][f"x{i}"] = [["a"], ["uint8", "whole", [2**21], len(blobs.parts) - 1, 1.0 + i, 0.0], {}]

    rewritten(path, many)
    with pytest.raises(BudgetError, match="labkit.open_run"):
        labkit.open_run(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts, made: facts.update(count=41), "ids|tokens"),
        (lambda facts, made: facts.update(count=0), "0 given|40 given"),
        (lambda facts, made: facts.update(prompt_length=41), "41 given of 40"),
        (lambda facts, made: facts.update(bits=64), "bits: 64"),
        (lambda facts, made: facts.update(more=1), "other fields.*more"),
        (lambda facts, made: facts.update(parity=[[9, "x", 0.5]]), r"parity of layers \[9\]"),
        (lambda facts, made: facts["seams"].append(facts["seams"][0]), "a seam twice"),
        (lambda facts, made: facts["seams"][0].__setitem__(1, "qk"), "a seam 'qk' of layer 0"),
        (lambda facts, made: facts["seams"][0].__setitem__(0, 7), "of layer 7"),
        (lambda facts, made: facts["seams"][0][2].__setitem__(2, [44, 40]), r"seam resid_post \[44, 40\]"),
        (lambda facts, made: facts["ids"].__setitem__(3, 999), "array \\[999\\]"),
        (lambda facts, made: facts["answered"][0][0].__setitem__(0, "yarn.memory"), "a reading yarn.memory"),
        (lambda facts, made: facts["answered"][0][0].__setitem__(0, "deltanet.survival"), "deltanet.half_life"),
        (lambda facts, made: facts["answered"][0][1][0].__setitem__(0, 2), "of layer 2"),
        (lambda facts, made: facts["answered"][1][0][1].update(heads=[1]), r"head \[1, 4, 7\]"),
        (lambda facts, made: facts["answered"][0][0][1].update(heads=-1), r"head \[0, 1, "),
        (lambda facts, made: made["coords"].pop("layer"), "layer"),
        (lambda facts, made: made["coords"].pop("head"), "head"),
        (lambda facts, made: made["attrs"].update(parity="good"), "deltanet.half_life of layer 0"),
        (lambda facts, made: made["attrs"].update(layer=1), "deltanet.half_life of layer 0"),
        (lambda facts, made: made["attrs"].update(odd={}), "answered: odd"),
        (lambda facts, made: made["variables"]["decay_only"][2].update(scale="<b>"), "answered: "),
        (lambda facts, made: made["variables"]["decay_only"][2].pop("symbol"), "answered: "),
        (lambda facts, made: made["variables"]["decay_only"].__setitem__(0, ["token"]), "unlike layers"),
        (lambda facts, made: made["variables"]["decay_only"].__setitem__(0, ["head", "head"]), "answered: "),
        (lambda facts, made: made["variables"]["decay_only"][1].__setitem__(2, [3, 3]), "answered: "),
        (lambda facts, made: made["variables"].update(head=made["variables"]["decay_only"]), "two parts"),
        (lambda facts, made: made["variables"].update({"x y": made["variables"]["decay_only"]}), "answered: x y"),
        (
            lambda facts, made: made["coords"].update(head=[*made["variables"]["decay_only"][:2], {}]),
            "deltanet.half_life",
        ),
        (lambda facts, made: made["variables"]["decay_only"][1].__setitem__(1, "pickle"), "answered: "),
        (lambda facts, made: made["variables"]["decay_only"][1].__setitem__(0, "object"), "answered: "),
        (lambda facts, made: made["variables"]["decay_only"][1].__setitem__(0, "float64"), "unlike layers"),
    ],
)
def test_a_signed_pack_that_lies_is_refused(fox, change, says):
    _, path = fox
    rewritten(path, lambda facts, blobs: change(facts, facts["answered"][0][1][0][1]))
    with pytest.raises(InputError, match=f"(?s)a pack.*{says}"):
        labkit.open_run(path)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (zlib.compress(bytes(500)), 499),
        (zlib.compress(bytes(500)), 501),
        (zlib.compress(bytes(500)) + b"x", 500),
        (zlib.compress(bytes(500))[:-3], 500),
        (b"", 0),
        (b"x" * 9, 2**40),
        (b"x" * 900, 500),
    ],
)
def test_compressed_bytes_are_of_the_length_that_is_known(data, size):
    with pytest.raises(InputError, match="contradicts itself"):
        codec.inflated(data, size, "a pack")


@pytest.mark.parametrize(
    ("words", "says"),
    [(["\ud800"], "ud800"), (["x" * 2**20] + ["y"] * 999, "texts of up to"), ([1], "1"), ({}, "not 1 texts")],
)
def test_texts_that_cannot_be_shown_are_refused(words, says):
    count = len(words) if words else 1
    stored = codec.Stored("text", "text", (count,), 0)
    with pytest.raises(codec.fields.Odd, match=says):
        codec.decoded(stored, json.dumps(words).encode())


# -------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(), "nothing to pack"),
        (dict(readings=[len]), "not a reading"),
        (dict(readings=["deltanet.memory"]), "not a reading"),
        (dict(readings=[(deltanet.memory, 3)]), "given by name"),
        (dict(readings=[(deltanet.memory, dict(layer=2))]), "layer 2 is a gated attention layer"),
        (dict(readings=[(deltanet.memory, dict(layer=9))]), "layer"),
        (dict(readings=[deltanet.memory], bits=4), "(?s)bits of a number.*got: 4.*32 or 16 or 8"),
        (dict(seams=[3]), "(?s)pairs"),
        (dict(seams=[(0, "q")]), "seam 'q' of layer 0"),
        (
            dict(
                readings=[
                    (
                        deltanet.response,
                        dict(layer=1, change=edit.state(vars(codec)["zlib"].compressobj().flush, layer=1, at=3)),
                    )
                ]
            ),
            "nobody can tell later what change",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(made, tmp_path, options, says):
    _, run, _ = made
    with pytest.raises((InputError, LayerError, SeamError), match=says):
        labkit.pack(run, tmp_path / "pack", **options)
    assert not list(tmp_path.iterdir())


def test_a_lab_of_other_weights_is_refused(made, tmp_path):
    _, run, more = made
    labkit.pack(run, tmp_path / "pack", readings=[(attention.contribution, dict(layer=2, lab=more["lab"]))])
    again, own = labkit.open_run(tmp_path / "pack"), attention.contribution(run, more["lab"], layer=2)
    assert attention.contribution(again, more["lab"], layer=2).identical(own)
    with pytest.raises(InputError, match="another model"):
        attention.contribution(again, tiny.make_lab(tiny.model(seed=1)), layer=2)


def test_the_book_names_no_path_and_holds_no_code(fox):
    _, path = fox
    raw = path.read_bytes()
    assert re.fullmatch(rb"labkit pack 1, labkit [\w.+]+", raw.split(b"\n", 1)[0])
    within = bytes_within(path)
    assert str(path.parent).encode() not in within and b"pickle" not in within
