"""The process that a chat template runs in: a program of its own, started by `labkit.thinking.templates`.

A template is code of whoever wrote the tokenizer. Its sandbox keeps it from files and attributes, not from loops
without end or texts of gigabytes, so it runs where the system bounds time and memory. The function that renders is that
of transformers, loaded from its one file: with all of transformers a start takes seconds.

Each way a message is its length (8 bytes), then: to here a pickle, from here a letter and text ("=" a prompt, "!" the
reason why there is none).
"""

import contextlib
import faulthandler
import importlib
import importlib.util
import logging
import os
import pickle
import sys
import types


def renderer():
    """`render_jinja_template` of the installed transformers."""
    home = importlib.util.find_spec("transformers").submodule_search_locations[0]
    logs, imports = types.ModuleType("logging"), types.ModuleType("import_utils")
    logs.get_logger = logging.getLogger
    imports.__getattr__ = lambda name: lambda: name == "is_jinja_available"
    whole, parts, arrays = (types.ModuleType(name) for name in ("transformers", "transformers.utils", "numpy"))
    whole.__path__, parts.__path__, parts.logging = [home], [os.path.join(home, "utils")], logs
    arrays.generic = type("generic", (), {})  # what comes here is plain already
    stands = {"transformers": whole, "transformers.utils": parts, "numpy": arrays}
    stands |= {"transformers.utils.logging": logs, "transformers.utils.import_utils": imports}
    sys.modules.update(stands)
    return importlib.import_module("transformers.utils.chat_template_utils").render_jinja_template


def bound(memory):
    """Let the system refuse more than `memory` bytes, and every write to a file."""
    try:
        import resource
    except ImportError:  # Windows has none; time is bounded there too
        return
    for kind, most in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(ValueError, OSError):  # a system that knows the limit and sets none
            resource.setrlimit(getattr(resource, kind), (most, most))


def answered(render, request):
    """(letter, text) for one request: the arguments of `render_jinja_template`."""
    try:
        texts, _ = render(**request)
        return b"=", texts[0].encode("utf-8", "surrogatepass")
    except MemoryError:
        return b"!", b"it needs more memory than a template may have"
    except RecursionError:
        return b"!", b"it calls itself without end, or is nested too deeply"
    except Exception as error:
        return b"!", f"{type(error).__name__}: {str(error)[:400]}".encode("utf-8", "replace")


def main():
    """Answer requests until there are no more."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    silence = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    render = None
    while head := source.read(8):
        request = pickle.loads(source.read(int.from_bytes(head)))
        if render is None:
            sys.path[:] = request["path"]
            render = renderer()
            bound(request["memory"])
            continue
        faulthandler.dump_traceback_later(request["seconds"], exit=True, file=silence)
        letter, text = answered(render, request["arguments"])
        faulthandler.cancel_dump_traceback_later()
        if len(text) > request["most"]:
            letter, text = b"!", f"its prompt has {len(text):,} bytes, more than {request['most']:,}".encode()
        sink.write((1 + len(text)).to_bytes(8) + letter + text)
        sink.flush()


if __name__ == "__main__":
    main()
