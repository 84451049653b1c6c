"""From a name to files: nano, a folder, a .gguf file, or a repository of the hub in the ordinary cache."""

import hashlib
import os
import pathlib
import re

from labkit.errors import CheckpointError, InputError
from labkit.zoo import files, gguf
from labkit.zoo.settings import read_json

NANO = pathlib.Path(__file__).parents[1] / "nano"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LONGEST = 300  # of a name in a message
SMALL = ["*.json", "*.jinja", "*.txt"]  # fetched from the hub before any weight


def find(name: str | os.PathLike) -> tuple[str, str | pathlib.Path]:
    """("nano" | "folder" | "gguf" | "hub", where) of a name; nothing is opened.

    Raises:
        InputError: neither a path that exists nor a hub id. CheckpointError: a pickle file.
    """
    if name == "nano":
        return "nano", NANO
    if not isinstance(name, str | os.PathLike) or not str(name).strip():
        raise InputError("not a name of a model", got=repr(name), expected='"nano", a path or a hub id "org/name"')
    path = local(name)
    if path and path.is_dir():
        return ("gguf", file) if (file := gguf.alone(path)) else ("folder", path)
    if path and path.suffix == ".gguf":
        return "gguf", path
    if path and path.suffix in files.PICKLES:
        raise CheckpointError(
            "pickle weights can run code when they are opened",
            got=path.name,
            expected="a folder with safetensors",
        )
    if path:
        raise InputError("not a checkpoint", got=path.name, expected="a .gguf file, or the folder of a checkpoint")
    if isinstance(name, str) and HUB_ID.fullmatch(name) and not name.endswith((".gguf", ".safetensors")):
        return "hub", name
    got, expected = str(name)[:LONGEST], '"nano", an existing folder or .gguf file, or "org/name"'
    raise InputError("no such model", got=got, expected=expected)


def local(name: str | os.PathLike) -> pathlib.Path | None:
    """The path of a file or folder that is there, `~` taken for the home; None for any other text."""
    try:
        path = pathlib.Path(name).expanduser()
        return path if path.is_file() or path.is_dir() else None
    except (OSError, RuntimeError):  # too long for a name, no such user
        return None


def fetch(hub_id: str, patterns: list[str]) -> pathlib.Path:
    """The folder of a hub repository in the ordinary cache, with at least the files that match.

    Raises:
        CheckpointError: no network and not in the cache, no such repository, or no access to it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    hint = "load a local folder or .gguf file: labkit.load('/path/to/folder')"
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except errors.GatedRepoError:
        hint = f"accept its terms on the hub and log in with `hf auth login`, or {hint}"
        raise CheckpointError("the hub does not give access", got=hub_id, hint=hint) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError("the hub has no such repository", got=hub_id, expected="org/name", hint=hint) from None
    except Exception as error:  # connection errors differ between releases of the hub client
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            "the hub cannot be reached and its cache does not hold this model",
            got=f"{hub_id}: {type(error).__name__}{': ' + reason[0] if reason else ''}",
            hint=hint,
        ) from None


def cached(hub_id: str) -> bool:
    """Whether the ordinary cache holds the configuration of a hub repository; asks nobody."""
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(hub_id, "config.json"), str)


def check_sums(folder: pathlib.Path) -> None:
    """Refuse an embedded checkpoint whose files are missing or changed; `checksums.json` holds their SHA-256.

    Raises:
        CheckpointError: names the file.
    """
    hint = "install labkit again"
    if not (folder / "config.json").is_file():
        raise CheckpointError("the embedded nano is missing", got="no config.json in labkit/nano", hint=hint)
    for file, expected in read_json(folder, "checksums.json", {}).items():
        if not (folder / file).is_file():
            raise CheckpointError("the embedded nano is incomplete", got=f"no {file}", hint=hint)
        got = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        if got != expected:
            raise CheckpointError(
                "the embedded nano is damaged",
                got=f"{file}: {got[:16]}…",
                expected=f"{str(expected)[:16]}…",
                hint=hint,
            )
