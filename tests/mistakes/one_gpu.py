"""What readers do wrong in 10_one_gpu: (their function, words of the law that must break)."""

import numpy as np
import torch

import labkit as lk

MISTAKES = {
    "least_seconds": {
        "adds both": (lambda flops, moved, rate, band: flops / rate + moved / band, "arithmetic's time"),
        "takes the shorter": (lambda flops, moved, rate, band: min(flops / rate, moved / band), "arithmetic's time"),
        "counts arithmetic alone": (lambda flops, moved, rate, band: flops / rate, "memory's time"),
        "compares operations a byte with the rate": (
            lambda flops, moved, rate, band: flops / rate if flops / moved > rate else moved / band,
            "outlast",
        ),
        "rounds": (lambda flops, moved, rate, band: round(max(flops / rate, moved / band), 1), "outlast"),
        "multiplies by the rate": (lambda flops, moved, rate, band: max(flops * rate, moved / band), "arithmetic's"),
    },
    "cache_grows_by": {
        "counts all layers": (
            lambda s, tokens, width: 2 * s.layers * s.kv_heads * s.head_dim * width * tokens,
            "one token",
        ),
        "counts query heads": (
            lambda s, tokens, width: 2 * len(s.attention_layers) * s.query_heads * s.head_dim * width * tokens,
            "one token",
        ),
        "takes the tuple for a count": (
            lambda s, tokens, width: 2 * s.attention_layers * s.kv_heads * s.head_dim * width * tokens,
            "one token",
        ),
        "forgets the values": (
            lambda s, tokens, width: len(s.attention_layers) * s.kv_heads * s.head_dim * width * tokens,
            "one token",
        ),
        "takes 16 bits, always": (
            lambda s, tokens, width: 4 * len(s.attention_layers) * s.kv_heads * s.head_dim * tokens,
            "8 bits",
        ),
    },
}
OPTIONS = {"cache_grows_by": lambda lab: {"spec": {"nano": lab.spec, "the 27B": lk.spec.read("Qwen3.6-27B")}}}
WAYS = {
    "least_seconds": {
        "in torch": lambda *given: torch.stack(
            [torch.tensor(given[n] / given[n + 2], dtype=torch.float64) for n in (0, 1)]
        ).max(),
        "by which binds": lambda flops, moved, rate, band: (
            flops / rate if flops * band > moved * rate else moved / band
        ),
    },
    "cache_grows_by": {
        "layer by layer": lambda s, tokens, width: sum(
            2 * s.kv_heads * s.head_dim * tokens * width for _ in s.attention_layers
        ),
        "as a product": lambda s, *two: np.prod([2, len(s.attention_layers), s.kv_heads, s.head_dim, *two]),
    },
}
