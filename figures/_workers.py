"""Figures in several processes: each loads the lab once, takes one figure after the other, and writes its page itself.

Threads of PyTorch do not survive a fork. So on Linux the processes are forked from one that has imported everything and
computed nothing; elsewhere each is spawned, and imports by itself. They do not hear an interrupt: the process that
started them does, and ends them. What they finished is whole, since every file is moved to its place when it is.
"""

import contextlib
import multiprocessing
import signal
import sys
from multiprocessing import connection

from figures import _build

PATIENCE = 5  # seconds until a process that was told to end is killed
FORKED = sys.platform == "linux"  # macOS has libraries that do not survive a fork, whatever they did before


def prepare():
    """Begin to import what the processes need, while this one does something else."""
    if FORKED:
        from multiprocessing import forkserver

        _context()
        with _unheard():
            forkserver.ensure_running()


@contextlib.contextmanager
def started(job, names, count):
    """Processes at work on figures while a block lasts; it is given a function for their results.

    `finished(wait)` yields them in the order in which they finish, and gives out what is left: those that are there, or
    with `wait` all.

    Args:
        job: `_build.Job`; its `load` must be a function that another process can import.
        names: the figures, in the order in which they are begun.
        count: how many processes; no more are started than there are figures.
    """
    waiting, busy, processes = list(names), {}, {}
    try:
        for _ in range(min(count, len(waiting))):
            pipe = _start(job, processes)
            busy[pipe] = _give(pipe, waiting.pop(0))
        yield lambda wait: _results(job, waiting, busy, processes, wait)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            _end(process)


def _results(job, waiting, busy, processes, wait):
    while busy and (ready := connection.wait(list(busy), None if wait else 0)):
        for pipe in ready:
            name = busy.pop(pipe)
            try:
                result = pipe.recv()
            except (EOFError, OSError):
                result = _build.failed(name, f"its process ended: {_end(processes.pop(pipe))}", 0.0)
                pipe = _start(job, processes) if waiting else None
            if waiting:
                busy[pipe] = _give(pipe, waiting.pop(0))
            yield result


def _context():
    context = multiprocessing.get_context("forkserver" if FORKED else "spawn")
    if FORKED:
        context.set_forkserver_preload(["figures._ahead"])
    return context


def _start(job, processes):
    """The pipe to a new process, which is kept in `processes`."""
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    with _unheard():  # an interrupt that waits finds the process among those to end
        process.start()
        processes[ours] = process
    theirs.close()
    return ours


def _give(pipe, name):
    with contextlib.suppress(OSError):  # it has ended: then so does the wait for it
        pipe.send(name)
    return name


def _end(process):
    """How a process that has ended, or was told to, did."""
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
    return f"exit code {process.exitcode}"


def _work(pipe, job):
    """What a process does: figures as they come, until nobody sends any more, or it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a library's thread may hear it although this one does not
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an end that gives back locks
    build = _build.Builder(job)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(build(pipe.recv()))


@contextlib.contextmanager
def _unheard():
    """For processes that are started here an interrupt waits for ever, for this one until the block ends."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
