"""Decode steps: the same numbers one by one, on fixed shapes, recorded and played back; one prompt or several."""

import contextvars
import copy
import gc
import inspect
import weakref

import pytest
import tiny
import torch
from tape import Tape
from transformers import DynamicCache

import labkit as lk
from labkit import attention, deltanet, edit, passes, steps, yarn
from labkit.errors import BackendError, InputError, LayerError, ParityError
from labkit.steps import Asked, Fixed, Plain, capture, fixed, single
from labkit.trace import wanted_seams

IDS = tiny.ids(60)
PROMPT = torch.stack([IDS[:20], torch.cat([IDS[:3], IDS[30:47]])])
MORE = torch.stack([IDS[20:31], IDS[5:16]])
ACROSS = 5e-5  # a row in a padded batch and alone, after many tokens; measured 1.3e-5
NEAR = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # relative; other shapes sum in another order


@pytest.fixture
def own(model):
    """A lab of a copy whose weights and scalings may be changed."""
    return lk.wrap(copy.deepcopy(model))


@pytest.fixture
def taped(monkeypatch):
    """Steps of this machine's CPU are recorded as a card would, on a tape."""
    monkeypatch.setattr(single, "refusal", capture.static)
    monkeypatch.setattr(single, "CudaGraph", Tape)
    monkeypatch.setattr(Tape, "made", [])
    return Tape.made


def read(lab, kind, prompt=PROMPT, more=MORE, pads=(0, 0), **options):
    """(logits [batch, step, vocab], seams, rotary, cache) of a prompt and the tokens after it."""
    cache, asked = lab.cache(), Asked(wanted_seams(lab.spec), pads=pads, most=more.shape[1])
    with lab.scopes.call() as call, kind(call, lab, cache, asked, **options) as reader:
        logits = [reader.prefill(prompt), *(reader.step(tokens) for tokens in more.T)]
        (rows, rotary), last = reader.joined(), prompt.shape[1] + more.shape[1]
        whole = {place: [row[place][-(last - max(pads)) :] for row in rows] for place in rows[0]}  # beyond all pads
        return torch.stack(logits, 1), {at: torch.stack(parts) for at, parts in whole.items()}, rotary, cache


def stepped(lab):
    """A cache that has read 20 tokens and been stepped over five more."""
    cache = lab.cache()
    lab.trace(IDS[:20], cache=cache)
    for token in IDS[20:25].tolist():
        lab.step(cache, token)
    return cache


def assert_near(some, others, bound):
    assert (some.float() - others.float()).abs().max() <= bound * others.float().abs().max()


# ------------------------------------------------------------------------------------------------- fixed shapes


@pytest.mark.parametrize("pads", [(0, 0), (0, 3), (5, 0)])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "experts"])
def test_a_recorded_step_gives_the_numbers_of_ordinary_passes(kind, pads):
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    lab = tiny.make_lab(tiny.model(dtype=dtype, experts=kind == "experts"))
    bound, before = NEAR[dtype], len(Tape.made)
    expected, seams, rotary, cache = read(lab, Plain, pads=pads)
    logits, kept, turned, stepped = read(lab, Fixed, pads=pads, graph=Tape)
    assert len(Tape.made) == before + 1
    assert logits.dtype == expected.dtype and logits.shape == (2, 12, tiny.SIZES["vocab_size"])
    assert_near(logits, expected, bound)
    assert kept.keys() == seams.keys()
    for place, seam in seams.items():
        assert kept[place].shape == seam.shape == (2, 31 - max(pads), *seam.shape[2:])
        assert_near(kept[place], seam, bound)
    assert all(map(torch.equal, turned, rotary))
    assert stepped.reads == cache.reads and not stepped.book.torn and stepped.get_seq_length() == 31
    for layer, other in zip(stepped.layers, cache.layers, strict=True):
        names = ("keys", "values") if hasattr(layer, "buffers") else ()
        parts = [(getattr(layer, name), getattr(other, name)) for name in names]
        parts = parts or [(layer.conv_states[0], other.conv_states[0])]
        parts += [] if names else [(layer.recurrent_states[0], other.recurrent_states[0])]
        for part, same in parts:
            assert part.shape == same.shape
            assert_near(part, same, bound)


