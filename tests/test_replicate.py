"""Published claims: every number can be agreed with and disagreed with, and what is measured is what is said."""

import math
import re

import numpy as np
import pytest
import siblings
import tiny
import torch
import xarray

import labkit
from labkit import attention, deltanet, edit, replicate, yarn
from labkit.__main__ import main
from labkit.deltanet.equation import grouped
from labkit.errors import InputError
from labkit.replicate import AGREE, CANNOT, DISAGREE, asking, record
from labkit.replicate.published import (
    beyond_training,
    gather_head,
    kinds_of_layers,
    rank_of_states,
    share_of_heads,
    sinks,
    write_edit,
)

PAPERS = replicate.papers()
KNOWN = {"2504.18574", "2505.06708", "2507.02782", "2510.19861", "2602.02195", "2603.22473", "2605.12770"}
SMALL = {  # samples, length
    "2504.18574": (5, 64),
    "2505.06708": (3, 70),
    "2507.02782": (2, 600),
    "2510.19861": (6, 64),
    "2602.02195": (7, 64),
    "2603.22473": (3, 40),
    "2605.12770": (5, 18),
}
every_paper = pytest.mark.parametrize("arxiv", sorted(PAPERS))
every_number = pytest.mark.parametrize(
    ("arxiv", "name"), [(arxiv, number.name) for arxiv, paper in PAPERS.items() for number in paper.numbers]
)


@pytest.fixture(scope="module")
def nano():
    return labkit.load("nano")


@pytest.fixture(scope="module")
def found(nano):
    """`{id: dataset}` of every paper on nano, with few samples."""
    return {
        arxiv: replicate.measure(nano, arxiv, samples=samples, length=length)
        for arxiv, (samples, length) in SMALL.items()
    }


def saying(arxiv, name, ours, control=(math.nan, math.nan), unable=""):
    """A dataset that says of one number of a paper that ours, and the control, lie in these intervals."""
    paper, lab = PAPERS[arxiv], tiny.make_lab(tiny.model())
    given = {
        what: {name: record.Reading(sum(ends) / 2, *ends)} for what, ends in (("ours", ours), ("controls", control))
    }
    return record.measured(paper, lab, **given, how="told", interval="told", unable=unable)


def inside_and_out(arxiv, name):
    """(an interval that counts as the same, one that does not, one that reaches over the border)."""
    low, high = next(number.same for number in PAPERS[arxiv].numbers if number.name == name)
    border, step = (low, 1) if math.isfinite(low) else (high, -1)
    size = 0.1 * (high - low if math.isfinite(high - low) else abs(border))
    ends = lambda *places: tuple(sorted(border + step * size * place for place in places))  # noqa: E731
    return ends(0.3, 0.6), ends(-0.3, -0.6), ends(-0.2, 0.2)


# ------------------------------------------------------------------------------------------------------- the records


def test_the_folder_is_the_registry():
    assert list(PAPERS) == sorted(KNOWN)
    for paper in PAPERS.values():
        assert (
            re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv) and paper.claim.endswith(".") and paper.model and paper.control
        )
        assert paper.numbers and paper.reasons and paper.reads in ("text", "questions")
        assert len({number.name for number in paper.numbers}) == len(paper.numbers)
        for number in paper.numbers:
            assert number.text and number.place and number.because and number.read in record.READ


@pytest.mark.parametrize("given", ["2603.22473", "arXiv:2603.22473v2", "https://arxiv.org/abs/2603.22473/"])
def test_a_paper_is_found_by_its_id_however_it_is_written(given):
    assert replicate.find(given) is PAPERS["2603.22473"]


def test_an_unknown_paper_is_named():
    with pytest.raises(InputError, match=r"no such paper here\n  got: 1706.03762\n  expected: 2504.18574, 2505"):
        replicate.find("1706.03762")


