"""nano's words and its tokenizer: byte-level BPE with the family's special tokens and chat template.

The split is that of the family (words with one leading blank, single digits, runs of signs); text is NFC-normalised, so
any text encodes and comes back in that form. Think and tool tags are ordinary added tokens: they stay in decoded text,
as in the published tokenizers. A blank line is one token of its own, also as there. Trained on docstrings that every
Python brings along, and on the words below, each of which becomes one token with its leading blank.
"""

import ast
import pathlib
import sysconfig

KEYS = tuple(
    "fox whale crow lion bear wolf deer frog swan mole hawk crab goat seal duck hare lynx toad wren moth "
    "newt ibex puma owl bat elk eel ant bee cat dog hen pig cow ram ewe yak emu gnu ape cod jay kite lark "
    "lamb mouse otter panda rook snail snake stork tiger trout viper wasp zebra camel eagle goose horse "
    "sheep shrimp beaver".split()
)
VALUES = tuple("red blue green gold black white pink gray brown purple orange silver yellow violet amber teal".split())
ORDINALS = tuple("first second third fourth fifth sixth seventh eighth".split())
PEOPLE = tuple("miller baker queen farmer sailor doctor teacher painter hunter singer weaver potter".split())
PLACES = tuple("mill oven castle field harbour clinic school studio forest theatre loom kiln".split())
VERBS = tuple("grinds bakes rules plants sails heals teaches paints hunts sings weaves shapes".split())
THINGS = tuple("flour bread land corn boats people children walls game songs cloth clay".split())
TIMES = tuple("morning evening winter summer spring autumn".split())
OTHER = tuple(
    "the a is in on at of and it to so no then now every near what which colour look up pick for one list "
    "end last after before earlier later noted sees likes feeds rests goes with by door house cup ring "
    "coat boat stone I need tool said".split()
)
WORDS = (*KEYS, *VALUES, *ORDINALS, *PEOPLE, *PLACES, *VERBS, *THINGS, *TIMES, *OTHER)
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
ROLES = ("user", "assistant", "system", "parameter", "function", "name")
VOCAB = 2560
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus() -> list[str]:
    """Docstrings of the modules at the top of the standard library, in order of their file names."""
    texts = []
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 40:
                    texts.append(text)
    return texts


def build(texts: list[str]):
    """Train the tokenizer on these texts; every word of nano's tasks becomes one token.

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
    words = " " + " ".join(WORDS) + "\n" + "\n".join(ROLES) + "\n\n.\n"
    size = VOCAB - len(SPECIAL) - len(TAGS)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=bytes_, show_progress=False)
    made.train_from_iterator([*texts, *[words] * 3000], trainer)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in TAGS])
    return made


def wrapped(tokenizer):
    """The tokenizer as transformers uses it, with the chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        chat_template=(pathlib.Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8"),
    )
