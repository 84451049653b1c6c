"""A session is its calls: what was sent to the model, what came back, and what was billed for it."""

import dataclasses
import pathlib

from labkit.thinking.messages import Conversation


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens that were billed for a call; None where the log does not say.

    Attributes:
        input: of the whole prompt, those from a cache included. cached: of these, from a cache. written: of these, put
            into a cache at a price. output: that were generated, thinking included. thinking: of these, thinking.
    """

    input: int | None = None
    cached: int | None = None
    written: int | None = None
    output: int | None = None
    thinking: int | None = None


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One call of a model.

    Attributes:
        sent: the messages of the request, the system's first; if the last is the assistant's, it was prefilled, and the
            reply goes on from it.
        reply: the assistant's message that came back; None if the log does not hold it.
        tools: JSON schemas that were sent, or None.
        line: where in the file the call stands. thread: which conversation or sub-agent it belongs to, "" for the main
            one. time: seconds since 1970, or None. usage: what was billed. model: the name that was asked for.
        enable_thinking: what the request asked for; None if it left that to the model.
    """

    sent: Conversation
    reply: dict | None
    tools: list | None = None
    line: int = 0
    thread: str = ""
    time: float | None = None
    usage: Usage | None = None
    model: str | None = None
    enable_thinking: bool | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """A recorded session.

    Attributes:
        calls: `Exchange`s in the order in which they were made.
        format: one of `FORMATS`.
        problems: (line, reason) of everything that could not be placed or was read otherwise; line 0 is the file as a
            whole.
        left_out: (how many, reason) of rows that are no part of any request.
        along: other files that were read with it: sub-agents, a continued trajectory, a list of usages.
    """

    calls: tuple[Exchange, ...]
    format: str
    problems: tuple = ()
    left_out: tuple = ()
    along: tuple[pathlib.Path, ...] = ()

    @property
    def messages(self) -> list[dict]:
        """The messages of the last call and its reply: a conversation, where the session is one."""
        last = self.calls[-1]
        return [*last.sent, *([last.reply] if last.reply else [])]

    @property
    def tools(self) -> list | None:
        """The tools of the last call."""
        return self.calls[-1].tools

    @property
    def threads(self) -> tuple[str, ...]:
        """The conversations and sub-agents that calls belong to, in the order of their first calls."""
        return tuple(dict.fromkeys(call.thread for call in self.calls))

    def of(self, thread: str) -> "Session":
        """The calls of one thread alone."""
        return dataclasses.replace(self, calls=tuple(call for call in self.calls if call.thread == thread))

    def __str__(self):
        count = len(self.calls)
        parts = [f"{count} {'call' if count == 1 else 'calls'}, {len(self.messages)} messages in the last"]
        parts[0] += f" ({self.format})"
        parts += [f"{len(self.threads)} threads"] if len(self.threads) > 1 else []
        parts += (
            [f"{len(self.problems)} {'problem' if len(self.problems) == 1 else 'problems'}"] if self.problems else []
        )
        lines = [f"  line {line}: {reason}" for line, reason in self.problems[:5]]
        lines += [f"  and {len(self.problems) - 5} more"] if len(self.problems) > 5 else []
        lines += [f"  left out, {number}: {reason}" for number, reason in self.left_out]
        return "\n".join([", ".join(parts), *lines])
