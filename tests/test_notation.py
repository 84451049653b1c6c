"""The alphabet, the one door to labelled data, readable tokens, and the form of errors."""

import numpy
import pytest
import torch

from labkit import errors
from labkit.errors import InputError, LabError
from labkit.notation import AXES, NUMBERED, QUANTITIES, Quantity, label, select, spoken, together, visible


def test_label_carries_units_symbols_and_sources():
    ds = label(
        {"gate": (("token", "head"), torch.rand(3, 2), "keep"), "keep": (("token",), [1, 2, 3], None)},
        coords={"token": [5, 6, 7], "token_text": ("token", ["a", "b", "a"])},
        attrs={"layer": 4},
    )
    assert ds.gate.attrs["symbol"] == "α" and ds.gate.attrs["units"] == "fraction"
    assert ds.keep.attrs == {}, "what a variable is never follows from its name"
    assert ds.token_text.dims == ("token",) and ds.attrs == {"layer": 4}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_becomes_float32(dtype):
    x = torch.tensor([1.5, -2.25], dtype=dtype, requires_grad=True)
    assert label({"x": (("token",), x, None)}).x.dtype == numpy.float32


def test_label_takes_axes_and_quantities_of_the_users_own():
    own = Quantity("η", "share of the budget", "fraction", "fraction", "this test")
    ds = label({"x": (("shop", "day"), torch.rand(2, 3), own)}, coords={"shop": ["a", "b"]})
    assert ds.x.dims == ("shop", "day") and ds.x.attrs["symbol"] == "η"
    words = label({"x": (("prompt", "facts after"), torch.rand(2, 3), own)}, coords={"facts after": [4, 8, 60]})
    assert words.x.dims == ("prompt", "facts after") and words["facts after"].values.tolist() == [4, 8, 60]


def test_every_axis_is_spoken_without_underscores_and_no_two_alike():
    """`kv_head` is "key/value head"; a name of the user's own is drawn as it is."""
    words = [spoken(axis) for axis in AXES]
    assert len(set(words)) == len(words) and not [word for word in words if "_" in word]
    assert (spoken("kv_head"), spoken("query_head"), spoken("facts after")) == (
        "key/value head",
        "query head",
        "facts after",
    )
    assert set(AXES) > NUMBERED


def test_what_is_put_together_keeps_only_what_it_has_in_common():
    """Not the symbol of the first, nor the layer it is of, as `xarray.concat` would."""
    values = {name: (("head", "token"), torch.rand(2, 3), name) for name in ("decayed", "erased", "keep")}
    one, other = (label(values, coords={"layer": layer, "head": [0, 5]}) for layer in (2, 4))
    norms = together({"by decay": one.decayed, "by erasing": one.erased})
    assert norms.dims == ("term", "head", "token") and norms.term.values.tolist() == ["by decay", "by erasing"]
    assert "symbol" not in norms.attrs and "long_name" not in norms.attrs and norms.attrs["units"] == "norm"
    assert norms.name is None and int(norms.layer) == 2 and norms["head"].values.tolist() == [0, 5]
    numpy.testing.assert_array_equal(norms.sel(term="by erasing"), one.erased)
    mixed = together({"decay": one.keep, "norm": one.decayed})
    assert not {"symbol", "units", "scale"} & set(mixed.attrs)
    layers = together({"layer 2": one.erased, "layer 4": other.erased})
    assert layers.attrs["symbol"] == "‖βk r‖" and "layer" not in layers.coords
    with pytest.raises(InputError, match="(?s)nothing to put together.*notation.together"):
        together({})
    with pytest.raises(InputError, match="(?s)labelled arrays are put together.*got: list"):
        together({"x": [1, 2]})


def test_label_refuses_what_does_not_say_what_it_is():
    with pytest.raises(InputError, match="(?s)x does not say what it is.*got: 2 entries.*quantity is None for counts"):
        label({"x": (("token",), [1])})
    with pytest.raises(InputError, match="(?s)unknown quantity.*got: keeps.*expected: keep"):
        label({"x": (("token",), [1], "keeps")})
    with pytest.raises(InputError, match="(?s)x: not names of axes.*\\[' '\\]"):
        label({"x": ((" ",), [1], None)})
    with pytest.raises(InputError, match="(?s)one axis name per dimension.*\\(2, 3\\)"):
        label({"x": (("token",), torch.zeros(2, 3), None)})


def test_every_quantity_says_how_it_is_coloured_and_where_it_comes_from():
    for name, q in QUANTITIES.items():
        assert q.scale in ("fraction", "signed", "positive") and q.source and q.symbol and q.units, name
    assert all(text for text in AXES.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" fox", " fox"),
        (" ", "␣"),
        ("\n\n", "⏎⏎"),
        ("<think>\n", "<think>⏎"),
        ("", "∅"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # escaped where it is placed
        ("a\x07b", "a\\x07b"),
        ("\u202eevil", "\\u202eevil"),
        ("a\u200bb\u2066c\x00", "a\\u200bb\\u2066c\\x00"),
        ("\u3164", "\\u3164"),
        ("日本", "日本"),
    ],
)
def test_tokens_are_readable(text, shown):
    assert visible(text) == shown


def test_select():
    assert select(None, 3, "head") == [0, 1, 2] and select(-1, 3, "head") == [2]
    assert select(numpy.int64(2), 3, "head") == [2] == select(torch.tensor(2), 3, "head")
    assert select(slice(1, None), 3, "head") == [1, 2] and select(range(2), 3, "head") == [0, 1]
    with pytest.raises(InputError, match="(?s)head out of range.*\\[3\\].*0 to 2"):
        select([0, 3], 3, "head")
    with pytest.raises(InputError, match="no head chosen"):
        select([], 3, "head")


def test_errors_say_what_got_expected_and_what_to_try():
    error = InputError("the prompt is empty", got="0 tokens", expected="at least 1", hint='lab.trace("red fox")')
    assert str(error) == 'the prompt is empty\n  got: 0 tokens\n  expected: at least 1\n  try: lab.trace("red fox")'
    assert str(LabError("alone")) == "alone"
    family = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, LabError)]
    assert len(family) >= 8 and issubclass(InputError, ValueError)
