"""The registry of papers: every module of this folder holds one, as `PAPER`."""

import importlib
import pkgutil

from labkit.errors import InputError
from labkit.replicate.record import Paper, plain_id


def papers() -> dict[str, Paper]:
    """`{arXiv id: Paper}`, in the order of their ids."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {paper.arxiv: paper for paper in sorted((module.PAPER for module in modules), key=lambda paper: paper.arxiv)}


def find(arxiv: str) -> Paper:
    """The paper of an `arxiv` id: 2603.22473, arXiv:2603.22473v1 or the address of its page.

    Raises:
        InputError: one that is not here.
    """
    known = papers()
    if (name := plain_id(arxiv)) not in known:
        raise InputError("no such paper here", got=arxiv, expected=", ".join(known))
    return known[name]
