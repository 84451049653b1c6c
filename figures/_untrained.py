"""The model of a lab with random weights: what a reading shows of a model that learned nothing."""

import torch
from transformers import AutoModelForCausalLM

import labkit


def untrained(lab: labkit.Lab, seed: int = 0) -> labkit.Lab:
    """A lab around the same architecture and tokenizer, its weights drawn as transformers draws them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lab.model.config).eval()
    return labkit.wrap(model, tokenizer=lab.tokenizer)
