"""A tokenizer's chat template run with bounds on time, memory and size, in a process apart (`stranger`).

The process starts with the first prompt and answers all that follow, from any thread, one at a time. It is ended and
started anew where a template takes too long or dies, or where the wait is interrupted.
"""

import atexit
import contextlib
import os
import pathlib
import pickle
import subprocess
import sys
import threading

from labkit.errors import BackendError, InputError

SECONDS = 10.0  # of one prompt; those of the family take milliseconds
MEMORY = 2**30  # bytes of address space
LONGEST = 2**27  # bytes of a prompt
LARGEST = 2**20  # characters of a template; those of the family have 8 thousand


def apply(tokenizer, messages: list[dict], tools: list | None, **options) -> str:
    """The prompt by a tokenizer's own template, as `apply_chat_template(..., tokenize=False)` gives it.

    Args:
        tokenizer: of transformers; one with an `apply_chat_template` of its own is asked itself.
        messages, tools: plain data (`labkit.thinking.messages`). options: variables of the template.

    Raises:
        InputError: the template is no template, refuses the messages, or takes too much time, memory or text.
        BackendError: the system starts no process.
    """
    from transformers import PreTrainedTokenizerBase

    if getattr(type(tokenizer), "apply_chat_template", None) is not PreTrainedTokenizerBase.apply_chat_template:
        return tokenizer.apply_chat_template(messages, tokenize=False, tools=tools, **options)
    try:
        template = tokenizer.get_chat_template(None, tools)
    except ValueError as error:
        raise InputError("no chat template to choose", got=str(error)) from None
    if not isinstance(template, str):
        raise InputError("a chat template is a text", got=type(template).__name__)
    if len(template) > LARGEST:
        got = f"{len(template):,} characters"
        raise InputError("a chat template too large", got=got, expected=f"up to {LARGEST:,}")
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    conversation = [{name: value for name, value in message.items() if value is not None} for message in messages]
    return _STRANGER.ask(special | options | dict(conversations=[conversation], tools=tools, chat_template=template))


class Stranger:
    """The process, from its start to its end."""

    def __init__(self):
        self.lock, self.process, self.owner = threading.Lock(), None, None

    def ask(self, arguments: dict) -> str:
        """A prompt for the arguments of `render_jinja_template`."""
        with self.lock:
            try:
                answer = self._exchanged(dict(arguments=arguments, seconds=SECONDS, most=LONGEST))
            except BaseException:  # what comes out of the pipe later would answer another request
                self.end()
                raise
        if answer is None:
            got = f"more than {SECONDS:g} s, or the process died"
            raise InputError("the tokenizer's chat template does not come to an end", got=got, hint=HINT)
        if answer[:1] == b"!":
            got = answer[1:].decode("utf-8", "replace")
            raise InputError("the tokenizer's chat template gives no prompt", got=got, hint=HINT)
        return answer[1:].decode("utf-8", "surrogatepass")

    def end(self) -> None:
        """End the process, if there is one; the next request starts another."""
        process, self.process = self.process, None
        if process is not None and self.owner == os.getpid():
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout) if process is not None else ():
            with contextlib.suppress(OSError):  # what was to be written has no reader any more
                pipe.close()

    def _exchanged(self, request):
        """The answer, or None if the process ended without one."""
        if self.process is None or self.owner != os.getpid():  # a fork shares its parent's pipes
            self.end()
            self._start()
        try:
            self._send(request)
            head = self.process.stdout.read(8)
            answer = self.process.stdout.read(int.from_bytes(head)) if len(head) == 8 else b""
        except BrokenPipeError:
            head = answer = b""
        if len(head) == 8 and len(answer) == int.from_bytes(head):
            return answer
        self.end()
        return None

    def _start(self):
        program = pathlib.Path(__file__).with_name("stranger.py")
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:  # in a session of its own: an interrupt of the terminal is not for it
            command = [sys.executable, "-I", "-S", str(program)]
            self.process = subprocess.Popen(command, start_new_session=True, **pipes)
        except OSError as error:
            raise BackendError("no process for the chat template", got=str(error), hint=HINT) from None
        self.owner = os.getpid()
        self._send(dict(path=[folder for folder in sys.path if folder], memory=MEMORY))

    def _send(self, request):
        data = pickle.dumps(request)
        self.process.stdin.write(len(data).to_bytes(8) + data)
        self.process.stdin.flush()


HINT = "thinking.render(messages) needs no template"
_STRANGER = Stranger()
atexit.register(_STRANGER.end)
