"""What everything was made with: told apart when it differs, equal when it does not, compared where things meet."""

import dataclasses
import functools
import json
import threading

import pytest
import tiny
import torch
import xarray
from transformers import DynamicCache

import labkit as lk
from labkit import attention, cache, deltanet, edit, identity, stream, watched, weights, yarn
from labkit.errors import InputError
from labkit.fingerprint import Opaque, fingerprint
from labkit.rotary import Scaling
from labkit.trace import cache_parameter
from labkit.yarn import answers

IDS = tiny.ids(19, seed=4)
BIAS = 0.25


@pytest.fixture
def own():
    """A lab of its own model, whose weights may change."""
    return tiny.make_lab(tiny.model(seed=11))


# ---------------------------------------------------------------------------------------------------------- weights


def test_equal_weights_have_one_identity_and_others_another(own):
    twin, other = tiny.make_lab(tiny.model(seed=11), "twin"), tiny.make_lab(tiny.model(seed=12))
    assert not own.identity().differing(twin.identity()) and own.identity(full=True).digest
    assert own.identity(full=True).digest == twin.identity(full=True).digest != other.identity(full=True).digest
    assert set(own.identity().differing(other.identity())) == {"weights"}
    assert set(own.identity(full=True).differing(other.identity(full=True))) == {"weights", "digest"}
    half = tiny.make_lab(tiny.model(seed=11, dtype=torch.bfloat16))
    assert set(own.identity().differing(half.identity())) == {"weights", "dtype"}


@pytest.mark.parametrize("row", [0, 100, 210])
def test_a_weight_changed_in_place_is_seen_wherever_it_lies(own, row):
    before, table = own.identity(), own.model.get_input_embeddings().weight
    with torch.no_grad():
        table[row, 17] += 1.0
    assert table.numel() > weights.WHOLE and own.identity().weights != before.weights
    changed = own.identity()
    with torch.no_grad():
        table[row], table[row - 1] = table[row - 1].clone(), table[row].clone()
    assert own.identity().weights not in (before.weights, changed.weights), "rows that changed their places"


def test_an_exchanged_module_an_adapter_and_a_hook_are_seen(own):
    before, layer = own.identity(), own.model.model.layers[3].mlp
    hook = layer.down_proj.register_forward_hook(look)
    assert own.identity().differing(before) == {"hooks": (("test_identity.look at model.layers.3.mlp.down_proj",), ())}
    hook.remove()
    assert own.identity() == before
    plain, layer.down_proj = layer.down_proj, Adapted(layer.down_proj)
    adapted = own.identity()
    assert set(adapted.differing(before)) == {"weights", "adapters"} and adapted.adapters == "french x 0.5"
    layer.down_proj.disable_adapters = True
    assert own.identity().differing(adapted) == {"adapters": ("switched off", "french x 0.5")}
    layer.down_proj = plain
    assert own.identity() == before


def look(module, args, output):
    """A hook of somebody else's that only looks."""


