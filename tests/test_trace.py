"""Seeing does not change; hooks never survive; runs are frozen, saved and opened."""

import dataclasses
import gc
import json
import pickle
import types

import pytest
import tiny
import torch
import xarray
from tiny import hooks, make_lab

from labkit import attention, deltanet, edit, trace
from labkit.errors import BackendError, InputError, LayerError, ParityError, SeamError
from labkit.families import FAMILIES, Seam
from labkit.trace.said import texts

IDS = tiny.ids(53)


def test_logits_with_tracing_equal_logits_without_bit_for_bit(lab):
    with torch.no_grad():
        plain = lab.model(IDS[None]).logits[0]
        last = lab.model(IDS[None], logits_to_keep=1).logits[0]
    assert torch.equal(lab.trace(IDS, logits="all").logits, plain)
    assert torch.equal(lab.trace(IDS).logits, last)


def test_seams_have_the_shapes_of_the_alphabet(lab):
    run, s = lab.trace(IDS), tiny.SIZES
    t, hidden, heads, dv = len(IDS), s["hidden_size"], s["linear_num_value_heads"], s["linear_value_head_dim"]
    conv = 2 * s["linear_num_key_heads"] * s["linear_key_head_dim"] + heads * dv
    shapes = {
        (1, "qkv"): (t, conv),
        (1, "z"): (t, heads, dv),
        (1, "a"): (t, heads),
        (1, "b"): (t, heads),
        (1, "read"): (t, heads, dv),
        (1, "gated"): (t, heads, dv),
        (2, "q"): (t, 6, 16),
        (2, "k"): (t, 2, 16),
        (2, "v"): (t, 2, 16),
        (2, "gate"): (t, 6, 16),
        (2, "gated"): (t, 6, 16),
        (2, "resid_pre"): (t, hidden),
        (2, "mlp_out"): (t, hidden),
    }
    for key, shape in shapes.items():
        assert tuple(run.seams[key].shape) == shape, key


@pytest.mark.parametrize("layer", range(5))
def test_residual_stream_adds_up(lab, layer):
    """Layer output = input + mixer + mlp, and the next layer receives it: the seams are where we say they are."""
    s = lab.trace(IDS).seams
    total = s[layer, "resid_pre"] + s[layer, "mixer_out"] + s[layer, "mlp_out"]
    assert torch.allclose(total, s[layer, "resid_post"], atol=1e-5)
    if layer < 4:
        assert torch.equal(s[layer, "resid_post"], s[layer + 1, "resid_pre"])


@pytest.mark.parametrize("layer", range(5))
def test_gated_seam_is_what_the_output_projection_receives(lab, layer):
    run = lab.trace(IDS)
    block = lab.model.model.layers[layer]
    project = block.linear_attn.out_proj if hasattr(block, "linear_attn") else block.self_attn.o_proj
    again = project(run.seams[layer, "gated"].flatten(1))
    assert torch.allclose(again, run.seams[layer, "mixer_out"], atol=1e-5)


def test_layers_and_keep_limit_what_is_kept(lab):
    run = lab.trace(IDS, layers=[1, 2], seams=["qkv", "k", "mlp_out"])
    assert set(run.seams) == {(1, "qkv"), (1, "mlp_out"), (2, "k"), (2, "mlp_out")}
    assert run.layers == (1, 2)
    with pytest.raises(SeamError, match="(?s)'read' of layer 1 was not kept.*expected: layer 1: mlp_out, qkv"):
        run.seams[1, "read"]


def test_chosen_logits(lab):
    whole = lab.trace(IDS, logits="all")
    some = lab.trace(IDS, logits=[0, 7, -1])
    assert some.logit_tokens.tolist() == [0, 7, 52]
    assert torch.allclose(some.logits, whole.logits[[0, 7, 52]], atol=1e-5)


def test_hooks_are_gone_after_an_exception_and_after_an_interrupt(lab):
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(*_, error=error):
            raise error("stopped")

        handle = lab.model.model.layers[3].mlp.register_forward_hook(fail)
        try:
            with pytest.raises(error, match="stopped"):
                lab.trace(IDS)
            with pytest.raises(error, match="stopped"):
                lab.generate(IDS, max_new_tokens=3)
        finally:
            handle.remove()
        assert hooks(lab.model) == []


