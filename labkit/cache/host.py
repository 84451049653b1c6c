"""Keys and values that rest in host memory while an accelerator computes, for contexts that its memory does not hold.

Two places on the device, each for the keys and values of one layer, serve all attention layers in turn. While a layer
attends in one place, the other is filled for the next one, on a stream of its own, behind the DeltaNet layers between
them; what goes back are the tokens of the pass alone. On a CPU the same steps run one after another.
"""

import contextlib
import copy
import weakref

import torch

from labkit.cache.blocks import Blocks, fits


class Lift:
    """What the layers of one cache share: the two places, what lies in them, and the stream of copies."""

    def __init__(self):
        self.layers: list[HostBlocks] = []
        self.places = [None, None]  # (keys, values) on the device
        self.shown = [None, None]  # what a place holds: (host buffers, tokens)
        self.last = 0  # the place that was used last
        self.stream = None  # of copies, on a CUDA device

    def __deepcopy__(self, memo):
        memo[id(self)] = new = Lift()
        new.layers = copy.deepcopy(self.layers, memo)
        return new

    def raised(self, layer: "HostBlocks", like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The place that holds what a layer has, with room for what comes, on the device and of the kind of `like`."""
        at = self._place_of(layer)
        self._join(like)
        if at is None:  # not expected: nothing else runs before it is here
            at = 1 - self.last
            self._make(at, layer, like)
            self._fill(at, layer)
        self.last = at
        return self.places[at]

    def lowered(self, layer: "HostBlocks", first: int, last: int) -> None:
        """Copy tokens `first` to `last` of the place that was used last back to a layer, and bring the next layer."""
        here, host = self.places[self.last], layer.resting()
        following = self.layers[(self.layers.index(layer) + 1) % len(self.layers)]
        other, wanted = 1 - self.last, following.length and self._place_of(following) is None
        if wanted:
            self._make(other, following, here[0])
        with self._copies(here[0]):
            for source, target in zip(here, host, strict=True):
                _copy(source[:, :, first:last], target[:, :, first:last])
            if wanted:
                self._fill(other, following)
        self.shown[self.last] = (*host, last)

    def settle(self) -> None:
        """Wait until the host holds everything."""
        if self.stream is not None:
            self.stream.synchronize()

    def _place_of(self, layer):
        """Which place shows what a layer holds now; None where neither does."""
        keys, values = layer.resting()
        for at, shown in enumerate(self.shown):
            if shown is not None and shown[0] is keys and shown[1] is values and shown[2] == layer.length:
                return at
        return None

    def _make(self, at, layer, like):
        """A place of a layer's size, the one that is there where it has it."""
        sizes, self.shown[at] = [(part.shape, part.dtype) for part in layer.resting()], None
        if sizes != [(part.shape, part.dtype) for part in self.places[at] or ()]:
            self._join(like)  # copies into the old place end before its memory is used again
            self.places[at] = None
            self.places[at] = tuple(part.new_zeros(part.shape, device=like.device) for part in layer.resting())

    def _fill(self, at, layer):
        for source, target in zip(layer.resting(), self.places[at], strict=True):
            _copy(source[:, :, : layer.length], target[:, :, : layer.length])
        self.shown[at] = (*layer.resting(), layer.length)

    def _join(self, like):
        """What is computed next comes after the copies so far."""
        if self.stream is not None:
            torch.cuda.current_stream(like.device).wait_stream(self.stream)

    @contextlib.contextmanager
    def _copies(self, like):
        """What is copied inside comes after everything that was computed so far, and beside what is computed next."""
        if like.device.type != "cuda":
            yield
            return
        self.stream = self.stream or torch.cuda.Stream(like.device)
        self.stream.wait_stream(torch.cuda.current_stream(like.device))
        with torch.cuda.stream(self.stream):
            yield


class HostBlocks(Blocks):
    """`Blocks` in host memory; a pass is given its keys and values on the device."""

    def __init__(self, lift: Lift):
        self.lift = lift
        lift.layers.append(self)
        super().__init__()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of `Blocks`; what is returned is on the device, and stays until the layer after the next one is read."""
        new = key_states, value_states
        if not self.is_initialized:
            self.lazy_initialization(*new)
        if not all(fits(part, states) for part, states in zip(self.resting(), new, strict=True)):
            self.lift.settle()
            return tuple(part.to(key_states.device) for part in super().update(*(states.cpu() for states in new)))
        first = self.length
        self.expect(key_states.shape[-2])
        places, last = self.lift.raised(self, key_states), first + key_states.shape[-2]
        for place, states in zip(places, new, strict=True):
            place[:, :, first:last].copy_(states)
        self.lift.lowered(self, first, last)
        self.advance(key_states.shape[-2])
        return tuple(place[:, :, :last] for place in places)

    @property
    def keys(self) -> torch.Tensor | None:
        """[batch, kv_head, length, head_dim] in host memory, once all of them have arrived."""
        self.lift.settle()
        return super().keys

    @keys.setter
    def keys(self, tensor: torch.Tensor | None) -> None:
        Blocks.keys.fset(self, tensor)

    @property
    def values(self) -> torch.Tensor | None:
        """[batch, kv_head, length, head_dim] in host memory, once all of them have arrived."""
        self.lift.settle()
        return super().values

    @values.setter
    def values(self, tensor: torch.Tensor | None) -> None:
        Blocks.values.fset(self, tensor)

    def made(self, like: torch.Tensor, room: int) -> torch.Tensor:
        """Host memory, its pages locked where a GPU copies from it."""
        self.lift.settle()  # what is about to be moved has arrived
        buffer = torch.zeros((*like.shape[:2], room, like.shape[-1]), dtype=like.dtype)
        return _locked(buffer) if torch.cuda.is_available() else buffer


def _copy(source, target):
    """Between devices row by row and head by head: only what lies in one piece is copied without a detour."""
    if source.device == target.device:
        target.copy_(source)
        return
    for part, into in zip(source.flatten(0, 1), target.flatten(0, 1), strict=True):
        into.copy_(part, non_blocking=True)


def _locked(buffer):
    """Lock the pages of a buffer, exactly these: torch's own allocator of locked memory rounds up to powers of two."""
    runtime, size = torch.cuda.cudart(), buffer.untyped_storage().nbytes()
    if size and int(runtime.cudaHostRegister(buffer.data_ptr(), size, 0)) == 0:  # refused: copies wait, and are right
        weakref.finalize(buffer.untyped_storage(), runtime.cudaHostUnregister, buffer.data_ptr())
    return buffer
