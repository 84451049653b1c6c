"""What is given in the place of a tokenizer, told before anything is rendered."""

import inspect

from labkit.calling import described
from labkit.errors import InputError


def check_tokenizer(given: object, name: str, hint: str | None = None) -> None:
    """Refuse what is no tokenizer, and say where one is found.

    Args:
        name: of the call that needs one. hint: what helps, if the call has no argument `tokenizer`.

    Raises:
        InputError: a lab, a processor, a name, nothing, ...
    """
    words = any(hasattr(given, word) for word in ("get_vocab", "get_added_vocab"))
    templated = hasattr(given, "apply_chat_template") and not hasattr(given, "tokenizer")
    if (words or templated) and not inspect.isclass(given):
        return
    right = "tokenizer=reuse.small_tokenizer(), that of nano, or thinking.tokenizer(), that of Qwen3.6"
    if hasattr(given, "tokenizer"):
        word = "lab" if described(given) == "a lab" else "processor"
        right = f"tokenizer={word}.tokenizer"
    got = "none" if given is None else described(given)
    raise InputError(f"{name} needs a tokenizer", got=got, expected="a tokenizer of transformers", hint=hint or right)
