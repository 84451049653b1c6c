"""Where states are saved: schemes by name, and the depths at which a call saves its state under them.

    live           where the call ends, until the next call        end            where the call ends
    prompt_end     where the prompt ends                           before_think   before the thinking block is opened
    last_user      before the answer to the last question          branch         at the end, and where prompts part
    every k        at all multiples of k                           none           nowhere

Names joined by "+" save at the places of each.
"""

from labkit.errors import InputError

SCHEMES = ("live", "end", "prompt_end", "before_think", "last_user", "branch", "none")


def schemes(text):
    """The parts of a scheme: names, and numbers for "every k"."""
    found = []
    for part in str(text).split("+"):
        name = part.strip()
        count = name.removeprefix("every").strip()
        if name in SCHEMES:
            found.append(name)
        elif name.startswith("every") and count.isdigit() and int(count):
            found.append(int(count))
        else:
            raise InputError(
                "no such snapshot scheme", got=part.strip(), expected=f"{', '.join(SCHEMES)} or every k, joined by +"
            )
    return [one for one in found if one != "none"]


def positions(marks, call, length, state, shared):
    """Depths at which a call saves its state: those that it computes."""
    found = set()
    for mark in marks:
        if mark in ("live", "end"):
            found.add(length)
        elif mark == "prompt_end":
            found.add(len(call.prompt))
        elif mark in ("before_think", "last_user"):
            found.add(getattr(call, mark))
        elif mark == "branch":
            found |= {length, shared}
        elif isinstance(mark, int):
            found.update(range(mark * (state // mark + 1), length + 1, mark))
    return sorted(depth for depth in found if state < depth <= length)


def alone(marks, call, length, state, shared):
    """Whether nothing but "live" saves the state at the end of a call: then it goes with the next call."""
    others = [mark for mark in marks if mark != "live"]
    return "live" in marks and length not in positions(others, call, length, state, shared)
