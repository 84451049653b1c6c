"""What Claude Code makes of an `attachment` row when it sends it: words in a user's message.

Read from published descriptions of the program (its function `normalizeAttachmentForAPI`, versions 2.0 and 2.1). The
words change from version to version by a few tokens; what an attachment brings along stands in its row.
"""

import json
import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.rows import Unreadable

FIELD = re.compile(r"\{([\w.]+)\}")
SAYS = {
    "directory": 'Called the Bash tool with the following input: {"command":"ls {path}"}\n'
    "Result of calling the Bash tool:\n{content}",
    "edited_text_file": "Note: {filename} was modified, either by the user or by a linter. This change was "
    "intentional, so make sure to take it into account as you proceed (ie. don't revert it unless the user asks you "
    "to). Don't tell the user this, since they are already aware. Here are the relevant changes (shown with line "
    "numbers):\n{snippet}",
    "compact_file_reference": "Note: {filename} was read before the last conversation was summarized, but the contents "
    "are too large to include. Use Read tool if you need to access it.",
    "selected_lines_in_ide": "The user selected the lines {lineStart} to {lineEnd} from {filename}:\n{content}\n\n"
    "This may or may not be related to the current task.",
    "opened_file_in_ide": "The user opened the file {filename} in the IDE. This may or may not be related to the "
    "current task.",
    "plan_file_reference": "A plan file exists from plan mode at: {planFilePath}\n\nPlan contents:\n\n{planContent}\n\n"
    "If this plan is relevant to the current work and not already complete, continue working on it.",
    "nested_memory": "Contents of {content.path}:\n\n{content.content}",
    "skill_listing": "The following skills are available for use with the Skill tool:\n\n{content}",
    "output_style": "{style} output style is active. Remember to follow the specific guidelines for this style.",
    "critical_system_reminder": "{content}",
    "total_tokens_reminder": "{text}",
    "token_usage": "Token usage: {used}/{total}; {remaining} remaining",
    "budget_usd": "USD budget: ${used}/${total}; ${remaining} remaining",
    "hook_blocking_error": '{hookName} hook blocking error from command: "{blockingError.command}": '
    "{blockingError.blockingError}",
    "hook_additional_context": "{hookName} hook additional context: {content}",
    "hook_stopped_continuation": "{hookName} hook stopped continuation: {message}",
    "date_change": "The date has changed. Today's date is now {newDate}. DO NOT mention this to the user explicitly "
    "because they are already aware.",
    "deferred_tools_delta": "The following deferred tools are now available via ToolSearch:\n{addedLines}",
    "agent_listing_delta": "Available agent types for the Agent tool:\n{addedLines}",
    "mcp_instructions_delta": "# MCP Server Instructions\n\nThe following MCP servers have provided instructions for "
    "how to use their tools and resources:\n\n{addedBlocks}",
}
UNSENT = frozenset(
    "already_read_file autocheckpointing background_task_status command_permissions companion_intro "
    "compaction_reminder context_efficiency current_session_memory dynamic_skill echo_activities edited_image_file "
    "goal_status hook_cancelled hook_deferred_tool hook_error_during_execution hook_non_blocking_error "
    "hook_permission_decision hook_system_message max_turns_reached structured_output task_progress todo "
    "ultramemory".split()
)
TODO = (
    "The TodoWrite tool hasn't been used recently. If you're working on tasks that would benefit from tracking "
    "progress, consider using the TodoWrite tool to track progress. Also consider cleaning up the todo list if has "
    "become stale and no longer matches what you are working on. Only use it if it's relevant to the current work. "
    "This is just a gentle reminder - ignore if not applicable. Make sure that you NEVER mention this reminder to "
    "the user\n"
)
QUEUED = (
    "The user sent a new message while you were working:\n{prompt}\n\nIMPORTANT: After completing your current task, "
    "you MUST address the user's message above. Do not ignore it."
)
WORDS = ("prompt", "content", "text", "message", "snippet", "summary")  # under one of which words may stand


def items(given: dict) -> tuple[list[dict], str | None]:
    """Items of a user's message.

    Args:
        given: the attachment.

    Returns:
        (items of text or pictures, None); (items, what is odd about them); or ([], why nothing was sent).

    Raises:
        Unreadable: something in it is missing or of another type.
    """
    kind = given.get("type")
    if not isinstance(kind, str):
        raise Unreadable(f"an attachment of type {shown(kind)}")
    if kind in UNSENT or (kind == "hook_success" and not given.get("content")):
        return [], f"an attachment that is shown and not sent ({kind})"
    if kind in OWN:
        return OWN[kind](given), None
    if kind in SAYS:
        return [reminder(FIELD.sub(lambda name: _field(given, name[1]), SAYS[kind]))], None
    name = next((name for name in WORDS if given.get(name)), None)
    if name is None:
        return [], f"an attachment whose words are not in the file ({kind})"
    return [reminder(_field(given, name))], f"an attachment of unknown type {shown(kind)}, its {name} as it stands"


def reminder(text: str) -> dict:
    """Words of the client."""
    return {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}


def queued(prompt) -> list[dict]:
    """What was typed while the model worked."""
    found = parts.result(prompt)
    shows = [] if isinstance(found, str) else [item for item in found if "text" not in item]
    text = found if isinstance(found, str) else "\n".join(item["text"] for item in found if "text" in item)
    return [reminder(QUEUED.replace("{prompt}", text)), *shows]


def _file(given):
    name, content = _field(given, "filename"), parts.mapping(given.get("content"))
    called = reminder(f"Called the Read tool with the following input: {json.dumps({'file_path': name})}")
    file = parts.mapping(content.get("file"))
    if content.get("type") == "image":
        return [called, {"type": "image", "source": {"data": _field(file, "base64")}}]
    first = file.get("startLine") if type(file.get("startLine")) is int else 1
    lines = _field(file, "content").split("\n")
    text = "\n".join(f"{number:>6}→{line}" for number, line in enumerate(lines, first))
    return [called, reminder(f"Result of calling the Read tool:\n{text}")]


def _todo(given):
    found = [parts.mapping(todo) for todo in parts.many(given.get("content"))]
    lines = [f"{n}. [{_field(todo, 'status')}] {_field(todo, 'content')}" for n, todo in enumerate(found, 1)]
    listed = "\n".join(lines)
    more = f"\n\nHere are the existing contents of your todo list:\n\n[{listed}]" if lines else ""
    return [reminder(TODO + more)]


def _late_hook(given):
    response = parts.mapping(given.get("response"))
    own = parts.mapping(response.get("hookSpecificOutput"))
    found = [response.get("systemMessage"), own.get("additionalContext")]
    return [reminder(text) for text in found if isinstance(text, str) and text]


def _success(given):
    return [reminder(f"{_field(given, 'hookName')} hook success: {_field(given, 'content')}")]


def _queued(given):
    return queued(given.get("prompt"))


OWN = {"file": _file, "todo_reminder": _todo, "async_hook_response": _late_hook}
OWN |= {"hook_success": _success, "queued_command": _queued}


def _field(given, path):
    """The text under a name, or under a name of what is under a name; lists are lines."""
    for name in path.split("."):
        given = given.get(name) if isinstance(given, dict) else None
    if isinstance(given, list) and all(isinstance(line, str) for line in given):
        return "\n".join(given)
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise Unreadable(f"an attachment whose {path} is a {type(given).__name__}")
    return str(given)
