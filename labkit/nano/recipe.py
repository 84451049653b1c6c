"""How nano is trained: recall of key-value pairs, grown stage by stage, each when the last one holds.

Binding a value to its key comes as a jump after a plateau at "one of the values seen"; small batches of short
sequences make it come early. Answers weigh ten times. One seed, one thread and one machine repeat every number; other
machines diverge after some hundred steps, so the checkpoint is stored and never trained again by a test.
"""

import dataclasses
import hashlib
import json
import math
import pathlib

import torch
import torch.nn.functional as F

from labkit.nano import FOLDER, tokens
from labkit.nano.tasks import Tasks

# pairs, batch, overwrite, comma; the next stage begins when the running accuracy on answers holds
STAGES = ((16, 16, 0.0, 0.0), (16, 16, 0.0, 0.5), (24, 16, 0.15, 0.5), (40, 12, 0.2, 0.5), (64, 8, 0.25, 0.5))
HOLDS = 0.97
TEXT_EVERY, ANSWER_WEIGHT = 5, 10.0


def config(vocab=tokens.VOCAB):
    """nano's sizes: 8 layers D D D A twice; key to value heads 1:3, query to kv heads 6:1, a quarter rotary.

    Of the 8 rotary pairs, in a window of 512 with base 2,000: YaRN leaves the first alone (more than 32 turns),
    blends four and interpolates the last three, which never complete a turn.
    """
    from transformers import Qwen3_5TextConfig

    return Qwen3_5TextConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=6,
        linear_key_head_dim=24,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 2000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
    )


def fresh(seed):
    """A new model whose convolutions, decays and widths start where small models learn quickly."""
    from transformers import Qwen3_5ForCausalLM

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = Qwen3_5ForCausalLM(config())
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "conv1d" in name:
                    weight.uniform_(-0.5, 0.5)
                elif name.endswith("embed_tokens.weight"):
                    weight.normal_(0, 0.05)
                elif weight.ndim == 2:
                    weight.normal_(0, 0.7 / weight.shape[1] ** 0.5)
                if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")):
                    weight.mul_(0.3)
                if name.endswith("A_log"):
                    weight.copy_(torch.empty_like(weight).uniform_(0.2, 4).log())
                if name.endswith("dt_bias"):
                    weight.copy_(torch.linspace(-4, 0, weight.numel()))
    return model


@dataclasses.dataclass
class Progress:
    """Where training stands; saved with the weights."""

    step: int = 0
    tokens: int = 0
    stage: int = 0
    held: float = 0.0


