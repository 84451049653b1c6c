"""From a card to host memory beside the pass: pinned buffers, filled on a stream of their own.

A copy waits for what made its source, never the other way round; the source is held until its copy is done, and if
something wrote into it before, the copy says so by its version. At most `IN_FLIGHT` bytes are on their way, so that the
card holds no more than the plan says (`labkit.plan.requests.trace`).

What arrived stays where it arrived: up to `PINNED` bytes of a trace live in pinned memory, which the plan counts like
any other of the host; beyond, the oldest buffer is copied to ordinary memory and used again. Buffers double from
`FIRST` to `LARGEST` bytes, powers of two, because PyTorch's pinned allocator rounds up to those and keeps them for the
next trace. A seam that is kept alone keeps the buffer it lies in.
"""

import collections

import torch

from labkit.watched import writes

FIRST, LARGEST = 2**20, 2**26  # bytes of a buffer
PINNED = 4 * 2**30
IN_FLIGHT = 2**28
ALIGNED = 64  # bytes


class Cuda:
    """What `Host` needs of a card: pinned memory, and copies on a stream beside the one that computes."""

    def __init__(self):
        self._streams = {}

    def pinned(self, count: int) -> torch.Tensor:
        """So many bytes of pinned memory."""
        return torch.empty(count, dtype=torch.uint8, pin_memory=True)

    def copy(self, into: torch.Tensor, tensor: torch.Tensor) -> torch.cuda.Event:
        """Begin a copy after what has been asked of the tensor's card so far; the event says when it is done."""
        device = tensor.device
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            into.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()
        event.record(stream)
        return event

    def synchronize(self) -> None:
        """Wait for all copies."""
        for stream in self._streams.values():
            stream.synchronize()


class Buffer:
    """Bytes that are filled from the start; pinned until they are `set_down` in ordinary memory."""

    def __init__(self, memory):
        self.memory, self.used, self.pinned = memory, 0, True

    def set_down(self) -> torch.Tensor:
        """Go on in ordinary memory; returns the pinned memory, which is free again."""
        memory, self.memory, self.pinned = self.memory, self.memory[: self.used].clone(), False
        return memory


class Copy:
    """A tensor on its way, or there; `torn` if something wrote into its source before it was there."""

    __slots__ = ("buffer", "start", "shape", "dtype", "nbytes", "source", "version", "event", "torn")

    def __init__(self, buffer, source):
        self.buffer, self.start, self.source, self.version = buffer, buffer.used, source, writes(source)
        self.shape, self.dtype, self.nbytes, self.event, self.torn = (
            source.shape,
            source.dtype,
            source.nbytes,
            None,
            False,
        )
        buffer.used += -(-self.nbytes // ALIGNED) * ALIGNED

    @property
    def tensor(self) -> torch.Tensor:
        """Where it lies, or will lie."""
        memory = self.buffer.memory[self.start : self.start + self.nbytes]
        return memory.view(self.dtype).view(self.shape)

    def arrive(self) -> None:
        """Let go of the source, whose copy is done."""
        self.torn, self.source, self.event = writes(self.source) != self.version, None, None

    def same(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is what is on its way here."""
        mine = self.source
        facts = lambda each: (each.data_ptr(), each.shape, each.stride(), each.dtype, writes(each))  # noqa: E731
        return mine is not None and facts(mine) == facts(tensor) and self.version == writes(mine)


class Host:
    """Takes tensors of a card to host memory, in the order in which they come.

    Args:
        card: `Cuda()`, or something with its methods. pinned, in_flight: bytes at most; see the module.
    """

    def __init__(self, card=None, *, pinned: int = PINNED, in_flight: int = IN_FLIGHT):
        self.card, self.pinned, self.in_flight = card or Cuda(), pinned, in_flight
        self.buffers: list[Buffer] = []
        self.waiting: collections.deque[Copy] = collections.deque()
        self.flying = 0  # bytes

    def take(self, tensor: torch.Tensor) -> Copy:
        """Begin the copy of a tensor; what one layer gives and the next one takes is copied once."""
        if self.waiting and self.waiting[-1].same(tensor):
            return self.waiting[-1]
        self._settle(self.in_flight - tensor.nbytes)
        copy = Copy(self._room(tensor.nbytes), tensor)
        copy.event = self.card.copy(copy.tensor, tensor)
        self.waiting.append(copy)
        self.flying += copy.nbytes
        return copy

    def wait(self) -> None:
        """Until all copies are there."""
        self.card.synchronize()
        while self.waiting:
            self._arrive()

    def _settle(self, most):
        """Let go of what is there; wait for the oldest while more than so many bytes are on their way."""
        while self.waiting and (self.flying > most or self.waiting[0].event.query()):
            self.waiting[0].event.synchronize()
            self._arrive()

    def _arrive(self):
        copy = self.waiting.popleft()
        self.flying -= copy.nbytes
        copy.arrive()

    def _room(self, count):
        """The buffer with room for so many bytes."""
        last = self.buffers[-1] if self.buffers else None
        if last is not None and last.used + count <= len(last.memory):
            return last
        size = min(LARGEST, FIRST if last is None else 2 * len(last.memory))
        size = max(size, 1 << max(0, count - 1).bit_length())
        held = [buffer for buffer in self.buffers if buffer.pinned]
        total, memory = sum(len(buffer.memory) for buffer in held), None
        while held and total + size > self.pinned and memory is None:
            oldest = held.pop(0)
            while self.waiting and any(copy.buffer is oldest for copy in self.waiting):
                self.waiting[0].event.synchronize()
                self._arrive()
            total -= len(oldest.memory)
            free = oldest.set_down()
            memory = free if len(free) >= size else None
        self.buffers.append(Buffer(self.card.pinned(size) if memory is None else memory))
        return self.buffers[-1]
