"""Forward passes: eval mode alone, and generation of one run whatever the generation settings say."""

import copy
import inspect
import warnings

import pytest
import tiny
import torch
from transformers import GenerationConfig

import labkit as lk
from labkit import decoding, deltanet
from labkit.errors import InputError
from labkit.trace import decoder

IDS = tiny.ids(23)
GOT = {"num_beams": 2, "num_return_sequences": 3, "use_cache": False, "return_dict_in_generate": True}


@pytest.fixture
def own(model):
    """A lab of a copy whose settings and modes may be changed."""
    return lk.wrap(copy.deepcopy(model))


@pytest.mark.parametrize("part", ["model", "layer"])
def test_training_mode_after_wrap_is_refused(own, part):
    expected = own.trace(IDS).logits
    (own.model if part == "model" else decoder(own.model).layers[3]).train()
    ways = {
        "trace": lambda: own.trace(IDS),
        "chunks": lambda: own.trace(IDS, chunk=5),
        "logits": lambda: own.logits(IDS[None]),
        "stream": lambda: own.stream(IDS, probes=[deltanet.gates(block=4)], chunk=8),
        "generate": lambda: own.generate(IDS, max_new_tokens=2),
    }
    for way in ways.values():
        with pytest.raises(InputError, match=r"training mode in .*\n  expected: eval mode\n  try: lab.model.eval\(\)"):
            way()
    own.model.eval()
    assert torch.equal(own.trace(IDS).logits, expected)
    assert tiny.hooks(own.model) == []


@pytest.mark.parametrize("name", GOT)
def test_options_that_the_loop_fixes_are_refused(own, name):
    needed = {"num_beams": 1, "num_return_sequences": 1, "use_cache": True, "return_dict_in_generate": False}[name]
    match = rf"lab.generate decides on {name} itself\n  got: {name}={GOT[name]}\n  expected: {name}={needed}\n  try: "
    with pytest.raises(InputError, match=match):
        own.generate(IDS, max_new_tokens=2, temperature=1.0, **{name: GOT[name]})
    plain = own.generate(IDS, max_new_tokens=4, temperature=1.0, seed=5)
    for same in (needed, None):
        assert torch.equal(own.generate(IDS, max_new_tokens=4, temperature=1.0, seed=5, **{name: same}).ids, plain.ids)


def test_what_the_loop_gives_itself_is_refused(own):
    tensor = torch.ones(1, 23, dtype=torch.long)
    for name in ("inputs_embeds", "attention_mask", "position_ids", "past_key_values", "cache"):
        with pytest.raises(InputError, match=rf"decides on {name} itself\n.*of type Tensor\n.*expected: no {name}\n"):
            own.generate(IDS, max_new_tokens=2, **{name: tensor})
    with pytest.raises(InputError, match="got: assistant_model= of type Qwen3_5ForCausalLM"):
        own.generate(IDS, max_new_tokens=2, assistant_model=own.model)
    with pytest.raises(InputError, match=r"expected: do_sample=False\n  try: lab.generate\(prompt, temperature=1.0\)"):
        own.generate(IDS, max_new_tokens=2, do_sample=True)
    with pytest.raises(InputError, match=r"expected: do_sample=True\n"):
        own.generate(IDS, max_new_tokens=2, temperature=0.5, do_sample=False)


@pytest.mark.parametrize(("name", "value"), [*GOT.items(), ("guidance_scale", 1.5), ("prompt_lookup_num_tokens", 2)])
def test_generation_settings_of_the_model_do_not_change_the_loop(own, name, value):
    plain = own.generate(IDS, max_new_tokens=4)
    own.model.generation_config.do_sample = True  # as the settings of released models say
    setattr(own.model.generation_config, name, value)
    changed = own.generate(IDS, max_new_tokens=4)
    assert torch.equal(changed.ids, plain.ids) and torch.equal(changed.logits, plain.logits)
    assert getattr(own.model.generation_config, name) == value


def test_the_calls_that_are_named_instead_run(own):
    lab, prompt = own, IDS
    beams = lab.trace(lab.model.generate(lab.encode(prompt)[None], num_beams=2, max_new_tokens=3)[0])
    assert len(beams) == 26
    runs = [lab.generate(prompt, temperature=1.0, seed=seed, max_new_tokens=3) for seed in range(3)]
    assert len({tuple(run.ids.tolist()) for run in runs}) == 3