@pytest.mark.parametrize(
    ("same", "read", "message"),
    [
        ((4.0, 9.0), "paper", "what counts as the same holds the number, and not all numbers\n  got: 3.0 in 4.0"),
        ((-math.inf, math.inf), "paper", "and not all numbers"),
        ((1.0, 9.0), "hearsay", "unknown way of reading a source\n  got: hearsay\n  expected: paper, data"),
    ],
)
def test_a_number_that_could_never_be_disagreed_with_is_refused(same, read, message):
    with pytest.raises(InputError, match=message):
        replicate.Number("x", 3.0, "3", "table 1", read, same, "because")


# ---------------------------------------------------------------------------------------------------------- the rule


@every_number
def test_every_number_can_be_agreed_with_and_disagreed_with(arxiv, name):
    same, other, across = inside_and_out(arxiv, name)
    word = lambda *given, **more: replicate.verdict(saying(arxiv, name, *given, **more)).word  # noqa: E731
    assert (word(same, control=other), word(other), word(across)) == (AGREE, DISAGREE, CANNOT)
    for broken in ((math.nan, math.nan), (math.nan, other[1]), (other[0], math.nan)):
        found = replicate.verdict(saying(arxiv, name, same, control=broken))
        assert found.word == CANNOT, "a control that is no number tells nothing, and is not left out in silence"
        assert any("but the control is not a number" in each.why for each in found.findings)
    assert word(across, control=other) == CANNOT, "over the border, whatever the control gives"
    assert word(same, control=other) == AGREE, "a control that gives another number"
    assert word(same, control=same) == CANNOT, "a control that gives the same number"
    assert word(same, control=(same[1], same[1] + 1)) == CANNOT, "one that only touches it"
    assert word(other, control=other) == DISAGREE, "no control takes a disagreement away"
    assert word(other, unable="it cannot read") == CANNOT


def test_one_number_that_disagrees_is_enough_and_one_that_was_not_measured_is_left_out():
    arxiv = "2602.02195"
    names = [number.name for number in PAPERS[arxiv].numbers]
    parts = {name: inside_and_out(arxiv, name) for name in names}
    ds = saying(arxiv, names[0], parts[names[0]][0], control=parts[names[0]][1])
    assert replicate.verdict(ds).word == AGREE
    assert [each.word for each in replicate.verdict(ds).findings] == [AGREE, CANNOT, CANNOT]

    def joined(which):
        other = ds.copy(deep=True)
        for end, place in (("ours", 0), ("ours_low", 0), ("ours_high", 1)):
            other[end].loc[{"number": names[1]}] = parts[names[1]][which][place]
        for end, place in (("control", 0), ("control_low", 0), ("control_high", 1)):
            other[end].loc[{"number": names[1]}] = parts[names[1]][1][place]
        return replicate.verdict(other).word

    assert (joined(0), joined(1), joined(2)) == (AGREE, DISAGREE, CANNOT)


def test_a_number_that_is_none_and_one_draw_are_told_and_not_left_out():
    """Of two numbers one agrees; the other was measured too, and nobody knows what it is."""
    arxiv, lab = "2602.02195", tiny.make_lab(tiny.model())
    one, other = (number.name for number in PAPERS[arxiv].numbers[:2])
    (low, high), control, _ = inside_and_out(arxiv, one)
    given = {one: record.Reading((low + high) / 2, low, high)}
    controls = {one: record.Reading(sum(control) / 2, *control)}

    def told(reading):
        ds = record.measured(PAPERS[arxiv], lab, given | reading, controls, how="", interval="")
        found = replicate.verdict(ds)
        assert found.findings[0].word == AGREE and replicate.as_text(ds) and replicate.drawn(ds)
        return found.word, found.findings[1].word, found.findings[1].why

    assert told({}) == (AGREE, CANNOT, "not measured on this model")
    for broken in (math.nan, math.inf, -math.inf):
        reading = record.Reading(broken, broken, broken)
        assert told({other: reading}) == (CANNOT, CANNOT, "what was measured on this model is no number")
    assert told({other: record.Reading(0.9)}) == (CANNOT, CANNOT, "0.9 of a single draw has no interval")
    with pytest.raises(InputError, match=r"(?s)ours, .*from its high end to its low one\n  got: 0.9 to 0.8"):
        told({other: record.Reading(0.85, 0.9, 0.8)})


