"""Where states are saved: schemes by name, and the depths in tokens at which a call saves its state under them.

    live           where the call ends, until the next call        end            where the call ends
    prompt_end     where the prompt ends                           before_think   before the thinking block is opened
    before_user    before the last question                        last_user      before the answer to it
    question       before the thinking block, if the prompt ends in a question
    system         where the first question begins, behind the system's message
    branch         at the end, and where prompts part              none           nowhere

    every k        at all multiples of k                           back k         k tokens before the prompt ends
    step k         every k tokens of what is read of the prompt    back k/m       if that is m tokens past the question
    edge k         the last multiple of k in the prompt            edge_before k  the one before it
    fork k         where prompts part, down to a multiple of k     fork_before k  the one before it
    tail k         the last multiple of k, if it is generated      written k      all multiples of k that are generated

Names joined by "+" save at the places of each. What `fork` saves is of use from the third visit on: the second finds
it, and has nothing there yet.
"""

import re

from labkit.errors import InputError
from labkit.reuse.call import Call

SCHEMES = (
    "live",
    "end",
    "prompt_end",
    "before_think",
    "before_user",
    "last_user",
    "question",
    "system",
    "branch",
    "none",
)
COUNTED = ("every", "back", "step", "edge", "edge_before", "fork", "fork_before", "tail", "written")
PART = re.compile(r"([a-z_]+?)\s*([0-9]{1,9})(?:\s*/\s*([0-9]{1,9}))?")

Mark = str | int | tuple[str, int, int]


def schemes(text: str) -> list[Mark]:
    """The marks of a scheme: names, numbers for "every k", and (name, k, m) for the others that count tokens.

    Raises:
        InputError: no such scheme.
    """
    marks = [_mark(part.strip()) for part in str(text).split("+")]
    return [mark for mark in marks if mark != "none"]


def _mark(part):
    if part in SCHEMES:
        return part
    name, count, past = found.groups() if (found := PART.fullmatch(part)) else (None, 0, None)
    if name not in COUNTED or not int(count) or (past and name != "back"):
        expected = f"{', '.join(SCHEMES)}, {', '.join(COUNTED[1:])} k or every k, joined by +"
        raise InputError("no such snapshot scheme", got=part, expected=expected)
    return int(count) if name == "every" else (name, int(count), int(past or 0))


def depths(marks: list[Mark], call: Call, length: int, state: int, shared: int) -> list[int]:
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
        elif mark == "question":
            chosen.add(call.before_think if call.before_think == call.last_user else 0)
        elif mark == "branch":
            chosen |= {length, shared}
        elif isinstance(mark, str):
            chosen.add(getattr(call, mark))
        elif isinstance(mark, int):
            chosen.update(range(mark * (state // mark + 1), length + 1, mark))
        else:
            chosen.update(_counted(*mark, call, length, state, shared))
    return sorted(depth for depth in chosen if state < depth <= length)


def _counted(name, k, past, call, length, state, shared):
    """The depths of one mark that counts tokens."""
    n = len(call.prompt)
    parting = min(shared, n - 1)  # the last token of a prompt is always read
    if name == "back":
        far = not past or not call.before_user or n - k > call.before_user + past
        return (n - k,) if far else ()
    if name == "step":
        return range(state + k, n + 1, k)
    if name == "written":
        return range((n // k + 1) * k, length + 1, k)
    if name == "tail":
        return (length // k * k,) if length // k * k > n else ()
    return {
        "edge": (n // k * k,),
        "edge_before": (n // k * k - k, (n - 1) // k * k - k),  # for a prompt that goes on, and for the same again
        "fork": (parting // k * k,),
        "fork_before": (parting // k * k - k,),
    }[name]


def alone(marks: list[Mark], call: Call, length: int, state: int, shared: int) -> bool:
    """Whether nothing but "live" saves the state at the end of a call: then it goes with the next call."""
    others = [mark for mark in marks if mark != "live"]
    return "live" in marks and length not in depths(others, call, length, state, shared)
