"""Readings by token, merged to words: where words begin, what is summed and what is not, and what is refused."""

import numpy as np
import pytest
import tiny
import torch
import xarray

import labkit as lk
from labkit import attention, attribution, deltanet, draw, experts, plan, residual, words
from labkit.errors import InputError
from labkit.notation import label
from labkit.words import bounds

TEXT = " overinterpret red. don't rehabilitate 2024 café"


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


@pytest.fixture(scope="module")
def run(nano):
    return nano.trace(TEXT)


class Bytes:
    """A byte-level vocabulary without a merge: every byte is a token."""

    all_special_ids = (256,)

    def decode(self, ids, **options):
        parts = [b"<end>" if i == 256 else bytes([i]) for i in ids]
        return b"".join(parts).decode("utf-8", errors="replace")


class Pieces:
    """A vocabulary whose words carry their space, which decoding drops at the beginning of a text."""

    all_special_ids = ()
    TOKENS = ("▁red", "▁fo", "x", "▁blue", ".")

    def decode(self, ids, **options):
        return "".join(self.TOKENS[i] for i in ids).replace("▁", " ").removeprefix(" ")


def texts_of(tokenizer, ids):
    """The words of ids, as a run of them would have them."""

    class Read:
        pass

    read = Read()
    read.ids, read.tokenizer = torch.tensor(ids), tokenizer
    return [word.text for word in words.spans(read)]


def test_words_of_a_byte_level_vocabulary(run):
    found = words.spans(run)
    assert [word.text for word in found] == ["overinterpret", "red", ".", "don't", "rehabilitate", "2024", "café"]
    assert [word.first for word in found] == [0, *(word.last + 1 for word in found[:-1])], "every token is of a word"
    assert found[-1].last == len(run) - 1 and sum(word.last > word.first for word in found) >= 4


def test_every_byte_by_itself():
    ids = [*"a fox's née 漢字 🦊! don't x_y\n\nit".encode(), 256, *b"end"]
    shown = ["a", "fox's", "née", "漢", "字", "🦊", "!", "don't", "x_y", "⏎⏎", "it", "<end>", "end"]
    assert texts_of(Bytes(), ids) == shown
    assert texts_of(Bytes(), [*b"a", 0xF0, 0x9F, *b" b"])[-1] == "b", "a character that never ends"


def test_vocabularies_that_drop_a_space():
    assert texts_of(Pieces(), [0, 1, 2, 3, 4]) == ["red", "fox", "blue", "."]