def test_a_hook_that_cannot_be_placed_leaves_no_other_behind(lab, monkeypatch):
    broken = dict(lab.spec.seams["attention"], k=Seam("self_attn.gone", "out", ("kv_head", "head_dim"), "key_vector"))
    monkeypatch.setitem(FAMILIES["qwen3_5"].seams, "attention", broken)
    lab.scopes.watched.look(closely=True)  # so that places are sought again
    with pytest.raises(AttributeError, match="gone"):
        lab.trace(IDS)
    assert hooks(lab.model) == []


def test_a_seam_that_never_fires_is_an_error(lab, monkeypatch):
    dead = dict(lab.spec.seams["deltanet"], qkv=Seam("linear_attn.conv1d", "out", ("channel",), "projection"))
    monkeypatch.setitem(FAMILIES["qwen3_5"].seams, "deltanet", dead)
    with pytest.raises(SeamError, match="(?s)'qkv' of layer 0 did not fire.*got: 0 of 53 tokens.*backend='torch'"):
        lab.trace(IDS)


def test_a_run_is_frozen_against_changes_of_the_model():
    lab = make_lab(tiny.model(seed=3))
    run = lab.trace(IDS)
    before = run.parameters[1, "A_log"].clone()
    lab.model.model.layers[1].linear_attn.A_log.zero_()
    assert torch.equal(run.parameters[1, "A_log"], before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.ids = IDS
    with pytest.raises(TypeError):
        run.seams[1, "qkv"] = 0


def test_places_are_found_anew_when_layers_are_exchanged():
    """Modules and weights are found once a model; of layers that changed places, their seams and weights come along."""
    lab = make_lab(tiny.model(seed=5))
    layers, before = lab.model.model.layers, lab.trace(IDS)
    layers[0].linear_attn, layers[3].linear_attn = layers[3].linear_attn, layers[0].linear_attn
    layers[1].linear_attn.A_log = torch.nn.Parameter(torch.full((9,), -1.5), requires_grad=False)
    after, seen = lab.trace(IDS), {}
    for layer in (0, 3):
        give = lambda module, args, output, layer=layer: seen.update({layer: output[0]})
        handle = layers[layer].linear_attn.in_proj_qkv.register_forward_hook(give)
        lab.model(IDS[None])
        handle.remove()
        assert torch.equal(after.seams[layer, "qkv"], seen[layer])
        assert torch.equal(after.parameters[layer, "A_log"], before.parameters[3 - layer, "A_log"])
    assert (after.parameters[1, "A_log"] == -1.5).all() and not (before.parameters[1, "A_log"] == -1.5).any()


def test_a_run_reads_a_seam_once_and_holds_nothing_that_recorded_it(lab):
    gc.collect()
    gc.disable()  # what recorded goes by itself, and with it what the run does not keep
    run, chunks = lab.trace(IDS), lab.trace(IDS, chunk=9)
    recorders = [each for each in gc.get_objects() if type(each) is trace.Recorder]
    gc.enable()
    assert recorders == [] and len(chunks) == len(IDS)
    twin = pickle.loads(pickle.dumps(run.seams))
    assert run.seams[2, "gate"] is run.seams[2, "gate"] and dict(run.seams).keys() == dict(twin).keys()
    assert all(torch.equal(run.seams[key], twin[key]) for key in twin) and run.seams.nbytes == twin.nbytes


def test_saved_and_opened_runs_give_equal_readings(lab, tmp_path):
    from labkit import attention, deltanet

    cache = lab.cache()
    lab.trace(IDS[:20], cache=cache)
    run = lab.trace(IDS[20:], cache=cache)
    run.save(tmp_path / "run")
    again = trace.open_run(tmp_path / "run")
    assert torch.equal(again.ids, run.ids) and again.tokens == run.tokens and again.start.length == 20
    xarray.testing.assert_allclose(deltanet.memory(again, layer=3), deltanet.memory(run, layer=3), atol=1e-6)
    xarray.testing.assert_allclose(attention.pattern(again, layer=2), attention.pattern(run, layer=2), atol=1e-6)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["run.json", "run.safetensors"]
    with pytest.raises(InputError, match="not empty"):
        run.save(tmp_path / "run")


def test_opening_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="no saved run here"):
        trace.open_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    (tmp_path / "run.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="(?s)unknown format.*got: 99"):
        trace.open_run(tmp_path)


def test_offload_keeps_equal_seams(lab):
    a, b = lab.trace(IDS), lab.trace(IDS, device="cpu")
    assert all(torch.equal(a.seams[key], b.seams[key]) for key in a.seams)


def test_parity_refuses_a_wrong_recomputation(lab):
    run = lab.trace(IDS)
    read = run.seams[1, "read"]
    facts = run.check_parity(1, "check", read * (1 + 9e-5), read)
    assert 0 < facts["parity"] < facts["tolerance"] == 1e-4 and run.parity[1, "check"] == facts["parity"]
    with pytest.raises(ParityError, match="(?s)layer 1 recomputed.*relative error 0.00.*at most 0.0001 for float32"):
        run.check_parity(1, "check", read * 1.001, read)
    with pytest.raises(ParityError, match="relative error nan"):
        run.check_parity(1, "check", read * float("nan"), read)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        (torch.tensor([], dtype=torch.long), "the prompt is empty"),
        ([5, 211], "(?s)out of range.*got: 211.*0 to 210"),
        ([5, -1], "(?s)out of range.*got: -1"),
        (torch.tensor([1.5]), "(?s)one sequence of token ids.*float32"),
        (torch.ones(2, 3, dtype=torch.long), "(?s)one sequence.*shape \\[2, 3\\].*lab.trace"),
        ("words", "(?s)no tokenizer.*expected: token ids"),
        (range(0, 1026, 2), "(?s)out of range|longer than"),
    ],
)
def test_bad_prompts(lab, prompt, message):
    with pytest.raises(InputError, match=message):
        lab.trace(prompt)


