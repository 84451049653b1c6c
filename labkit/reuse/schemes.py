"""Where states are saved: schemes by name, and the depths in tokens at which a call saves its state under them.

    live           where the call ends, until the next call        end            where the call ends
    prompt_end     where the prompt ends                           before_think   before the thinking block is opened
    last_user      before the answer to the last question          branch         at the end, and where prompts part
    every k        at all multiples of k                           none           nowhere

Names joined by "+" save at the places of each.
"""

from labkit.errors import InputError
from labkit.reuse.call import Call

SCHEMES = ("live", "end", "prompt_end", "before_think", "last_user", "branch", "none")


def schemes(text: str) -> list[str | int]:
    """The marks of a scheme: names, and numbers for "every k".

    Raises:
        InputError: no such scheme.
    """
    marks = []
    for part in str(text).split("+"):
        name = part.strip()
        count = name.removeprefix("every").strip()
        if name in SCHEMES:
            marks.append(name)
        elif name.startswith("every") and count.isdigit() and int(count):
            marks.append(int(count))
        else:
            raise InputError(
                "no such snapshot scheme", got=part.strip(), expected=f"{', '.join(SCHEMES)} or every k, joined by +"
            )
    return [mark for mark in marks if mark != "none"]


def depths(marks: list[str | int], call: Call, length: int, state: int, shared: int) -> list[int]:
    """Depths at which a call saves its state: those that it computes.

    Args:
        length: tokens that are cached when it ends. state: those of them that it resumed from. shared: tokens that its
            prompt has in common with what was cached before.
    """
    chosen = set()
    for mark in marks:
        if mark in ("live", "end"):
            chosen.add(length)
        elif mark == "prompt_end":
            chosen.add(len(call.prompt))
        elif mark in ("before_think", "last_user"):
            chosen.add(getattr(call, mark))
        elif mark == "branch":
            chosen |= {length, shared}
        elif isinstance(mark, int):
            chosen.update(range(mark * (state // mark + 1), length + 1, mark))
    return sorted(depth for depth in chosen if state < depth <= length)


def alone(marks: list[str | int], call: Call, length: int, state: int, shared: int) -> bool:
    """Whether nothing but "live" saves the state at the end of a call: then it goes with the next call."""
    others = [mark for mark in marks if mark != "live"]
    return "live" in marks and length not in depths(others, call, length, state, shared)
