"""nano's tokenizer: byte-level BPE with the family's special tokens, trained on text that every Python brings along.

The split is that of the family (words with one leading blank, single digits, runs of signs); text is NFC-normalised.
Think and tool tags are ordinary added tokens, so that they stay in decoded text, as in the published tokenizers.
"""

import ast
import pathlib
import sysconfig

KEYS = ("fox", "whale", "crow", "lion", "bear", "wolf", "deer", "frog", "swan", "mole", "hawk", "crab")
VALUES = ("red", "blue", "green", "gold", "black", "white", "pink", "gray")
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
VOCAB = 2560
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus():
    """Docstrings of the modules at the top of the standard library, in order of their file names."""
    found = []
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 40:
                    found.append(text)
    return found


def build(texts):
    """Train the tokenizer on these texts; keys and values of the recall tasks become one token each.

    Returns:
        `tokenizers.Tokenizer` of `VOCAB` entries.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    words = " " + " ".join(KEYS + VALUES)
    size = VOCAB - len(SPECIAL) - len(TAGS)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=bytes_, show_progress=False)
    made.train_from_iterator([*texts, *[words] * 3000], trainer)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in TAGS])
    return made


def opened(folder):
    """The tokenizer as transformers reads it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(pathlib.Path(folder) / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
