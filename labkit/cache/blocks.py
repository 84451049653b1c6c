"""Keys and values in buffers that are larger than what they hold, so that a token is written and nothing is copied.

`transformers.DynamicLayer` concatenates: every pass copies all earlier keys and values, which over N tokens in chunks
of c is N² / 2c of them. Here a pass writes its own tokens behind the earlier ones. A buffer that is full is replaced by
one with an eighth more room; where the length is known before, `reserve` makes the buffer once and exactly.

Nothing that was written is ever overwritten: views of the first tokens (snapshots share them) stay what they are, and a
tensor that is assigned (a snapshot that is restored, rows that are reordered, tokens that are cropped) has no room of
its own, so that the next pass copies it before it writes.
"""

import torch
from transformers.cache_utils import DynamicLayer

BLOCK = 64  # tokens; a buffer that grew holds a multiple of them
SPARE = 8  # and one part in so many beyond what is needed


def grown(tokens: int) -> int:
    """Room of a buffer that had to grow to hold so many tokens."""
    return -(-(tokens + tokens // SPARE) // BLOCK) * BLOCK


class Blocks(DynamicLayer):
    """Keys and values of one attention layer.

    Attributes:
        keys, values: [batch, kv_head, length, head_dim], views of the buffers; assigning a tensor shares it.
        reserved: tokens that there will be at least, as far as anybody said.
        place: [1] where the one token of a pass goes, while a decode step runs on fixed shapes (`labkit.steps`); then
            the pass is given whole buffers, and `length` stays what it was.
    """

    def __init__(self):
        self._keys = self._values = None  # (buffer [batch, kv_head, room, head_dim], tokens that it holds)
        self.reserved, self.place = 0, None
        super().__init__()

    @property
    def keys(self) -> torch.Tensor | None:
        """[batch, kv_head, length, head_dim], or None before the first pass."""
        return _held(self._keys)

    @keys.setter
    def keys(self, tensor: torch.Tensor | None) -> None:
        self._keys = None if tensor is None else (tensor, tensor.shape[-2])

    @property
    def values(self) -> torch.Tensor | None:
        """[batch, kv_head, length, head_dim], or None before the first pass."""
        return _held(self._values)

    @values.setter
    def values(self, tensor: torch.Tensor | None) -> None:
        self._values = None if tensor is None else (tensor, tensor.shape[-2])

    @property
    def length(self) -> int:
        """Tokens that are held."""
        return 0 if self._keys is None else self._keys[1]

    @property
    def room(self) -> int:
        """Tokens that fit the buffers."""
        return 0 if self._keys is None else min(self._keys[0].shape[-2], self._values[0].shape[-2])

    def buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [batch, kv_head, room, head_dim], for who writes behind the first `length` tokens itself.

        Their addresses stay until a pass needs more room, or `reserve` is asked for more. What nobody wrote is zero.
        """
        return self.resting()

    def resting(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers as they are, without waiting for copies that are on their way."""
        return self._keys[0], self._values[0]

    def advance(self, tokens: int) -> None:
        """Count so many more tokens, which somebody wrote into `buffers()`."""
        length = self.length + tokens
        self._keys, self._values = (self._keys[0], length), (self._values[0], length)

    def reserve(self, tokens: int) -> None:
        """Make room for so many tokens in all: now where something is held, else with the first pass."""
        self.reserved = max(self.reserved, tokens)
        if self.length:
            self._make_room(self.reserved)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take over dtype and device; no room yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (self.made(states, 0) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values [batch, kv_head, tokens, head_dim] of a pass; returns all of them."""
        new = key_states, value_states
        if self.place is not None:
            for buffer, states in zip(self.buffers(), new, strict=True):
                buffer.index_copy_(2, self.place, states)
            return self.buffers()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not all(
            fits(buffer, states) and buffer.device == states.device
            for buffer, states in zip(self.resting(), new, strict=True)
        ):
            return super().update(*new)  # by concatenation, with its errors
        first, last = self.length, self.length + key_states.shape[-2]
        self.expect(last - first)
        for buffer, states in zip(self.resting(), new, strict=True):
            buffer[:, :, first:last].copy_(states)
        self.advance(last - first)
        return self.keys, self.values

    def expect(self, tokens: int) -> None:
        """Make room for so many more tokens, and for some to come where nobody said how many there will be."""
        length = self.length + tokens
        if self.room < length:
            exact = not self.length or self.reserved >= length
            self._make_room(max(length, self.reserved) if exact else grown(length))

    def get_seq_length(self) -> int:
        """As transformers'."""
        return self.length

    def reset(self) -> None:
        """Forget everything, also what was reserved."""
        super().reset()
        self.reserved = 0

    def made(self, like: torch.Tensor, room: int) -> torch.Tensor:
        """A buffer [batch, kv_head, room, head_dim] for such tensors, all zero."""
        return like.new_zeros((*like.shape[:2], room, like.shape[-1]))

    def _make_room(self, tokens):
        """Replace what is smaller; the contents stay, so an interrupt between the two does not matter."""
        if self._keys[0].shape[-2] < tokens:
            self._keys = self._moved(*self._keys, tokens)
        if self._values[0].shape[-2] < tokens:
            self._values = self._moved(*self._values, tokens)

    def _moved(self, buffer, length, room):
        larger = self.made(buffer, room)
        larger[:, :, :length].copy_(buffer[:, :, :length])
        return larger, length


def fits(buffer: torch.Tensor, states: torch.Tensor) -> bool:
    """Whether new tokens can be written: of the same rows, heads and kind, and outside a graph that needs the old."""
    same = buffer.shape[:2] == states.shape[:2] and buffer.shape[-1] == states.shape[-1]
    same = same and buffer.dtype == states.dtype
    return same and not (torch.is_grad_enabled() and (states.requires_grad or buffer.requires_grad))


def _held(part):
    return None if part is None else part[0][:, :, : part[1]]