def test_longer_than_the_window(lab):
    with pytest.raises(
        InputError, match="(?s)longer than the model's window.*got: 513 tokens.*at most 512.*yarn.scaled"
    ):
        lab.trace(tiny.ids(513))
    with pytest.raises(InputError, match="(?s)window.*got: 520"):
        lab.generate(tiny.ids(510), max_new_tokens=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(layers=[5]), "0 to 4"),
        (dict(seams=["weights"]), "(?s)unknown seam.*weights.*expected: .*gated"),
        (dict(logits="first"), "unknown choice of logits"),
        (dict(logits=[53]), "(?s)tokens that do not exist.*53"),
        (dict(chunk=0), r"chunk out of range\n  got: chunk=0\n  expected: 1 or more"),
    ],
)
def test_bad_options(lab, options, message):
    with pytest.raises(InputError, match=message):
        lab.trace(IDS, **options)


def test_readings_refuse_the_other_layer_kind(lab):
    from labkit import attention, deltanet

    run = lab.trace(IDS)
    for reading in (deltanet.memory, deltanet.implied_attention, deltanet.implied_row):
        with pytest.raises(LayerError, match="(?s)layer 2 is a gated attention layer.*0, 1, 3.*try: attention.pattern"):
            reading(run, layer=2)
    with pytest.raises(LayerError, match="(?s)layer 3 is a Gated DeltaNet layer.*2, 4.*deltanet.implied_attention"):
        attention.pattern(run, layer=3)
    with pytest.raises(InputError, match="(?s)head out of range.*9.*0 to 8"):
        deltanet.implied_attention(run, layer=1, heads=[9])
    with pytest.raises(InputError, match="(?s)query_head out of range.*0 to 5"):
        attention.pattern(run, layer=2, heads=6)
    with pytest.raises(InputError, match="(?s)token out of range.*53"):
        attention.pattern(run, layer=2, rows=[53])


