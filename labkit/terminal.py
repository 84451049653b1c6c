"""How a command ends: signs that the terminal cannot show are replaced, and a reader that has left is no error."""

import functools
import os
import sys
from collections.abc import Callable

LEFT = 141  # what a shell says of a tool whose reader has left: 128 and the number of SIGPIPE


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

    return run
