"""What the doctor says: a verdict per check, and a report of them as text and as HTML with the same facts."""

import collections
import dataclasses

from labkit.tables import Coloured, as_html

STATUSES = ("ok", "warn", "fail")
COLOURS = {"ok": "#009E73", "warn": "#E69F00", "fail": "#D55E00"}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One line: `name`, what was looked at; `status`, "ok" | "warn" | "fail"; `detail`, what was measured."""

    name: str
    status: str
    detail: str

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {STATUSES}")

    def __repr__(self):
        return f"{self.status:4}  {self.name}: {self.detail}"


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """All verdicts of one checkup, in order."""

    verdicts: tuple

    @property
    def healthy(self) -> bool:
        """Whether no verdict is "fail"."""
        return all(verdict.status != "fail" for verdict in self.verdicts)

    def summary(self) -> str:
        """ "18 ok, 1 warn, 0 fail"."""
        count = collections.Counter(verdict.status for verdict in self.verdicts)
        return ", ".join(f"{count[status]} {status}" for status in STATUSES)

    def __getitem__(self, name):
        return next(verdict for verdict in self.verdicts if verdict.name == name)

    def __repr__(self):
        return "\n".join([*map(repr, self.verdicts), self.summary()])

    def _repr_html_(self):
        rows = [("", Coloured(v.status, COLOURS), f"{v.name}: {v.detail}") for v in self.verdicts]
        return as_html(self.summary(), rows)
