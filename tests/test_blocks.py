"""Keys and values in buffers with room: the bits of transformers' own cache, and nothing that was written changes."""

import copy

import pytest
import tiny
import torch
from transformers import DynamicCache

from labkit import cache as hybrid
from labkit.cache import Blocks, grown
from labkit.cache.blocks import BLOCK
from labkit.errors import BudgetError, InputError
from labkit.trace import cache_parameter

IDS = tiny.ids(300)
CUTS = {"one pass": [90], "chunks": [37, 41, 12], "steps": [1] * 9, "prompt and steps": [70, *[1] * 9]}


def fed(lab, cache, sizes, rows=1, mask=None):
    """Logits of bare passes over so many tokens each, into a cache."""
    out, done = [], 0
    for n in sizes:
        ids = torch.stack([tiny.ids(300, seed=row)[done : done + n] for row in range(rows)])
        done += n
        more = {} if mask is None else {"attention_mask": mask[:, :done]}
        with torch.no_grad():
            out.append(lab.model(ids, **{cache_parameter(lab.model): cache}, **more).logits)
    return torch.cat(out, 1)


@pytest.fixture(scope="module", params=["grouped", "equal heads", "bfloat16", "experts"])
def other(request):
    changes = {"equal heads": dict(num_attention_heads=4, num_key_value_heads=4), "experts": dict(experts=True)}
    dtype = torch.bfloat16 if request.param == "bfloat16" else None
    return tiny.make_lab(tiny.model(dtype=dtype, **changes.get(request.param, {})))


@pytest.mark.parametrize("room", [None, 90, 300])
@pytest.mark.parametrize("cuts", CUTS)
def test_every_bit_is_that_of_concatenated_keys(other, cuts, room):
    plain, ours = DynamicCache(config=other.model.config), other.cache(room=room)
    assert torch.equal(fed(other, plain, CUTS[cuts]), fed(other, ours, CUTS[cuts]))
    for layer in other.spec.attention_layers:
        for name in ("keys", "values"):
            assert torch.equal(getattr(plain.layers[layer], name), getattr(ours.layers[layer], name))
    for layer in other.spec.deltanet_layers:
        assert torch.equal(plain.layers[layer].recurrent_states[0], ours.layers[layer].recurrent_states[0])
    assert ours.get_seq_length() == plain.get_seq_length() == sum(CUTS[cuts])


@pytest.mark.parametrize("room", [None, 60])
def test_padded_rows_have_the_same_bits(other, room):
    mask = torch.ones(3, 60, dtype=torch.long)
    mask[0, :21], mask[2, :5] = 0, 0
    plain, ours = DynamicCache(config=other.model.config), other.cache(room=room)
    sizes = [40, 1, 1, 18]
    assert torch.equal(fed(other, plain, sizes, 3, mask), fed(other, ours, sizes, 3, mask))
    assert ours.layers[2].keys.shape == (3, *plain.layers[2].keys.shape[1:])


def test_a_reserved_buffer_is_made_once_and_exactly(lab):
    cache = lab.cache(room=201)
    lab.trace(IDS[:5], cache=cache)
    layers = [cache.layers[layer] for layer in lab.spec.attention_layers]
    places = [part.data_ptr() for layer in layers for part in layer.buffers()]
    for a, b in ((5, 100), (100, 101), (101, 201)):
        lab.trace(IDS[a:b], cache=cache)
    assert places == [part.data_ptr() for layer in layers for part in layer.buffers()]
    for layer in layers:
        assert (layer.length, layer.room) == (201, 201) and layer.buffers()[1].shape == (1, 2, 201, 16)
    lab.trace(IDS[201:202], cache=cache)  # what was said was not all
    assert layers[0].room == grown(202) and layers[0].length == 202
    assert torch.equal(layers[0].keys[:, :, :201], layers[0].buffers()[0][:, :, :201])
    assert not layers[0].buffers()[0][:, :, 202:].any(), "what nobody wrote is zero"