def test_a_batch_of_ids_and_a_generator_seed(lab):
    runs = lab.trace([IDS[:5].tolist(), IDS[:9].tolist()])
    assert [len(run) for run in runs] == [5, 9]
    state = torch.random.get_rng_state()
    a, b, c = (lab.generate(IDS, max_new_tokens=8, temperature=1.5, seed=s).ids for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), state)


# ------------------------------------------------------------------------------------------- seams, passes, gradients


def test_an_interleaved_seam_is_read_and_written_through_its_permutation():
    """Sizes differ, and writing back changes the module's own tensor at the places the seam names, and no others."""
    spec = types.SimpleNamespace(axis_sizes={"head": 3, "value": 5})
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0)).tolist()
    seam = Seam("proj", "out", ("head", "value"), "projection", channels=lambda spec: order)
    whole = torch.arange(2 * 4 * 15.0).view(2, 4, 15)
    values = seam.read(whole, spec, 2, 4)
    assert values.shape == (2, 4, 3, 5) and seam.width(spec) == 15
    assert torch.equal(values.flatten(2), whole[..., order])
    before = whole.clone()
    values[:, :, 1] = -1
    assert torch.equal(whole, before), "a permuted seam is a copy"
    seam.write(whole, values, spec, 2, 4)
    changed = (whole != before).any(0).any(0).nonzero()[:, 0].tolist()
    assert changed == sorted(order[5:10]) and (whole[..., order[5:10]] == -1).all()


def test_an_edit_reaches_the_model_through_an_interleaved_seam(lab, monkeypatch):
    """The same edit, once at the plain seam and once at one that names its channels in another order."""
    width = lab.spec.value_heads * lab.spec.dv
    order = torch.randperm(width, generator=torch.Generator().manual_seed(1)).tolist()
    plain = lab.spec.seams["deltanet"]["gated"]
    mixed = dict(lab.spec.seams["deltanet"], mixed=dataclasses.replace(plain, channels=lambda spec: order))
    monkeypatch.setitem(FAMILIES["qwen3_5"].seams, "deltanet", mixed)
    with lab.edit(edit.scale("mixed", layer=1, heads=[2], factor=0.0)):
        changed = lab.trace(IDS, layers=[1])
    dead = order[2 * lab.spec.dv : 3 * lab.spec.dv]
    gated = changed.seams[1, "gated"].flatten(1)
    assert (gated[:, dead] == 0).all() and (gated != 0).sum() == len(IDS) * (width - lab.spec.dv)


@pytest.mark.parametrize("way", ["positional", "keyword"])
def test_a_pass_finds_its_cache_by_type(lab, way):
    seen = []
    stack, cache = trace.decoder(lab.model), lab.cache()
    lab.trace(IDS[:9], cache=cache)
    look = lambda module, args, kwargs: seen.append(trace.Pass.of(module, args, kwargs))  # noqa: E731
    handle = stack.register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad():
        if way == "keyword":
            lab.model(IDS[None, 9:20], **{trace.cache_parameter(lab.model): cache})
        else:
            stack(IDS[None, 9:20], None, None, cache)
        stack(inputs_embeds=stack.embed_tokens(IDS[None, :7]).expand(3, -1, -1), use_cache=False)
    handle.remove()
    warm, cold = seen
    assert (warm.batch, warm.tokens, warm.before) == (1, 11, 9) and warm.cache is cache
    assert (cold.batch, cold.tokens, cold.before, cold.cache) == (3, 7, 0, None)


def test_a_pass_that_cannot_be_followed_is_refused(lab):
    stack = trace.decoder(lab.model)
    name = trace.cache_parameter(stack)
    with pytest.raises(BackendError, match="(?s)cannot follow.*is not taken as a cache.*lab.cache\\(\\)"):
        trace.Pass.of(stack, (IDS[None],), {name: [("keys", "values")]})
    with pytest.raises(BackendError, match="(?s)takes its cache under another name.*Linear.forward.*cache or past_key"):
        trace.cache_parameter(torch.nn.Linear(2, 3))


