"""What tells weights apart: samples of every parameter, sums of its rows, or every byte."""

import hashlib

import torch

from labkit.fingerprint import flat

SAMPLES, WHOLE = 64, 4096  # numbers of a parameter; up to WHOLE of them all count


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of every byte of a model's parameters, their names, shapes and dtypes; as long as reading them takes."""
    hashed = hashlib.sha256()
    for name, weight in model.named_parameters():
        for part in _plain(weight):
            hashed.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            for piece in part.reshape(-1).split(2**24):
                hashed.update(_bytes(piece))
    return hashed.hexdigest()


def sampled(weight, changed) -> bytes:
    """A hash of samples of a parameter, and of the sums of its rows where it `changed`."""
    hashed = hashlib.sha256()
    for part in _plain(weight):
        hashed.update(f"{part.dtype} {tuple(part.shape)} ".encode())
        if part.is_meta or not part.numel():
            continue
        flat = part.reshape(-1)
        step = 1 if len(flat) <= WHOLE else len(flat) // SAMPLES
        hashed.update(_bytes(flat[::step][: WHOLE if step == 1 else SAMPLES]))
        if changed and step > 1:
            hashed.update(_bytes(_bits(part.reshape(len(part), -1)).sum(-1)))
    return hashed.digest()


def _plain(tensor) -> list[torch.Tensor]:
    """The plain tensors of a parameter; a packed one has several."""
    tensor = tensor.detach()
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in _plain(getattr(tensor, name))]
    return [tensor.as_subclass(torch.Tensor)]


def _bits(tensor):
    """The numbers as whole numbers of the same bits: their sum tells every single change."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return flat(tensor).view(whole).view(tensor.shape)


def _bytes(tensor) -> bytes:
    return flat(tensor.detach()).view(torch.uint8).cpu().numpy().tobytes()