def test_a_tape_keeps_no_python_values_and_its_recording_has_no_effect():
    place, sums = torch.zeros(1, dtype=torch.long), torch.zeros(7)
    seen = []

    def body():
        seen.append(1)
        sums.index_copy_(0, place, sums.sum()[None] + len(seen))

    tape = Tape(body)
    assert sums.sum() == 0 and len(seen) == 1
    for at in (2, 5):
        place.fill_(at)
        tape.replay()
    assert sums.tolist() == [0, 0, 1, 0, 0, 2, 0] and len(seen) == 1


def test_a_step_that_looks_at_a_number_is_not_recorded_and_says_so():
    lab = tiny.make_lab(tiny.model(experts=True))
    lab.model.set_experts_implementation("eager")
    got = "operation not permitted when stream is capturing"
    match = rf"does not record this decode step\n  got: {got}.*\n  try: .*capture=False"
    with pytest.raises(BackendError, match=match):
        read(lab, Fixed, graph=Tape, demanded=True)
    with pytest.warns(UserWarning, match=f"does not record this decode step: {got}.*; steps run one by one"):
        logits, seams, *_ = read(lab, Fixed, graph=Tape)
    expected, kept, *_ = read(lab, Plain)
    assert_near(logits, expected, 1e-5)
    assert all((seams[at] - kept[at]).abs().max() <= 1e-4 for at in kept)


def test_a_recording_does_not_keep_its_cache(own, taped):
    cache = stepped(own)
    known = weakref.ref(cache)
    assert len(taped) == 1 and len(single._STEPPED) > 0
    taped.clear()
    del cache
    gc.collect()
    assert known() is None


def test_rows_write_a_tensor_once_however_many_names_it_has():
    rows, at = steps.rows.Rows(4), torch.tensor([2])
    a, b, c = torch.randn(3, 1, 5), torch.randn(3, 1, 2, 7), torch.randn(3, 1, 6).bfloat16()
    for _ in range(2):
        rows.write({"a": a, "b": b, "again": a, "c": c, "part": b[:, :, 1]}, at)
    assert rows.flat[torch.float32].shape == (3, 4, 5 + 14 + 7) and rows.flat[torch.bfloat16].shape == (3, 4, 6)
    for name, tensor in {"a": a, "b": b, "again": a, "c": c, "part": b[:, :, 1]}.items():
        assert torch.equal(rows.read(name, 2, 3), tensor)


def test_a_recording_is_made_anew_when_what_it_is_bound_to_changes(own, taped):
    cache, other = own.cache(), own.cache()
    for each in (cache, other):
        own.trace(IDS[:20], cache=each)

    def both(tokens):
        for token in tokens.tolist():
            run, expected = own.step(cache, token), own.trace([token], cache=other)
            assert_near(run.logits, expected.logits, 1e-5)
            assert max(float((run.seams[at] - seam).abs().max()) for at, seam in expected.seams.items()) < 1e-4

    both(IDS[20:26])
    assert len(taped) == 1
    both(IDS[26:30])
    assert len(taped) == 1
    cache.reserve(600)  # other buffers
    both(IDS[30:34])
    assert len(taped) == 2
    own.trace(IDS[34:40], cache=cache), own.trace(IDS[34:40], cache=other)  # a pass between two steps
    both(IDS[40:44])
    assert len(taped) == 2
    with torch.no_grad():
        own.model.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    with pytest.raises(InputError, match="this cache was made"):
        own.step(cache, 7)


def test_a_scaling_has_recordings_of_its_own(own, taped):
    for factor in (4, None, 2):
        with yarn.scaled(own, factor) if factor else yarn.scaled(own, 1):
            cache, other = own.cache(), own.cache()
            for each in (cache, other):
                own.trace(IDS[:20], cache=each)
            for token in IDS[20:26].tolist():
                assert_near(own.step(cache, token).logits, own.trace([token], cache=other).logits, 1e-5)
    assert len(taped) == 3


