"""Laws of the readings of a DeltaNet layer: every number against the reference loop, axes, layers, hints, costs."""

import ast

import measure
import numpy as np
import pytest
import tiny
import torch
import typed
import xarray

from labkit import attention, deltanet, edit, plan
from labkit.deltanet.recompute import TERMS, Inputs, terms
from labkit.errors import InputError, LabError, LayerError, ParityError

eq = typed.checked()

T, HK, H, DK, DV = 40, 3, 6, 10, 14
IDS, CACHED, LAYERS = tiny.ids(103), 38, (0, 1, 3)


def draw(seed=0, tokens=T, dtype=torch.float64):
    """Random inputs of the rule, every size different; a start state too."""
    r = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=r, dtype=dtype)  # noqa: E731
    return dict(
        q=eq.unit(normal(tokens, HK, DK)) * DK**-0.5,
        k=eq.unit(normal(tokens, HK, DK)),
        v=normal(tokens, H, DV),
        g=-torch.rand(tokens, H, generator=r, dtype=dtype) * 0.3,
        beta=torch.rand(tokens, H, generator=r, dtype=dtype),
        state=normal(H, DK, DV),
    )


def close(a, b, tolerance=1e-11):
    assert a.shape == b.shape
    assert (a - b).abs().max() < tolerance, float((a - b).abs().max())


@pytest.fixture(params=["cold", "warm"])
def run(request, lab):
    """All tokens in one piece, or the last 65 of them behind a cache that holds the rest."""
    if request.param == "cold":
        return lab.trace(IDS)
    return warm(lab)


def warm(lab):
    cache = lab.cache()
    lab.trace(IDS[:CACHED], cache=cache)
    return lab.trace(IDS[CACHED:], cache=cache)