@pytest.mark.parametrize("text", ["", " "])
def test_a_vocabulary_that_tokenizers_trains(text):
    """A small byte-level vocabulary, its words whatever merges it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(["the red fox, the blue whale"] * 9, trainer)
    made.all_special_ids = ()

    class Wrapped:
        all_special_ids = ()
        decode = staticmethod(lambda ids, **options: made.decode(ids))

    ids = made.encode(text + "the foxes überall, 12 whales").ids
    assert texts_of(Wrapped(), ids) == ["the", "foxes", "überall", ",", "12", "whales"] and len(ids) > 9


def test_a_map_is_summed_over_what_is_read_and_averaged_over_what_reads(run, nano):
    layer = nano.spec.attention_layers
    ds = attention.pattern(run, layer=list(layer), heads=[5, 0])
    merged = words.merge(ds, run)
    spans = words.spans(run)
    assert merged.weight.dims == ds.weight.dims and merged.sizes["token"] == merged.sizes["source"] == len(spans)
    for i, reader in enumerate(spans):
        for j, read in enumerate(spans):
            part = ds.weight.values[..., reader.first : reader.last + 1, read.first : read.last + 1]
            np.testing.assert_allclose(merged.weight.values[..., i, j], part.sum(-1).mean(-1), atol=1e-6)
    np.testing.assert_allclose(merged.weight.sum("source"), 1, atol=1e-5)
    assert merged.weight.attrs["merged"] == "mean over token, sum over source" and "merged" not in ds.weight.attrs
    assert merged.token_text.values.tolist() == [word.text for word in spans]
    assert merged.token.values.tolist() == merged.token_last.values.tolist() == [word.last for word in spans]
    assert merged.source_first.values.tolist() == [word.first for word in spans]
    assert merged.attrs == ds.attrs and merged.weight.attrs["symbol"] == "P"
    draw.heatmap(merged.isel(layer=0))
    draw.tokens(merged.isel(layer=0, query_head=0), "gate")


def test_what_holds_after_a_word_is_of_its_last_token_and_gates_multiply(run):
    ds = deltanet.memory(run, layer=2, heads=1)
    merged, (first, *_) = words.merge(ds, run), words.spans(run)
    span = slice(first.first, first.last + 1)
    assert first.last > first.first
    close = lambda name, value: np.testing.assert_allclose(merged[name].values[0, 0], value, rtol=1e-5)
    close("keep", ds.keep.values[0, span].prod())
    close("state_norm", ds.state_norm.values[0, first.last])
    close("energy", ds.energy.values[0, span].sum())
    close("energy", ds.state_norm.values[0, first.last] ** 2)
    close("surprise", ds.surprise.values[0, span].mean())
    assert merged.state.identical(ds.state)
    spectrum = deltanet.spectrum(run, layer=2)
    np.testing.assert_array_equal(
        words.merge(spectrum, run).singular.values[:, 0], spectrum.singular.values[:, first.last]
    )


def test_what_comes_to_an_answer_is_summed(nano, run):
    ds = attribution.exact(nano, TEXT, of=" red")
    merged = words.merge(ds, run)
    np.testing.assert_allclose(merged.embedding.sum(), ds.embedding.sum(), rtol=1e-5)
    np.testing.assert_allclose(merged.stored.sum("source"), ds.stored.sum("source"), rtol=1e-4, atol=1e-5)


def test_every_reading_of_a_token_has_a_rule(nano, run):
    """Or it is one of those whose numbers no rule merges, and says so."""
    lens = residual.lens(run, nano, of=" red")
    for ds in (
        lens,
        residual.contributions(run, nano, of=" red", tokens=None),
        attribution.slopes(nano, TEXT, of=" red"),
    ):
        assert words.merge(ds, run).sizes["token"] == 7
    spoken = words.merge(lens, run)
    assert spoken.text.values[0, -1].tolist() == lens.text.values[0, -1].tolist()
    lab = tiny.make_lab(tiny.model(experts=True))
    short, names = lab.trace(tiny.ids(9)), ["a", " b", "c", " d", "e", "f", " g", ".", "h"]
    given = {"source": 0, "at": 2, "segments": ["a"] * 9}
    refused = {}
    for name, needs in plan.readings().items():
        more = [lab if word == "lab" else short for word in needs.options if word in ("lab", "other", "changed")]
        more += [torch.ones(lab.spec.dk, lab.spec.dv)] if "change" in needs.options else []
        options = {key: value for key, value in given.items() if key in needs.options}
        module, _, function = name.partition(".")
        layer = lab.spec.layers_of(needs.kind)[0]
        ds = getattr(getattr(lk, module), function)(short, *more, layer=layer, **options)
        texts = {
            f"{axis}_text": (axis, [names[n] for n in ds[axis].values])
            for axis in ("token", "source")
            if axis in ds.dims
        }
        if not texts or name == "attention.window":
            continue
        try:
            merged = words.merge(ds.assign_coords(texts))
        except InputError as error:
            refused[name] = error.what
        else:
            for axis in ("token", "source"):
                assert axis not in ds.dims or 1 <= merged.sizes[axis] < ds.sizes[axis] or ds.sizes[axis] < 4, name
    assert refused == {"attention.bands": "no rule says how this is merged"}
    chosen = experts.chosen(short, layer=0).assign_coords(token_text=("token", names))
    assert words.merge(chosen).expert.values[0].tolist() == chosen.expert.values[0].tolist()


def test_other_ways_are_asked_for(run):
    ds = deltanet.implied_attention(run, layer=2)
    merged = words.merge(ds, run, how={"weight": "mean", "value_norm": "largest"})
    span = slice(0, words.spans(run)[0].last + 1)
    np.testing.assert_allclose(merged.weight.values[:, 0, 0], ds.weight.values[:, span, span].mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(merged.value_norm.values[:, 0], ds.value_norm.values[:, span].max(1))
    by_axis = words.merge(ds, run, how={"weight": {"token": "last"}})
    np.testing.assert_allclose(
        by_axis.weight.values[:, 0, 0], ds.weight.values[:, span.stop - 1, span].sum(-1), atol=1e-6
    )
    assert by_axis.weight.attrs["merged"] == "last over token, sum over source"


def test_texts_alone_say_as_much_where_they_can(run):
    ds = deltanet.memory(run, layer=0)
    assert words.merge(ds).token_text.values.tolist()[:-1] == words.merge(ds, run).token_text.values.tolist()[:-1]
    assert words.merge(ds).keep.sizes == words.merge(ds, run).keep.sizes


def test_some_tokens_and_a_warm_cache(nano, run):
    last = words.spans(run)[0].last
    ds = words.merge(deltanet.implied_row(run, layer=2, token=last - 1), run)
    assert ds.source_text.values[0] == "overinterpret" and ds.weight.dims == ("head", "source")
    rows = words.merge(attention.pattern(run, layer=3, rows=[last - 1, -1]), run)
    assert rows.token_first.values.tolist() == [last - 1, len(run) - 1] and rows.sizes["token"] == 2
    assert rows.token_text.values[0] != "overinterpret", "the text of what was read"
    cache = nano.cache()
    nano.trace(run.ids[:3], cache=cache)
    warm = nano.trace(run.ids[3:], cache=cache)
    merged = words.merge(attention.pattern(warm, layer=3), warm)
    assert merged.source_text.values[:3].tolist() == ["·"] * 3 and merged.token_first.values[0] == 3
    np.testing.assert_allclose(merged.weight.sum("source"), 1, atol=1e-5)
    assert words.spans(warm)[0].first == 3


def test_a_tag_in_a_token_stays_text(nano):
    found = nano.trace(" <script>alert(1)</script> fox")
    merged = words.merge(deltanet.memory(found, layer=0), found)
    page = draw.lines(merged, "keep").to_json()
    assert "<script>" not in page and "script" in "".join(merged.token_text.values)


REFUSED = {
    "no dataset": (lambda ds, run: words.merge(run, run), "words.merge takes a dataset"),
    "no run": (lambda ds, run: words.merge(ds, " red fox"), "words.merge goes by a run"),
    "no tokens": (lambda ds, run: words.merge(deltanet.half_life(run, layer=0), run), "nothing to merge"),
    "no variable": (lambda ds, run: words.merge(ds, run, how={"kept": "mean"}), "no such variable"),
    "no way": (lambda ds, run: words.merge(ds, run, how={"keep": "median"}), "no such way to merge: 'median'"),
    "no rule": (
        lambda ds, run: words.merge(
            label({"x": (("token",), [1.0], None)}, coords={"token": [0], "token_text": ("token", [" fox"])}).assign(
                x=xarray.DataArray([1.0], dims="token", attrs={"long_name": "something of mine"})
            )
        ),
        "no rule says how this is merged",
    ),
    "no texts": (lambda ds, run: words.merge(ds.drop_vars("token_text"), run), "does not say what its tokens are"),
    "another run": (
        lambda ds, run: words.merge(ds.isel(token=slice(None, None, -1)).assign_coords(token=ds.token.values), run),
        "of another run",
    ),
    "a shorter run": (
        lambda ds, run: words.merge(ds.assign_coords(token=ds.token + 1), run),
        "tokens that the run lacks",
    ),
    "no tokenizer": (lambda ds, run: words.spans(tiny.make_lab(tiny.model()).trace(tiny.ids(5))), "has no tokenizer"),
    "no texts at all": (
        lambda ds, run: words.merge(deltanet.memory(tiny.make_lab(tiny.model()).trace(tiny.ids(5)), layer=0)),
        "no texts of tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_is_refused(case, run):
    call, what = REFUSED[case]
    with pytest.raises(InputError, match=what):
        call(deltanet.memory(run, layer=0), run)


def test_rules_name_quantities_and_ways():
    assert all(
        set(rule) == {"token", "source"} and set(rule.values()) <= words.WAYS.keys() for rule in words.RULES.values()
    )
    assert max(len(chr(code).encode()) for code in (0x24, 0xA3, 0x6F22, 0x1F98A)) == bounds.PIECES
