"""The kernel's interrupt button, while a click is answered.

Kernels answer what a page sends on a thread of their own (a subshell). Python raises interrupts on the main thread
alone, and between cells the kernel ignores them: there a run could not be stopped. So the main thread is asked to
listen as long as the answer takes, and the run asks at every layer what it heard.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def listening() -> Iterator[threading.Event]:
    """While it is open, an interrupt of the kernel sets the event; on the main thread it raises, as everywhere."""
    heard, loop, before = threading.Event(), _main_loop(), []
    if loop is None or threading.current_thread() is threading.main_thread():
        yield heard
        return

    def hear(*_):
        heard.set()

    def begin():
        with contextlib.suppress(ValueError):  # a loop that is not the main thread's
            before.append(signal.signal(signal.SIGINT, hear))

    def end():
        if before and signal.getsignal(signal.SIGINT) is hear:
            signal.signal(signal.SIGINT, before.pop())

    loop.add_callback(begin)
    try:
        yield heard
    finally:
        loop.add_callback(end)


def _main_loop():
    """The loop of the running kernel, which calls from any thread on the main one; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(getattr(shell, "kernel", None), "io_loop", None)
