"""Interventions: at seams and in states, in prefill, chunks and decode; always undone; misuse is refused."""

import pytest
import tiny
import torch
from tiny import hooks

from labkit import attention, deltanet, edit
from labkit.errors import InputError, LayerError
from labkit.trace import cache_parameter

IDS = tiny.ids(47)


def logits(lab, ids=IDS, **options):
    return lab.trace(ids, logits="all", **options).logits


@pytest.mark.parametrize(
    "change",
    [
        edit.scale("mlp_out", layer=1, factor=1.0),
        edit.add("resid_post", layer=2, vector=0.0),
        edit.state(lambda s: s, layer=0, at=20, window=lambda w: w),
    ],
    ids=repr,
)
def test_an_edit_that_changes_nothing_changes_nothing(lab, change):
    plain = logits(lab, chunk=21)
    with lab.edit(change):
        edited = logits(lab, chunk=21)
    assert torch.equal(edited, plain)


def test_everything_is_undone_also_after_an_exception(lab):
    plain = logits(lab)
    with pytest.raises(KeyboardInterrupt), lab.edit(edit.scale("mlp_out", layer=1, factor=0.0)):
        assert not torch.equal(logits(lab), plain)
        raise KeyboardInterrupt
    assert torch.equal(logits(lab), plain) and hooks(lab.model) == [] and lab.scopes.edits == []


def test_an_edit_moves_only_the_chosen_tokens_and_heads(lab):
    free = lab.trace(IDS)
    with lab.edit(edit.set("gated", layer=1, heads=[2, 5], tokens=[30], value=3.0)):
        run = lab.trace(IDS)
    moved = (run.seams[1, "gated"] - free.seams[1, "gated"]).abs().amax(-1) > 0
    assert moved.nonzero().tolist() == [[30, 2], [30, 5]]
    assert (run.seams[1, "gated"][30, [2, 5]] == 3).all()
    later = (run.seams[4, "resid_post"] - free.seams[4, "resid_post"]).abs().amax(-1)
    assert later[:30].max() == 0 and later[30] > 0


@pytest.mark.parametrize("seam", ["q", "k", "v", "gate", "gated", "mixer_out", "resid_pre", "resid_post", "mlp_out"])
def test_scaling_reaches_every_seam_of_attention(lab, seam):
    free = lab.trace(IDS)
    with lab.edit(edit.scale(seam, layer=2, factor=0.5)):
        run = lab.trace(IDS)
    assert torch.allclose(run.seams[2, seam], 0.5 * free.seams[2, seam])


@pytest.mark.parametrize("seam", ["qkv", "z", "a", "b", "read", "gated", "mixer_out"])
def test_scaling_reaches_every_seam_of_deltanet(lab, seam):
    free = lab.trace(IDS)
    with lab.edit(edit.scale(seam, layer=1, factor=0.5)):
        run = lab.trace(IDS)
    assert torch.allclose(run.seams[1, seam], 0.5 * free.seams[1, seam])


@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_positions_are_absolute_in_every_way_of_feeding(lab, chunk):
    with lab.edit(edit.add("resid_post", layer=1, vector=2.0, tokens=range(12, 15))):
        whole, pieces = logits(lab), logits(lab, chunk=chunk)
    assert (whole - pieces).abs().max() < 2e-4 * whole.abs().max()


def test_positions_count_from_the_first_real_token_of_a_padded_row(lab):
    with lab.edit(edit.add("resid_post", layer=1, vector=2.0, tokens=[3])):
        short, _ = lab.trace([IDS[:9], IDS])
        alone = lab.trace(IDS[:9])
    assert (short.logits - alone.logits).abs().max() < 1e-4


def test_edits_hold_in_generation(lab):
    """A constant push towards one token makes the model say it at every decode step."""
    from labkit.trace import decoder

    wanted = 17
    push = lab.model.lm_head.weight[wanted] * 50
    with lab.edit(edit.add("resid_post", layer=4, vector=push)):
        run = lab.generate(IDS[:6], max_new_tokens=5)
    assert run.ids[6:].tolist() == [wanted] * 5
    assert decoder(lab.model).layers[4]._forward_hooks == {}


def test_swapping_all_residuals_reproduces_the_other_run(lab):
    other = lab.trace(tiny.ids(47, seed=9), logits="all")
    with lab.edit(edit.patch("resid_post", layer=2, run=other)):
        run = lab.trace(IDS, logits="all")
    assert torch.allclose(run.logits, other.logits, atol=1e-5)


