"""Requests that hold a prompt as it was rendered: text in ChatML, read back into messages, or token ids.

ChatML is strict: a turn is `<|im_start|>`, a role, a line break, its words, `<|im_end|>` and a line break, and only the
last one, the assistant's, may be open. Written anew by the family's template the messages should give the same text;
where they do not, that is told. Token ids are taken at their word, and no policy changes anything in them.
"""

from labkit.errors import InputError
from labkit.thinking import rules
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.rows import Unreadable

BEGIN, END, OPEN, CLOSE = "<|im_start|>", "<|im_end|>", "<think>\n", "\n</think>\n\n"
ROLES = ("system", "user", "assistant", "tool")
FROM_TEXT = "prompts that were rendered, read back into messages; a policy says how they would be rendered"
OTHERWISE = "a prompt that the family's template writes otherwise; tokens are counted as the template has it"
FROM_IDS = "prompts as token ids, taken at their word: a policy changes nothing in them"
NO_CHATML = "a prompt in text that is no ChatML; log chat requests (messages) or token ids"
BEGINNINGS = 60  # signs of a prompt that are looked at


def turns(text: str) -> tuple[list[dict], bool | None]:
    """(messages, enable_thinking) of a prompt in ChatML; the last message is the assistant's if it was prefilled.

    Raises:
        Unreadable: it is no ChatML.
    """
    if not text.startswith(BEGIN):
        raise Unreadable(NO_CHATML)
    found, thinks = [], None
    pieces = text.split(BEGIN)[1:]
    for n, piece in enumerate(pieces, 1):
        role, _, rest = piece.partition("\n")
        words, closed, after = rest.partition(END)
        if role not in ROLES or after not in ("", "\n") or (not closed and (n < len(pieces) or role != "assistant")):
            raise Unreadable(f"{NO_CHATML} (turn {n}, of role {role[:20]!r})")
        if closed:
            found.append(_said(role, words))
        elif words == rules.EMPTY:
            thinks = False
        elif words not in ("", OPEN):
            found.append(_said(role, words))
    return found, thinks


def call(
    gathered,
    line: int,
    *,
    text: str | None = None,
    ids: list | None = None,
    said: str | None = None,
    said_ids: list | None = None,
    **more,
) -> None:
    """Add a call from a rendered prompt and what was generated.

    Args:
        text, ids: the prompt, one of them or both. said, said_ids: what came back, None if the log does not hold it.
        more: of `gathered.call`.
    """
    problems = gathered.problems
    if text is None and ids is None:
        gathered.problem(line, "a request without its prompt")
        return
    found = None
    if text is not None and (ids is None or text.startswith(BEGIN)):
        found = parts.tried(turns, text, line, problems)
        if found is None:
            return
    sent, thinks = found or ([{"role": "user", "content": ""}], None)
    sent = [one for one in (parts.tried(parts.message, one, line, problems) for one in sent) if one is not None]
    reply = {"role": "assistant", "content": said or ""}
    if found and said and text.endswith(f"{BEGIN}assistant\n{OPEN}") and "</think>" not in said:
        reply |= {"content": "", "reasoning_content": said}  # it ended within its thinking
    reply |= {} if ids is None else {"prompt_ids": ids}
    reply |= {} if said_ids is None else {"completion_ids": said_ids}
    if reply == {"role": "assistant", "content": ""} and said is None:
        reply = None
    else:
        reply = parts.tried(parts.message, reply, line, problems)
        if reply is None:
            return
    if more.get("enable_thinking") is None:
        more["enable_thinking"] = thinks
    if gathered.call(gathered.kept(sent), reply, line=line, **more):
        gathered.tell_once(line, FROM_IDS if ids is not None else FROM_TEXT)
        if ids is None and not _same(sent, text, thinks):
            gathered.tell_once(line, OTHERWISE)


def _said(role, words):
    """A turn as a message, a thinking block at its beginning apart."""
    said = {"role": role, "content": words}
    if role == "assistant" and words.startswith(OPEN) and CLOSE in words[len(OPEN) - 1 :]:
        thought, _, answer = words[len(OPEN) - 1 :].partition(CLOSE)
        said |= {"reasoning_content": thought.removeprefix("\n"), "content": answer}
    return said


def _same(sent, text, thinks):
    """Whether the family's template writes these messages as they stand in the prompt."""
    options = {"continue_final_message": True} if sent[-1]["role"] == "assistant" else {"enable_thinking": thinks}
    for preserve in (None, True):
        try:
            if rules.render(sent, preserve=preserve, **options) == text:
                return True
        except InputError:
            return False
    return False