def test_an_interval_that_holds_both_cannot_tell():
    """Ours holds the published number and the control's: nothing tells them apart, wherever the border lies."""
    for arxiv, paper in PAPERS.items():
        for number in paper.numbers:
            (low, high), _, _ = inside_and_out(arxiv, number.name)
            inside = replicate.verdict(saying(arxiv, number.name, (low, high), control=(high, high)))
            assert inside.word == CANNOT and any("the control gives it too" in each.why for each in inside.findings)
            border = next(end for end in number.same if math.isfinite(end))
            wide = (border - 1e6, border + 1e6)
            assert replicate.verdict(saying(arxiv, number.name, wide, control=wide)).word == CANNOT


@every_number
def test_numbers_that_are_equal(arxiv, name):
    """An interval without width agrees by its place, also on the border; not where the control gives the same."""
    same, other, _ = inside_and_out(arxiv, name)
    border = next(
        end for number in PAPERS[arxiv].numbers if number.name == name for end in number.same if math.isfinite(end)
    )
    word = lambda *given: replicate.verdict(saying(arxiv, name, *given)).word  # noqa: E731
    assert word((same[0],) * 2, other) == AGREE == word((border,) * 2, other)
    assert word((other[0],) * 2, other) == DISAGREE
    assert word((same[0],) * 2, (same[0],) * 2) == CANNOT


def test_draws_that_are_none_make_no_number_and_one_no_interval():
    none = (math.nan,) * 3
    for summary in (asking.mean, asking.median, asking.span):
        assert summary([]) == pytest.approx(none, nan_ok=True)
        for draws in ([1.0, math.nan, 3.0], [math.nan, 1.0, 3.0], [1.0, math.inf, 3.0], [math.nan]):
            assert summary(draws) == pytest.approx(none, nan_ok=True), "a draw that is none is not left out"
    for summary in (asking.mean, asking.median):
        assert summary([2.5]) == pytest.approx((2.5, math.nan, math.nan), nan_ok=True)
        assert summary([2.5, 2.5, 2.5]) == (2.5, 2.5, 2.5)
    assert asking.share(0, 0) == pytest.approx(none, nan_ok=True) == asking.apart([], [])
    assert asking.share(1, 1)[1] == pytest.approx(0.2065, abs=1e-4) and asking.share(1, 1)[2] == pytest.approx(1)


def test_few_answers_that_are_alike_are_not_certain():
    """Student's t of differences that are all 0 has no width, and two questions would disagree with any gap."""
    right, wrong = np.ones(2, bool), np.zeros(2, bool)
    for first, second, value in ((right, right, 0), (wrong, wrong, 0), (right, wrong, 1), (wrong, right, -1)):
        found = asking.apart(first, second)
        assert found.value == value and found.low < value - 0.5 or value == -1 and found.low == pytest.approx(-1)
        assert found.high - found.low > 0.9
    few, many = (asking.apart(np.ones(n, bool), np.ones(n, bool)) for n in (2, 200))
    name = rank_of_states.GAP
    word = lambda reading: replicate.verdict(saying("2602.02195", name, (reading.low, reading.high))).word  # noqa: E731
    assert (word(few), word(many)) == (CANNOT, DISAGREE)


def test_a_difference_of_shares_holds_the_true_one_as_often_as_it_says():
    """Questions that both answer, one alone, or neither, by known chances: the difference is 0.3 less 0.1."""
    chances, rng, held, wrong = (0.45, 0.3, 0.1, 0.15), np.random.default_rng(0), 0, 0
    for counts in rng.multinomial(14, chances, size=400):
        first, second = (np.repeat(rights, counts).astype(bool) for rights in ((1, 1, 0, 0), (1, 0, 1, 0)))
        found, back = asking.apart(first, second), asking.apart(second, first)
        assert found.value == pytest.approx(first.mean() - second.mean()) and found.low <= found.value <= found.high
        assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
        held += found.low <= 0.2 <= found.high
        wrong += found.low <= 0.6 <= found.high
    assert 0.92 < held / 400 < 0.99 and wrong / 400 < 0.5