def test_swap_takes_from_other_positions_and_chosen_heads(lab):
    other = lab.trace(tiny.ids(20, seed=9))
    with lab.edit(edit.patch("v", layer=2, run=other, heads=1, tokens=[40, 41], source=[3, 5])):
        run = lab.trace(IDS)
    assert torch.equal(run.seams[2, "v"][[40, 41], 1], other.seams[2, "v"][[3, 5], 1])
    assert torch.equal(run.seams[2, "v"][40, 0], lab.trace(IDS).seams[2, "v"][40, 0])


def test_state_surgery_moves_the_reads_as_the_rule_predicts(lab):
    """δo_τ = (Φ_τt Δ)ᵀ q̃_τ within the layer, and the change propagates to later layers."""
    at, layer = 20, 1
    free = lab.trace(IDS, chunk=at + 1)
    x = deltanet.inputs(free, layer)
    delta = torch.randn(9, 10, 14, generator=torch.Generator().manual_seed(0))
    with lab.edit(edit.state(lambda s: s + delta, layer=layer, at=at)):
        run = lab.trace(IDS)
    measured = run.seams[layer, "read"] - free.seams[layer, "read"]
    later = {n: getattr(x, n)[at + 1 :] for n in ("q", "k", "v", "g", "beta")}
    later["v"] = torch.zeros_like(later["v"])  # the response is linear: what Δ alone would read
    predicted = deltanet.scan(**later, state=delta)[0]
    assert measured[: at + 1].abs().max() == 0
    assert (measured[at + 1 :] - predicted).abs().max() < 1e-5
    assert (run.seams[4, "resid_post"] - free.seams[4, "resid_post"])[at + 1 :].abs().min(-1).values.max() > 0


@pytest.mark.parametrize("way", ["chunk", "token", "decode"])
def test_state_surgery_is_the_same_in_every_way_of_feeding(lab, way):
    with lab.edit(edit.state(lambda s: 0.5 * s, layer=3, at=25, heads=[0, 7])):
        whole = logits(lab)[-1]
        if way == "decode":
            cache = lab.cache()
            lab.trace(IDS[:20], cache=cache)
            found = lab.trace(IDS[20:], cache=cache, chunk=1).logits[-1]
        else:
            found = lab.trace(IDS, chunk=10 if way == "chunk" else 1).logits[-1]
    assert not torch.allclose(whole, logits(lab)[-1], atol=1e-3)
    assert (found - whole).abs().max() < 2e-4 * whole.abs().max()


def test_surgery_while_generating(lab):
    """One cut inside the prompt, one among the generated tokens; both equal forced feeding of the same tokens."""
    cuts = [edit.state(torch.zeros_like, layer=1, at=4), edit.state(torch.zeros_like, layer=3, at=11)]
    with lab.edit(*cuts):
        run = lab.generate(IDS[:8], max_new_tokens=8)
        again = lab.trace(run.ids)
    assert (run.logits - again.logits).abs().max() < 2e-4 * again.logits.abs().max()


def test_swapping_every_state_window_key_and_value_reproduces_the_other_past(lab):
    """Two prompts with the same last 7 tokens; transplanting everything cached makes one answer as the other."""
    other = torch.cat([tiny.ids(40, seed=4), IDS[40:]])
    cache = lab.cache()
    lab.trace(other[:40], cache=cache)
    past = lab.snapshot(cache)
    donor = lab.trace(other[:40])
    swaps = [edit.patch_state(past, layer=layer, at=39) for layer in lab.spec.deltanet_layers]
    swaps += [edit.patch(n, layer=layer, run=donor) for layer in lab.spec.attention_layers for n in ("k", "v")]
    with lab.edit(*swaps):
        run = lab.trace(IDS, logits=range(40, 47))
    assert torch.allclose(run.logits, lab.trace(other, logits=range(40, 47)).logits, atol=2e-4)


def test_a_forward_pass_over_the_place_of_surgery_is_stopped(lab):
    with lab.edit(edit.state(torch.zeros_like, layer=1, at=20)):
        with pytest.raises(InputError, match="(?s)at=20\\) lies inside this forward pass.*tokens 0 to 46.*no cache"):
            lab.model(IDS[None], use_cache=False)
        with pytest.raises(InputError, match="(?s)tokens 0 to 46 in one pass\n.*ends with token 20.*lab.trace"):
            lab.model(IDS[None], **{cache_parameter(lab.model): lab.cache()})
        with pytest.raises(InputError, match="rows of one length"):
            lab.trace([IDS, IDS[:30]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            edit.scale("k", layer=1, factor=0),
            LayerError,
            "(?s)layer 1 is a deltanet layer and has no seam 'k'.*qkv",
        ),
        (
            edit.scale("qkv", layer=1, heads=[0], factor=0),
            LayerError,
            "(?s)'qkv' has no head axis.*edit.scale",
        ),
        (edit.scale("b", layer=1, heads=[9], factor=0), InputError, "(?s)head out of range.*9.*0 to 8"),
        (edit.scale("k", layer=2, heads=[2], factor=0), InputError, "(?s)kv_head out of range.*0 to 1"),
        (edit.scale("b", layer=7, factor=0), InputError, "7"),
        (edit.scale("b", layer=1, tokens=[-1], factor=0), InputError, "(?s)count from 0.*-1"),
        (edit.state(torch.zeros_like, layer=2, at=3), LayerError, "(?s)no recurrent state.*0, 1, 3"),
        (lambda x: x, InputError, "(?s)not an edit.*function"),
    ],
)
def test_misfits_are_refused_before_anything_is_hooked(lab, change, error, message):
    with pytest.raises(error, match=message), lab.edit(change):
        pass
    assert hooks(lab.model) == []


