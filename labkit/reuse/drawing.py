"""Agent sessions drawn by a seed: turns of a user, calls of tools in each, thinking before every step.

Lengths are lognormal, as those of recorded sessions roughly are; words are drawn from a small vocabulary, so that a
session of any size costs nothing to make and means nothing.
"""

import random

from labkit.arguments import number, whole

WORDS = (
    "the file test error line value cache state layer token model read write check run build fix change function "
    "class import return loop index list key path shape size first last next then because so but if not with from"
).split()


def drawn(
    seed: int = 0,
    *,
    turns: int = 6,
    calls: int = 4,
    thinking: float = 200,
    answer: float = 120,
    result: float = 400,
    question: float = 40,
    spread: float = 0.6,
) -> list[dict]:
    """A session as OpenAI messages.

    Args:
        turns: of the user. calls: tool calls per turn, the mean; a turn ends with an answer that calls nothing.
        thinking, answer, result, question: mean words of each.
        spread: standard deviation of the logarithm of a length.

    Returns:
        List of messages; the assistant's have `reasoning_content`.

    Raises:
        InputError: no turns, or more than memory holds; a length below 0.
    """
    turns, calls = whole(turns, "turns", least=1, most=10_000), whole(calls, "calls", least=0, most=1000)
    lengths = {"thinking": thinking, "answer": answer, "result": result, "question": question}
    lengths = {name: number(mean, name, least=0, most=100_000) for name, mean in lengths.items()}
    thinking, answer, result, question = lengths.values()
    spread, draw = number(spread, "spread", least=0, most=3), random.Random(whole(seed, "seed"))

    def words(mean):
        count = int(mean * draw.lognormvariate(-(spread**2) / 2, spread)) if mean else 0
        return " ".join(draw.choices(WORDS, k=max(1, count))) if mean else ""

    messages = [{"role": "system", "content": "You are an agent. " + words(question)}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{turn + 1}. {words(question)}?"})
        for step in range(draw.randint(0, 2 * calls)):
            arguments = {"path": "/".join(draw.choices(WORDS, k=3)), "from": draw.randrange(500)}
            call = {"type": "function", "function": {"name": draw.choice(("read", "run")), "arguments": arguments}}
            text = words(answer / 4) if step % 2 else ""
            messages.append({"role": "assistant", "reasoning_content": words(thinking), "content": text})
            messages[-1]["tool_calls"] = [call]
            messages.append({"role": "tool", "content": words(result)})
        messages.append({"role": "assistant", "reasoning_content": words(thinking), "content": words(answer)})
    return messages
