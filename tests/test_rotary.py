"""Frequencies equal transformers' own initialisers bit for bit; switching is exact; nonsense is refused."""

import math

import pytest
import tiny
import torch

from labkit import rotary, turning
from labkit.errors import InputError
from labkit.rotary import Scaling

# θ, head_dim, window, head_dim of which a quarter is rotated: 27B, nano, two others
SHAPES = [(1e7, 256, 262_144), (2000.0, 64, 512), (1000.0, 48, 640), (1e6, 128, 40_960)]


def where(theta, head_dim, window):
    return dict(theta=theta, width=head_dim // 4, window=window)


def config(theta, head_dim, window, **rope):
    from transformers import Qwen3_5TextConfig

    rope |= dict(rope_theta=theta, partial_rotary_factor=0.25, mrope_section=[3, 3, 2], mrope_interleaved=True)
    sizes = dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=head_dim)
    return Qwen3_5TextConfig(**sizes, max_position_embeddings=window, rope_parameters=rope)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0, 7.3])
@pytest.mark.parametrize(("kind", "length"), [("yarn", None), ("linear", None), ("dynamic", None), ("dynamic", 2.3)])
def test_frequencies_are_those_of_transformers(shape, factor, kind, length):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    length = length and int(length * shape[2])
    extra = {"original_max_position_embeddings": shape[2]} if kind == "yarn" else {}
    theirs, scale = ROPE_INIT_FUNCTIONS[kind](config(*shape, rope_type=kind, factor=factor, **extra), seq_len=length)
    ours = Scaling(kind, factor, length=length)
    assert torch.equal(rotary.frequencies(ours, **where(*shape)), theirs) and ours.attention_factor == scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_scaling_and_factor_one_are_the_models_own_frequencies(shape):
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

    theirs = Qwen3_5TextRotaryEmbedding(config(*shape, rope_type="default")).inv_freq
    for kind in rotary.KINDS:
        assert torch.equal(rotary.frequencies(Scaling(kind, 1), **where(*shape)), theirs), kind


def test_ntk_keeps_the_first_pair_and_slows_the_last_by_the_factor():
    plain, ntk = (
        rotary.frequencies(Scaling(kind, 4), dtype=torch.float64, **where(*SHAPES[0])) for kind in ("none", "ntk")
    )
    assert float(plain[0] / ntk[0]) == 1 and float(plain[-1] / ntk[-1]) == pytest.approx(4)
    assert ((plain / ntk).diff() > 0).all()


def test_the_paper_ramp_is_linear_in_turns():
    shape = where(*SHAPES[0])
    turns = shape["window"] * rotary.frequencies(Scaling(), dtype=torch.float64, **shape) / (2 * math.pi)
    ramp = rotary.ramp(Scaling("yarn", 4, "paper"), **shape)
    blended = (ramp > 0) & (ramp < 1)
    assert torch.allclose(ramp[blended], 1 - (turns[blended] - 1) / 31) and int(blended.sum()) == 7
    assert (ramp[turns < 1] == 1).all() and (ramp[turns > 32] == 0).all()


@pytest.mark.parametrize(("kind", "ramp"), [("yarn", "index"), ("yarn", "paper"), ("dynamic", "index")])
def test_a_scaling_with_its_own_window_counts_turns_in_that(kind, ramp):
    shape = dict(theta=1e7, width=62)
    own = Scaling(kind, 4, ramp, original=8192, length=20_000)
    taken, other = (rotary.frequencies(own, **shape, window=window) for window in (8192, 262_144))
    assert torch.equal(taken, other)
    assert torch.equal(*(rotary.ramp(own, **shape, window=window) for window in (8192, 262_144)))
    rest = rotary.frequencies(Scaling(kind, 4, ramp, length=20_000), **shape, window=262_144)
    assert not torch.equal(other, rest)


def test_the_attention_factor():
    assert Scaling("yarn", 4).attention_factor == pytest.approx(1.138629, abs=1e-6) and Scaling(
        "yarn", 2
    ).attention_factor == pytest.approx(1.069315, abs=1e-6)
    assert Scaling("yarn", 4, attention_factor=1).attention_factor == 1 and Scaling("linear", 4).attention_factor == 1
    assert Scaling("none", attention_factor=1.2).attention_factor == 1.2


def test_dynamic_yarn_follows_the_length():
    shape = where(*SHAPES[1])
    for length, factor in ((100, 1), (512, 1), (768, 1.5), (9999, 4)):
        now = Scaling("dynamic-yarn", 4, length=length, original=512)
        assert now.at() == Scaling("yarn", factor, original=512) and now.attention_factor is None
        assert torch.equal(rotary.frequencies(now, **shape), rotary.frequencies(Scaling("yarn", factor), **shape))


def test_what_a_configuration_states():
    of = lambda **rope: rotary.scaling_of(config(*SHAPES[1], **rope))  # noqa: E731
    assert of(rope_type="default") == Scaling()
    assert of(rope_type="yarn", factor=4.0, original_max_position_embeddings=512) == Scaling("yarn", 4.0, original=512)
    both = rotary.scaling_of({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5})
    assert both.attention_factor == pytest.approx((0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1))
    assert of(rope_type="linear", factor=4.0, attention_factor=1.3).attention_factor == 1, "as transformers ignores it"
    for rope, message in (
        ({"rope_type": "longrope", "factor": 4}, "(?s)no such rotary scaling.*longrope.*yarn"),
        ({"rope_type": "yarn"}, "(?s)without its factor"),
        ({"rope_type": "yarn", "factor": 0.5}, "(?s)at least 1.*0.5.*only be stretched"),
        ({"rope_type": "yarn", "factor": 4, "beta_fast": 16}, "(?s)other bounds.*beta_fast 16"),
    ):
        with pytest.raises(InputError, match=message):
            rotary.scaling_of(rope)


