"""Recorded sessions of other programs, read as the calls that they are.

In this folder:

    record      what a session is: calls, each what was sent, what came back and what was billed
    reading     from a file to a session
    looks       what a file is that is no session
    rows        JSON and JSONL within bounds
    format      how a format is told from others
    formats     one file for each: how it is recognised, and its reader
    bodies      requests and responses of OpenAI's chat completions, streams too
    rendered    prompts as text in ChatML or as token ids
    chats       what programs that speak to a chat interface keep of it
    tags        thinking, calls and results in texts
    parts       what rows hold, whatever its type
    wire        requests and responses as logs keep them, streams
    items       items of the Responses API as messages
    blocks      contents of Anthropic's messages as messages
    asides      what stands in the files beside a history of Cline or Roo
    trees       rows that name the row before them: the path from the root to an answer
    normal      messages of any client in the one form
    contents    of the Gemini API, as messages
    claude_rows, attachments   the rows of Claude Code taken in, and what it sends of attachments
    gathering   calls, problems and what is left out
"""

from labkit.thinking.sessions.reading import FORMATS, examples, read_session
from labkit.thinking.sessions.record import Exchange, Session, Usage

__all__ = ["FORMATS", "Exchange", "Session", "Usage", "examples", "read_session"]
