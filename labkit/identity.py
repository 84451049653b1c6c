"""What a result was made with: an `Identity`, carried by runs, snapshots, caches, folders; compared where they meet.

Weights are told apart by samples (`labkit.watched`), edits by what they do (`labkit.fingerprint`).
"""

import dataclasses
from collections.abc import Iterable

from labkit.errors import InputError

SHOWN = 200  # signs of one value in a message
LISTS = "hooks", "edits"
TELLS = "weights", "digest", "adapters", "dtype", "hooks", "scaling", "edits", "kernels", "versions"
NUMBERS = TELLS[:4]  # without which a continuation is wrong; hooks may only look, kernels move last digits alone
LASTING = tuple(name for name in TELLS if name not in ("digest", "hooks", "scaling"))


@dataclasses.dataclass(frozen=True)
class Identity:
    """What computed.

    Attributes:
        model: its name; two models may share it. weights: of samples of all parameters, 16 hexadecimal digits.
        adapters: which are loaded, active, merged. hooks: of others, that run in its layers and may change numbers.
        dtype: of the activations. scaling: rotary. edits: those that were open, each with what it does.
        kernels: what computes the layers, on which kind of device. versions: python, torch and transformers.
        digest: of every byte of the weights, where it was asked for.
    """

    model: str = ""
    weights: str = ""
    adapters: str = ""
    hooks: tuple[str, ...] = ()
    dtype: str = ""
    scaling: str = ""
    edits: tuple[str, ...] = ()
    kernels: str = ""
    versions: str = ""
    digest: str | None = None

    def differing(self, other: "Identity", tells: Iterable[str] = TELLS) -> dict[str, tuple]:
        """`{tell: (own, other's)}` of those that differ; a digest counts where both have one."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in tells}
        if None in pairs.get("digest", ()):
            del pairs["digest"]
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def check(self, made: "Identity", what: str, *, tells: Iterable[str] = NUMBERS, hint: str | None = None) -> None:
        """Refuse what was made with something else than this.

        Args:
            made: identity of what is met; one without weights is of nobody and passes. what: names it, "this snapshot
                was made".

        Raises:
            InputError: says what differs.
        """
        if made.weights and (differing := made.differing(self, tells)):
            got = "; ".join(f"{name} {_short(before)}" for name, (before, _) in differing.items())
            now = "; ".join(f"{name} {_short(now)}" for name, (_, now) in differing.items())
            raise InputError(
                f"{what} by another model", got=f"{made.model}: {got}", expected=f"{self.model}: {now}", hint=hint
            )

    def to_json(self) -> dict:
        """As plain objects; `of_json` reads them."""
        return dataclasses.asdict(self) | {"hooks": list(self.hooks), "edits": list(self.edits)}


def of_json(facts: dict) -> Identity:
    """The `Identity` of what `to_json` gave.

    Raises:
        InputError: other fields, or values that are no texts.
    """
    kinds = {field.name: list if field.name in LISTS else str for field in dataclasses.fields(Identity)}
    if not isinstance(facts, dict) or facts.keys() != kinds.keys():
        raise InputError("not an identity", got=_short(str(facts)), expected=", ".join(kinds))
    for name, kind in kinds.items():
        value = facts[name]
        texts = value if kind is list and isinstance(value, list) else [value]
        if not (isinstance(value, kind) or (name == "digest" and value is None)) or not all(
            isinstance(text, str | None) for text in texts
        ):
            raise InputError("not an identity", got=f"{name}: {_short(str(value))}", expected="texts")
    return Identity(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})


def lasting(lab) -> dict:
    """The identity of a lab for a folder that another process may continue, as plain objects without the name.

    Scaling is left out: a folder tells it itself, for a stream or for each answer.

    Raises:
        InputError: an open edit that cannot be told from another one.
    """
    if unknown := [repr(item) for item in lab.scopes.edits if item.fingerprint is None]:
        raise InputError(
            "nobody can tell later what this edit did, so nothing may be continued under it",
            got=", ".join(unknown),
            expected="ready edits, or functions without a state of their own",
            hint="leave out the folder",
        )
    made = lab.identity().to_json()
    return {name: made[name] for name in LASTING}


def difference(before: dict, now: dict) -> str:
    """What differs between two of `lasting`, for a message."""
    differing = {name: (before.get(name), now[name]) for name in now if before.get(name) != now[name]}
    return "; ".join(f"{name} {_short(old)}, now {_short(new)}" for name, (old, new) in differing.items())


def _short(value):
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value or "")
    return (text if len(text) <= SHOWN else text[: SHOWN - 1] + "…") or "none"
