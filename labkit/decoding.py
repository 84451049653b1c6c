"""What decides on the next token in `lab.generate`: a few options, checked and handed on; the rest is fixed or refused.

The record follows one sequence for each prompt, whose tokens are read once each, in order. Beams, several sequences of
one prompt, a draft model or a prompt that is looked up would break that. Of the checkpoint's own generation settings
the ids that stop count, nothing else: without options the tokens are the most likely ones, or at a temperature draws
from the softmax of logits over it.
"""

import difflib
import functools
import inspect
from collections.abc import Callable

from labkit.arguments import number, whole
from labkit.errors import InputError
from labkit.notation import whole_numbers

# What the loop fixes, and what is left to the checkpoint's settings.
LOOP = {"use_cache": True, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}
STOPS = ("eos_token_id", "pad_token_id", "bos_token_id")
# What it gives itself, beside what `generate` and the model's forward take.
GIVEN = ("inputs", "input_ids", "inputs_embeds", "attention_mask", "position_ids", "cache", "past_key_values")
INSTEAD = {
    "num_beams": "lab.trace(lab.model.generate(lab.encode(prompt)[None], num_beams=2)[0])",
    "num_return_sequences": "[lab.generate(prompt, temperature=1.0, seed=seed) for seed in range(3)]",
    "do_sample": "lab.generate(prompt, temperature=1.0) samples; without temperature= it is greedy",
    "position_ids": "lab.trace(prompt, position_ids=...)",
    "max_length": "lab.generate(prompt, max_new_tokens=8)",
    "min_length": "lab.generate(prompt, min_new_tokens=2)",
    "generation_config": "lab.generate(prompt, temperature=1.0, top_p=0.9)",
    "output_scores": 'lab.trace(run.ids, logits="all").logits',
    "output_logits": 'lab.trace(run.ids, logits="all").logits',
    "output_attentions": "attention.pattern(lab.generate(prompt), layer=3)",
    "output_hidden_states": 'lab.generate(prompt, seams=["resid_post"])',
    "sequence_bias": "lab.generate(prompt, logits_processor=[change]), change(ids, scores) -> scores",
    "watermarking_config": "lab.generate(prompt, logits_processor=[change]), change(ids, scores) -> scores",
}
# Bounds of what is allowed: of sampling alone, and of every way.
SAMPLING = {
    "top_k": functools.partial(whole, least=1),
    "top_p": functools.partial(number, above=0, most=1),
    "min_p": functools.partial(number, least=0, most=1),
    "top_h": functools.partial(number, above=0, most=1),
    "typical_p": functools.partial(number, above=0, most=1),
    "epsilon_cutoff": functools.partial(number, above=0, below=1),
    "eta_cutoff": functools.partial(number, above=0, below=1),
}
NUMBERS = {
    "repetition_penalty": functools.partial(number, above=0),
    "encoder_repetition_penalty": functools.partial(number, above=0),
    "no_repeat_ngram_size": functools.partial(whole, least=1),
    "encoder_no_repeat_ngram_size": functools.partial(whole, least=1),
    "max_time": functools.partial(number, above=0),
}
IDS = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")
CALLED = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")
ALLOWED = (*SAMPLING, *NUMBERS, "min_new_tokens", *IDS, "bad_words_ids", *CALLED, "streamer", "stop_strings")


