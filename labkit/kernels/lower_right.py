"""Causal attention that needs no mask to continue a cache, registered with transformers under a name of labkit's.

A pass over n tokens after others makes transformers build an n x m mask, hold it through the pass, turn it into numbers
in every layer, and copy keys and values for each query head: sdpa's `is_causal` is aligned to the upper left, and only
a mask can say anything else. Registered here: a mask function that returns none where attention is plainly causal, and
an attention function that then computes it aligned to the lower right.

A mask that is given always counts, whoever made it: padded rows, packed sequences, caches of fixed length. It goes to
transformers' own sdpa, as do attention that is not causal (image towers), dropout and biases of positions, passes that
build a graph or are traced, and every pass on a device without such a kernel, where the same bits come out as under
"sdpa". Whatever continues a cache there without a mask gets the lower-right one.
"""

import functools
from collections.abc import Callable

import torch

from labkit.errors import BackendError, InputError, first_line
from labkit.kernels import cards

NAME = "labkit_lower_right"
CHOICES = ("auto", "flash", "sdpa", "eager")


@functools.cache
def _theirs():
    """transformers' (sdpa, maker of masks, plain causal function, "being traced?"), imported when first needed."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import causal_mask_function, sdpa_mask
    from transformers.utils.import_utils import is_tracing

    return sdpa_attention_forward, sdpa_mask, causal_mask_function, is_tracing


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query [batch, query_head, n, head_dim], key and value [batch, kv_head, m, .].

    Returns:
        (mixed values [batch, n, query_head, head_dim], None).
    """
    sdpa, *_, is_tracing = _theirs()
    n, m = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and causal and n > 1
    special = dropout or any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    graph = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    name = cards.SDPA
    if plain and not special and not graph and not is_tracing(query):
        name = cards.kernel_for(query.device, query.dtype, query.shape[-1], query.shape[1] // key.shape[1])
    if name == cards.SDPA:
        if plain and n != m:  # sdpa takes none as aligned to the upper left
            attention_mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n)[None, None]
        own = dict(dropout=dropout, scaling=scaling, is_causal=is_causal)
        return sdpa(module, query, key, value, attention_mask, **own, **options)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return cards.KERNELS[name](query, key, value, scale).transpose(1, 2).contiguous(), None


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable | None = None,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **options,
) -> torch.Tensor | None:
    """transformers' mask interface: None for plain causal attention that ends with the last key, else the sdpa mask."""
    _, make, plain, is_tracing = _theirs()
    whole = mask_function in (None, plain) and local_size is None and allow_is_causal_skip
    # A cache of fixed length counts in tensors, and its keys go on after the last query.
    ends = isinstance(q_offset, int) and kv_offset == 0 and q_offset + q_length == kv_length
    if whole and ends and attention_mask is not None:  # a graph that is traced cannot depend on its numbers
        whole = not is_tracing(attention_mask) and attention_mask.shape[-1] == kv_length and attention_mask.all()
    if whole and ends:
        return None
    facts = dict(q_offset=q_offset, kv_offset=kv_offset, attention_mask=attention_mask, local_size=local_size)
    facts |= {"mask_function": plain if mask_function is None else mask_function}
    return make(batch_size, q_length, kv_length, **facts, allow_is_causal_skip=False, **options)


def check(attention: str | None) -> None:
    """Refuse an unknown choice of attention.

    Raises:
        InputError: neither None, one of `CHOICES` nor a name that transformers knows.
    """
    from transformers import AttentionInterface

    register()
    known = (*CHOICES, *AttentionInterface().valid_keys())
    if attention is not None and attention not in known:
        expected = ", ".join(f'"{name}"' for name in CHOICES) + " or a name that transformers knows"
        raise InputError("unknown attention", got=repr(attention), expected=expected)


def choose(model: torch.nn.Module, attention: str | None, device: torch.device) -> None:
    """Set what computes attention in the text layers of a model; its image tower keeps its own.

    Args:
        attention: None leaves it as it is; "flash" is lower-right attention without masks, "auto" the same on a CUDA
            card and "sdpa" elsewhere; else transformers' name.

    Raises:
        InputError: as `check`. BackendError: a package is missing, or the model has no such attention.
    """
    check(attention)
    if attention is None:
        return
    name = {"flash": NAME, "auto": NAME if device.type == "cuda" else "sdpa"}.get(attention, attention)
    towers = getattr(model.config, "sub_configs", {})
    try:
        model.set_attn_implementation({"text_config": name} if "text_config" in towers else name)
    except (ImportError, ValueError) as error:
        got = first_line(error)
        raise BackendError(f"attention={attention!r} cannot be had here", got=got, expected='"auto"') from error


def register() -> None:
    """Make the name known to transformers; again if somebody else took it away."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)


def choice(config, device: torch.device, dtype: torch.dtype) -> tuple[str | None, dict[str, str]]:
    """(kernel within lower-right attention, `{faster kernel: why it is not taken}`) of a model's text configuration.

    (None, {}) under another attention.
    """
    if config._attn_implementation != NAME:
        return None, {}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return cards.tried(device, dtype, width, config.num_attention_heads // config.num_key_value_heads)


def told(config, device: torch.device, dtype: torch.dtype) -> str:
    """transformers' name of a model's attention, with the kernel within lower-right: "labkit_lower_right (flash)"."""
    kernel, _ = choice(config, device, dtype)
    return config._attn_implementation + (f" ({kernel})" if kernel else "")


def maskless(config, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model with this text configuration continues a cache without a mask and repeated keys."""
    return choice(config, device, dtype)[0] not in (None, cards.SDPA)