def test_why_is_said_with_the_numbers():
    told = replicate.verdict(saying("2603.22473", kinds_of_layers.LINEAR, (20.0, 30.0)))
    assert repr(told).splitlines()[0] == DISAGREE
    assert "all of 20 to 30 lies outside of at least 17,500" in repr(told)
    assert "not measured on this model" in repr(told)


def test_a_dataset_names_only_numbers_that_were_published():
    with pytest.raises(InputError, match=r"control: no such published number\n  got: \['speed'\]"):
        lab = tiny.make_lab(tiny.model())
        record.measured(PAPERS["2603.22473"], lab, {}, {"speed": record.Reading()}, how="", interval="")


# ------------------------------------------------------------------------------------------------- what is measured


@every_paper
def test_every_paper_can_be_measured(arxiv, found):
    ds, paper = found[arxiv], PAPERS[arxiv]
    assert ds.attrs["paper"] == arxiv and ds.attrs["model"] == "nano" and ds.attrs["unable"] == ""
    assert ds.number.values.tolist() == [number.name for number in paper.numbers]
    known = ds.ours.notnull()
    assert known.any() and (ds.ours_low <= ds.ours).where(known, True).all()
    assert (ds.ours <= ds.ours_high).where(known, True).all() and ds.control.notnull().equals(known)
    text = replicate.as_text(ds)
    for number in paper.numbers:
        assert number.text in text and record.READ[number.read] in text.replace("\n  ", " ")
    assert f"verdict: {replicate.verdict(ds).word}" in text and all(reason[:20] in text for reason in paper.reasons)


def test_layers_left_out_are_left_out_whole(nano):
    ids = yarn.filler_ids(nano, 30, seed=3)
    with nano.edit(*kinds_of_layers.skipped(range(nano.spec.layers))):
        run = nano.trace(ids)
    embedded = nano.trace(ids, layers=[0], seams=["resid_pre"]).seams[0, "resid_pre"]
    expected = nano.unembedding.forward(nano.final_norm.forward(embedded[-1:]))
    assert torch.allclose(run.logits, expected, atol=1e-4)


def test_a_perplexity_factor_is_that_of_the_mean_loss(nano, found):
    rows = [yarn.filler_ids(nano, 40, seed=seed) for seed in range(3)]
    loss = lambda: np.mean([yarn.likelihood(nano, ids) for ids in rows])  # noqa: E731
    whole, ds = loss(), found["2603.22473"]
    for name, layers in ((kinds_of_layers.LINEAR, [0, 1, 2, 4, 5, 6]), (kinds_of_layers.ATTENTION, [3, 7])):
        with nano.edit(*kinds_of_layers.skipped(layers)):
            assert float(ds.ours.sel(number=name)) == pytest.approx(math.exp(loss() - whole), rel=1e-4)
    with nano.edit(*edit.ablate([3, 7])):
        assert float(ds.beside[1]) == pytest.approx(math.exp(loss() - whole), rel=1e-4)


def test_pieces_of_own_text_are_read_in_order(nano):
    text = " the fox is red." * 20
    ids = nano.encode(text)
    pieces = asking.rows(nano, [text, " fox"], 3, 21)
    assert [piece.tolist() for piece in pieces] == [ids[n : n + 21].tolist() for n in (0, 21, 42)]
    with pytest.raises(InputError, match=r"too little text\n  got: 2 tokens\n  expected: two pieces of 21"):
        asking.rows(nano, [" fox red"], 3, 21)
    ds = replicate.measure(nano, "2603.22473", texts=[text], samples=2, length=21)
    assert "2 pieces of 21 tokens, text of the user's own" in ds.attrs["how"]


def test_right_is_the_most_likely_next_token(nano):
    asked = asking.questions(nano, 11, 64)  # more than one batch, and a part
    right, chance = asking.answered(nano, asked)
    for one, its, p in zip(asked, right, chance, strict=True):
        logits = nano.trace(one.ids).logits[-1]
        assert its == (int(logits.argmax()) == int(one.answer[0]))
        assert p == pytest.approx(float(logits.log_softmax(-1)[one.answer[0]]), abs=1e-3)
    assert asking.able(nano, asked)[1] == ""


