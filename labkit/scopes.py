"""What is open on a lab: edits, a rotary scaling, keys that are kept before rotation. Each is set by a `with` block.

These few fields are all the state that a lab has between calls.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from labkit.edit import StateEdit
from labkit.rotary import Scaling


@dataclasses.dataclass
class Scopes:
    """Open scopes, innermost last.

    Attributes:
        edits: open interventions, in the order in which they were opened.
        scaling: of an open `yarn.scaled`, or None. unrotated: inside `yarn.dynamic`, what makes an attention layer's
            part of a cache, `layer -> cache layer`, or None.
        rescaled: whether another scaling than the configuration's was ever open, so that keys of a cache that labkit
            has not seen may be of any.
    """

    edits: list = dataclasses.field(default_factory=list)
    scaling: Scaling | None = None
    unrotated: Callable | None = None
    rescaled: bool = False

    @property
    def cuts(self) -> list[int]:
        """Token counts at which an open state edit needs a prompt to be split."""
        return sorted({item.at + 1 for item in self.edits if isinstance(item, StateEdit)})

    @contextlib.contextmanager
    def opened(self, **fields) -> Iterator["Scopes"]:
        """Fields with these values while the block lasts; then exactly as before, also after an exception."""
        before = {name: getattr(self, name) for name in fields}
        try:
            for name, value in fields.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)
