"""What the page is filled with, read from nano: sizes, weights, the tokenizer's tables, prompts of a conversation."""

import dataclasses
import functools
import itertools
import json
import struct

from labkit import spec, thinking
from labkit.draw.theme import KIND, SIGNED
from labkit.families import FAMILIES
from labkit.nano import FOLDER, chat
from labkit.spec.units import parameter_count

COUNTS = "no one two three four five six seven eight nine ten eleven twelve".split()
CLASSES = {"letter": r"\p{L}", "mark": r"\p{M}", "number": r"\p{N}", "blank": r"\s"}
PLANES = (range(0xD800), range(0xE000, 0x34000), range(0xE0000, 0xE1000))  # elsewhere there are no such signs
SHOWN = {"key": "fox", "value": "red"}
OTHER = {"key": "whale", "value": "blue"}


@dataclasses.dataclass(frozen=True)
class Model:
    """nano as files: its sizes, `{name: (first number, how many)}`, and the float32 numbers themselves as bytes."""

    spec: spec.Spec
    index: dict
    block: bytes


def model() -> Model:
    """nano's text model, read from its files; the multi-token-prediction layer is left out."""
    content = (FOLDER / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    index, parts, at = {}, [], 0
    for name, tensor in sorted(header.items()):
        if name.startswith("model."):
            start, stop = tensor["data_offsets"]
            index[name] = (at, (stop - start) // 4)
            parts.append(body[start:stop])
            at += (stop - start) // 4
    return Model(spec.read(FOLDER), index, b"".join(parts))


def said(model: Model) -> dict[str, str]:
    """Words of the page's prose, from nano's sizes."""
    s, kinds = model.spec, list(model.spec.kinds)
    counts = {"layers": len(kinds), "deltanet": kinds.count("deltanet"), "attention": kinds.count("attention")}
    numbers = counts | {"value_heads": s.value_heads, "query_heads": s.query_heads, "kv_heads": s.kv_heads}
    words = {name: COUNTS[count] if count < len(COUNTS) else str(count) for name, count in numbers.items()}
    return (
        {name.capitalize(): word.capitalize() for name, word in words.items()}
        | words
        | {
            "parameters": parameter_count(sum(count for _, count in model.index.values())),
            "vocab": f"{s.vocab:,}",
            "window": f"{s.window:,}",
            "dk": str(s.dk),
            "dv": str(s.dv),
            "cells": f"{s.dk * s.dv:,}",
            "family": FAMILIES[s.family].title.partition(",")[0],
            "strip": " ".join("D" if kind == "deltanet" else "A" for kind in kinds),
            "key": SHOWN["key"],
            "value": SHOWN["value"],
        }
    )


def embedded(model: Model) -> dict:
    """The page's data beside the weights."""
    s = model.spec
    config = {
        "kinds": s.kinds,
        "hidden": s.hidden,
        "inner": s.intermediate,
        "vocab": s.vocab,
        "keyHeads": s.key_heads,
        "valueHeads": s.value_heads,
        "dk": s.dk,
        "dv": s.dv,
        "taps": s.conv,
        "queryHeads": s.query_heads,
        "kvHeads": s.kv_heads,
        "headDim": s.head_dim,
        "rotary": s.rotary_dim,
        "base": s.rope_theta,
        "window": s.window,
        "eps": s.eps,
    }
    index = [(name, start, count) for name, (start, count) in model.index.items()]
    look = {"signed": SIGNED, **KIND}
    return {"config": config, "index": index, "tokenizer": tokenizer(), "chat": conversation(), "look": look}


@functools.cache
def tokenizer() -> dict:
    """Vocabulary, merges and added tokens; as ranges of code points the classes of the split and what NFC knows."""
    told = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = sorted(told["model"]["vocab"], key=told["model"]["vocab"].get)
    merges = [" ".join(pair) for pair in told["model"]["merges"]]
    added = [(token["content"], token["id"]) for token in told["added_tokens"]]
    every = "".join(map(chr, itertools.chain(*PLANES)))
    classes = {name: _of_class(every, pattern) for name, pattern in CLASSES.items()}
    known = _known(every, classes["mark"])
    tables = {"classes": {name: _ranges(signs) for name, signs in classes.items()}, "known": _ranges(known)}
    return {"vocabulary": vocabulary, "merges": merges, "added": added} | tables


def _of_class(every, pattern):
    """Those of some signs that match, as the tokenizers library sees them."""
    from tokenizers import Regex, pre_tokenizers

    rest = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed").pre_tokenize_str(every)
    edges = [0, *(edge for _, span in rest for edge in span), len(every)]
    return "".join(every[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))


def _known(every, marks):
    """Signs that the tokenizer's NFC takes apart or sorts; of later Unicode it knows none."""
    from tokenizers import normalizers

    apart, gap = normalizers.NFD().normalize_str, "\n"
    whole = every.replace(gap, "")
    found = {a for a, b in zip(whole, apart(gap.join(whole)).split(gap), strict=True) if a != b}
    sorts = lambda sign: any(apart(text) != text for text in (f"a{sign}\u0334", f"a\u0301{sign}"))  # noqa: E731
    return "".join(sorted(found | set(filter(sorts, marks))))


def _ranges(signs):
    """Sorted signs as ranges of code points, each number counted from the last in base 36: "0-5,9"."""
    runs = itertools.groupby(enumerate(map(ord, signs)), key=lambda pair: pair[1] - pair[0])
    parts, last = [], 0
    for _, run in runs:
        points = [point for _, point in run]
        ends = [points[0]] if len(points) == 1 else [points[0], points[-1]]
        steps = [point - before for before, point in zip([last, *ends], ends, strict=False)]
        parts.append("-".join(map(_base36, steps)))
        last = ends[-1]
    return ",".join(parts)


def _base36(number):
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


# ------------------------------------------------------------------------------------------------- the conversation


def conversation() -> dict:
    """A conversation's calls, thinking kept and dropped: by name.

    Of a call: `prompt`, ids, with the kind and the message of every token; `cached`, the prompt and the answer given
    to it. `position` is where the last prompt leaves what was cached before, and `cause` why.
    """
    reader = _reader()
    calls = {"kept": _calls(reader, True), "dropped": _calls(reader, False)}
    return calls | {"value": SHOWN["value"], "messages": _messages()}


def _messages():
    """Two facts, the first of them decided in thinking alone, and the question about it."""
    decided = f"the {SHOWN['key']} is {SHOWN['value']}."
    return [
        chat.user(chat.DECIDE[0].format(key=SHOWN["key"])),
        chat.reply(decided, "noted."),
        chat.user(chat.TELL[0].format(**OTHER)),
        chat.reply("noted.", "noted."),
        chat.user(chat.ASK[0].format(key=SHOWN["key"])),
    ]


def _calls(reader, preserve):
    messages, rules, made = _messages(), {"variant": "3.6", "preserve": preserve}, []
    for asked in range(0, len(messages), 2):
        prompt = thinking.spans(messages[: asked + 1], reader, **rules)
        places = [span.message for span in prompt.spans for _ in range(len(span))]
        made.append({"prompt": prompt.ids, "kinds": prompt.kinds(), "messages": places})
        if asked + 1 < len(messages):
            whole = thinking.spans(messages[: asked + 2], reader, **rules, add_generation_prompt=False)
            made[-1]["cached"] = _spoken(whole.ids, reader)
    parted = thinking.divergence(made[-2]["cached"], made[-1]["prompt"], reader)
    return {"calls": made, "position": parted.position, "cause": parted.cause}


def _spoken(ids, reader):
    """What was read and said: a template's line feed behind the end of the answer is neither."""
    end = reader.convert_tokens_to_ids("<|im_end|>")
    return ids[: max(i for i, token in enumerate(ids) if token == end) + 1] if ids[-1] != end else ids


def _reader():
    """nano's tokenizer without its template: the rules of `thinking` write the prompts, in no process of their own."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"), clean_up_tokenization_spaces=False)