def test_heads_that_are_taken_away_add_nothing(nano):
    ids = yarn.filler_ids(nano, 12, seed=1)
    with nano.edit(*asking.without([(2, 4), (3, 11), (2, 1)])):
        run = nano.trace(ids, layers=[2, 3], seams=["gated"])
    silent = lambda layer: run.seams[layer, "gated"].abs().amax((0, 2)).eq(0).nonzero().flatten().tolist()  # noqa: E731
    assert (silent(2), silent(3)) == ([1, 4], [11])
    heads = asking.every(nano, "deltanet"), asking.every(nano, "attention")
    assert [len(each) for each in heads] == [36, 24] and heads[1][12] == (7, 0)


@pytest.mark.parametrize("arxiv", ["2504.18574", "2510.19861", "2602.02195"])
def test_a_model_that_cannot_answer_cannot_lose(arxiv, nano):
    with nano.edit(*edit.ablate(nano.spec.deltanet_layers)):
        ds = replicate.measure(nano, arxiv, samples=5, length=64)
    told = replicate.verdict(ds)
    assert told.word == CANNOT and ds.ours.isnull().all()
    assert re.search("the whole model answers [01] of 5 questions: what could it lose", told.findings[0].why)
    assert "cannot tell" in replicate.as_text(ds) and replicate.drawn(ds)


def test_heads_kept_are_those_that_look_at_the_fact(nano):
    asked = asking.questions(nano, 2, 64)
    order, total = share_of_heads.looking(nano, asked), 0
    for one in asked:
        told = one.at + one.ids[one.at :].tolist().index(int(one.answer[0]))
        weight = attention.pattern(nano.trace(one.ids), layer=7, rows=[len(one.ids) - 1]).weight[:, 0]
        total = total + weight[:, one.at : told + 2].sum("source").values
    assert order[7].tolist() == np.argsort(-total).tolist()


def test_heads_are_ordered_by_the_effective_rank_of_their_states(nano, found):
    ranks = rank_of_states.effective(nano)
    runs = [nano.trace(yarn.filler_ids(nano, 256, seed=seed)) for seed in range(4)]
    values = [deltanet.spectrum(run, layer=5, tokens=[255], heads=[3]).effective_rank.item() for run in runs]
    assert ranks[5, 3] == pytest.approx(np.mean(values), rel=1e-3) and len(ranks) == 36
    ordered = sorted(ranks.values())
    assert found["2602.02195"].beside.values == pytest.approx([np.mean(ordered[:14]), np.mean(ordered[-14:])], rel=1e-3)


def test_the_head_that_costs_most_is_chosen_by_what_the_answer_loses(nano):
    asked, places = asking.questions(nano, 3, 64), [(0, 2), (4, 5), (3, 9)]
    lost = gather_head.losses(nano, places, asked)
    for place in places:
        with nano.edit(*asking.without([place])):
            after = asking.answered(nano, asked)[1]
        assert lost[place] == pytest.approx((asking.answered(nano, asked)[1] - after).mean(), abs=1e-4)


def test_a_share_on_the_first_token_is_that_of_the_map(nano, found):
    ds, sums, gates = found["2505.06708"], [], []
    for seed in range(3):
        maps = attention.pattern(nano.trace(yarn.filler_ids(nano, 70, seed=seed)), layer=[3, 7])
        sums.append(float(maps.weight.isel(source=0).mean()))
        gates.append(float(maps.gate.mean()))
    assert float(ds.ours.sel(number=sinks.GATED)) == pytest.approx(np.mean(sums), rel=1e-4)
    assert float(ds.ours.sel(number=sinks.OPEN)) == pytest.approx(np.mean(gates), rel=1e-4)
    assert float(ds.control.sel(number=sinks.GATED)) == pytest.approx(np.mean(1 / np.arange(1, 71)))
    assert ds.ours.sel(number=sinks.PLAIN).isnull()


