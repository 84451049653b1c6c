"""`explain.html`: nano itself in one page, in plain JavaScript, with chapters on what its layers keep and forget.

The page is `page.html` with `style.css` and the files of `js` in the order of `SCRIPTS`, the weights in it as base64.
What it says of sizes comes from nano's configuration; what it says of texts it computes itself. It asks nothing of any
other address: its policy allows the one style and the one script of its own, by their digests, and no connection.

In this folder: `facts` (sizes, prompts of a conversation, the tokenizer's tables and the weights).
"""

import base64
import hashlib
import importlib.metadata
import json
import pathlib
import re

import labkit
from figures._explain import facts
from labkit import folders
from labkit.draw.pages import embed, escape

NAME = "explain"
HERE = pathlib.Path(__file__).parent
SCRIPTS = (
    *("data", "tokenizer", "arithmetic", "model"),
    *("words", "reader", "parts", "strips", "pictures"),
    *("guess", "layers", "state", "gate", "look", "overwrite", "thinking", "play"),
    "main",
)
MADE_FROM = (".py", ".html", ".css", ".js", ".json", ".jinja", ".safetensors")
HEAD = 2000  # characters of the page in which its digest stands


def digest() -> str:
    """Of all that the page is made from: this folder, labkit with nano, and the packages that read the tokenizer."""
    parts = [f"{package} {importlib.metadata.version(package)}" for package in ("tokenizers", "transformers")]
    for home in (HERE, pathlib.Path(labkit.__file__).parent):
        files = sorted(path for path in home.rglob("*") if path.suffix in MADE_FROM)
        parts += [f"{path.relative_to(home)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write(path: str | pathlib.Path, *, fresh: bool = False) -> bool:
    """Write the page, unless the one that is there was made from the same; whether it was written.

    Raises:
        CheckpointError: the file cannot be written.
    """
    path, now = pathlib.Path(path), digest()
    if not fresh and _of(path) == now:
        return False
    with folders.told("the page could not be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.write_text(path, page(now))
    return True


def page(inputs: str = "", *, script: str | None = None) -> str:
    """The text of the page.

    Args:
        inputs: digest that is kept in it. script: in place of `scripts()`.
    """
    script, style, model = script or scripts(), (HERE / "style.css").read_text(encoding="utf-8"), facts.model()
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:"
    filled = {
        "inputs": inputs,
        "policy": policy,
        "style": style,
        "script": script,
        "data": embed(json.dumps(facts.embedded(model), ensure_ascii=False, separators=(",", ":"))),
        "weights": base64.b64encode(model.block).decode(),
    }
    said = {name: escape(text) for name, text in facts.said(model).items()}
    text = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: (said | filled)[match[1]], text)


def scripts() -> str:
    """The page's script: one function, so that it leaves no names behind but those that `main.js` gives away."""
    files = [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "(() => {\n'use strict';\n" + "\n".join(files) + "})();\n"


def _of(path):
    """The digest that a page says it was made from, or None."""
    try:
        with path.open(encoding="utf-8") as file:
            found = re.search(r'<meta name="inputs" content="(\w*)">', file.read(HEAD))
    except (OSError, UnicodeDecodeError):
        return None
    return found and found[1]


def _hash(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
