"""The stack of a model: as data from its configuration, and drawn, with the strip in the colours of the kinds."""

import dataclasses

import pytest

import labkit as lk
from labkit import draw, spec
from labkit.draw.architecture import repeated
from labkit.errors import InputError

NAMES = ("Qwen3.6-27B", "Qwen3.6-35B-A3B", "Olmo-Hybrid-7B", "Kimi-Linear-48B-A3B")


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano").spec


def texts(fig):
    return [text for trace in fig.data if trace.mode == "text" for text in trace.text]


@pytest.mark.parametrize("name", ["nano", *NAMES])
def test_the_stack_adds_up_to_the_model(name, nano):
    one = nano if name == "nano" else spec.read(name)
    ds, counts = spec.stack(one), spec.parameters(one)
    mixers = ds.parameters.sel(part="mixer").groupby("layer_kind").sum()
    assert {kind: int(mixers.sel(layer_kind=kind)) for kind in ("deltanet", "attention")} == {
        kind: counts[kind] for kind in ("deltanet", "attention")
    }
    assert int(ds.parameters.sel(part="MLP").sum()) == counts["mlp"]
    assert int(ds.fixed_bytes.sum()) == spec.state_bytes(one)
    assert int(ds.token_bytes.sum()) == spec.kv_bytes_per_token(one)
    assert [bool(held) for held in ds.fixed_bytes] == [kind == "deltanet" for kind in one.kinds]
    assert ds.layer_kind.values.tolist() == list(one.kinds)


@pytest.mark.parametrize("name", ["nano", *NAMES])
def test_the_strip_has_every_layer_in_its_colour(name, nano):
    one = nano if name == "nano" else spec.read(name)
    fig = draw.stack(spec.stack(one))
    hover = {f"layer {n}: " for n in range(one.layers)}
    cells = [trace for trace in fig.data if trace.text and any(str(trace.text).startswith(start) for start in hover)]
    assert [cell.fillcolor for cell in cells] == [draw.KIND[kind] for kind in one.kinds]
    lows = [cell.y[0] for cell in cells]
    assert lows == sorted(lows), "the first layer is lowest"
    letters = [text for text in texts(fig) if text in ("D", "A")]
    assert letters == (["D" if kind == "deltanet" else "A" for kind in one.kinds] if one.layers <= 16 else [])


def test_the_layers_that_repeat_are_drawn_part_by_part(nano):
    fig = draw.stack(spec.stack(nano))
    heads = [text.partition("<br>")[0] for text in texts(fig) if "<br>" in text]
    assert heads == [
        f"<b>{part}</b>" for name in ("D · Gated DeltaNet",) * 3 + ("A · gated attention",) for part in (name, "MLP")
    ]
    assert "<b>a token</b>, one of 2,560 → 128 numbers" in texts(fig)
    seams = [text for text in texts(fig) if "_" in text and "<" not in text]
    assert sorted(seams) == ["mixer_in", "mixer_out", "mlp_out", "resid_post", "resid_pre"]
    assert fig.layout.title.text == "nano: 8 layers, 6 D (Gated DeltaNet), 2 A (gated attention)"
    assert draw.stack(spec.stack(nano), title="one").layout.title.text == "one"


@pytest.mark.parametrize(
    ("kinds", "count"), [("DDDA" * 2, 4), ("DDA" * 3, 3), ("DA", 2), ("A", 1), ("DDDADDD", 4), ("DDDDDDDA", 6)]
)
def test_how_many_layers_repeat(kinds, count):
    assert repeated(list(kinds)) == count


def test_a_model_of_one_kind_and_a_hostile_name(nano):
    one = dataclasses.replace(nano, kinds=("attention",) * 3, name="<script>x</script>")
    fig = draw.stack(spec.stack(one))
    assert "&lt;script&gt;" in fig.layout.title.text and "<script" not in fig.to_json()
    assert [trace.text for trace in fig.data if str(trace.text).startswith("layer 0, ")] != []


def test_misuse(nano):
    with pytest.raises(InputError, match="no stack of layers"):
        draw.stack(nano)
    with pytest.raises(InputError, match="without seams"):
        draw.stack(spec.stack(nano).drop_vars("seams"))
    with pytest.raises(InputError, match="unknown dtype"):
        spec.stack(nano, dtype="float3")