def test_the_closed_form_is_exact_where_the_key_is_orthogonal_to_later_ones(nano):
    """Up to the head's read, that is; behind it the formula goes straight to the logit."""
    layer, head, at = 2, 3, 8
    run = nano.trace(yarn.filler_ids(nano, 12, seed=2), logits="all")
    x = deltanet.inputs(run, layer)
    keys = grouped(x.k, nano.spec.value_heads)[at + 1 :, head]
    key = torch.linalg.svd(keys, full_matrices=True)[2][-1]  # 3 keys of 24 channels
    value = x.v[5, head]
    change = torch.einsum("k,v->kv", key, value)[None]
    read = deltanet.response(run, change, layer=layer, at=at, heads=[head]).predicted.values[0]
    predicted, moved = write_edit._shifts(nano, run, layer, at, head, key, value, run)
    width, said = nano.spec.dv, run.logits[at + 1 :].argmax(-1)
    out = nano.projection(layer).weight[:, head * width : (head + 1) * width]
    expected = (nano.unembedding.weight[said] @ out @ torch.tensor(read).T).diagonal()
    assert np.allclose(predicted, expected.detach(), rtol=1e-3, atol=1e-6) and not moved.any()


def test_variance_explained_by_a_line():
    x = np.array([1.0, 2.0, 4.0, 7.0])
    assert write_edit.explains(x, 3 - 2 * x) == pytest.approx(1)
    assert write_edit.explains(x, np.array([1.0, -1.0, 1.0, -1.0])) == pytest.approx(
        np.corrcoef(x, [1, -1, 1, -1])[0, 1] ** 2
    )
    assert write_edit.explains(x, np.ones(4)) == 0


@pytest.mark.parametrize("family", ["olmo", "kimi"])
def test_other_families_are_measured_as_well(family, nano):
    """No gates in OLMo's attention, decay for every channel in Kimi's; weights are random, the way alone is tested."""
    made = getattr(siblings, family)(vocab_size=nano.spec.vocab)
    lab = labkit.wrap(made, tokenizer=nano.tokenizer)
    edits = replicate.measure(lab, "2605.12770", samples=3, length=14)
    assert float(edits.beside[0]) == pytest.approx(1, abs=1e-3) and edits.ours.notnull().all()
    cut = replicate.measure(lab, "2603.22473", samples=2, length=11)
    assert cut.ours.notnull().all() and cut.beside.notnull().all()
    if family == "olmo":
        ds = replicate.measure(lab, "2505.06708", samples=2, length=17)
        assert ds.ours.notnull().values.tolist() == [False, True, False]
        assert replicate.verdict(ds).word == CANNOT
    told = replicate.verdict(replicate.measure(lab, "2602.02195", samples=3, length=64))
    assert told.word == CANNOT
    for ds in (edits, cut):
        assert replicate.verdict(ds).word == CANNOT and "it has not learned such texts" in ds.attrs["unable"]


def test_changes_below_the_rounding_of_logits_are_not_judged(nano):
    logits = torch.tensor([[1.0, -9.0], [4.0, 3.0], [2.0, 0.0]])  # the largest of each: 1, 4, 2
    said = write_edit.rounded(torch.bfloat16, 0.05, logits)
    assert said == "logits change by 0.05 and are rounded to 0.016 in bfloat16"
    assert write_edit.rounded(torch.bfloat16, 0.08, logits) == "" == write_edit.rounded(torch.float32, 0.05, logits)


def test_the_whole_rule_says_what_the_head_reads(found):
    assert float(found["2605.12770"].beside[0]) == pytest.approx(1, abs=1e-4)


def test_within_the_training_length_nothing_is_said_beyond_it(nano):
    ds = replicate.measure(nano, "2507.02782", samples=2, length=512)
    told = replicate.verdict(ds)
    assert told.word == CANNOT and "512 tokens do not go beyond the training length of 512" in told.findings[0].why


