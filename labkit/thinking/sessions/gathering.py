"""What a reader finds in a file: calls in the order of their lines, problems, and rows that are no part of a request.

The same message in many requests is kept once, so that what is held is linear in what was said.
"""

import collections
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Sequence

from labkit.errors import InputError
from labkit.thinking import rules
from labkit.thinking.messages import Conversation
from labkit.thinking.sessions.normal import leading
from labkit.thinking.sessions.record import Exchange, Usage
from labkit.thinking.sessions.rows import Problems, rows

THOUGHT = re.compile(rb'"(?:reasoning_content|reasoning_text|reasoning|thinking|thought)"\s*:\s*"(?=[^"]{20})|<think>')
BEHIND = "messages behind the last answer of a conversation, which no call sent"
LATE = "a system message behind the first turn: the family's template refuses it; it is counted as a turn of its own"


class Gathered:
    """Calls, problems and what was left out."""

    def __init__(self, problems: Problems, path: pathlib.Path):
        self.problems, self.path, self.calls, self.left, self.known = problems, path, [], collections.Counter(), {}
        self.read, self.ids = {}, set()  # what was read of equal values; ids of what `known` keeps
        self.unseen_thinking = False  # a reader says so where it leaves thinking out, and has told why
        self.along = []  # files beside this one that were read with it
        self.told = set()  # system messages that were reported

    def problem(self, line: int, reason: str) -> None:
        """Something that could not be placed, or was read otherwise than it stands."""
        self.problems.append((line, reason))

    def leave_out(self, reason: str, row=None) -> None:
        """A row that is no part of a request, on purpose: counted by reason; thinking in a row that is given is told so
        and missed nowhere."""
        self.left[reason] += 1
        if row is not None and not self.unseen_thinking:
            self.unseen_thinking = THOUGHT.search(json.dumps(row, ensure_ascii=False).encode()) is not None

    def unseen(self, line: int, what: str) -> None:
        """Thinking that is there and cannot be read: the first is told, all are counted."""
        if not self.left[what]:
            self.problem(line, f"{what}: the first of them")
        self.unseen_thinking = True
        self.leave_out(what)

    def call(self, sent: Sequence[dict], reply: dict | None, *, line: int, tools: list | None = None, **more) -> bool:
        """Add a call, unless its prompt cannot be one: then that is a problem.

        Args:
            sent, reply: messages as `parts.message` gives them. tools: as `parts.tools`. line: of the call.
            more: `thread`, `time`, `usage`, `model`, `enable_thinking` of `Exchange`.

        Returns:
            whether it was added.
        """
        kept = self.kept(leading(sent))
        if not any(rules.asks(message, i) for i, message in enumerate(kept)):
            self.problem(line, "a call without a question: the family's template refuses it")
            return False
        if kept[-1]["role"] == "assistant":
            try:
                rules.begun(kept, len(kept) - 1, True, "3.6")
            except InputError as error:
                self.problem(line, f"a reply that was begun, which no template goes on from: {error.what}")
                return False
        for message in kept[1:]:
            if message["role"] == "system":
                self._tell(message, line, LATE)
        if len(kept) < len(sent):
            self._tell(kept[0], line, f"{len(sent) - len(kept) + 1} system messages, read as one")
        tools = None if not tools else self._once(tools)
        self.calls.append(Exchange(Conversation(kept), self._once(reply), tools, line, **more))
        return True

    def conversation(self, messages: Sequence[dict], lines: Sequence[int], **more) -> None:
        """Add the calls of a conversation that was kept as a whole: every assistant's message is one.

        Args:
            messages: of the conversation. lines: where each stands. more: as for `call`; `usages` and `times` may give
                one for each message.
        """
        usages, times = more.pop("usages", None), more.pop("times", None)
        for i, message in enumerate(messages):
            if message["role"] == "assistant" and set(message) <= {"role", "content"} and not message["content"]:
                self.leave_out("answers without a word, which are no calls")
            elif message["role"] == "assistant":
                own = dict(usage=usages[i] if usages else None, time=times[i] if times else None)
                self.call(messages[:i], message, line=lines[i], **(more | own))
        last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
        if messages and last < 0:
            self.leave_out("conversations without an answer")
        for message in messages[last + 1 :] if last >= 0 else ():
            self.leave_out(BEHIND, message)

    def kept(self, messages: Sequence[dict]) -> list[dict]:
        """The messages, those that were there before as the same objects."""
        return [self._once(message) for message in messages]

    def read_once(self, given, read: Callable) -> dict | None:
        """`read(given)`, read once for all that is equal: a log of requests holds a message in every one after it. What
        told a problem is read, and told, each time."""
        name, told = _digest(given), self.problems.count()
        if name not in self.read:
            made = read(given)
            if made is None or self.problems.count() > told:
                return made
            self.read[name] = self._once(made)
        return self.read[name]

    def tell_once(self, line: int, reason: str) -> None:
        """A problem whose reason is told for the first line alone."""
        if reason not in self.told:
            self.told.add(reason)
            self.problem(line, reason)

    def beside(self, path: pathlib.Path, read: Callable) -> None:
        """Take in what a file beside this one holds; its problems stand under line 0 with its name.

        Args:
            path: of the file. read: as `Format.read`.
        """
        inner = Gathered(Problems(), path)
        inner.known, inner.ids = self.known, self.ids
        try:
            read(rows(path, inner.problems), inner)
        except InputError as error:
            inner.problem(0, f"{error.what} ({error.got})")
        for line, reason in inner.problems.all():
            self.problem(0, f"{path.name}, line {line}: {reason}")
        self.along += [path, *inner.along]
        self.calls += inner.calls
        self.left.update(inner.left)
        self.unseen_thinking |= inner.unseen_thinking

    def left_out(self) -> tuple[tuple[int, str], ...]:
        """(how many, reason), the most frequent first."""
        return tuple((count, reason) for reason, count in self.left.most_common())

    def _tell(self, message, line, reason):
        """A problem of a message, once."""
        if id(message) not in self.told:
            self.told.add(id(message))
            self.problem(line, reason)

    def _once(self, value):
        """The first value that was equal to this one."""
        if value is None or id(value) in self.ids:
            return value
        kept = self.known.setdefault(_digest(value), value)
        self.ids.add(id(kept))
        return kept


def usage(given: dict, line: int, gathered: Gathered) -> Usage | None:
    """A `Usage` of numbers under its own names; None for none. What is no count of tokens is a problem and left out."""
    found = {}
    for name, value in given.items():
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < 2**53:
            gathered.problem(line, f"usage: {name} is {value!r:.40}, no count of tokens")
        else:
            found[name] = value
    whole = found.get("input")
    if whole is not None and max(found.get("cached", 0), found.get("written", 0)) > whole:
        gathered.problem(line, f"usage: of {whole:,} tokens of input more were cached than there are")
    return Usage(**found) if found else None


def _digest(value):
    """A name for a JSON value. In ASCII: one sign beyond it may widen a whole text to four bytes a sign."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=20).digest()
