"""What lies beside the weights: tokenizer, settings of generation, chat template, adapter, how weights are packed."""

import json
import random

import checkpoints

from tests.attacks import attack
from tests.attacks.checkpoints import Original, tries_on
from tests.attacks.json_damage import VALUES, changed, dumped, garbled, put

GENERATION = {  # settings of generation_config.json, and values beside `VALUES`
    "eos_token_id": (0, [1, 0], [], [10**9], -1, "1"),
    "pad_token_id": (0, 500, [1], "x"),
    "bos_token_id": (2, 10**9),
    "do_sample": (True, 1, "yes"),
    "temperature": (0.7, 0, -1, "hot"),
    "top_k": (20, 0, -1, 1.5),
    "top_p": (0.8, 7.0),
    "repetition_penalty": (1.5, 0, -1.0, "x"),
    "num_beams": (4, 0),
    "max_length": (1, 20, 10**30),
    "min_length": (5, -1),
    "min_new_tokens": (2,),
    "forced_eos_token_id": (1, 10**9),
    "suppress_tokens": ([3], [10**9]),
    "bad_words_ids": ([[3]], "x"),
    "stop_strings": ("ab", [5]),
    "guidance_scale": (2.0,),
    "cache_implementation": ("static", "nonsense"),
    "return_dict_in_generate": (True,),
    "max_time": (0.0,),
    "watermarking_config": ({"a": 1},),
    "assistant_early_exit": (1,),
    "use_cache": (False,),
    "penalty_alpha": (0.6,),
}
TOKENIZER = {  # settings of tokenizer_config.json
    "chat_template": (
        "{{ messages }}",
        5,
        [],
        ["x"],
        {"default": "x"},
        {"default": 5},
        [{"name": "a", "template": "x"}],
        "{%",
    ),
    "tokenizer_class": (
        "Qwen2Tokenizer",
        "Qwen2TokenizerFast",
        "Nonsense",
        "LlamaTokenizer",
        "BertTokenizer",
        5,
        "../x",
    ),
    "auto_map": ({"AutoTokenizer": ["evil.T", None]},),
    "model_max_length": (5, -1, 10**30, "x"),
    "added_tokens_decoder": (
        {"0": {"content": "<x>"}},
        {"500": {"content": "<y>", "special": True}},
        {"a": {}},
        5,
        {"-1": {"content": "z"}},
    ),
    "eos_token": ("<|im_end|>", "<new>", 5, {"content": "<q>"}, {"__type": "AddedToken", "content": "<r>"}),
    "additional_special_tokens": (["<s>", "<t>"], 5, [5]),
    "extra_special_tokens": ({"a": "<u>"}, ["<v>"], 5),
    "add_bos_token": (True,),
    "bos_token": ("a", "<bos>"),
    "clean_up_tokenization_spaces": (True, "x"),
    "add_prefix_space": (True, 3),
    "split_special_tokens": (True,),
    "padding_side": ("left", "up"),
    "fix_mistral_regex": (True,),
    "processor_class": ("X",),
    "tokenizer_file": ("/etc/passwd", "../x.json"),
    "vocab_file": ("/etc/passwd",),
    "is_local": (False,),
    "backend": ("sentencepiece", "x"),
    "name_or_path": ("/etc",),
}