def test_a_later_reservation_keeps_what_is_there(lab):
    cache = lab.cache()
    lab.trace(IDS[:50], cache=cache)
    layer, before = cache.layers[4], lab.snapshot(cache)
    assert layer.room == 50, "a first pass takes what it needs"
    cache.reserve(70)
    cache.reserve(60)
    assert (layer.length, layer.room) == (50, 70) and torch.equal(layer.keys, before.keys[4])
    expected = lab.trace(IDS[50:70], cache=lab.restore(before)).logits
    assert torch.equal(lab.trace(IDS[50:70], cache=cache).logits, expected) and layer.room == 70


def test_growing_copies_little():
    layer, copied, tokens, chunk = Blocks(), 0, 2**17, 1024
    states = torch.zeros(1, 1, chunk, 1)
    for done in range(0, tokens, chunk):
        before = layer.room
        layer.update(states, states)
        copied += done * (layer.room != before)
    concatenated = tokens**2 / (2 * chunk)
    assert layer.length == tokens <= layer.room <= grown(tokens) < 1.13 * tokens
    assert copied < 9 * tokens < concatenated / 7
    assert all(n < grown(n) <= n * 9 / 8 + BLOCK and grown(n) % BLOCK == 0 for n in range(1, 2000, 7))


def test_a_snapshot_does_not_see_what_its_cache_reads_later(lab):
    cache = lab.cache(room=120)
    lab.trace(IDS[:50], cache=cache)
    snap = lab.snapshot(cache)
    before = {(name, i): part.clone() for name in ("keys", "values") for i, part in getattr(snap, name).items()}
    one, two = lab.fork(snap, 2)
    cache.reserve(120)
    one.reserve(120)
    suffixes = {id(each): tiny.ids(20, seed=30 + i) for i, each in enumerate((cache, one, two))}
    for at in range(0, 20, 5):  # in turns
        for each in (cache, one, two):
            lab.trace(suffixes[id(each)][at : at + 5], cache=each)
    for each in (cache, one, two):
        straight = lab.cache()
        lab.trace(torch.cat([IDS[:50], suffixes[id(each)]]), cache=straight)
        for layer in lab.spec.attention_layers:
            assert torch.allclose(each.layers[layer].keys, straight.layers[layer].keys, atol=1e-4)
    assert all(torch.equal(getattr(snap, name)[i], part) for (name, i), part in before.items())


def test_tokens_that_were_cropped_are_not_written_over(lab):
    cache = lab.cache(room=90)
    lab.trace(IDS[:50], cache=cache)
    snap = lab.snapshot(cache)
    kept = snap.keys[2].clone()
    for layer in lab.spec.attention_layers:
        cache.layers[layer].crop(-10)
        cache.layers[layer].update(*[torch.ones(1, 2, 7, 16)] * 2)
    assert cache.layers[2].length == 47 and torch.equal(snap.keys[2], kept)


def test_a_snapshot_says_what_it_keeps_alive(lab):
    exact, roomy = lab.cache(), lab.cache(room=300)
    for cache in (exact, roomy):
        lab.trace(IDS[:50], cache=cache)
    shared = [lab.snapshot(cache).nbytes["shared"] for cache in (exact, roomy)]
    assert shared == [2 * 2 * 2 * 50 * 16 * 4, 2 * 2 * 2 * 300 * 16 * 4]
    stacked = lab.snapshot(exact).stacked(7)
    assert stacked.nbytes["shared"] == shared[0] and stacked.keys[2].shape[0] == 7


def test_copies_of_a_cache_are_independent(lab):
    cache = lab.cache(room=100)
    lab.trace(IDS[:40], cache=cache)
    twin = copy.deepcopy(cache)
    for each, seed in ((cache, 1), (twin, 2)):
        lab.trace(tiny.ids(20, seed=seed), cache=each)
    assert not torch.equal(cache.layers[2].keys, twin.layers[2].keys)
    assert torch.equal(cache.layers[2].keys[:, :, :40], twin.layers[2].keys[:, :, :40])


