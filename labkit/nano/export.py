"""From a training folder to the files of the embedded checkpoint: weights, tokenizer, configs, checksums."""

import hashlib
import json
import pathlib

from labkit.nano import FOLDER, recipe
from labkit.nano.shape import WINDOW, config

SUMMED = ("chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json")


def export(folder: str | pathlib.Path, target: str | pathlib.Path = FOLDER) -> None:
    """Write what `labkit.load("nano")` reads; the multi-token-prediction layer goes along under `mtp.`."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    folder, target = pathlib.Path(folder), pathlib.Path(target)
    model, mtp = recipe.trained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.save(str(target / "tokenizer.json"))
    weights = {name: w.contiguous() for name, w in model.state_dict().items() if name != "lm_head.weight"}
    weights |= {f"mtp.{name}": w.contiguous() for name, w in mtp.state_dict().items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)
    ids = {name: tokenizer.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>")}
    facts = config().to_diff_dict() | {
        "architectures": ["Qwen3_5ForCausalLM"],
        "dtype": "float32",
        "eos_token_id": ids["<|endoftext|>"],
        "layer_types": config().layer_types,
        "max_position_embeddings": WINDOW,
        "mtp_num_hidden_layers": 1,
    }
    _write(target / "config.json", facts)
    _write(
        target / "generation_config.json", {"eos_token_id": list(ids.values()), "pad_token_id": ids["<|endoftext|>"]}
    )
    _write(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": WINDOW,
        },
    )
    _write(
        target / "checksums.json", {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in SUMMED}
    )


def _write(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
