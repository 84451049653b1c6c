"""Forward passes: eval mode alone, and generation of one run whatever the generation settings say."""

import copy

import pytest
import tiny
import torch

import labkit as lk
from labkit import deltanet
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