PLAIN = dict(max_new_tokens=6)
FIELDS = sorted({*GenerationConfig().to_dict()} - {"transformers_version", "_from_model_config"})
ARGUMENTS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model", "streamer")
ARGUMENTS += ("synced_gpus",)
ARGUMENTS += ("generation_config", "negative_prompt_ids", "negative_prompt_attention_mask", "custom_generate")
DECIDED = ("max_new_tokens", "temperature")  # arguments of lab.generate


def test_every_option_of_transformers_is_known(own):
    """A release with a new option fails here; then somebody decides whether the record can follow it."""
    taken = set(inspect.signature(type(own.model).generate).parameters) - {"self", "inputs", "kwargs"}
    assert taken == set(ARGUMENTS)
    assert set(decoding.ALLOWED) <= {*FIELDS, *ARGUMENTS}


@pytest.mark.parametrize("name", sorted({*FIELDS, *ARGUMENTS} - {*decoding.ALLOWED, *DECIDED}))
def test_what_the_record_cannot_follow_is_refused_by_name(own, name):
    with pytest.raises(InputError, match=rf"decides on {name} itself\n  got: {name}=7\n  expected: .*\n  try: "):
        own.generate(IDS, max_new_tokens=2, **{name: 7})
    assert tiny.hooks(own.model) == []


@pytest.mark.parametrize(("name", "near"), [("max_new_token", "max_new_tokens="), ("topp", "top_p="), ("xyzzy", "")])
def test_an_unknown_option_is_refused_and_a_known_one_named(own, name, near):
    with pytest.raises(InputError, match=rf"no such option\n  got: {name}=3\n  expected: top_k, .*\n  try: {near}"):
        own.generate(IDS, **{name: 3})


@pytest.fixture(scope="module")
def greedy(model):
    """The greedy continuation of the prompt, and the logits at each of its tokens."""
    lab = lk.wrap(model)
    run = lab.generate(IDS, **PLAIN)
    logits = lab.trace(run.ids, logits="all").logits
    assert torch.equal(logits[len(IDS) - 1 : -1].argmax(-1), run.ids[len(IDS) :])
    return lab, run.ids[len(IDS) :].tolist(), logits


def test_options_of_every_way_do_what_they_say(greedy):
    lab, plain, _ = greedy
    more = lambda **options: lab.generate(IDS, **PLAIN | options).ids[len(IDS) :].tolist()  # noqa: E731
    first, rest = plain[0], [n for n in plain if n != plain[0]]
    assert more(eos_token_id=first) == [first] and more(eos_token_id=[first, rest[0]]) == [first]
    assert len(more(eos_token_id=first, min_new_tokens=3)) >= 3
    assert first not in more(suppress_tokens=[first]) and first not in more(bad_words_ids=[[first]])
    assert more(begin_suppress_tokens=first)[0] != first
    assert more(repetition_penalty=1e6) != plain or len(set(plain)) == 6
    assert len(set(more(repetition_penalty=1e6)) | set(IDS.tolist())) == len(set(IDS.tolist())) + 6
    assert set(more(encoder_repetition_penalty=1e6)) <= set(IDS.tolist())
    assert len(set(more(no_repeat_ngram_size=1))) == 6 and not set(more(no_repeat_ngram_size=1)) & set(IDS.tolist())
    assert not set(more(encoder_no_repeat_ngram_size=1)) & set(IDS.tolist())
    assert len(more(max_time=1e-9)) == 1 and more(max_time=1e6) == plain
    assert more(prefix_allowed_tokens_fn=lambda row, ids: [5]) == [5] * 6
    assert more(logits_processor=[lambda ids, scores: -scores]) != plain
    stop = lambda ids, scores, **_: torch.tensor([ids.shape[1] == len(IDS) + 2])  # noqa: E731
    assert more(stopping_criteria=[stop]) == plain[:2]

    class Streamer(list):
        put, end = lambda self, ids: self.extend(ids.flatten().tolist()), lambda self: None

    heard = Streamer()
    assert more(streamer=heard) == plain and heard == IDS.tolist() + plain