class Adapted(torch.nn.Module):
    """What an adapter of peft looks like from outside."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.lora_A = base, torch.nn.Linear(base.in_features, 3, bias=False)
        self.active_adapters, self.disable_adapters, self.merged_adapters = ["french"], False, []
        self.scaling = {"french": 0.5}
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.base_layer(x)


def test_peft_says_what_the_identity_reads(own):
    peft = pytest.importorskip("peft", reason="pip install peft")
    from peft.tuners.lora import LoraConfig

    plain = own.identity()
    logits = own.trace(IDS).logits
    config = LoraConfig(r=3, target_modules=["down_proj"], lora_dropout=0.5, init_lora_weights=False)
    lab = tiny.make_lab(peft.inject_adapter_in_model(config, own.model).eval())
    adapted, layers = lab.identity(), [each for each in lab.model.modules() if hasattr(each, "merged_adapters")]
    assert adapted.adapters.startswith("default x") and set(adapted.differing(plain)) == {"weights", "adapters"}
    assert not torch.allclose(lab.trace(IDS).logits, logits, atol=1e-3)
    for each in layers:
        each.enable_adapters(False)
    assert lab.identity().differing(adapted) == {"adapters": ("switched off", adapted.adapters)}
    assert torch.allclose(lab.trace(IDS).logits, logits, atol=1e-5)
    layers[0].enable_adapters(True)
    assert "switched off at" in lab.identity().adapters and "default x" in lab.identity().adapters
    layers[0].lora_dropout.train()
    with pytest.raises(InputError, match="training mode in model.layers.0.mlp.down_proj.lora_dropout"):
        lab.trace(IDS)


def test_attention_kernels_and_scaling_are_told(own):
    before = own.identity()
    own.model.set_attn_implementation("eager")
    assert own.identity().differing(before).keys() == {"kernels"} and "attention eager" in own.identity().kernels
    own.model.set_attn_implementation("sdpa")
    with yarn.scaled(own, 2.0):
        assert own.identity().differing(before) == {"scaling": ("yarn 2", "none")}
    assert own.identity() == before


def test_weights_are_hashed_when_they_change_alone(own, monkeypatch):
    """Weights are hashed once, those that change once more."""
    hashed, sampled = [], watched.sampled
    monkeypatch.setattr(watched, "sampled", lambda weight, changed: hashed.append(weight) or sampled(weight, changed))
    for _ in range(3):
        own.trace(IDS)
    assert hashed == []
    with torch.no_grad():
        own.model.model.layers[2].mlp.up_proj.weight[0, 0] = 0.0
    own.trace(IDS)
    own.trace(IDS)
    assert [weight.data_ptr() for weight in hashed] == [own.model.model.layers[2].mlp.up_proj.weight.data_ptr()]


# ---------------------------------------------------------------------------------------------------- fingerprints


def test_functions_are_told_apart_by_what_they_do():
    one = [edit.scale("gated", layer=1, factor=0.0), edit.scale("gated", layer=1, factor=0.5)]
    one += [edit.scale("gated", layer=3, factor=0.5), edit.scale("gated", layer=1, heads=[2], factor=0.5)]
    one += [edit.add("gated", layer=1, vector=torch.arange(3.0)), edit.add("gated", layer=1, vector=torch.ones(3))]
    one += [edit.set("gated", layer=1, value=0.5), deltanet.never_forget(layer=1), deltanet.never_write(layer=1)]
    one += [deltanet.clamp_write(layer=1, value=0.5), deltanet.clamp_write(layer=1, value=0.25)]
    one += [deltanet.replace_state(0.0, layer=1, at=4), deltanet.replace_state(0.5, layer=1, at=4)]
    one += [edit.state(torch.zeros_like, layer=1, at=4), edit.state(torch.ones_like, layer=1, at=4)]
    prints = [item.fingerprint for item in one]
    assert None not in prints and len(set(prints)) == len(prints)
    again = edit.scale("gated", layer=1, factor=0.5)
    assert again.fingerprint == one[1].fingerprint and again.key == one[1].key


def test_constants_defaults_names_and_code_count():
    makers = [lambda c: lambda x: x + c, lambda c: functools.partial(torch.add, c)]
    for maker in makers:
        assert fingerprint(maker(1)) == fingerprint(maker(1)) != fingerprint(maker(2))
    plus, minus = (lambda x: x + BIAS), (lambda x: x - BIAS)
    first = fingerprint(plus)
    assert first != fingerprint(minus)
    globals()["BIAS"] = 0.5
    try:
        assert fingerprint(plus) != first, "a number that the function reads from its module"
    finally:
        globals()["BIAS"] = 0.25
    assert fingerprint(plus) == first
    assert fingerprint(lambda x, by=1: x) != fingerprint(lambda x, by=2: x)
    assert fingerprint([1, 2.0, "a", None]) != fingerprint([1, 2, "a", None]) != fingerprint((1, 2, "a", None))


def test_tensors_count_by_their_numbers_whatever_their_place_in_memory():
    table = torch.arange(12.0).view(3, 4)
    same = [table.T.contiguous(), table.T, torch.stack([table, table])[1].T]
    assert len({fingerprint(each) for each in same}) == 1 and fingerprint(table) != fingerprint(table.T)
    entries = [table[1, 2], table[1:2, 2][0], torch.tensor(6.0), table.T[2:3, 1][0]]
    assert len({fingerprint(each) for each in entries}) == 1 != fingerprint(torch.tensor(6))
    columns = [table[1:2, 2], torch.tensor([6.0]), table[1:, 2:][:1, 0]]
    assert len({fingerprint(each) for each in columns}) == 1
    kinds = (torch.bfloat16, torch.bool, torch.complex64, torch.int8)
    assert len({fingerprint(torch.zeros(3, dtype=kind)) for kind in kinds}) == len(kinds)
    fingerprint(torch.empty(0, 3))


class Counter:
    """A change with something in it that nobody can look into."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, values, positions):
        return values


