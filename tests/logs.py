"""Stories that the tests write down in the formats of other programs, and what a ledger must count of them.

A story is a tree of messages drawn by a seed. What was sent for an answer is the path from the root to it: that, whole
prompts rendered anew and compared token by token, is all that the expected numbers come from.
"""

import dataclasses
import random

from labkit import reuse, thinking

WORDS = "file state layer token cache line error test value read write check because first then last so but".split()
TOOLS = [
    {"type": "function", "function": {"name": "read", "description": "a file", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "run", "description": "a test", "parameters": {"type": "object"}}},
]


@dataclasses.dataclass
class Said:
    """A message of a story under a name, the name of the one before it or None, and its time in seconds since 1970."""

    name: str
    parent: str | None
    message: dict
    time: float


class Story:
    """A tree of messages.

    Args:
        seed: what it is drawn by. turns: questions. branches: how many earlier questions are asked anew in other words.
        system, tools, thinks: whether there are a system text, calls of tools, and reasoning. compacted: whether, half
            way, a summary takes the place of all before it: a new root.
    """

    def __init__(self, seed=0, *, turns=4, branches=0, system=True, tools=True, thinks=True, compacted=False):
        self.draw, self.said, self.thinks, self.calls_tools = random.Random(seed), [], thinks, tools
        self.root = self._add(None, "system", self.words(9)) if system else None
        self.tools = TOOLS if tools else None
        last, questions = self.root, []
        for turn in range(turns):
            if compacted and turn == turns // 2:
                last = self._add(self.root, "user", "summary of what was before: " + self.words(12))
                last = self._answered(last)
            questions.append(last)
            last = self._turn(last, turn)
        for branch in range(branches):
            self._turn(questions[self.draw.randrange(len(questions))], turns + branch)

    def words(self, count):
        """So many words."""
        return " ".join(self.draw.choices(WORDS, k=count))

    def path(self, name):
        """What is said from the root to a name."""
        known, found = {one.name: one for one in self.said}, []
        while name is not None:
            found.append(known[name])
            name = known[name].parent
        return found[::-1]

    def exchanges(self):
        """(sent, reply, tools) of every call, in the order of the story."""
        found = []
        for one in self.said:
            if one.message["role"] == "assistant":
                path = [step.message for step in self.path(one.name)]
                found.append((path[:-1], path[-1], self.tools))
        return found

    def _add(self, parent, role, content, **more):
        name = f"n{len(self.said):03d}"
        self.said.append(Said(name, parent, {"role": role, "content": content} | more, 1.7e9 + 7 * len(self.said)))
        return name

    def _turn(self, last, turn):
        last = self._add(last, "user", f"{turn}. {self.words(self.draw.randint(3, 8))}?")
        for step in range(self.draw.randint(0, 2) if self.calls_tools else 0):
            arguments = {"path": self.words(1), "lines": [step, turn]}
            call = {"id": f"c{turn}_{step}", "type": "function"}
            call["function"] = {"name": self.draw.choice(("read", "run")), "arguments": arguments}
            last = self._answered(last, self.draw.choice(("", self.words(3))), tool_calls=[call])
            last = self._add(last, "tool", self.words(self.draw.randint(4, 9)), tool_call_id=call["id"])
        return self._answered(last)

    def _answered(self, last, content=None, **more):
        thought = {"reasoning_content": self.words(self.draw.randint(2, 9))} if self.thinks else {}
        return self._add(last, "assistant", self.words(5) if content is None else content, **thought, **more)


def bare(message):
    """A message with what templates read alone."""
    found = {name: message[name] for name in ("role", "content", "reasoning_content") if message.get(name)}
    calls = [{"function": call["function"]} for call in message.get("tool_calls") or ()]
    return {"content": ""} | found | ({"tool_calls": calls} if calls else {})


def same(session, exchanges):
    """Whether a session holds these exchanges, in this order: what was sent, what came back, which tools."""
    found = [([bare(m) for m in c.sent], c.reply and bare(c.reply), c.tools or None) for c in session.calls]
    return found == [
        ([bare(m) for m in sent], reply and bare(reply), tools or None) for sent, reply, tools in exchanges
    ]


def counted(exchanges, tokenizer, policy="strip", **options):
    """[(prompt, generated, shared)] of exchanges by brute force: whole prompts, every earlier one looked through."""
    rows, cached = [], []
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    for sent, reply, tools in exchanges:
        sent = [bare(message) for message in sent]
        if policy == "drop":
            sent = [{name: m[name] for name in m if name != "reasoning_content"} for m in sent]
        more = dict(preserve=policy != "strip", tools=tools) | options
        prompt = encode(thinking.render(sent, **more))
        written = []
        if reply is not None:
            alone = [{"role": "user", "content": "?"}, bare(reply)]
            text = thinking.render(alone, preserve=True, add_generation_prompt=False)
            text = text.partition("<|im_start|>assistant\n")[2].removesuffix("\n")
            closed = options.get("enable_thinking") is False
            written = encode(text.removeprefix("<think>\n\n</think>\n\n" if closed else "<think>\n"))
        shared = max((_shared(prompt, other) for other in cached), default=0)
        rows.append((len(prompt), len(written), shared))
        cached.append(prompt + written[:-1])
    return rows


def ledger(session, tokenizer, policy="strip", **options):
    """The same of the ledger."""
    ds = reuse.replay(session, policy=policy, tokenizer=tokenizer, **options)
    return list(zip(*(ds[name].values.astype(int).tolist() for name in ("prompt", "generated", "shared")), strict=True))


def _shared(a, b):
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