def settings(lab, options: dict, max_new_tokens: int, temperature: float) -> dict:
    """Arguments of `model.generate` that leave nothing to its defaults but the ids that stop.

    Args:
        options: of the user; None says nothing.

    Raises:
        InputError: an option that the loop fixes or gives itself, one of sampling without a temperature, an unknown
            one, a value that makes no sense.
    """
    from transformers import GenerationConfig

    sampled = temperature > 0
    fixed = LOOP | {"do_sample": sampled}
    chosen = {name: value for name, value in options.items() if value is not None}
    known = {*GenerationConfig().to_dict(), *_arguments(type(lab.model).generate), *_arguments(lab.model.forward)}
    for name, value in list(chosen.items()):
        if name in fixed and isinstance(value, bool | int) and value == fixed[name]:
            del chosen[name]
        elif name not in ALLOWED:
            _refuse(name, value, fixed.get(name), name in known or name in GIVEN)
        elif name in SAMPLING and not sampled:
            got, hint = f"{name}={value!r} and temperature=0", "lab.generate(prompt, temperature=1.0, top_p=0.9)"
            raise InputError(f"{name} is an option of sampling", got=got, expected="a temperature above 0", hint=hint)
    for name, value in chosen.items():
        chosen[name] = _checked(lab, name, value, max_new_tokens)
    silent = {name: None for name in GenerationConfig().to_dict() if name not in (*STOPS, "transformers_version")}
    silent = {name: None for name in silent if not name.startswith("_")}
    decided = {"max_new_tokens": max_new_tokens, "temperature": temperature if sampled else None}
    if "stop_strings" in chosen:
        decided["tokenizer"] = lab.tokenizer
    return silent | fixed | decided | chosen


def _arguments(function: Callable) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"self"}


def _refuse(name, value, needed, known):
    plain = isinstance(value, bool | int | float | str)
    got = f"{name}={value!r}" if plain else f"{name}= of type {type(value).__name__}"
    if known:
        expected = f"no {name}" if needed is None else f"{name}={needed}"
        hint = INSTEAD.get(name, f"lab.generate(prompt), without {name}=")
        raise InputError(f"lab.generate decides on {name} itself", got=got, expected=expected, hint=hint)
    near = difflib.get_close_matches(name, ("max_new_tokens", "temperature", "seed", "layers", "seams", *ALLOWED), 1)
    hint = f"{near[0]}=..." if near else "lab.generate(prompt, max_new_tokens=8)"
    raise InputError("lab.generate has no such option", got=got, expected=", ".join(ALLOWED), hint=hint)


def _checked(lab, name, value, most):
    """The value of an allowed option as `model.generate` takes it."""
    if name in SAMPLING or name in NUMBERS:
        return (SAMPLING | NUMBERS)[name](value, name)
    if name == "min_new_tokens":
        return whole(value, name, least=0, most=most)
    if name in IDS:
        return _ids(value, name, lab.spec.vocab)
    if name == "bad_words_ids":
        lists = (
            isinstance(value, list | tuple) and bool(value) and all(isinstance(word, list | tuple) for word in value)
        )
        if not lists:
            raise InputError(f"{name} is a list of lists of ids", got=type(value).__name__, expected="[[7], [3, 5]]")
        return [_ids(word, name, lab.spec.vocab) for word in value]
    if name == "stop_strings":
        texts = [value] if isinstance(value, str) else value
        if (
            lab.tokenizer is None
            or not isinstance(texts, list | tuple)
            or not all(isinstance(t, str) and t for t in texts)
        ):
            got = "a lab without a tokenizer" if lab.tokenizer is None else f"{name}={value!r}"
            raise InputError("generation stops at texts", got=got, expected="a text, or several, and a tokenizer")
        return list(texts)
    several = value if name in ("logits_processor", "stopping_criteria") else [value]
    good = (lambda each: hasattr(each, "put")) if name == "streamer" else callable
    if not isinstance(several, list | tuple) or not all(map(good, several)):
        expected = {"streamer": "what has put and end", "prefix_allowed_tokens_fn": "a function"}
        expected = expected.get(name, "a list of functions of (ids, scores)")
        raise InputError(f"{name} is called for every token", got=type(value).__name__, expected=expected)
    return value


def _ids(value, name, vocab):
    ids = whole_numbers(value, name, least=0)
    if not ids or max(ids) >= vocab:
        raise InputError(f"{name} out of range", got=max(ids, default="no ids"), expected=f"0 to {vocab - 1}")
    return ids