class Steer:
    """A change with a state that can be told."""

    def __init__(self, by):
        self.by = by

    def __call__(self, values, positions):
        return values + self.by


class Autoencoder(torch.nn.Module):
    """Somebody's own module."""

    def __init__(self, seed):
        super().__init__()
        self.encode = torch.nn.Linear(5, 7)
        torch.nn.init.normal_(self.encode.weight, generator=torch.Generator().manual_seed(seed))
        torch.nn.init.zeros_(self.encode.bias)

    def forward(self, x):
        return self.encode(x)


def test_objects_modules_and_classes_of_users_are_told_by_what_they_hold():
    assert fingerprint(Steer(1)) == fingerprint(Steer(1)) != fingerprint(Steer(2))
    prints = [fingerprint(functools.partial(torch.add, Autoencoder(seed))) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    quiet, drop = torch.nn.Dropout().eval(), torch.nn.Dropout()
    assert fingerprint(quiet) != fingerprint(drop)
    hooked = Autoencoder(1)
    hooked.register_forward_hook(look)
    with pytest.raises(Opaque, match="hooks"):
        fingerprint(hooked)


def test_what_a_function_takes_from_a_module_of_a_user_counts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helpers_of_a_user.py").write_text("SCALE = 2\ndef steer(x):\n    return SCALE * x\n")
    import helpers_of_a_user

    space = {"helpers": helpers_of_a_user, "__name__": "__main__"}
    exec("def change(x, at):\n    return helpers.steer(x)", space)
    first = fingerprint(space["change"])
    helpers_of_a_user.SCALE = 3
    assert fingerprint(space["change"]) != first
    helpers_of_a_user.SCALE = 2
    assert fingerprint(space["change"]) == first


def test_recursion_ends():
    def down(n):
        return n and down(n - 1)

    assert fingerprint(down) == fingerprint(down)


def test_state_that_cannot_be_seen_has_no_fingerprint():
    with pytest.raises(Opaque, match="_thread"):
        fingerprint(Counter())
    opaque = [edit.function(Counter(), seam="gated", layer=1) for _ in range(2)]
    assert opaque[0].fingerprint is None and opaque[0].key != opaque[1].key


def test_an_edit_stays_what_it_was(own):
    vector = torch.ones(own.spec.hidden)
    steer = edit.add("mlp_out", layer=1, vector=vector)
    with own.edit(steer):
        before = own.trace(IDS).logits
        vector.mul_(100)
        assert torch.equal(own.trace(IDS).logits, before)


# ------------------------------------------------------------------------------------------------ where things meet


def test_a_run_carries_what_made_it_and_a_saved_one_too(own, tmp_path):
    with own.edit(edit.scale("gated", layer=1, factor=0.5, tokens=[3])):
        run = own.trace(IDS)
        assert run.identity == own.identity()
    assert run.identity.edits == (f"scale('gated', layer=1, tokens=[3]) {run.identity.edits[0].split(' ', 3)[3]}",)
    assert own.trace(IDS).identity.edits == ()
    run.save(tmp_path / "run")
    assert lk.open_run(tmp_path / "run").identity == run.identity
    assert identity.of_json(json.loads(json.dumps(run.identity.to_json()))) == run.identity


def test_a_snapshot_of_one_model_does_not_go_on_in_another(own):
    other, warm = tiny.make_lab(tiny.model(seed=12), "other"), own.cache()
    own.trace(IDS[:8], cache=warm)
    snap = own.snapshot(warm)
    with pytest.raises(InputError, match="(?s)this snapshot was made by another model.*tiny: weights.*other: weights"):
        other.resume(snap, IDS)
    with pytest.raises(InputError, match="this cache was made by another model"):
        other.trace(IDS[8:], cache=warm)
    with torch.no_grad():
        own.model.model.norm.weight[3] += 0.5
    with pytest.raises(InputError, match="this snapshot was made by another model"):
        own.restore(snap)


def test_a_run_of_one_model_is_not_projected_by_another(own):
    run = own.trace(IDS, layers=[2], seams=["q", "k", "v", "gate", "gated"])
    other = tiny.make_lab(tiny.model(seed=12), "other")
    with pytest.raises(InputError, match="(?s)this run was made by another model.*weights"):
        attention.contribution(run, other, layer=2)
    attention.contribution(run, own, layer=2)


HALF = dict(layer=1, factor=0.5)


@pytest.mark.parametrize(
    "before, after, message",
    [
        ([], [edit.scale("gated", **HALF)], "(?s)read with no edit.*as now: scale.*tokens=range\\(8"),
        ([edit.scale("gated", **HALF)], [], "(?s)read with scale.*on tokens 0 to 7.*as now: no edit"),
        ([edit.scale("gated", **HALF)], [edit.scale("gated", layer=1, factor=0.25)], "under other edits"),
        ([edit.scale("gated", **HALF)], [edit.scale("gated", **HALF)] * 2, "under other edits"),
        ([edit.scale("gated", tokens=[7], **HALF)], [], "under other edits"),
        ([], [edit.scale("gated", tokens=[7], **HALF)], "under other edits"),
        ([edit.state(torch.zeros_like, layer=0, at=7)], [], "under other edits"),
        ([edit.scale("gated", **HALF)], [edit.scale("gated", **HALF)], None),
        ([edit.scale("gated", tokens=[3, 12], **HALF)], [edit.scale("gated", tokens=[3, 15], **HALF)], None),
        ([], [edit.scale("gated", tokens=range(8, 30), **HALF)], None),
        ([edit.scale("gated", tokens=[3], **HALF)], [edit.scale("gated", tokens=[3], **HALF)], None),
        ([], [edit.state(torch.zeros_like, layer=0, at=8)], None),
    ],
)
def test_a_beginning_read_under_other_edits_is_not_continued(own, before, after, message):
    warm = own.cache()
    with own.edit(*before):
        own.trace(IDS[:8], cache=warm)
        snap = own.snapshot(warm)
    with own.edit(*after):
        if message is None:
            resumed = own.resume(snap, IDS).logits
            whole = own.trace(IDS).logits
            assert (resumed - whole).abs().max() < 1e-4 * whole.abs().max()
            return
        with pytest.raises(InputError, match=message):
            own.resume(snap, IDS)
        with pytest.raises(InputError, match=message):
            own.trace(IDS[8:], cache=warm)
        whole = own.trace(IDS)
    assert whole.identity.edits == tuple(item.text for item in after)


def test_caches_of_the_bare_model_know_their_edits(own):
    cached = cache_parameter(own.model)
    with own.edit(edit.scale("gated", **HALF)):
        given = own.model(IDS[None, :8])[cached]
        assert isinstance(given, cache.HybridCache)
        own.model(IDS[None, 8:12], **{cached: given})
    with pytest.raises(InputError, match="under other edits"):
        own.model(IDS[None, 12:], **{cached: given})
    foreign = DynamicCache(config=own.model.config)  # of nobody: what filled it is taken for the bare model
    own.model(IDS[None, :8], **{cached: foreign})
    with own.edit(edit.scale("gated", **HALF)), pytest.raises(InputError, match="under other edits"):
        own.model(IDS[None, 8:], **{cached: foreign})


def test_a_record_of_nobody_passes(own):
    nobody = identity.Identity(model="of another program")
    own.identity().check(nobody, "this run was made")
    with pytest.raises(InputError, match="weights"):
        own.identity().check(dataclasses.replace(nobody, weights="0" * 16), "this run was made")


# ---------------------------------------------------------------------------------------------------------- folders


def streamed(lab, folder, stop=False):
    """A stream that keeps a checkpoint; stopped after its first chunk, if asked."""

    class Stop(stream.Probe):
        def needs(self, spec):
            return {0: ("mlp_out",)}

        def eat(self, run):
            if stop and run.start.length:
                raise KeyboardInterrupt

        def result(self, model):
            return xarray.Dataset()

    probes = [Stop(), deltanet.gates(layers=[1], block=8)]
    return lab.stream(IDS, probes=probes, chunk=8, every=1, checkpoint=folder)


def interrupted(lab, folder):
    with pytest.raises(stream.Interrupted):
        streamed(lab, folder, stop=True)


def test_a_stream_is_continued_under_the_same_edit_alone(own, tmp_path):
    with own.edit(edit.scale("gated", layer=1, factor=0.0)):
        interrupted(own, tmp_path)
    with (
        own.edit(edit.scale("gated", layer=1, factor=0.5)),
        pytest.raises(InputError, match="(?s)different edits scale"),
    ):
        streamed(own, tmp_path)
    with pytest.raises(InputError, match="(?s)different edits scale.*now none"):
        streamed(own, tmp_path)
    with own.edit(edit.scale("gated", layer=1, factor=0.0)):
        whole = streamed(own, tmp_path / "whole")
        xarray.testing.assert_identical(streamed(own, tmp_path), whole)


def test_folders_of_one_name_are_of_different_models(tmp_path):
    first, second = (tiny.make_lab(tiny.model(seed=seed), "final") for seed in (11, 12))
    interrupted(first, tmp_path)
    with pytest.raises(InputError, match="(?s)another request.*different weights"):
        streamed(second, tmp_path)
    renamed = tiny.make_lab(tiny.model(seed=11), "moved")
    assert streamed(renamed, tmp_path).attrs["tokens"] == len(IDS)


def test_an_adapter_switched_off_is_another_model(own, tmp_path):
    layer = own.model.model.layers[3].mlp
    layer.down_proj = Adapted(layer.down_proj)
    interrupted(own, tmp_path)
    layer.down_proj.disable_adapters = True
    with pytest.raises(InputError, match="different adapters french x 0.5, now switched off"):
        streamed(own, tmp_path)


def test_an_edit_that_cannot_be_told_apart_keeps_no_checkpoint(own, tmp_path):
    with own.edit(edit.function(Counter(), seam="gated", layer=1)):
        with pytest.raises(InputError, match="(?s)nobody can tell later.*function\\('gated', layer=1\\).*leave out"):
            streamed(own, tmp_path)
        own.trace(IDS)
    assert not list(tmp_path.iterdir())


def test_answers_are_of_the_model_that_gave_them(tmp_path):
    first_lab = tiny.make_lab(tiny.model(seed=11), "final")
    first = answers.Answers(tmp_path, first_lab)
    key = first.key("recall", Scaling("yarn", 2.0), 64, 0.5, 0)
    with first:
        first.write(key, 3.38, True)
    other = answers.Answers(tmp_path, tiny.make_lab(tiny.model(seed=12), "final"))
    with pytest.raises(InputError, match="(?s)another model.*weights .*, now "), other:
        pass
    with answers.Answers(tmp_path, tiny.make_lab(tiny.model(seed=11), "moved")) as again:
        assert again.known == {key: (3.38, True)}
    with first_lab.edit(edit.scale("gated", layer=1, factor=0.0)):
        edited = answers.Answers(tmp_path, first_lab)
    with pytest.raises(InputError, match="edits none, now scale"), edited:
        pass


# --------------------------------------------------------------------------------- what counters and names do not tell


def fused(lab):
    weights = [weight.requires_grad_(True) for weight in lab.model.parameters()]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(weights, lr=0.01, fused=True).step()


def of_data(lab):
    lab.model.model.layers[1].mlp.up_proj.weight.data = lab.model.model.layers[1].mlp.up_proj.weight.data * 3


def in_place_of_data(lab):
    lab.model.model.layers[1].mlp.up_proj.weight.data.mul_(3)


def epsilon(lab):
    lab.model.model.norm.eps = 0.5


def activation(lab):
    lab.model.model.layers[1].mlp.act_fn = torch.nn.ReLU().eval()


@pytest.mark.parametrize("change", [fused, of_data, in_place_of_data, epsilon, activation])
def test_changes_that_no_counter_tells_are_seen(own, change):
    before, warm = own.identity(), own.cache()
    own.trace(IDS[:8], cache=warm)
    snap = own.snapshot(warm)
    change(own)
    assert set(own.identity().differing(before)) == {"weights"}
    with pytest.raises(InputError, match="this snapshot was made by another model"):
        own.restore(snap)
    if change in (fused, of_data, activation):  # seen without a closer look
        with pytest.raises(InputError, match="this cache was made by another model"):
            own.trace(IDS[8:], cache=warm)


def test_equal_weights_have_one_identity_however_they_came(own):
    twin = tiny.make_lab(tiny.model(seed=12))
    twin.model.load_state_dict(own.model.state_dict())
    assert twin.identity().weights == own.identity().weights
    edited = tiny.model(seed=11)
    edited.model.embed_tokens.weight[3] = 0.0  # before a lab saw it
    assert tiny.make_lab(edited).identity().weights != own.identity().weights


def test_hooks_on_every_module_and_forwards_of_others_are_told(own):
    handle = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        assert own.identity().hooks == ("test_identity.look at every module",)
    finally:
        handle.remove()
    mlp = own.model.model.layers[1].mlp
    mlp.forward = functools.partial(type(mlp).forward, mlp)
    assert own.identity().hooks == ("another forward at model.layers.1.mlp",)
    own.model.forward = torch.compile(own.model.forward, backend="eager")
    with pytest.raises(InputError, match="compiled: the model"):
        own.logits(IDS[None])


def test_an_edit_is_known_as_it_was_when_its_block_opened(own):
    vector = torch.ones(own.spec.hidden)
    item = edit.function(lambda x, at: x + vector, seam="mlp_out", layer=1)
    warm = own.cache()
    with own.edit(item):
        own.trace(IDS[:8], cache=warm)
    vector.mul_(10)
    with own.edit(item), pytest.raises(InputError, match="under other edits"):
        own.trace(IDS[8:], cache=warm)


def test_an_edit_of_earlier_tokens_has_acted(own, tmp_path):
    item, warm = edit.scale("gated", layer=1, factor=0.5, tokens=[3]), own.cache()
    with own.edit(item):
        own.trace(IDS[:8], cache=warm)
        whole = own.trace(IDS).logits
    with own.edit(item):
        rest = own.trace(IDS[8:], cache=warm).logits
    assert (rest - whole).abs().max() < 1e-4 * whole.abs().max()
    with own.edit(item):
        interrupted(own, tmp_path)
    with own.edit(item):
        assert streamed(own, tmp_path).attrs["tokens"] == len(IDS)


def test_bare_passes_look_at_the_model_too(own):
    warm, cached = own.cache(), cache_parameter(own.model)
    own.model(IDS[None, :8], **{cached: warm})
    with torch.no_grad():
        own.model.model.norm.weight[3] += 0.5
    with pytest.raises(InputError, match="this cache was made by another model"):
        own.model(IDS[None, 8:], **{cached: warm})
    fresh = own.cache()
    own.model(IDS[None, :8], **{cached: fresh})
    own.trace(IDS[8:], cache=fresh)
