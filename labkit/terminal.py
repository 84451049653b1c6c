"""How a command ends: signs that the terminal cannot show are replaced, and a reader that has left, or an
interrupt, is no error.
"""

import functools
import os
import sys
from collections.abc import Callable

LEFT = 141  # what a shell says of a tool whose reader has left: 128 and the number of SIGPIPE
INTERRUPTED = 130  # and of one that was interrupted: 128 and the number of SIGINT


def command(main: Callable) -> Callable:
    """Make the main function of a command fit for any terminal and any pipe."""

    @functools.wraps(main)
    def run(*args, **options):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            try:
                return main(*args, **options)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still held would be written at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return LEFT
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)  # noqa: T201
            return INTERRUPTED

    return run