def test_a_recording_is_bound_to_the_frequencies(own):
    """The frequencies of another scaling lie elsewhere: what was recorded under the first would turn by them still."""
    cache = own.cache()
    with own.scopes.call() as call, Fixed(call, own, cache, Asked({}, most=9), graph=Tape) as reader:
        reader.prefill(IDS[None, :20])
        for token in IDS[20:24]:
            reader.step(token[None])
        before, first = reader._key(), reader.recorded
    with yarn.scaled(own, 4), own.scopes.call():
        passes.check_mode(own)
        assert not fixed._same(reader._key(), before) and first is not None


def test_what_was_stepped_goes_on_by_itself_in_a_snapshot_and_in_forks(own, taped):
    cache = stepped(own)
    snap = own.snapshot(cache)
    assert torch.equal(snap.ids, IDS[:25])
    expected = own.trace(IDS[:30]).logits
    for token in IDS[25:30].tolist():
        run = own.step(cache, token)
    assert_near(run.logits, expected, 1e-5)
    for fork in own.fork(snap, 2):
        for token in IDS[25:30].tolist():
            run = own.step(fork, token)
        assert_near(run.logits, expected, 1e-5)
    assert_near(own.resume(snap, IDS[:30]).logits, expected, 1e-5)


def test_readings_of_a_step_are_proven(own, taped):
    cache = own.cache()
    own.trace(IDS[:20], cache=cache)
    for token in IDS[20:26].tolist():
        run = own.step(cache, token)
        assert run.start.length == cache.get_seq_length() - 1 and run.ids.tolist() == [token]
        for layer in own.spec.deltanet_layers:
            deltanet.memory(run, layer=layer)
        for layer in own.spec.attention_layers:
            assert attention.pattern(run, layer=layer).sizes["source"] == cache.get_seq_length()
        assert max(run.parity.values()) < 1e-5
    assert tiny.hooks(own.model) == []


def test_generate_reads_recorded_steps_and_keeps_their_seams(own, taped):
    expected = own.generate(IDS[:20], max_new_tokens=9, capture=False)
    run = own.generate(IDS[:20], max_new_tokens=9)
    assert len(taped) == 1 and torch.equal(run.ids, expected.ids) and run.prompt_length == 20
    assert_near(run.logits, expected.logits, 1e-5)
    for place, seam in expected.seams.items():
        assert_near(run.seams[place], seam, 1e-5)
    for layer in own.spec.deltanet_layers:
        deltanet.memory(run, layer=layer)
    for layer in own.spec.attention_layers:
        attention.pattern(run, layer=layer)
    assert max(run.parity.values()) < 1e-5


@pytest.mark.parametrize("capture", [None, False])
def test_states_are_kept_after_every_step_and_prove_what_is_recomputed(own, taped, capture, tmp_path):
    runs = own.generate([IDS[:20], IDS[30:37]], max_new_tokens=9, states=[0, 3], capture=capture)
    for run in runs:
        assert run.states.keys() == {0, 3} and run.states[0].shape == (9, 9, 10, 14)
        ds = deltanet.memory(run, layer=0, tokens=range(run.prompt_length, len(run)))
        states = torch.tensor(ds.state.values).transpose(0, 1)
        assert_near(states, run.states[0], 1e-5)
        assert 0 < run.parity[0, "deltanet.memory state"] < 1e-5
        run.states[0][-1] *= 1.01
        with pytest.raises(ParityError, match="layer 0 recomputed from its seams disagrees"):
            deltanet.memory(run, layer=0)
    assert len(taped) == (capture is None)
    runs[1].save(tmp_path / "run")
    back = lk.open_run(tmp_path / "run")
    assert back.states.keys() == {0, 3} and torch.equal(back.states[3], runs[1].states[3])
    cache = own.cache()
    own.trace(IDS[:20], cache=cache)
    for token in IDS[20:26].tolist():
        run = own.step(cache, token, states=1, capture=capture)
        assert torch.equal(run.states[1][0], cache.layers[1].recurrent_states[0][0])
    with pytest.raises(LayerError, match="layer 2 is a gated attention layer"):
        own.generate(IDS[:5], max_new_tokens=2, states=2)


