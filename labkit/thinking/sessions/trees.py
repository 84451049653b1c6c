"""Rows that name the row before them form a tree: what was sent for an answer is the path from the root to it.

A conversation that was rewound has branches, and each keeps its own calls.
"""

import dataclasses


@dataclasses.dataclass
class Row:
    """A row of a tree: its line, the id of the row before it (None for a root), and what it holds."""

    line: int
    parent: str | None
    holds: object


class Rows:
    """Rows by their ids.

    Args:
        gathered: where problems go.
    """

    def __init__(self, gathered):
        self.gathered, self.rows, self.paths = gathered, {}, {}

    def add(self, name: str, row: Row) -> bool:
        """Take a row in; one whose id was there before is a problem and left out. Returns whether it was taken."""
        if (known := self.rows.get(name)) is not None:
            same = "the same" if known.holds == row.holds else "another content under the id"
            self.gathered.problem(row.line, f"{same} as line {known.line} ({name[:40]}); the first counts")
            return False
        self.rows[name] = row
        return True

    def path(self, name: str) -> list[str]:
        """Ids from the root to a row, itself included.

        A row whose parent is not in the file begins a path, and rows in a circle one where the circle closes; both are
        told once.
        """
        found, seen = [], set()
        while name is not None:
            if name in seen:
                self._tell(name, "rows that are each other's parents; read from here on")
                break
            seen.add(name)
            if name not in self.rows:
                self._tell(found[-1], f"its parent {name[:40]} is not in the file; read from here on")
                break
            found.append(name)
            name = self.rows[name].parent
        return found[::-1]

    def since(self, name: str, known) -> tuple[str | None, list[str]]:
        """The nearest id above a row that is among those known, and the ids from it to the row before; (None, all).

        What was found out for the one above need not be found out again.
        """
        found, at = [], self.rows[name].parent
        while at in self.rows and len(found) < len(self.rows):
            found.append(at)
            if at in known:
                return at, found[::-1]
            at = self.rows[at].parent
        return None, self.path(name)[:-1]

    def _tell(self, name, reason):
        if (name, reason) not in self.paths:
            self.paths[name, reason] = True
            self.gathered.problem(self.rows[name].line, reason)