def test_scalings_that_are_the_same():
    four = Scaling("yarn", 4)
    same = lambda one, other: one.same(other, 512)  # noqa: E731
    assert same(Scaling(), Scaling("yarn", 1, original=512)) and same(
        four, Scaling("yarn", 4, attention_factor=four.attention_factor)
    )
    assert same(Scaling("linear", 4, original=512), Scaling("linear", 4, "paper")) and same(
        four, Scaling("yarn", 4, length=9)
    )
    late = Scaling("dynamic-yarn", 4, original=512)
    assert same(Scaling("dynamic-yarn", 4, length=1024), Scaling("yarn", 2)) and same(late, Scaling())
    assert not same(Scaling("dynamic-yarn", 4, length=700), Scaling("dynamic-yarn", 4, length=900))
    for other in (Scaling("yarn", 2), Scaling("yarn", 4, "paper"), Scaling("yarn", 4, original=256), Scaling(), late):
        assert not same(four, other)
    assert not same(Scaling(), Scaling(attention_factor=1.1))
    assert not same(Scaling("dynamic", 2, length=700), Scaling("dynamic", 2, length=900))


def test_numbers_of_any_kind():
    import numpy as np

    scaling = Scaling("yarn", np.int64(4), original=np.int32(512), attention_factor=np.float32(1.5))
    assert scaling == Scaling("yarn", 4.0, original=512, attention_factor=1.5) and type(scaling.factor) is float
    assert str(Scaling("yarn", 4.000000001)) != str(Scaling("yarn", 4)), "near ones keep their names apart"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "none"),
        ({"attention_factor": 1.2}, "none, attention factor 1.2"),
        ({"kind": "yarn", "factor": 4}, "yarn 4"),
        (
            {"kind": "yarn", "factor": 4, "ramp": "paper", "attention_factor": 1},
            "yarn 4 paper ramp, attention factor 1",
        ),
        ({"kind": "dynamic-yarn", "factor": 4, "length": 1200, "original": 512}, "dynamic-yarn 4 at 1,200 tokens"),
    ],
)
def test_a_scaling_says_what_it_is(options, text):
    assert str(Scaling(**options)) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "wide"}, "(?s)no such rotary scaling.*wide.*linear"),
        ({"kind": "yarn", "ramp": "steep"}, "(?s)no such ramp.*steep.*paper"),
        ({"kind": "yarn", "factor": 0.9}, "(?s)at least 1.*0.9"),
        ({"kind": "yarn", "factor": float("nan")}, "factor is a finite number"),
        ({"kind": "yarn", "factor": "4"}, "factor is a finite number"),
        ({"kind": "yarn", "factor": True}, "factor is a finite number"),
        ({"attention_factor": "1.2"}, "(?s)attention_factor is a finite number.*1.2.*above 0"),
        ({"attention_factor": -1}, "attention_factor out of range"),
        ({"original": 0}, "original out of range"),
    ],
)
def test_misuse(options, message):
    with pytest.raises(InputError, match=message):
        Scaling(**options)


def test_angles_are_those_of_the_models_rotary_module():
    model = tiny.model()
    module = model.model.rotary_emb
    at = torch.arange(700)
    cos, sin = module(torch.zeros(1), at[None])
    mine = rotary.angles(at, Scaling(), theta=1000.0, width=8, window=512, dtype=torch.float32)
    assert torch.equal(mine[0], cos[0]) and torch.equal(mine[1], sin[0])


def test_a_rotation_turns_pairs_by_the_angle_and_multiplies_them_by_m():
    """(a + ib)·m·e^{iωp} for channels i and i + half; the other channels stay. So products know distances alone."""
    draw, scaling = torch.Generator().manual_seed(3), Scaling("yarn", 4, original=512, attention_factor=1.3)
    q, k = torch.randn(2, 1, 13, dtype=torch.float64, generator=draw)  # 10 rotated channels, 3 others
    sizes = dict(theta=1000.0, width=10, window=512)

    def turned(x, position):
        cos, sin = rotary.angles(torch.tensor([position]), scaling, **sizes, dtype=torch.float64)
        return rotary.rotate(x, cos, sin)

    omega = rotary.frequencies(scaling, dtype=torch.float64, **sizes)
    pairs = torch.complex(q[..., :5], q[..., 5:10]) * 1.3 * torch.exp(1j * omega * 77)
    expected = torch.cat([pairs.real, pairs.imag, q[..., 10:]], -1)
    assert torch.allclose(turned(q, 77), expected, atol=1e-5)
    near, far = ((turned(q, at + 40) * turned(k, at)).sum() for at in (0, 211))
    assert float(near) == pytest.approx(float(far), abs=1e-4)
    assert abs(float(near - (turned(q, 0) * turned(k, 40)).sum())) > 1e-2, "ahead is not behind"


def test_sixteen_bit_frequencies_are_refused():
    stack = tiny.model().to(torch.bfloat16).model  # the buffers too
    scope = turning.switched(stack, Scaling("yarn", 2), theta=1000.0, width=8, window=512, reach=1024)
    with pytest.raises(InputError, match="(?s)rounded.*bfloat16.*exact_rotation"), scope:
        pass