def test_tracing_with_gradients_changes_no_number_and_gives_the_derivative(lab):
    """By finite differences of the whole model, and along the network: what comes before a seam is not in it."""
    plain, run = lab.trace(IDS, logits="all"), lab.trace(IDS, logits="all", grad=True)
    assert torch.equal(plain.logits, run.logits)
    for key in plain.seams:
        assert torch.equal(plain.seams[key], run.seams[key]), key
    target = run.logits[-1, 7]
    for layer, seam, dims in [(1, "b", (9,)), (2, "gate", (6, 16)), (3, "resid_pre", (44,)), (2, "q", (6, 16))]:
        slope = run.gradient(target, layer=layer, seam=seam)
        assert slope.shape == (53, *dims)
        direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(layer))
        step = 1e-2

        def moved(size, layer=layer, seam=seam, direction=direction):
            with lab.edit(edit.add(seam, layer=layer, vector=size * direction)):
                return lab.trace(IDS, layers=[0]).logits[-1, 7]

        measured = (moved(step) - moved(-step)) / (2 * step)
        assert float((slope * direction).sum()) == pytest.approx(float(measured), rel=2e-2, abs=2e-3), seam
    early = run.seams[0, "mixer_out"].square().sum()
    with pytest.raises(InputError, match="(?s)does not depend on the seam.*'b' of layer 3"):
        run.gradient(early, layer=3, seam="b")


def test_gradients_are_asked_for_and_of_one_number(lab):
    plain, run = lab.trace(IDS[:5]), lab.trace(IDS[:5], grad=True)
    with pytest.raises(InputError, match="(?s)holds no gradients.*grad=True"):
        plain.gradient(plain.logits[-1, 0], layer=1, seam="b")
    with pytest.raises(InputError, match="(?s)of one number.*got: 211 numbers"):
        run.gradient(run.logits[-1], layer=1, seam="b")
    with pytest.raises(InputError, match="(?s)of one number.*without a graph"):
        run.gradient(plain.logits[-1, 0], layer=1, seam="b")
    with pytest.raises(InputError, match="(?s)one prompt in one pass.*a list of prompts"):
        lab.trace([IDS[:5], IDS[:7]], grad=True)
    with pytest.raises(InputError, match="(?s)one prompt in one pass.*chunk=2"):
        lab.trace(IDS[:5], grad=True, chunk=2)


def test_norm_and_unembedding_give_the_logits(lab):
    run = lab.trace(IDS, logits="all")
    last = run.seams[lab.spec.layers - 1, "resid_post"]
    assert torch.equal(lab.unembedding(lab.final_norm(last)), run.logits)
    for layer in (1, 2):
        gated = run.seams[layer, "gated"].flatten(1)
        assert torch.allclose(lab.projection(layer)(gated), run.seams[layer, "mixer_out"], atol=1e-6)
    assert torch.equal(lab.logits(IDS[None]), lab.trace(IDS).logits)


@pytest.mark.parametrize("cache, hint", [(3, "lab.cache"), ("warm", "lab.cache"), ("snapshot", "lab.restore")])
def test_what_is_no_cache_is_refused(lab, cache, hint):
    if cache == "snapshot":
        warm = lab.cache()
        lab.trace(tiny.ids(5), cache=warm)
        cache = lab.snapshot(warm)
    for call in (lambda: lab.trace(tiny.ids(7), cache=cache), lambda: lab.logits(tiny.ids(7)[None], cache=cache)):
        with pytest.raises(InputError, match=f"(?s)not a cache.*{hint}"):
            call()


# what a run says ------------------------------------------