def test_a_change_of_shape_is_refused(lab):
    changed = pytest.raises(InputError, match="(?s)changed the shape.*\\(1, 47, 9, 1\\).*\\(1, 47, 9, 14\\)")
    with lab.edit(edit.function(lambda x, at: x[..., :1], seam="z", layer=1)), changed:
        lab.trace(IDS)
    with lab.edit(edit.state(lambda s: s[:, :1], layer=1, at=5)), pytest.raises(InputError, match="changed the shape"):
        lab.trace(IDS)


def test_swap_names_missing_tokens(lab):
    other = lab.trace(IDS[:5])
    with pytest.raises(InputError, match="(?s)lacks these tokens.*\\[5\\].*0 to 4"):
        edit.patch("mlp_out", layer=1, run=other, tokens=[5])
    with pytest.raises(InputError, match="one source per patched token"):
        edit.patch("mlp_out", layer=1, run=other, tokens=[1, 2], source=[0])


def test_edits_read_as_what_they_do():
    assert repr(deltanet.never_forget(layer=2, heads=1)) == "never_forget('a', layer=2, heads=[1])"
    assert repr(edit.scale("v", layer=3, factor=2, tokens=slice(1, 4))) == "scale('v', layer=3, tokens=[1, 2, 3])"
    assert repr(edit.state(layer=0, at=9, heads=2)) == "state(layer=0, at=9, heads=[2])"


def test_silenced_layers_add_nothing(lab):
    run = lab.trace(IDS)
    with lab.edit(*edit.ablate(lab.spec.attention_layers)):
        silent = lab.trace(IDS)
    for layer in lab.spec.attention_layers:
        assert float(abs(silent.seams[layer, "mixer_out"]).max()) == 0 < float(abs(run.seams[layer, "mixer_out"]).max())
    assert float(abs(silent.seams[1, "mixer_out"]).max()) > 0
    assert [str(one) for one in edit.ablate(3)] == [str(edit.scale("mixer_out", layer=3, factor=0))]


# ------------------------------------------------------------------------------------------- edits that find no place


@pytest.mark.parametrize(
    "change",
    [
        edit.scale("gated", layer=1, factor=0.0, tokens=[99]),
        edit.state(torch.zeros_like, layer=1, at=60),
    ],
    ids=repr,
)
def test_an_edit_that_found_no_place_is_an_error_when_its_block_ends(lab, change):
    missed = pytest.raises(InputError, match="(?s)an edit found no place.*layer=1.*passes read up to 47 tokens")
    with missed, lab.edit(change, edit.scale("gated", layer=0, factor=0.5)):
        lab.trace(IDS)
    assert hooks(lab.model) == [] and lab.scopes.edits == []
    with lab.edit(change):  # no pass, nothing missed
        pass
    with pytest.raises(KeyError), lab.edit(change):  # what went wrong in the block is said, not this
        lab.trace(IDS)
        raise KeyError("mine")


def test_selections_are_whole_numbers_and_not_empty(lab):
    for wrong in ([], range(0), slice(3, 3)):
        with pytest.raises(InputError, match="an edit of no (tokens|heads) changes nothing"):
            edit.scale("gated", layer=1, factor=0.0, tokens=wrong)
    mask = torch.tensor([False, False, True, False, True, False])
    for mine in (mask, mask.tolist(), mask.numpy()):
        with pytest.raises(InputError, match="(?s)heads must be whole numbers.*np.flatnonzero\\(mask\\)"):
            edit.scale("gated", layer=2, factor=0.0, heads=mine)
        with pytest.raises(InputError, match="(?s)query_head must be whole numbers.*np.flatnonzero"):
            attention.pattern(lab.trace(IDS), layer=2, heads=mine)
    with pytest.raises(InputError, match="(?s)heads must be whole numbers.*4.7"):
        edit.scale("gated", layer=2, factor=0.0, heads=[4.7])
    several = pytest.raises(InputError, match="(?s)of one layer.*got: layer=\\[0, 1\\].*for layer in \\[0, 1\\]")
    with several, lab.edit(edit.scale("gated", layer=[0, 1], factor=0.0)):
        pass