@pytest.mark.parametrize("wrong", ["rows", "dtype"])
def test_what_does_not_fit_is_not_written(wrong):
    """A copy would repeat one row for three and round silently; concatenation refuses, or widens."""
    layer = Blocks()
    layer.reserve(20)
    layer.update(*[torch.ones(3, 2, 4, 5, dtype=torch.float16)] * 2)
    if wrong == "rows":
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            layer.update(*[torch.ones(1, 2, 1, 5, dtype=torch.float16)] * 2)
        assert layer.length == 4
    else:
        layer.update(*[torch.full((3, 2, 1, 5), 1 / 3)] * 2)
        assert layer.keys.dtype == torch.float32 and layer.keys[0, 0, 4, 0] == torch.tensor(1 / 3)


def test_a_graph_through_the_cache_stays_whole():
    layer, parts = Blocks(), [torch.rand(1, 2, n, 3, requires_grad=True) for n in (4, 3, 2)]
    layer.reserve(20)
    with torch.enable_grad():
        reads = [(layer.update(part, part)[0] ** 2).sum() for part in parts]
        sum(reads).backward()
    for times, part in zip((3, 2, 1), parts, strict=True):
        assert torch.allclose(part.grad, 2 * times * part)


def test_somebody_may_write_behind_and_say_so(lab):
    cache = lab.cache(room=60)
    lab.trace(IDS[:50], cache=cache)
    layer, snap = cache.layers[2], lab.snapshot(cache)
    keys, values = layer.buffers()
    keys[:, :, layer.length], values[:, :, layer.length] = 3.0, 4.0
    layer.advance(1)
    assert layer.length == layer.get_seq_length() == 51 and (layer.keys[:, :, 50] == 3).all()
    assert (layer.values[:, :, 50] == 4).all() and snap.keys[2].shape[2] == 50