def test_edits_are_honoured_by_ordinary_passes_where_they_are_open(own, taped):
    change = edit.scale(seam="mixer_out", layer=1, factor=0.0)
    plain = own.generate(IDS[:20], max_new_tokens=5, capture=False)
    with own.edit(change):
        run, demanded = own.generate(IDS[:20], max_new_tokens=5), dict(max_new_tokens=5, capture=True)
        with pytest.raises(BackendError, match=r"cannot be recorded\n  got: edits are open: .*mixer_out"):
            own.generate(IDS[:20], **demanded)
    assert not taped and run.seams[1, "mixer_out"].abs().max() == 0 and plain.seams[1, "mixer_out"].abs().max() > 0


def test_every_reason_against_a_recording_has_a_name(own):
    experts = tiny.make_lab(tiny.model(experts=True))
    experts.model.set_experts_implementation("eager")
    experts = lk.wrap(experts.model)
    placed = own.cache()
    own.trace(IDS[:3], cache=placed, position_ids=[0, 5, 9])
    cache = own.cache()
    assert capture.static(own, cache) is None and capture.static(own, placed) == (
        "tokens of this cache stand at chosen positions"
    )
    assert steps.refusal(own, cache) == "the model is on cpu; steps are recorded on CUDA alone"
    assert capture.static(experts, experts.cache()) == "experts run as 'eager', whose shapes follow the router"
    theirs = DynamicCache(config=own.model.config)
    assert capture.static(own, theirs) == "a DynamicCache that labkit did not make"
    with yarn.dynamic(own):
        assert capture.static(own, own.cache()) == "yarn.dynamic turns every key at every step"
    with own.edit(edit.scale(seam="mixer_out", layer=1, factor=0.5)):
        assert capture.static(own, cache).startswith("edits are open: ")
    with pytest.raises(BackendError, match=r"cannot be recorded\n  got: the model is on cpu"):
        own.generate(IDS[:20], max_new_tokens=2, capture=True)


def test_a_cache_is_stepped_by_its_own_lab(own, taped):
    other = lk.wrap(tiny.model(seed=3))
    cache = stepped(own)
    with pytest.raises(InputError, match="this cache was made"):
        other.step(cache, 7)
    assert len(taped) == 1


def test_an_edit_that_comes_while_steps_are_recorded_is_refused(own, taped):
    opened = []

    def opens(ids, scores):
        if len(opened) == 5:
            own.edit(edit.scale("mixer_out", layer=1, factor=0.0, tokens=range(25, 40))).__enter__()
        opened.append(1)
        return scores

    with pytest.raises(InputError, match=r"a recorded step runs no Python\n  got: .*mixer_out"):
        contextvars.copy_context().run(own.generate, IDS[:20], max_new_tokens=9, logits_processor=[opens])
    assert len(opened) == 6 and len(taped) == 1


def test_numbers_of_modules_are_part_of_what_computes(own, taped):
    cache = stepped(own)
    before = own.identity()
    own.model.model.layers[2].self_attn.scaling *= 2
    with pytest.raises(InputError, match="this cache was made"):
        own.step(cache, 7)
    assert own.identity().weights != before.weights
    own.model.model.layers[2].self_attn.scaling /= 2
    assert own.identity().weights == before.weights


def test_a_recording_that_was_demanded_and_refused_leaves_the_cache_whole(own, taped, monkeypatch):
    class Refuses:
        def __init__(self, body, lab):
            body()
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(single, "CudaGraph", Refuses)
    monkeypatch.setattr(torch.Tensor, "index_copy_", lambda self, *given: self)  # nothing runs while it is recorded
    cache = own.cache()
    own.trace(IDS[:20], cache=cache)
    for token in IDS[20:22].tolist():
        own.step(cache, token, capture=True)
    monkeypatch.undo()
    reads = dict(cache.reads)
    monkeypatch.setattr(single, "refusal", capture.static)
    with pytest.raises(BackendError, match=r"does not record this decode step\n  got: operation not permitted"):
        own.step(cache, 7, capture=True)
    assert dict(cache.reads) == reads and not cache.book.torn and cache.get_seq_length() == 22


