"""What checks measure with: the device, its models, which are built once, and a clock that waits for the device."""

import functools
import gc
import statistics
import time

import tiny
import torch

from labkit.trace import cache_parameter
from tests.benchmarks.card import models


class Bench:
    """A device to ask; `dry` takes tiny models and short prompts through the same code."""

    def __init__(self, device: str, *, dry: bool = False):
        self.device, self.dry = torch.device(device), dry
        self.card = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        self.chunk, self.block = (16, 8) if dry else (8192, 4096)
        self.capture = True if self.device.type == "cuda" else None  # of steps: demanded where there is a card

    @functools.cached_property
    def big(self):
        """A lab around the 27B's shape."""
        return models.seeded(self.device, **models.TINY if self.dry else {})

    @functools.cached_property
    def period(self):
        """A lab around one period of it."""
        return models.period(self.device, **models.TINY | {"num_hidden_layers": 4} if self.dry else {})

    def lab(self, of: str):
        """The lab of a check."""
        return self.big if of == "27B" else self.period

    def built(self, of: str) -> bool:
        """Whether a model is there already."""
        return {"27B": "big", "period": "period"}[of] in vars(self)

    def length(self, tokens: int) -> int:
        """So many tokens, or a few in a dry run."""
        return max(16, tokens // 1024) if self.dry else tokens

    def ids(self, lab, tokens: int) -> torch.Tensor:
        """Random ids [length], on the host."""
        return tiny.ids(self.length(tokens), vocab=lab.spec.vocab)

    def rounds(self, wanted: int) -> int:
        """So many rounds, or two in a dry run."""
        return 2 if self.dry else wanted

    # ------------------------------------------------------------------------------------------------ the clock

    def sync(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call) -> float:
        """Time of one call, to its end on the device."""
        self.sync()
        begin = time.perf_counter()
        call()
        self.sync()
        return time.perf_counter() - begin

    def rivals(self, rounds: int, **calls) -> dict[str, list[float]]:
        """Seconds of each call in each round, after a warm-up of all; who goes first alternates."""
        for call in calls.values():
            call()
        times = {name: [] for name in calls}
        for turn in range(self.rounds(rounds)):
            for name in list(calls)[:: 1 if turn % 2 else -1]:
                times[name].append(self.seconds(calls[name]))
        return times

    @staticmethod
    def spread(values: list[float]) -> dict:
        """Median and quartiles."""
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return dict(median=middle, low=low, high=high, rounds=len(values))

    def ratio(self, ours: list[float], theirs: list[float]) -> dict:
        """The spread of the paired ratios of two rivals."""
        return self.spread([a / b for a, b in zip(ours, theirs, strict=True)])

    def peak(self, call) -> float | None:
        """GiB allocated at the highest moment of a call, weights included; None without a card."""
        if self.device.type != "cuda":
            call()
            return None
        self.sync()
        torch.cuda.reset_peak_memory_stats()
        call()
        self.sync()
        return torch.cuda.max_memory_allocated() / 2**30

    def free(self) -> float:
        """GiB that a check can have now; infinite without a card."""
        gc.collect()
        if self.device.type != "cuda":
            return float("inf")
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / 2**30

    # ----------------------------------------------------------------------------------------------- plain passes

    @torch.no_grad()
    def forward(self, lab, ids: torch.Tensor, **options):
        """The plain forward pass, logits of the last token, nothing kept."""
        return lab.model(ids[None].to(self.device), use_cache=False, logits_to_keep=1, **options)

    @torch.no_grad()
    def prefill(self, lab, ids: torch.Tensor):
        """Plain chunked prefill: the model and transformers' own cache."""
        from transformers import DynamicCache

        cache = DynamicCache(config=lab.model.config)
        for part in ids.split(self.chunk):
            lab.model(part[None].to(self.device), **{cache_parameter(lab.model): cache}, logits_to_keep=1)
        return cache


def per_second(tokens: int, times: list[float]) -> dict:
    """Tokens per second of several runs."""
    return Bench.spread([tokens / taken for taken in times])


def milliseconds(times: list[float]) -> dict:
    """The spread in milliseconds."""
    return Bench.spread([1e3 * taken for taken in times])


def two(layers) -> list[int]:
    """The first and the last of some layers."""
    return sorted({layers[0], layers[-1]})


def flat(numbers: dict) -> dict[str, float]:
    """Each number without its spread."""
    pairs = ((name, value["median"] if isinstance(value, dict) else value) for name, value in numbers.items())
    return {name: value for name, value in pairs if value is not None}