def test_text_beyond_is_read_by_states_alone(nano, found):
    options = dict(lengths=[256, 512, 600], last=beyond_training.LAST, samples=2, scalings=[yarn.Scaling()])
    with nano.edit(*edit.ablate(nano.spec.attention_layers)):
        loss = yarn.paired(nano, **options).loss.isel(scaling=0)
    ds = found["2507.02782"]
    assert float(ds.ours[0]) == pytest.approx(float(np.exp((loss[2] - loss[1]).mean())), rel=1e-4)
    assert float(ds.control[0]) == pytest.approx(float(np.exp((loss[1] - loss[0]).mean())), rel=1e-4)
    assert float(ds.beside[0]) != pytest.approx(float(ds.ours[0]), rel=1e-6)


def test_shares_means_and_medians_carry_their_intervals():
    assert asking.share(3, 4)[0] == 0.75 and asking.share(3, 4)[1] == pytest.approx(0.3006, abs=1e-4)
    value, low, high = asking.mean([1.0, 2.0, 6.0])
    assert (value, high - value) == (3.0, pytest.approx(value - low)) and high == pytest.approx(9.572, abs=1e-3)
    assert asking.span([5.0, 1.0, 2.0]) == (2.0, 1.0, 5.0)
    value, low, high = asking.median([1.0, 2.0, 3.0, 4.0, 10.0])
    assert (value, low, high) == (3.0, 1.0, 10.0)


# ------------------------------------------------------------------------------------------------- asking for it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(paper="2510.19861", texts=["x"]), "this paper asks questions, which are made"),
        (dict(paper="2603.22473", samples=1), "samples out of range\n  got: samples=1\n  expected: 2 or more"),
        (dict(paper="2603.22473", length=0), "length out of range"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, nano):
    with pytest.raises(InputError, match=message):
        replicate.measure(nano, **options)


def test_words_need_a_tokenizer(lab):
    with pytest.raises(InputError, match="this lab has no tokenizer"):
        replicate.measure(lab, "2603.22473")


def test_far_apart_numbers_are_drawn_by_their_logarithm(found):
    ds = found["2603.22473"]
    fig = replicate.drawn(ds)
    assert (
        fig.data[1].y[0] == pytest.approx(math.log10(float(ds.ours[0]))) and "logarithm" in fig.layout.yaxis.title.text
    )
    near = replicate.drawn(found["2510.19861"])
    assert near.data[1].y[0] == pytest.approx(float(found["2510.19861"].ours[0]))
    assert [trace.name for trace in near.data] == ["published", "here, nano", "control"]
    before = ds.copy(deep=True)
    replicate.drawn(ds)
    xarray.testing.assert_identical(ds, before)


def test_the_command_lists_measures_and_writes_a_page(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("LABKIT_MODEL", raising=False)
    assert main(["replicate"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == sorted(KNOWN)
    page, text = tmp_path / "pages" / "one.html", tmp_path / "text.txt"
    text.write_text(" the fox is red and the whale is blue." * 12, encoding="utf-8")
    words = ["replicate", "arXiv:2603.22473v1", "--text", str(text), "--samples", "3", "--length", "20"]
    assert main([*words, "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "measured here on nano" in shown and "verdict: " in shown and f"written to {page}" in shown
    assert "3 pieces of 20 tokens, text of the user's own" in shown and "> 35,000" in shown
    html = page.read_text(encoding="utf-8")
    assert html.count('<div class="plot"') == 1 and "what could explain a difference" in html
    assert not re.search(r'<(script|link)[^>]+(src|href)="?http', html)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["1706.03762"], "no such paper here"),
        (["2603.22473", "--text", "none.txt"], r"a text that cannot be read\n  got: none.txt: No such file"),
        (["2510.19861", "--text", __file__], "this paper asks questions"),
        (["2603.22473", "--model", "no/such/model"], "no such model"),
        (["2603.22473", "--out", "."], "a page is a file"),
    ],
    ids=["paper", "text", "questions", "model", "page"],
)
def test_the_command_says_what_makes_no_sense(words, message, capsys):
    assert main(["replicate", *words]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and re.search(message, shown.err)