def changed_tokenizer(content: dict, rng: random.Random) -> tuple[str, str]:
    """(JSON text of a tokenizer.json with something changed, what was changed)."""
    how = rng.choice(("any", "any", "id", "added", "merge", "normalizer", "splitter", "model", "post"))
    content = json.loads(json.dumps(content))
    vocabulary = content["model"]["vocab"]
    if how == "any":
        for part in (content, content["model"]):
            if rng.random() < 0.5:
                part[rng.choice(list(part))] = value = rng.choice(VALUES)
                return dumped(content), f"a part is {str(value)[:40]!r}"
        return changed(content, rng, {})
    if how == "id":
        vocabulary[rng.choice(list(vocabulary))] = value = rng.choice(
            (211, 10**6, 2**32 - 1, 2**32, -1, 5, 0, "5", None, 1.5)
        )
        return dumped(content), f"an id is {value}"
    if how == "added":
        token = dict(rng.choice(content["added_tokens"]))
        token |= {
            rng.choice(("id", "content", "special", "single_word", "rstrip")): rng.choice(
                (0, 211, 10**9, -1, "", "x", True, None, [])
            )
        }
        content["added_tokens"].append(token)
        return dumped(content), f"added {token}"
    if how == "merge":
        content["model"]["merges"] = merges = rng.choice(
            ([["a", "b"], ["a", "b"]], [["x", "y"]], ["a b"], ["ab"], [["a"]], [], [["ab", "ab"]], [[5, 6]])
        )
        return dumped(content), f"merges {merges}"
    nested = {"type": "Sequence", "normalizers": []}
    for _ in range(rng.choice((5, 200))):
        nested = {"type": "Sequence", "normalizers": [nested]}
    pieces = {
        "normalizer": (
            "normalizer",
            (
                {"type": "NFC"},
                {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"},
                {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
                {"type": "Replace", "pattern": {"String": ""}, "content": "b"},
                {"type": "Prepend", "prepend": "w9"},
                nested,
                {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
            ),
        ),
        "splitter": (
            "pre_tokenizer",
            (
                {"type": "Whitespace"},
                {"type": "Split", "pattern": {"Regex": "(x*)*y"}, "behavior": "Isolated", "invert": False},
                {"type": "Metaspace"},
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                {"type": "FixedLength", "length": 0},
            ),
        ),
        "model": (
            "model",
            (
                {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
                {
                    "type": "WordPiece",
                    "vocab": {"a": 0},
                    "unk_token": "b",
                    "continuing_subword_prefix": "#",
                    "max_input_chars_per_word": 2,
                },
                {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 5},
                {"type": "Unigram", "vocab": [], "unk_id": None},
                {"type": "BPE", "vocab": {}, "merges": []},
            ),
        ),
        "post": (
            "post_processor",
            (
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
                {
                    "type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                    "pair": [],
                    "special_tokens": {"x": {"id": "x", "ids": [10**6], "tokens": ["x"]}},
                },
            ),
        ),
    }
    part, values = pieces[how]
    content[part] = value = rng.choice(values)
    return dumped(content), f"{part} {str(value)[:90]}"


@attack("checkpoint companions", short=24, long=700)
def companions(tries, seed, folder):
    """tokenizer.json and what lies beside it, generation_config.json, chat templates, adapters, packed weights."""

    def change(copy, rng):
        often = ("tokenizer", "tokenizer", "settings", "generation")
        how = rng.choice((*often, "tokenizer", "settings", "generation", "beside", "packed"))
        if how == "tokenizer":
            path = copy / "tokenizer.json"
            text, what = changed_tokenizer(json.loads(path.read_text()), rng)
        elif how in ("settings", "generation"):
            known, name = (
                (TOKENIZER, "tokenizer_config.json") if how == "settings" else (GENERATION, "generation_config.json")
            )
            path = copy / name
            content = json.loads(path.read_text()) if path.exists() else {}
            for key in rng.sample(list(known), rng.choice((1, 1, 2))):
                content[key] = rng.choice(known[key] if rng.random() < 0.8 else VALUES)
            text, what = dumped(content), str(content)[:120]
            if rng.random() < 0.1:
                text, what = garbled(text, rng)
        elif how == "packed":
            path = copy / "config.json"
            packed = {"quant_method": rng.choice(("fp8", "bitsandbytes", "torchao", "gptq", "", None, 5, ["fp8"]))}
            packed |= {
                rng.choice(
                    ("weight_block_size", "modules_to_not_convert", "load_in_4bit", "quant_type", "activation_scheme")
                ): rng.choice(VALUES)
            }
            text, what = dumped(json.loads(path.read_text()) | {"quantization_config": packed}), str(packed)[:100]
        else:
            name = rng.choice(
                (
                    "adapter_config.json",
                    "chat_template.jinja",
                    "special_tokens_map.json",
                    "added_tokens.json",
                    "vocab.json",
                    "merges.txt",
                    "chat_template.json",
                    "tokenizer.model",
                    "preprocessor_config.json",
                )
            )
            path, value = (
                copy / name,
                rng.choice(
                    (
                        *VALUES,
                        {"<z>": 300},
                        {"<z>": 7},
                        {"eos_token": "<zz>"},
                        {"base_model_name_or_path": "/etc"},
                        {"chat_template": 5},
                    )
                ),
            )
            text, what = dumped(value), f"{name} is {str(value)[:40]!r}"
        put(path, text)
        return f"{how}: {what}"

    whole = [Original(folder / "text", checkpoints.text_only), Original(folder / "images", checkpoints.image_text)]
    yield from tries_on(whole, tries, seed, folder, change)
