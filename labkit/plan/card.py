"""The Plan: what a request costs, whether it fits, and the error when it does not."""

import dataclasses
from collections.abc import Mapping, Sequence

from labkit.errors import BudgetError
from labkit.plan import bounds
from labkit.spec import size
from labkit.tables import Table

SHARE = 0.9  # of what is free: the rest is left to the allocator


@dataclasses.dataclass(frozen=True, repr=False)
class Plan(Table):
    """The cost of one request.

    Attributes:
        want: what was asked.
        tokens: its length.
        parts: `{name: bytes}` of what is alive at the peak.
        kept: bytes that remain when the call returns.
        budget: bytes that are free, and where.
        flops: floating-point operations of the forward passes.
        cheaper: `((way, peak in bytes), ...)`, cheapest last.
    """

    want: str
    tokens: int
    parts: dict
    kept: int
    budget: int
    where: str
    flops: float
    cheaper: tuple = ()

    @property
    def peak(self) -> int:
        """Bytes alive at the highest moment, above the loaded model."""
        return sum(self.parts.values())

    bytes = peak

    @property
    def fits(self) -> bool:
        """Whether the peak is within the budget."""
        return self.peak <= self.budget

    @property
    def title(self) -> str:
        """The request."""
        return f"{self.want}, {self.tokens:,} tokens"

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (group, name, value) that both representations show."""
        rows = [("bytes at the peak", name, size(count)) for name, count in self.parts.items() if count]
        verdict = f"{size(self.budget)} of {self.where}: {'fits' if self.fits else 'refused'}"
        rows += [("all", "peak", size(self.peak)), ("all", "kept afterwards", size(self.kept))]
        rows += [("all", "budget", verdict), ("all", "forward passes", f"{self.flops / 1e12:.3g} TFLOP")]
        return rows + [("all", "cheaper", f"{way}: {size(count)}") for way, count in self.cheaper]

    def refuse(self) -> "Plan":
        """Raise if it does not fit.

        Raises:
            BudgetError: with the bytes, the budget and the nearest way that fits.
        """
        if self.fits:
            return self
        fitting = [f"{way} ({size(count)})" for way, count in self.cheaper if count <= self.budget]
        other = [f"{way} ({size(count)}, still too much)" for way, count in self.cheaper[-1:]]
        raise BudgetError(
            f"{self.want} of {self.tokens:,} tokens would not fit",
            got=f"{size(self.peak)} at the peak: " + ", ".join(f"{n} {size(b)}" for n, b in self.parts.items() if b),
            expected=f"at most {size(self.budget)} ({self.where})",
            hint=" or ".join(fitting[:2] or other) or None,
        )


def budget(device) -> tuple[int, str]:
    """(bytes free, what bounds them) on the device that runs the model."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE * (free + held)), torch.cuda.get_device_name(device)
    free, where = bounds.host()
    return int(SHARE * free), where


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one reading of one layer needs beyond the run: bytes of `result` and `scratch`, and `flops`, operations."""

    result: int
    scratch: int
    flops: float = 0.0


@dataclasses.dataclass(frozen=True)
class ProbeCost:
    """What one probe of a stream needs, in bytes.

    Attributes:
        chunk: scratch while it looks at a chunk, beside the chunk's seams.
        rows: what it keeps in the end. end: its dataset, and what making it takes beside the rows.
    """

    chunk: int
    rows: int = 0
    end: int = 0


def admit(want: str, tokens: int, parts: Mapping[str, int], device, cheaper: Sequence[tuple[str, int]] = ()) -> None:
    """Refuse what would not fit; for calls that allocate more than they are given, before they do.

    Args:
        want: the call. tokens: of its input. parts: `{name: bytes}` of what it takes at its highest moment.
        device: where. cheaper: `((way, bytes), ...)` of the same call.

    Raises:
        BudgetError: with the bytes, the budget and the nearest way that fits.
    """
    free, where = budget(device)
    cheaper = tuple(sorted(cheaper, key=lambda way: -way[1]))
    Plan(want, tokens, dict(parts), 0, free, where, 0.0, cheaper).refuse()