class Stopped(torch.Tensor):
    """New values that are interrupted when they are written."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.copy_:
            raise KeyboardInterrupt
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("layer", [2, 4])
@pytest.mark.parametrize("room", [None, 200])
def test_an_interrupt_inside_of_an_update_leaves_a_torn_cache(lab, layer, room):
    cache = lab.cache(room=room)
    lab.trace(IDS[:40], cache=cache)
    before, update = lab.snapshot(cache), Blocks.update

    def stopping(self, keys, values, *args, **kwargs):
        return update(self, keys, values.as_subclass(Stopped) if self is cache.layers[layer] else values)

    cache.layers[layer].update = stopping.__get__(cache.layers[layer])
    with pytest.raises(KeyboardInterrupt), torch.no_grad():
        lab.model(IDS[None, 40:43], **{cache_parameter(lab.model): cache})
    del cache.layers[layer].update
    assert cache.layers[layer].keys.shape == cache.layers[layer].values.shape == (1, 2, 40, 16)
    with pytest.raises(InputError, match="was interrupted"):
        lab.trace(IDS[40:], cache=cache)
    cold = lab.trace(IDS[:90]).logits
    assert (lab.trace(IDS[40:90], cache=lab.restore(before)).logits - cold).abs().max() < 1e-4 * cold.abs().max()


def test_beams_and_samples_of_transformers_run_on_it(lab):
    ids, options = IDS[None, :30], dict(max_new_tokens=12, do_sample=False, pad_token_id=0, num_beams=3)
    name = cache_parameter(lab.model)
    given = [lab.model.generate(ids, **options, **{name: cache}) for cache in (lab.cache(room=50), None)]
    assert torch.equal(*given)


def test_passes_that_know_their_length_reserve_it(lab):
    made, make = [], lab.cache
    lab.cache = lambda **options: made.append(make(**options)) or made[-1]
    try:
        lab.trace(IDS[:100], chunk=7)
        lab.generate(IDS[:20], max_new_tokens=9, eos_token_id=[210])
    finally:
        del lab.cache
    assert [cache.layers[2].room for cache in made] == [100, 29]
    empty = lab.cache()
    lab.trace(IDS[:100], chunk=7, cache=empty)
    assert empty.layers[2].room == 100


def test_room_is_asked_for_in_tokens(lab, monkeypatch):
    for wrong in (0, -3, 2.5, "many", True):
        with pytest.raises(InputError, match="(?s)room|tokens"):
            lab.cache(room=wrong)
        with pytest.raises(InputError, match="tokens"):
            lab.cache().reserve(wrong)
    with pytest.raises(InputError, match="(?s)longer than the model's window.*513 tokens"):
        lab.cache(room=513)
    monkeypatch.setattr("labkit.plan.card.budget", lambda device: (2**18 - 1, "a small machine"))
    with pytest.raises(BudgetError, match="(?s)lab.cache of 512 tokens.*256.00 KiB.*a small machine"):
        lab.cache(room=512)
    assert lab.cache(room=511).get_seq_length() == 0 and hybrid.grown(1) == BLOCK


# -------------------------------------------------------------------------------------------------------- host memory


@pytest.mark.parametrize("layers", [["full_attention"] * n for n in (1, 2, 3, 5)])
@pytest.mark.parametrize("room", [None, 300])
def test_keys_that_rest_in_host_memory_give_the_same_bits(layers, room):
    types = [kind for each in layers for kind in ("linear_attention", each)]
    lab = tiny.make_lab(tiny.model(num_hidden_layers=len(types), layer_types=types))
    here, away = lab.cache(room=room), lab.cache(room=room, offloading=True)
    sizes = [40, 1, 60, 7, 1, 1, 30]
    assert torch.equal(fed(lab, here, sizes), fed(lab, away, sizes))
    for layer in lab.spec.attention_layers:
        for name in ("keys", "values"):
            assert torch.equal(getattr(here.layers[layer], name), getattr(away.layers[layer], name))


@pytest.mark.parametrize("way", ["trace", *("crop", "batch_repeat_interleave", "reorder_cache", "reset")])
def test_what_changes_an_offloaded_cache_is_seen_on_the_device(lab, way):
    here, away = lab.cache(room=200), lab.cache(room=200, offloading=True)
    options = dict(crop=(-4,), batch_repeat_interleave=(1,), reorder_cache=(torch.tensor([0]),), reset=())
    logits = []
    for cache in (here, away):
        lab.trace(IDS[:40], cache=cache)
        snap = lab.snapshot(cache)
        kept = {layer: part.clone() for layer, part in snap.keys.items()}
        for layer in lab.spec.attention_layers if way != "trace" else ():
            getattr(cache.layers[layer], way)(*options[way])
        twin = copy.deepcopy(cache)
        logits.append([fed(lab, each, [9, 1]) for each in (cache, twin, lab.restore(snap))])
        assert all(torch.equal(snap.keys[layer], part) for layer, part in kept.items())
    assert all(map(torch.equal, *logits))


def test_only_new_tokens_go_back_and_only_earlier_ones_come(lab, monkeypatch):
    """Bytes that cross, counted in tokens: of five layers each is brought once a pass; a layer's new tokens go back."""
    moved, plain = [], hybrid.host._copy
    monkeypatch.setattr(hybrid.host, "_copy", lambda a, b: moved.append(a.shape[2]) or plain(a, b))
    types = ["linear_attention"] + ["full_attention"] * 5
    lab = tiny.make_lab(tiny.model(num_hidden_layers=6, layer_types=types))
    cache = lab.cache(room=200, offloading=True)
    lab.trace(IDS[:64], cache=cache)
    moved.clear()
    lab.trace(IDS[64:70], cache=cache)
    assert sorted(moved) == [6] * 10 + [64] * 8 + [70] * 2, "the last place serves the first layer of the next pass"
    moved.clear()
    lab.trace(IDS[70:71], cache=cache)
    assert moved.count(1) == 10 and len(moved) == 20