def test_heads_count_from_the_end_as_in_readings(lab):
    for layer, last in ((1, 8), (2, 5)):
        runs = []
        for head in (last, -1):
            with lab.edit(edit.scale("gated", layer=layer, heads=head, factor=0.0)):
                runs.append(logits(lab))
        assert torch.equal(*runs)


def test_patching_many_positions_takes_each_its_own_source(lab):
    donor = lab.trace(tiny.ids(60, seed=3))
    with lab.edit(edit.patch("mlp_out", layer=1, run=donor, tokens=[40, 7, 22], source=[1, -1, 30])):
        changed = lab.trace(IDS, layers=[1]).seams[1, "mlp_out"]
    values = donor.seams[1, "mlp_out"]
    for token, source in ((40, 1), (7, 59), (22, 30)):
        assert torch.equal(changed[token], values[source])
    with pytest.raises(InputError, match="(?s)taken from a run.*got: Lab.*run=lab.trace"):
        edit.patch("v", layer=2, run=lab)


def test_a_row_for_every_token_goes_by_position_in_every_way_of_feeding(lab):
    ids, vector = tiny.ids(20), torch.zeros(20, 44)
    vector[12] = torch.arange(44.0)
    short = tiny.ids(13, seed=9)
    with lab.edit(edit.add("mlp_out", layer=1, vector=vector)):
        whole, chunked = lab.trace(ids).logits, lab.trace(ids, chunk=7).logits
        batch = lab.trace([ids, short])
        alone = lab.trace(short).logits
    with lab.edit(edit.add("mlp_out", layer=1, vector=vector[12], tokens=[12])):
        one = lab.trace(ids).logits
    for other in (chunked, batch[0].logits, one):
        assert (other - whole).abs().max() < 1e-4 * whole.abs().max()
    assert (batch[1].logits - alone).abs().max() < 1e-4 * alone.abs().max()
    ten = edit.add("mlp_out", layer=1, vector=vector[:10])
    for options in ({}, {"chunk": 10}):
        with pytest.raises(InputError, match="(?s)no value for every token.*\\[10, 44\\].*up to token"), lab.edit(ten):
            lab.trace(ids, **options)


def test_positions_count_from_the_first_real_token_wherever_the_padding_is(lab):
    ids, mask = tiny.ids(9), torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    rows = torch.stack([ids, ids])
    with lab.edit(edit.scale("gated", layer=1, factor=0.0, tokens=[5])):
        right = lab.model(rows, attention_mask=mask).logits[1, 5]
        alone = lab.model(ids[None, :6]).logits[0, 5]
    assert (right - alone).abs().max() < 1e-4 * alone.abs().max()


@pytest.mark.parametrize("gives", [None, 1.0, torch.ones(3), torch.ones(1, 8, 44) > 0, torch.ones(1, 8, 44) * 1j])
def test_what_a_function_gives_must_take_the_place_of_what_it_got(lab, gives):
    odd = lab.edit(edit.function(lambda x, at: gives, seam="mlp_out", layer=1))
    with pytest.raises(InputError, match="gave no real numbers|changed the shape"), odd:
        lab.trace(tiny.ids(8))


def test_a_window_keeps_its_shape(lab):
    narrow = lab.edit(edit.state(layer=0, at=3, window=lambda old: old[:, :1]))
    with pytest.raises(InputError, match="changed the shape"), narrow:
        lab.trace(tiny.ids(8))


def test_tokens_in_a_row_are_known_without_a_search_and_act_as_listed_ones(lab):
    for tokens in ((4, 2, 3, 3), (2, 3, 6), (5,), None):
        one = edit.scale("gated", layer=0, factor=0.5, tokens=tokens)
        assert one.span == {4: range(2, 5), 2: None, 5: range(5, 6)}.get((tokens or (None,))[0])
        listed = None if tokens is None else tuple(token for token in sorted(set(tokens)) if 3 <= token < 5)
        assert one.acts_on(3, 5) == listed
    ids = tiny.ids(8)
    for tokens in ([4, 2, 3], [2, 3, 6]):
        with lab.edit(edit.scale("mixer_out", layer=0, factor=0, tokens=tokens)):
            run = lab.trace(ids, layers=[0], seams=["mixer_out"])
        gone = (run.seams[0, "mixer_out"] == 0).all(-1).nonzero()[:, 0].tolist()
        assert gone == sorted(tokens)