def test_inference_mode_is_refused(own):
    with torch.inference_mode(), pytest.raises(InputError, match=r"inference mode .*\n  got: torch.inference_mode"):
        own.trace(IDS[:5])


def test_an_interrupted_step_leaves_a_cache_that_is_refused(own, taped, monkeypatch):
    cache = stepped(own)

    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Tape, "replay", stopped)
    with pytest.raises(KeyboardInterrupt):
        own.step(cache, 7)
    monkeypatch.undo()
    with pytest.raises(InputError, match="a pass into this cache was interrupted"):
        own.step(cache, 7)
    assert tiny.hooks(own.model) == [] and all(getattr(layer, "place", None) is None for layer in cache.layers)


# ----------------------------------------------------------------------------------------------------- one step


def test_a_place_that_an_interrupt_left_behind_is_not_written_to(own):
    """A recorded step says where its token goes, and takes that back when it ends; an interrupt may come between."""
    cache = own.cache()
    own.trace(IDS[:5], cache=cache)
    for layer in cache.layers:
        if hasattr(layer, "place"):
            layer.place = torch.tensor([1])
    after = own.trace(IDS[5:7], cache=cache).logits
    assert torch.allclose(after, own.trace(IDS[:7]).logits, rtol=1e-4, atol=1e-4)


def test_a_step_is_a_trace_of_one_token(own):
    cache, other = own.cache(), own.cache()
    for each in (cache, other):
        own.trace(IDS[:20], cache=each)
    for token in IDS[20:24].tolist():
        run, expected = own.step(cache, token, layers=[1, 2]), own.trace([token], cache=other, layers=[1, 2])
        assert torch.equal(run.logits, expected.logits) and run.seams.keys() == expected.seams.keys()
        assert all(torch.equal(run.seams[at], seam) for at, seam in expected.seams.items())
        assert run.start.length == expected.start.length and run.start.state.keys() == {1}
        assert torch.equal(run.start.state[1], expected.start.state[1])
        assert torch.equal(run.start.keys[2], expected.start.keys[2])


def test_a_step_of_several_rows_gives_a_run_of_each(own, taped):
    cache = own.cache()
    own.logits(PROMPT, cache=cache)
    for tokens in MORE.T[:5]:
        runs = own.step(cache, tokens)
    for row, run in enumerate(runs):
        whole = own.trace(torch.cat([PROMPT[row], MORE[row, :5]]))
        assert_near(run.logits, whole.logits, 1e-5)
        assert_near(run.seams[3, "resid_post"], whole.seams[3, "resid_post"][-1:], 1e-5)


@pytest.mark.parametrize(
    ("token", "match"),
    [
        (7, r"a step goes on from a prompt\n  got: an empty cache\n  expected: a cache that holds tokens"),
        (tiny.SIZES["vocab_size"], "token ids out of range"),
        ([3, 4], r"one token for every row\n  got: 2 ids\n  expected: 1 of them\n  try: lab.trace\(ids, cache=cache\)"),
        ("red", "this lab has no tokenizer"),
        (1.5, "not token ids|one sequence of token ids"),
    ],
)
def test_steps_that_make_no_sense_are_refused(own, token, match):
    cache = own.cache()
    if "empty" not in match:
        own.trace(IDS[:5], cache=cache)
    with pytest.raises(InputError, match=match):
        own.step(cache, token)
    with pytest.raises(InputError, match=r"no cache|not a cache"):
        own.step(None, 7)


# -------------------------------------------------------------------------------------------------- several prompts


@pytest.mark.parametrize(
    "options",
    [
        dict(repetition_penalty=1.5),
        dict(temperature=1.3, seed=4),
        dict(temperature=0.8, top_k=5),
    ],
    ids=str,
)
def test_several_prompts_give_what_each_gives_alone(own, options):
    prompts = [IDS[:37], IDS[20:], IDS[50:53]]
    for prompt, run in zip(prompts, own.generate(prompts, max_new_tokens=9, **options), strict=True):
        alone = own.generate(prompt, max_new_tokens=9, **options)
        assert torch.equal(run.ids, alone.ids) and run.prompt_length == len(prompt)
        assert_near(run.logits, alone.logits, ACROSS)
        for place, seam in alone.seams.items():
            assert_near(run.seams[place], seam, ACROSS)