def loop(run, layer):
    """By the reference loop: {name: [token, head, ...]} of what happens at every token, and the state after each."""
    x = deltanet.inputs(run, layer)
    heads = x.v.shape[1]
    q, k = eq.grouped(x.q, heads), eq.grouped(x.k, heads)
    state = torch.zeros(heads, k.shape[-1], x.v.shape[-1]) if x.state is None else x.state
    rows = []
    for t in range(len(x.v)):
        before = state
        state, out, recalled, error = eq.step(before, q[t], k[t], x.v[t], g=x.g[t], beta=x.beta[t])
        rows.append(
            dict(before=before, state=state, out=out, recalled=recalled, error=error, net=x.beta[t, :, None] * error)
        )
    return x, {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


# ------------------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("channels", [False, True])
def test_terms_sum_to_the_change_of_state_and_have_its_norms(channels):
    x = draw()
    if channels:  # of decay, each by itself; and writes up to 2
        spread = torch.rand(*x["g"].shape, x["k"].shape[-1], generator=torch.Generator().manual_seed(3)).to(x["g"])
        x |= dict(g=x["g"][..., None] * (0.2 + 2 * spread), beta=2 * x["beta"])
    rows, _ = terms(Inputs(**x), eq.chunks(**x), 0, T, Inputs(**x).start_squares())
    old, k = x["state"], eq.grouped(x["k"], H)
    for t in range(T):
        keep, write = x["g"][t].exp().view(H, -1, 1), x["beta"][t][:, None, None]
        decayed = -(1 - keep) * old
        erased = -write * torch.einsum("hk,hj,hjv->hkv", k[t], k[t], keep * old)
        written = write * torch.einsum("hk,hv->hkv", k[t], x["v"][t])
        new = eq.step(old, x["q"].repeat_interleave(2, 1)[t], k[t], x["v"][t], g=x["g"][t], beta=x["beta"][t])[0]
        close(decayed + erased + written, new - old)
        for name, term in (("decayed", decayed), ("erased", erased), ("written", written), ("state_norm", new)):
            close(rows[name][t], term.flatten(1).norm(dim=1))
        close(rows["keep"][t], keep.mean(1)[:, 0])
        old = new
    assert tuple(rows) == TERMS


def test_every_number_of_memory_is_that_of_the_loop(run):
    """All variables at all tokens of some heads, in their order; the first token's ‖S‖ before it included."""
    heads = [7, 2]
    ds = deltanet.memory(run, layer=3, heads=heads)
    x, truth = loop(run, 3)
    norm = lambda name, dims=1: truth[name].flatten(-dims).norm(dim=-1)  # noqa: E731
    key, value = eq.grouped(x.k.norm(dim=-1), 9), x.v.norm(dim=-1)
    expected = {
        "keep": x.g.exp(),
        "write": x.beta,
        "recalled": norm("recalled"),
        "error": norm("error"),
        "surprise": norm("error") / value,
        "agreement": (truth["recalled"] * truth["error"]).sum(-1),
        "state_norm": norm("state", 2),
        "decayed": (1 - x.g.exp()) * norm("before", 2),
        "erased": x.beta * key * norm("recalled"),
        "written": x.beta * key * value,
        "energy": norm("state", 2).square() - norm("before", 2).square(),
        "out": norm("out"),
    }
    assert set(expected) == set(ds.data_vars) - {"state"}
    for name, numbers in expected.items():
        assert ds[name].dims == ("head", "token") and ds[name].shape == (2, len(run)), name
        numbers = numbers[:, heads].T.numpy()
        assert abs(ds[name].values - numbers).max() < 1e-5 * abs(numbers).max(), name
    assert ds.energy.values.min() < 0 < ds.energy.values.max() and ds.agreement.values.min() < 0
    assert ds["head"].values.tolist() == heads and ds.token.values.tolist() == run.positions.tolist()


def test_states_stand_at_their_tokens(run):
    """After a token counted from the run's first; its coordinate counts from the start of the sequence."""
    _, truth = loop(run, 1)
    before, last = run.start.length, len(run) - 1
    for token in (5, np.int64(33), -2):
        ds = deltanet.memory(run, layer=1, tokens=token, heads=[8, 0, 4])
        at = token if token >= 0 else token + len(run)
        assert ds.state.dims == ("head", "key", "value") and int(ds.state_token) == before + at
        assert abs(ds.state.values - truth["state"][at, [8, 0, 4]].numpy()).max() < 1e-5
    assert deltanet.memory(run, layer=1).state.identical(deltanet.memory(run, layer=1, tokens=-1).state)
    ds = deltanet.memory(run, layer=1, tokens=[40, 0, -1], heads=6)
    assert ds.state.dims == ("head", "step", "key", "value") and ds.state.shape == (1, 3, 10, 14)
    assert ds.state_token.values.tolist() == [before + 40, before, before + last]
    assert abs(ds.state.values[0] - truth["state"][[40, 0, last], 6].numpy()).max() < 1e-5
    assert "state" not in deltanet.memory(run, layer=1, tokens=None)


def test_the_last_state_is_that_of_the_model(lab):
    cache = lab.cache()
    run = lab.trace(IDS, cache=cache)
    model = cache.layers[3].recurrent_states[0][0]
    assert abs(deltanet.memory(run, layer=3).state.values - model.numpy()).max() < 1e-5


def test_gates_that_are_edited_shut(lab):
    free = deltanet.memory(lab.trace(IDS), layer=1)
    with lab.edit(deltanet.never_forget(layer=1, heads=2), deltanet.never_write(layer=1, heads=[4, 5])):
        shut = deltanet.memory(lab.trace(IDS), layer=1)
    assert (shut.keep.sel(head=2) == 1).all() and (shut.write.sel(head=[4, 5]) == 0).all()
    assert (free.keep.sel(head=2) < 1).all()
    others = [0, 1, 3, 6, 7, 8]
    assert shut.keep.sel(head=others).identical(free.keep.sel(head=others))
    assert float(abs(shut.state.sel(head=[4, 5])).max()) == 0


# ------------------------------------------------------------------------------------------- implied attention


@pytest.mark.parametrize("form", ["value", "write"])
def test_the_implied_map_rebuilds_the_reads_from_what_it_weights(run, form):
    """Σ A v, or Σ Ã u with the net writes u of the loop; what the start state adds is not in the map."""
    x, truth = loop(run, 1)
    heads = [5, 1]
    ds = deltanet.implied_attention(run, layer=1, heads=heads, form=form)
    weighted = {"value": x.v, "write": truth["net"]}[form][:, heads]
    size = weighted.norm(dim=-1).T.numpy()
    assert abs(ds.value_norm.values - size).max() < 1e-5 * size.max()
    rebuilt = torch.einsum("hts,shv->htv", torch.tensor(ds.weight.values), weighted)
    gap = truth["out"][:, heads].transpose(0, 1) - rebuilt
    if x.state is not None:  # the map is of the run's own tokens: the rest is what the start state says
        silent = dict(vars(x), v=torch.zeros_like(x.v))
        rest = eq.scan(**silent)[0] if form == "value" else decayed_reads(x)
        assert gap.abs().max() > 1e-2
        gap = gap - rest[:, heads].transpose(0, 1)
    assert gap.abs().max() < 1e-5 * truth["out"].abs().max()
    assert ds.weight.dims == ("head", "token", "source") and ds.weight.attrs["scale"] == "signed"
    assert abs(ds.weight.values).max() > 0 and abs(np.triu(ds.weight.values, 1)).max() == 0
    assert ds.attrs["form"] == form and ds.attrs["relative_error"] < 1e-5


def decayed_reads(x):
    """What the start state says if it only decays: net writes already hold what was erased."""
    q = eq.grouped(x.q, x.v.shape[1])
    return torch.einsum("th,hkv,thk->thv", x.g.cumsum(0).exp(), x.state, q)


def test_net_writes_and_values_are_other_weights_of_other_vectors(run):
    value, write = (deltanet.implied_attention(run, layer=3, heads=0, form=form) for form in ("value", "write"))
    assert float(abs(value.weight - write.weight).max()) > 1e-2
    assert value.weight.attrs["symbol"] != write.weight.attrs["symbol"]
    assert value.value_norm.attrs["symbol"] != write.value_norm.attrs["symbol"]


def test_the_heuristic_says_how_wrong_it_is(run):
    ds = deltanet.implied_attention(run, layer=1, form="heuristic")
    assert ds.attrs["relative_error"] > 0.05 and ds.attrs["parity"] < 1e-5, "the rule holds, the shortcut does not"


@pytest.mark.parametrize("form", ["value", "write", "heuristic"])
@pytest.mark.parametrize("token", [0, 31, 32, -1])
def test_a_row_is_that_of_the_map(run, form, token):
    row = deltanet.implied_row(run, layer=3, token=token, heads=[8, 3], form=form)
    whole = deltanet.implied_attention(run, layer=3, heads=[8, 3], form=form).isel(token=token)
    assert row.weight.dims == ("head", "source") and int(row.token) == int(whole.token)
    assert abs(row.weight.values - whole.weight.values).max() < 1e-6
    assert abs(row.value_norm.values - whole.value_norm.values).max() == 0


# -------------------------------------------------------------------------------------- everything, everywhere

READINGS = {
    "memory": lambda run, layer, **more: deltanet.memory(run, layer=layer, tokens=[4, -1], **more),
    "implied_attention": lambda run, layer, **more: deltanet.implied_attention(run, layer=layer, **more),
    "implied write": lambda run, layer, **more: deltanet.implied_attention(run, layer=layer, form="write", **more),
    "heuristic": lambda run, layer, **more: deltanet.implied_attention(run, layer=layer, form="heuristic", **more),
    "implied_row": lambda run, layer, **more: deltanet.implied_row(run, layer=layer, token=17, **more),
    "survival": lambda run, layer, **more: deltanet.survival(run, layer=layer, token=20, **more),
    "written_by": lambda run, layer, **more: deltanet.written_by(run, layer=layer, segments="aab" * 40, **more),
    "forgetting": lambda run, layer, **more: deltanet.forgetting(run, layer=layer, source=10, **more),
    "half_life": lambda run, layer, **more: deltanet.half_life(run, layer=layer, **more),
    "recall": lambda run, layer, **more: deltanet.recall(run, layer=layer, source=[10, 3], **more),
    "spectrum": lambda run, layer, **more: deltanet.spectrum(run, layer=layer, **more),
    "state_difference": lambda run, layer, **more: deltanet.state_difference(run, run, layer=layer, **more),
    "response": lambda run, layer, **more: deltanet.response(run, 0.3, layer=layer, at=6, **more),
    "measured": lambda run, layer, **more: deltanet.measured(run, run, layer=layer, at=6, **more),
}
FIRST = ("layer", "head", "step", "token", "source")


@pytest.mark.parametrize("name", READINGS)
def test_layers_and_heads_are_chosen_alike(run, name):
    """Several layers are the layers one by one behind a first axis; chosen heads are those of the whole, in order."""
    read, heads = READINGS[name], [7, 2]
    several, whole = read(run, [3, 0], heads=heads), read(run, 0)
    assert several.layer.values.tolist() == [3, 0] == several.attrs["layer"]
    parities = []
    for layer in (3, 0):
        single = read(run, layer, heads=heads)
        parities.append(single.attrs["parity"])
        assert int(single.layer) == layer == single.attrs["layer"]
        for variable in single.data_vars:
            xarray.testing.assert_equal(
                several[variable].sel(layer=layer, drop=True), single[variable].drop_vars("layer")
            )
    assert several.attrs["parity"] == max(parities) > 0 and several.attrs["tolerance"] == 1e-4
    for variable, array in whole.data_vars.items():
        places = [FIRST.index(axis) for axis in several[variable].dims if axis in FIRST]
        assert several[variable].dims[0] == "layer" and places == sorted(places), several[variable].dims
        if "head" in array.dims:
            chosen, expected = several[variable].sel(layer=0), array.sel(head=heads)
            assert chosen.shape == expected.shape and abs(chosen - expected).max() < 1e-5 * abs(expected).max() + 1e-12
    single = read(run, 0, heads=4)
    assert single["head"].values.tolist() == [4], "an int keeps the axis"


@pytest.mark.parametrize("name", READINGS)
def test_quantities_say_what_values_can_be(run, name):
    """Negative numbers are signed, fractions lie between 0 and 1; and every variable says its symbol and source."""
    for variable, array in READINGS[name](run, [0, 1, 3]).data_vars.items():
        scale, low, high = array.attrs["scale"], float(array.min()), float(array.max())
        assert array.attrs["symbol"] and array.attrs["source"] and array.attrs["long_name"], variable
        if low < -1e-6:
            assert scale == "signed", f"{variable} reaches {low}"
        if scale == "fraction":
            assert high <= 1 + 1e-5, f"{variable} reaches {high}"


SIGNED = {"weight", "agreement", "energy", "share", "contribution", "recall", "predicted", "measured", "state"}
SIGNED |= {"returned"}


def test_signed_numbers_are_signed(run):
    arrays = {name: array for read in READINGS.values() for name, array in read(run, 1).data_vars.items()}
    assert {name for name, array in arrays.items() if array.attrs["scale"] == "signed"} == SIGNED


# ------------------------------------------------------------------------------------------------------- hints


def hint_of(call):
    with pytest.raises(LabError) as error:
        call()
    return error.value.hint


def is_code(hint):
    """Whether a hint is a call, and not prose."""
    try:
        return isinstance(ast.parse(hint, mode="eval").body, ast.Call)
    except SyntaxError:
        return False


TEXT = "of which a hint repeats forty signs, no more"
RUN_ALONE = {name: read for name, read in READINGS.items() if name not in ("state_difference", "measured")}
SHORT = ("memory", "implied write", "half_life", "spectrum")  # that fit the two words in place of a lab
REFUSED = {
    **{f"{name} of attention": (lambda run, lab, read=read: read(run, 2)) for name, read in READINGS.items()},
    **{f"{name} of a text": (lambda run, lab, read=read: read(TEXT, 1)) for name, read in RUN_ALONE.items()},
    **{
        f"{name} of a lab": (lambda run, lab, read=read: read(lab, 1))
        for name, read in READINGS.items()
        if name in SHORT
    },
    "a lab beside a run": lambda run, lab: deltanet.state_difference(run, lab, layer=1, ends="any"),
    "a text beside a text": lambda run, lab: deltanet.measured(TEXT, TEXT, layer=1, at=3),
    "associate of attention": lambda run, lab: deltanet.associate(run, layer=2, source=1, value=2, at=3),
    "associate of a text": lambda run, lab: deltanet.associate("red fox", layer=1, source=1, value=0),
    "forget of attention": lambda run, lab: deltanet.forget(run, layer=2, source=1),
    "forget of a lab": lambda run, lab: deltanet.forget(lab, layer=1, source=1),
    "clamp of attention": lambda run, lab: deltanet.clamp_keep(run, layer=2, value=0.5),
    "clamp of a text": lambda run, lab: deltanet.clamp_keep("red fox", layer=1, value=0.5),
    "several rows": lambda run, lab: deltanet.implied_row(run, layer=1, token=[1, 2]),
    "several tokens": lambda run, lab: deltanet.survival(run, layer=1, token=[1, 2]),
    "several sources": lambda run, lab: deltanet.forgetting(run, layer=1, source=[1, 2]),
    "several askings": lambda run, lab: deltanet.recall(run, layer=1, source=1, token=[3, 4]),
    "several states": lambda run, lab: deltanet.state_difference(run, run, layer=1, token=[3, 4]),
    "several ends": lambda run, lab: deltanet.written_by(run, layer=1, segments="a" * 65, token=[3, 4]),
    "several places": lambda run, lab: deltanet.forget(run, layer=1, source=[1, 2]),
    "several values": lambda run, lab: deltanet.associate(run, layer=1, source=[1, 2], value=3),
    "no place": lambda run, lab: deltanet.response(run, 0.0, layer=1),
    "several responses": lambda run, lab: deltanet.response(run, 0.0, layer=1, at=[1, 2]),
    "several gaps": lambda run, lab: deltanet.measured(run, run, layer=1, at=[1, 2]),
    "a window": lambda run, lab: deltanet.response(run, edit.StateEdit(1, 40, None, None, abs), layer=1),
    "no change": lambda run, lab: deltanet.response(run, edit.StateEdit(1, 40), layer=1),
    "patching attention": lambda run, lab: deltanet.patch_states(lab, IDS, IDS, IDS, score=(5, 9), layers=[2]),
}


class Worded:
    """A tokenizer for hints that trace a text: every character is a token."""

    def __call__(self, text, **_):
        return {"input_ids": [2 + ord(sign) % 200 for sign in text]}

    def encode(self, text, **_):
        return self(text)["input_ids"]

    def decode(self, ids, **_):
        return "".join(f"[{i}]" for i in ids)


@pytest.mark.parametrize("name", REFUSED)
def test_every_hint_that_is_a_call_runs_as_it_stands(lab, name):
    run = warm(lab)
    hint = hint_of(lambda: REFUSED[name](run, lab))
    assert hint is not None and is_code(hint), hint
    cache = lab.cache()
    lab.trace(IDS[:41], cache=cache)
    speaking = tiny.make_lab(lab.model)
    speaking.tokenizer = Worded()
    space = dict(run=run, lab=speaking, edit=edit, deltanet=deltanet, attention=attention, snap=lab.snapshot(cache))
    result = eval(hint, {"__builtins__": {"len": len, "int": int, "range": range}}, space)  # our own hints
    assert isinstance(result, xarray.Dataset | edit.SeamEdit | edit.StateEdit), hint


def test_what_is_no_run_names_the_call(lab):
    with pytest.raises(
        InputError, match=r"(?s)deltanet.memory reads a run.*a text.*memory\(lab.trace\('red fox'\), layer=1"
    ):
        deltanet.memory("red fox", layer=1)
    with pytest.raises(InputError, match="(?s)no layer chosen.*0, 1, 3"):
        deltanet.memory(lab.trace(IDS), layer=[])
    with pytest.raises(InputError, match="(?s)head out of range.*9.*0 to 8"):
        deltanet.memory(lab.trace(IDS), layer=1, heads=[9])
    with pytest.raises(InputError, match="(?s)two runs of different tokens.*same prompt"):
        deltanet.measured(lab.trace(IDS), lab.trace(IDS[:50]), layer=1, at=3)


def test_a_read_that_disagrees_is_refused(lab):
    """The parity is of the reads themselves, of every token: one wrong number in one head is enough."""
    run = lab.trace(IDS)
    run.seams[1, "read"][70, 4, 3] += 0.01 * float(run.seams[1, "read"].abs().max())
    for name in ("memory", "implied_attention", "implied write", "heuristic", "response", "measured"):
        with pytest.raises(ParityError, match="layer 1 recomputed from its seams disagrees"):
            READINGS[name](run, 1)
    for read in (
        lambda: deltanet.survival(run, layer=1, token=70),
        lambda: deltanet.recall(run, layer=1, source=3, token=70),
        lambda: deltanet.spectrum(run, layer=1, tokens=[3, 70]),
        lambda: deltanet.written_by(run, layer=1, token=70, segments="a" * 71),
        lambda: deltanet.implied_row(run, layer=1, token=70),
    ):
        with pytest.raises(ParityError):
            read()


# ------------------------------------------------------------------------------------------------------ probes


def probes():
    return {
        "deltanet.gates": deltanet.gates(),
        "deltanet.norms": deltanet.norms(layers=[3, 1]),
        "deltanet.updates": deltanet.updates(layers=1),
        "deltanet.surprise": deltanet.surprise(),
        "deltanet.spectra": deltanet.spectra(layers=[0, 3]),
        "deltanet.rows": deltanet.rows(tokens=[70, 5]),
    }


@pytest.mark.parametrize("name", probes())
def test_what_a_probe_says_of_its_outputs_is_what_comes(lab, name):
    """Axes layer, head, then what is read; sizes as told before the stream; the worst parity of layers and chunks."""
    made = probes()[name]
    ds = lab.stream(IDS, probes=[made], chunk=64)
    for variable, sizes in made.outputs(lab.spec).items():
        assert ds[variable].dims == tuple(sizes) and ds[variable].dims[:2] == ("layer", "head")
        assert all(size in (None, ds.sizes[axis]) for axis, size in sizes.items())
        assert ds[variable].attrs["symbol"]
    assert set(made.outputs(lab.spec)) == set(ds.data_vars) - {"logits"}
    assert made.result("tiny").attrs["reading"] == name
    if name == "deltanet.gates":
        assert "parity" not in ds.attrs, "nothing is recomputed that crosses another seam"
    else:
        assert 0 < ds.attrs["parity"] < 1e-5 and ds.attrs["tolerance"] == 1e-4
        assert ds.attrs["parity"] == float(max(made.rows["parity"][0]))
        assert len(made.rows["parity"][0]) == 2 * len(made.layers), "two chunks of every layer"


def test_block_sums_and_means_are_of_their_own_tokens(lab):
    ds = lab.stream(IDS, probes=[deltanet.updates(layers=[3, 0], block=16), deltanet.norms(block=16)], chunk=32)
    for layer in (0, 3):
        whole = deltanet.memory(lab.trace(IDS), layer=layer)
        for name, reduce in (("erased", np.sum), ("state_norm", np.mean)):
            for block in range(7):
                part = whole[name].isel(token=slice(16 * block, 16 * block + 16)).values
                mine = ds[name].sel(layer=layer, block=block).values
                assert abs(mine - reduce(part, axis=1)).max() < 1e-4 * abs(mine).max(), (name, block)
    assert ds.block_start.values.tolist() == list(range(0, 103, 16))


def test_probes_of_other_layers_are_refused(lab):
    with pytest.raises(LayerError, match="(?s)layer 4 is a gated attention layer.*0, 1, 3"):
        lab.stream(IDS, probes=[deltanet.norms(layers=4)], chunk=64)


# ------------------------------------------------------------------------------------------------------- costs


@pytest.mark.parametrize("name", ["memory", "implied_attention", "survival", "spectrum", "measured"])
def test_what_a_reading_costs_is_told_before(name):
    """The result to a tenth; scratch is an upper bound that is not idle."""
    lab = tiny.make_lab(tiny.model(linear_key_head_dim=40, linear_value_head_dim=56, max_position_embeddings=2048))
    run = lab.trace(tiny.ids(900), layers=[1], seams=deltanet.memory.needs.of(lab.spec))
    calls = {
        "memory": lambda: deltanet.memory(run, layer=1),
        "implied_attention": lambda: deltanet.implied_attention(run, layer=1, heads=[2, 4]),
        "survival": lambda: deltanet.survival(run, layer=1),
        "spectrum": lambda: deltanet.spectrum(run, layer=1, tokens=range(0, 900, 50)),
        "measured": lambda: deltanet.measured(run, run, layer=1, at=0),
    }
    calls[name]()
    peak, _, ds = measure.peak(calls[name])
    sizes = {"implied_attention": {"heads": [2, 4]}, "spectrum": {"options": {"tokens": range(0, 900, 50)}}}
    needs = plan.readings()[f"deltanet.{name}"]
    cost = needs.cost(needs.request(lab.spec, 900, **sizes.get(name, {})))
    result = sum(array.nbytes for array in ds.data_vars.values())
    assert abs(cost.result / result - 1) < 0.1
    assert 0.8 * peak < cost.result + cost.scratch < 2.5 * peak, (peak, cost)