def test_options_of_sampling_do_what_they_say(greedy):
    lab, _, logits = greedy
    order = logits[len(IDS) - 1].sort(descending=True)
    shares = order.values.softmax(-1)
    one = dict(max_new_tokens=1, temperature=1.0)
    drawn = lambda **more: {int(lab.generate(IDS, **one, seed=n, **more).ids[-1]) for n in range(40)}  # noqa: E731
    wide = drawn()
    assert len(wide) > 15, "all of the vocabulary, no top_k of transformers' own"
    assert drawn(top_k=2) <= set(order.indices[:2].tolist())
    few = int((shares.cumsum(0) < 0.3).sum()) + 1
    assert drawn(top_p=0.3) <= set(order.indices[:few].tolist())
    assert drawn(min_p=0.5) <= set(order.indices[shares >= 0.5 * shares[0]].tolist())
    assert drawn(epsilon_cutoff=0.03) <= set(order.indices[shares >= 0.03].tolist())
    for option in (dict(top_h=0.2), dict(typical_p=0.2), dict(eta_cutoff=0.5)):
        assert len(drawn(**option)) < len(wide), option
    with pytest.raises(InputError, match=r"(?s)top_p is an option of sampling.*top_p=0.5 and temperature=0.*try: lab"):
        lab.generate(IDS, top_p=0.5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (dict(top_k=0), "top_k out of range"),
        (dict(top_p=1.5), "top_p out of range"),
        (dict(top_p=float("nan")), "top_p is a finite number"),
        (dict(min_p=True), "min_p is a finite number"),
        (dict(repetition_penalty=0), "repetition_penalty out of range"),
        (dict(no_repeat_ngram_size=1.5), "no_repeat_ngram_size is a whole number"),
        (dict(min_new_tokens=7), "(?s)min_new_tokens out of range.*0 to 6"),
        (dict(suppress_tokens=[211]), "(?s)suppress_tokens out of range.*0 to 210"),
        (dict(eos_token_id=-1), "eos_token_id out of range"),
        (dict(bad_words_ids=[5]), "a list of lists"),
        (dict(stop_strings="x"), "without a tokenizer"),
        (dict(logits_processor=7), "is called for every token"),
        (dict(streamer=print), "(?s)is called for every token.*put and end"),
        (dict(seed=-1), "seed out of range"),
        (dict(seed=2.5), "seed is a whole number"),
        (dict(max_new_tokens=True), "max_new_tokens is a whole number"),
        (dict(temperature=-1), "temperature out of range"),
        (dict(temperature=float("nan")), "temperature is a finite number"),
        (dict(temperature=1e-9), "(?s)temperature out of range.*greedy"),
    ],
)
def test_values_that_make_no_sense_are_refused(own, option, message):
    with pytest.raises(InputError, match=message):
        own.generate(IDS, **PLAIN | dict(temperature=1.0) | option)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_generation_settings_of_a_checkpoint_count_for_nothing_but_the_ids_that_stop(own, temperature):
    options = PLAIN | dict(temperature=temperature, seed=3)
    plain = own.generate(IDS, **options)
    hostile = dict(do_sample=True, num_beams=4, top_k=1, top_p=0.1, temperature=9.0, repetition_penalty=50.0)
    hostile |= dict(max_length=2, min_length=99, no_repeat_ngram_size=1, suppress_tokens=plain.ids[len(IDS) :].tolist())
    hostile |= dict(num_return_sequences=3, return_dict_in_generate=True, output_scores=True, max_time=1e-9)
    hostile |= dict(cache_implementation="static", guidance_scale=3.0, forced_eos_token_id=1, renormalize_logits=True)
    hostile |= dict(
        watermarking_config={"bias": 9.0}, sequence_bias=[[[5], 50.0]], bad_words_ids=[[5]], use_cache=False
    )
    for name, value in hostile.items():
        setattr(own.model.generation_config, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = own.generate(IDS, **options)
    assert torch.equal(changed.ids, plain.ids) and torch.equal(changed.logits, plain.logits)
    own.model.generation_config.eos_token_id = int(plain.ids[len(IDS) + 1])
    assert len(own.generate(IDS, **options)) == len(IDS) + 2