def test_a_row_ends_at_its_own_stop(own):
    prompts = [IDS[:37], IDS[20:], IDS[50:53]]
    plain = [run.ids[run.prompt_length :].tolist() for run in own.generate(prompts, max_new_tokens=9)]
    stop = plain[1][3]
    for prompt, expected, run in zip(
        prompts, plain, own.generate(prompts, max_new_tokens=9, eos_token_id=[stop]), strict=True
    ):
        end = expected.index(stop) + 1 if stop in expected else 9
        assert run.ids[len(prompt) :].tolist() == expected[:end]
        assert_near(run.logits, own.trace(run.ids).logits, 1e-5)
        assert all(len(seam) == len(run) for seam in run.seams.values())


def test_generated_batches_are_those_of_the_model_itself(own):
    prompts = [IDS[:37], IDS[20:33]]
    ids, mask = torch.zeros(2, 37, dtype=torch.long), torch.ones(2, 37, dtype=torch.long)
    ids[0], ids[1, 24:], mask[1, :24] = prompts[0], prompts[1], 0
    options = dict(max_new_tokens=8, repetition_penalty=1.3, min_new_tokens=3)
    expected = own.model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=0, **options)
    runs = own.generate(prompts, **options)
    ends = [row[37:].tolist() for row in expected]
    assert runs[0].ids[37:].tolist() == ends[0]
    # The model's own penalty also counts the padding, id 0; nothing else differs.
    assert 0 not in runs[1].ids and runs[1].ids[13:].tolist() == ends[1]


LOOKING = {
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[5, 5, 7]],
    "prefix_allowed_tokens_fn": lambda row, ids: [5],
    "logits_processor": [lambda ids, scores: scores],
    "stopping_criteria": [lambda ids, scores, **given: torch.zeros(len(ids), dtype=torch.bool)],
}


@pytest.mark.parametrize("name", LOOKING)
def test_options_that_look_at_whole_rows_need_prompts_of_one_length(own, name):
    got = rf"this option looks at whole rows\n  got: {name} and prompts of \[7, 9\] tokens\n  expected: rows without"
    option = {name: LOOKING[name]}
    with pytest.raises(InputError, match=got):
        own.generate([IDS[:7], IDS[:9]], max_new_tokens=2, **option)
    runs = own.generate([IDS[:7], IDS[9:16]], max_new_tokens=4, **option)
    for run in runs:
        assert torch.equal(run.ids, own.generate(run.ids[:7], max_new_tokens=4, **option).ids)


def test_a_streamer_follows_one_prompt(own):
    class Streamer(list):
        put, end = lambda self, ids: self.append(ids), lambda self: None

    with pytest.raises(InputError, match=r"a streamer follows one prompt\n  got: a streamer and 2 prompts"):
        own.generate([IDS[:7], IDS[9:16]], max_new_tokens=2, streamer=Streamer())


@pytest.mark.parametrize("capture", [0, 1, "auto"])
def test_capture_is_yes_no_or_nothing(own, capture):
    with pytest.raises(InputError, match=rf"capture is True, False or None\n  got: capture={capture!r}"):
        own.generate(IDS[:7], max_new_tokens=2, capture=capture)


def test_the_plan_of_a_batch_counts_every_row_and_kept_states(own):
    options = dict(tokens=50, want="generate", max_new_tokens=5)
    one, four = (own.plan(**options, prompts=n) for n in (1, 4))
    assert 2.5 * one.peak < four.peak <= 4 * one.peak
    assert own.plan(**options, states=[0, 3]).kept == one.kept + 2 * 5 * 4 * 9 * 10 * 14


def test_the_loop_takes_what_transformers_hands_to_one_of_the_callers():
    taken = set(inspect.signature(steps.choice.Loop.__call__).parameters)
    theirs = set(inspect.signature(type(tiny.model())._sample).parameters)
    assert {"logits_processor", "stopping_criteria", "generation_config"} <= taken & theirs