def test_the_likeliest_tokens_are_those_of_the_softmax_of_the_models_logits(lab):
    with torch.no_grad():
        said = lab.model(IDS[None]).logits[0].double()
    run = lab.trace(IDS, logits=[7, 20, -1])
    ds = run.top(k=4, token=[-1, 7])
    assert ds.id.dims == ("token", "choice") and ds.token.values.tolist() == [52, 7] and ds.sizes["choice"] == 4
    for row, token in enumerate((52, 7)):
        best = said[token].argsort(descending=True)[:4]
        assert ds.id[row].values.tolist() == best.tolist() and list(ds.text[row].values) == [f"[{i}]" for i in best]
        assert abs(ds.probability[row].values - said[token].softmax(-1)[best].numpy()).max() < 1e-5
        assert abs(ds.logit[row].values - said[token][best].numpy()).max() < 1e-4
    assert run.top(token=None).token.values.tolist() == [7, 20, 52] and run.top().id.dims == ("choice",)
    assert run.top(k=211).probability.sum() == pytest.approx(1, abs=1e-5)
    cache = lab.cache()
    lab.trace(IDS[:40], cache=cache)
    after = lab.trace(IDS[40:], cache=cache).top()
    assert int(after.token) == 52 and after.id.values.tolist() == run.top().id.values.tolist()


def test_tokens_whose_logits_were_not_kept_are_told(lab):
    run = lab.trace(IDS, logits=[7, -1])
    with pytest.raises(
        InputError, match=r"not kept\n  got: \[8\]\n  expected: of \[7, 52\]\n  try: lab.trace\(run.ids, log"
    ):
        run.top(token=[7, 8])
    with pytest.raises(InputError, match="token out of range"):
        run.top(token=53)
    with pytest.raises(InputError, match="k out of range"):
        run.top(k=212)


def test_the_generated_text_is_that_of_the_new_tokens_special_ones_as_they_are():
    """Byte for byte: words with their spaces, marks of a chat as they stand, half a sign as its replacement."""
    import labkit

    nano = labkit.load("nano")
    run = nano.generate("red fox, blue whale, red", max_new_tokens=5)
    whole = nano.tokenizer.decode(run.ids, skip_special_tokens=False)
    assert run.generated and whole == "red fox, blue whale, red" + run.generated and len(run) - run.prompt_length == 5
    assert nano.trace(run.ids).generated == "" == nano.trace(run.ids[:2]).generated
    marks = nano.encode("<|im_end|>\n<think> don 't , <|im_start|>")
    told = dataclasses.replace(run, ids=torch.cat([run.ids[:3], marks]), prompt_length=3)
    assert told.generated == "<|im_end|>\n<think> don 't , <|im_start|>"
    best = run.top(k=2)
    assert list(best.text.values) == [nano.tokenizer.decode([i]) for i in best.id.values.tolist()]


def test_a_run_without_a_tokenizer_has_no_text(lab, tmp_path):
    run = lab.generate(IDS, max_new_tokens=3)
    with pytest.raises(InputError, match="this run has no tokenizer(?s:.*)got: 3 generated tokens(?s:.*)lab.tokenizer"):
        run.generated  # noqa: B018
    assert lab.trace(IDS).generated == ""
    run.save(tmp_path / "run")
    assert trace.open_run(tmp_path / "run").top(k=3).id.values.tolist() == run.top(k=3).id.values.tolist()


def test_texts_of_tokens_are_kept_until_the_tokenizer_changes():
    """Each id is decoded once; a token that was added, and a tokenizer that is no key, are seen."""

    class Words:
        size, asked = 5, 0

        def __len__(self):
            return self.size

        def decode(self, ids):
            self.asked += 1
            return f" w{ids[0]}of{self.size}"

    words, ids = Words(), torch.tensor([3, 1, 3, 3])
    said = texts(words, ids)
    assert said == texts(words, ids) and words.asked == 2
    assert said[0] == said[2] == said[3] != said[1] and "w3of5" in said[0]
    words.size = 6
    assert "w3of6" in texts(words, ids)[0]
    other = types.SimpleNamespace(decode=lambda ids: f"x{ids[0]}")
    assert texts(other, ids)[:2] == ("x3", "x1")
    assert texts(None, ids[:2]) == ("[3]", "[1]")


def test_a_list_where_one_layer_belongs_is_no_seam(lab):
    run = lab.trace(IDS[:5])
    for read in (attention.inputs, deltanet.inputs):
        with pytest.raises(SeamError, match=r"of layer \[3\] was not kept in this run"):
            read(run, [3])
    assert ([2], "q") not in run.seams and (2, "q") in run.seams and (True, "a") not in run.seams
