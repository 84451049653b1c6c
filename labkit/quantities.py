"""What numbers mean: symbol, unit, how they are coloured and where they are defined (`labkit.notation` labels with it).

A symbol belongs to the quantity that a reading made. What is computed from it is another one, and says so itself.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What one variable means wherever it appears: `symbol`, `long_name`, unit, colours, and where it is defined.

    `units` are as printed, `source` names the paper and equation. `scale` is "fraction" (fixed 0 to 1), "signed"
    (diverging around 0) or "positive" (sequential from 0).
    """

    symbol: str
    long_name: str
    units: str
    scale: str
    source: str


GDN = "arXiv 2412.06464"
GQA = "arXiv 2505.06708"
MOE = "arXiv 1701.06538"
QUANTITIES = {
    "router": Quantity("ℓ", "router logit of an expert, before the softmax", "1", "signed", MOE),
    "routed": Quantity("w", "weight of a chosen expert's output", "fraction", "fraction", MOE),
    "chosen": Quantity("e", "number of a chosen expert", "expert", "positive", MOE),
    "residual": Quantity("x", "residual stream", "1", "signed", "transformers"),
    "normed": Quantity("x̂", "residual stream after its norm", "1", "signed", "transformers"),
    "added": Quantity("Δx", "what a branch adds to the residual stream", "1", "signed", "transformers"),
    "projection": Quantity("qkv", "query, key and value before the convolution", "1", "signed", GDN),
    "gate_input": Quantity("g", "input of the output gate, before its nonlinearity", "1", "signed", GQA),
    "write_input": Quantity("b", "input of the write strength, before the sigmoid", "1", "signed", GDN),
    "decay_input": Quantity("a", "input of the decay, before the softplus", "1", "signed", GDN),
    "read": Quantity("o", "what the head reads out of its state", "1", "signed", GDN),
    "opened": Quantity("y", "head output after the output gate", "1", "signed", GQA),
    "latent": Quantity("c", "what keys and values of all heads are made of", "1", "signed", "arXiv 2405.04434"),
    "mixed": Quantity("y", "values that the head mixed", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "branch": Quantity("y", "what a branch gives to the norm before it is added", "1", "signed", "transformers"),
    "query": Quantity("q", "query, before rotation", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "key_vector": Quantity("k", "key, before rotation", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "value_vector": Quantity("v", "value", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "keep": Quantity("α", "decay gate: share of the state kept", "fraction", "fraction", f"{GDN} eq. 10"),
    "write": Quantity("β", "write strength", "fraction", "fraction", f"{GDN} eq. 10"),
    "recalled": Quantity("‖r‖", "norm of what the memory says for the key", "norm", "positive", GDN),
    "error": Quantity("‖e‖", "norm of the error, value minus recalled value", "norm", "positive", GDN),
    "agreement": Quantity("r·e", "inner product of recalled value and error", "norm²", "signed", GDN),
    "out": Quantity("‖o‖", "norm of what the head reads out", "norm", "positive", GDN),
    "state_norm": Quantity("‖S‖", "Frobenius norm of the state", "norm", "positive", GDN),
    "state": Quantity("S", "recurrent state", "value per unit key", "signed", GDN),
    "weight": Quantity("A", "weight of the source's value in the head's output", "1", "signed", f"{GDN} sec. 3"),
    "pattern": Quantity("P", "softmax attention weight", "fraction", "fraction", "arXiv 1706.03762 eq. 1"),
    "gate": Quantity("σ(g)", "output gate, mean over the head's channels", "fraction", "fraction", "arXiv 2505.06708"),
    "gated": Quantity("σ(g)·P", "attention weight times mean output gate", "fraction", "fraction", "arXiv 2505.06708"),
    "decayed": Quantity("‖(1-α)S‖", "norm of what decay removed", "norm", "positive", GDN),
    "erased": Quantity("‖βk r‖", "norm of what was erased to make room", "norm", "positive", GDN),
    "written": Quantity("‖βk v‖", "norm of what was written", "norm", "positive", GDN),
    "surprise": Quantity("‖e‖/‖v‖", "norm of the error over that of the value", "1", "positive", GDN),
    "energy": Quantity("Δ‖S‖²", "change of the state's squared norm", "norm²", "signed", GDN),
    "survival": Quantity("s", "share of a stored key that is left", "fraction", "fraction", GDN),
    "returned": Quantity("kᵀΦk", "share of its value that a stored key still calls up", "1", "signed", f"{GDN} sec. 3"),
    "decay_only": Quantity("Πα", "share that decay alone would have left", "fraction", "fraction", GDN),
    "share": Quantity("⟨S', S⟩/‖S‖²", "share of the state that a part of the prompt wrote", "share", "signed", GDN),
    "part_norm": Quantity("‖S'‖/‖S‖", "norm of what a part wrote over that of the state", "1", "positive", GDN),
    "removed": Quantity("Δs", "share of a stored key that this token erased", "fraction", "fraction", GDN),
    "age": Quantity("t½", "tokens after which half of a stored key is left", "tokens", "positive", GDN),
    "contribution": Quantity("c", "weight of the source's value in the recall of a key", "1", "signed", GDN),
    "signal": Quantity("c v", "norm of the right value in the recall of a key", "norm", "positive", GDN),
    "crosstalk": Quantity("Σ|c|‖v‖", "norms of all other values in the recall of a key", "norm", "positive", GDN),
    "recall": Quantity("ρ", "cosine of the recalled and the stored value", "1", "signed", GDN),
    "singular": Quantity("σ", "singular values of the state", "norm", "positive", GDN),
    "stable_rank": Quantity("‖S‖²/σ₁²", "stable rank of the state", "1", "positive", "Rudelson, Vershynin 2007"),
    "effective_rank": Quantity("erank", "exp of the entropy of σ²/Σσ²", "1", "positive", "Roy, Vetterli 2007"),
    "difference": Quantity("‖ΔS‖/‖S‖", "difference of two states over the norm of the second", "1", "positive", GDN),
    "angle": Quantity("θ", "principal angle between key subspaces", "degrees", "positive", "Björck, Golub 1973"),
    "readout": Quantity("‖ΔSᵀq‖", "what the difference of two states says to a query", "norm", "positive", GDN),
    "predicted": Quantity("δo", "predicted change of what the head reads", "norm", "signed", GDN),
    "measured": Quantity("δo", "measured change of what the head reads", "norm", "signed", GDN),
    "logit": Quantity("s", "softmax logit, before the softmax", "1", "signed", "arXiv 1706.03762 eq. 1"),
    "value_norm": Quantity("‖v‖", "norm of the source's value", "norm", "positive", "arXiv 2004.10102"),
    "contribution_norm": Quantity("‖c‖", "norm of what a source adds to the residual stream", "norm", "positive", GQA),
    "similarity": Quantity(
        "Σmin", "overlap of two heads' attention, mean over rows", "fraction", "fraction", "this run"
    ),
    "entropy": Quantity("H", "entropy of the attention row", "nat", "positive", "arXiv 1706.03762"),
    "support": Quantity("e^H", "sources the attention row is spread over", "tokens", "positive", "arXiv 1706.03762"),
    "sink": Quantity("sink", "attention mass on the first sources", "fraction", "fraction", "arXiv 2309.17453"),
    "local": Quantity("local", "attention mass on the last sources", "fraction", "fraction", "arXiv 1706.03762"),
    "distance": Quantity("d", "mean distance of what is attended to", "tokens", "positive", "arXiv 1706.03762"),
    "histogram": Quantity("P(d)", "attention mass by distance", "fraction", "fraction", "arXiv 1706.03762"),
    "pooled": Quantity("P", "attention mass of a block, mean over rows", "fraction", "fraction", "arXiv 1706.03762"),
    "mass": Quantity("P", "attention mass on a part of the prompt", "fraction", "fraction", "arXiv 1706.03762"),
    "wavelength": Quantity("λ", "wavelength of a rotary pair", "tokens", "positive", "arXiv 2104.09864"),
    "scaled_wavelength": Quantity("λ'", "wavelength under a scaling", "tokens", "positive", "arXiv 2309.00071"),
    "slowed": Quantity("ω/ω'", "how many times slower a pair turns", "1", "positive", "arXiv 2309.00071"),
    "ramp": Quantity("ramp", "how far a pair is interpolated", "fraction", "fraction", "arXiv 2309.00071"),
    "turns": Quantity("turns", "turns of a pair over a distance", "turns", "positive", "arXiv 2104.09864"),
    "new": Quantity("new", "unseen phases, share of a turn", "fraction", "fraction", "arXiv 2309.00071"),
    "part": Quantity("s_b", "part of the logit from a band", "1", "signed", "arXiv 2104.09864"),
    "margin": Quantity("Δlog p", "log-probability of the answer minus that of the foil", "nat", "signed", "this run"),
    "vocab_logit": Quantity("z", "logit of a token of the vocabulary", "nat", "signed", "transformers"),
    "loss": Quantity("-log p", "negative log-likelihood per token", "nat", "positive", "this run"),
    "effect": Quantity("Δ", "change that an intervention causes", "1", "signed", "this run"),
    "tokens": Quantity("n", "tokens", "tokens", "positive", "this run"),
    "calls": Quantity("n", "calls of the model", "calls", "positive", "this run"),
    "seconds": Quantity("t", "time", "s", "positive", "this run"),
    "gibibytes": Quantity("m", "memory", "GiB", "positive", "labkit.spec"),
    "right": Quantity("right", "share of right answers", "fraction", "fraction", "this run"),
    "logit_gap": Quantity("max |Δz|", "largest difference of two rows of logits", "nat", "positive", "this run"),
}