def train(folder, *, steps=2600, seed=1, rate=1e-3, device=None, save_every=100, progress=True):
    """Train, or go on from what lies in `folder`.

    Args:
        folder: state of the training: `state.pt`, `log.jsonl`, `tokenizer.json`.
        steps: optimiser steps in all; the rate falls to 0 over the last 40 % of them.
        device: None takes the accelerator if there is one.

    Returns:
        the trained model, on the CPU.
    """
    from tqdm.auto import tqdm

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    texts = tokens.corpus()
    tokenizer = tokens.build(texts)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = torch.tensor([i for passage in texts for i in tokenizer.encode(passage + "\n\n").ids])
    generator = torch.Generator().manual_seed(seed)
    tasks = Tasks(tokenizer, text, generator)
    model, at = fresh(seed).to(device), Progress()
    thin = [w for w in model.parameters() if w.ndim < 2]
    wide = [w for w in model.parameters() if w.ndim >= 2]
    groups = [{"params": wide, "weight_decay": 0.05}, {"params": thin, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    if (folder / "state.pt").exists():
        held = torch.load(folder / "state.pt", weights_only=True)
        model.load_state_dict(held["model"])
        optimizer.load_state_dict(held["optimizer"])
        generator.set_state(held["generator"])
        at = Progress(**held["progress"])
    model.train()
    with (
        open(folder / "log.jsonl", "a", encoding="utf-8") as log,
        tqdm(total=steps, initial=at.step, disable=not progress, unit="step") as bar,
    ):
        while at.step < steps:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (at.step + 1) / 30, (1 - at.step / steps) / 0.4)
            loss, right, count = _step(model, optimizer, tasks, at, device)
            if right == right:
                at.held = 0.95 * at.held + 0.05 * right
            at.step, at.tokens = at.step + 1, at.tokens + count
            if at.held > HOLDS and at.stage < len(STAGES) - 1:
                at.stage, at.held = at.stage + 1, 0.8
            bar.update()
            bar.set_postfix(stage=at.stage, answers=f"{at.held:.3f}", loss=f"{loss:.3f}")
            log.write(json.dumps(dataclasses.asdict(at) | {"loss": loss}) + "\n")
            if at.step % save_every == 0 or at.step == steps:
                log.flush()
                _save(folder, model, optimizer, generator, at)
    return model.eval().cpu()


def _step(model, optimizer, tasks, at, device):
    pairs, batch, overwrite, comma = STAGES[at.stage]
    if at.stage > 0 and at.step % TEXT_EVERY == TEXT_EVERY - 1:
        ids, answers = tasks.plain(8, 96)
    else:
        ids, answers = tasks.pairs(batch, pairs, overwrite=overwrite, comma=comma)
    ids, answers = ids.to(device), answers.to(device)
    logits = model(ids, use_cache=False).logits[:, :-1].float()
    each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
    weight = 1 + (ANSWER_WEIGHT - 1) * answers[:, 1:]
    loss = (each * weight).sum() / weight.sum()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    right = (logits.argmax(-1) == ids[:, 1:])[answers[:, 1:]].float().mean().item()
    return loss.item(), right, ids.numel()


def _save(folder, model, optimizer, generator, at):
    draft = folder / "state.pt.new"
    held = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    torch.save(held | {"progress": dataclasses.asdict(at)}, draft)
    draft.replace(folder / "state.pt")


ROWS = (
    ("recall, 4 pairs", {"pairs": 4}),
    ("recall, 8 pairs", {"pairs": 8}),
    ("recall, 12 pairs", {"pairs": 12}),
    ("recall, 12 pairs, commas between", {"pairs": 12, "comma": True}),
    ("overwritten key among 8 pairs, last value counts", {"pairs": 8, "overwritten": True}),
)


@torch.no_grad()
def evaluate(model, tokenizer, *, samples=1000, seed=10_000):
    """Greedy answers to held-out questions: `[(task, right, samples, low, high)]` with 95 % Wilson intervals."""
    tasks = Tasks(tokenizer, torch.zeros(1, dtype=torch.long), torch.Generator().manual_seed(seed))
    found = []
    for name, options in ROWS:
        right = 0
        for first in range(0, samples, 50):
            ids, answer = tasks.question(min(50, samples - first), **options)
            right += int((model(ids, logits_to_keep=1).logits[:, -1].argmax(-1) == answer).sum())
        found.append((name, right, samples, *wilson(right, samples)))
    return found


def wilson(right, n, z=1.96):
    """Bounds of the Wilson score interval of a proportion."""
    p, q = right / n, z * z / n
    middle, half = (p + q / 2) / (1 + q), z * math.sqrt(p * (1 - p) / n + q / (4 * n)) / (1 + q)
    return max(0.0, middle - half), min(1.0, middle + half)


def export(folder, target=FOLDER):
    """Write weights, tokenizer, configs and checksums of a trained state into `target`."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    folder, target = pathlib.Path(folder), pathlib.Path(target)
    model = trained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.save(str(target / "tokenizer.json"))
    weights = {name: w.contiguous() for name, w in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    ids = {name: tokenizer.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>")}
    facts = config().to_diff_dict() | {
        "architectures": ["Qwen3_5ForCausalLM"],
        "dtype": "float32",
        "eos_token_id": ids["<|endoftext|>"],
        "layer_types": config().layer_types,
        "max_position_embeddings": 512,
    }

    def write(name, value):
        (target / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    write("config.json", facts)
    write("generation_config.json", {"eos_token_id": list(ids.values()), "pad_token_id": ids["<|endoftext|>"]})
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 512,
        },
    )
    names = ("config.json", "model.safetensors", "tokenizer.json")
    write("checksums.json", {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in names})


def trained(folder):
    """The model of a training folder."""
    held = torch.load(pathlib.Path(folder) / "state.pt", weights_only=True, map_location="cpu")
    model = fresh(0)
    model.load_state_dict(held["model"])
    return model.eval()


def card(rows, facts):
    """The model card: what it was trained on, for how long, and what it can and cannot do."""
    table = "\n".join(
        f"| {name} | {right / n:.1%} | {low:.1%} to {high:.1%} | {n} |" for name, right, n, low, high in rows
    )
    return f"""# nano

A hybrid of eight layers (D D D A D D D A) for laptops and tests: Gated DeltaNet with 2 key and 6 value heads
(dk 24, dv 32), gated attention with 12 query and 2 kv heads of 64, hidden 128, window 512, {facts["parameters"]:,}
parameters. The class is `Qwen3_5ForCausalLM` of transformers, unmodified.

**Provisional.** It was trained for {facts["tokens"]:,} tokens ({facts["steps"]:,} steps, seed {facts["seed"]}) to
recall values of keys, and for little else: every fifth step of the later stages saw docstrings of the Python standard
library. It cannot converse, reason or use thinking; chance on every row below is 1 in 8, or 12.5 %.

| task (greedy answer, held-out questions) | right | 95 % interval | samples |
|---|---|---|---|
{table}

A question reads ` fox red whale blue crow green whale`, and the answer is the next token, ` blue`. Keys:
{", ".join(tokens.KEYS)}. Values: {", ".join(tokens.VALUES)}.

Made by `python -m labkit.nano train`, measured by `python -m labkit.nano evaluate`. Licence: Apache-2.0.
"""
