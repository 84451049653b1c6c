"""Data computed before, kept in `.data/NAME.json` under a digest of all that could change it.

The digest is of the figure's module and the figure modules that it names, every file of labkit (nano's weights and
tokenizer lie there), the versions of Python and of all installed packages, the processor, and the settings in the
environment that compute. It errs on the side of computing: one letter of a comment in labkit is another digest. The
first line of a file holds the digest and the SHA-256 of the rest, the rest is as in golden data; a file that says
anything else counts as none.
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform

import figures
from figures import _golden
from labkit import folders

FOLDER = ".data"
OURS = ("__init__", "_golden", "_data")  # of `figures`: what makes and what keeps the data
SETTINGS = ("ATEN_", "CUDA_", "LABKIT_", "MKL_", "OMP_", "TORCH", "TRITON_", "CUBLAS_")  # NVIDIA's and PyTorch's names


def digests(folder, names, model):
    """`{name: digest}` of figures: what was computed under another one is computed again.

    Args:
        folder: where the modules lie. names: of the figures.
        model: text that tells the lab from others; nano's files lie in labkit and are read here.
    """
    shared = _shared(model)
    return {name: _digest([shared, *_sources(pathlib.Path(folder), name)]) for name in names}


def all_there(folder):
    """Whether every figure of a folder has data that is kept, of whatever digest."""
    names = {path.stem for path in pathlib.Path(folder).glob("*.py") if not path.name.startswith("_")}
    return names <= {path.stem for path in (pathlib.Path(folder) / FOLDER).glob("*.json")}


def known(folder, name, digest):
    """Whether data of this digest is kept, and whole."""
    return _body(folder, name, digest) is not None


def read(folder, name, digest):
    """The dataset that is kept under this digest, or None."""
    body = _body(folder, name, digest)
    return None if body is None else _golden.parse(body.decode())


def write(folder, name, digest, dataset):
    """Keep a dataset; returns it as `read` will give it, so that pages are the same with it and without.

    Raises:
        ValueError: a value that golden data cannot hold.
        CheckpointError: the file cannot be written.
    """
    path, body = _path(folder, name), _golden.text(dataset)
    with folders.told("data of a figure could not be kept", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.write_text(path, f"{digest} {_sha(body.encode())}\n{body}")
    return _golden.parse(body)


def _path(folder, name):
    return pathlib.Path(folder) / FOLDER / f"{name}.json"


def _body(folder, name, digest):
    try:
        head, _, body = _path(folder, name).read_bytes().partition(b"\n")
    except OSError:
        return None
    return body if head == f"{digest} {_sha(body)}".encode() else None


def _sha(content):
    return hashlib.sha256(content).hexdigest()


def _digest(parts):
    return _sha(json.dumps(parts).encode())


# ---------------------------------------------------------------------------------------------- what could change it


def _shared(model):
    """What all figures of one run have in common, as a digest."""
    import labkit

    packages = sorted({f"{dist.name} {dist.version}" for dist in importlib.metadata.distributions()})
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(SETTINGS))
    code = [_sha((figures.HERE / f"{name}.py").read_bytes()) for name in OURS]
    return _digest([model, code, _tree(pathlib.Path(labkit.__file__).parent), packages, settings, _machine()])


def _tree(root):
    """`(path, SHA-256)` of every file below a folder but what Python compiled."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [(str(path.relative_to(root)), _sha(path.read_bytes())) for path in files]


def _machine():
    """Python and what it computes on: other processors give other last digits."""
    import torch

    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no card"
    able = torch.backends.cpu.get_cpu_capability()
    return [platform.python_version(), platform.machine(), platform.system(), platform.processor(), *told, able, card]


def _sources(folder, name):
    """`[name, SHA-256]` of a figure's module and, in turn, of the figure modules that it names."""
    places = {path.stem: path for home in (figures.HERE, folder) for path in home.glob("*.py")}
    found, waiting = {}, [name]
    while waiting:
        each = waiting.pop()
        if each in places and each not in found:
            source = places[each].read_bytes()
            found[each] = _sha(source)
            waiting += _named(ast.parse(source))
    return sorted(map(list, found.items()))


def _named(tree):
    """Names that could be those of modules: imported ones, attributes of `figures`, and texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            words = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (part for word in words for part in word.split("."))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "figures":
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.rpartition(".")[2]
