"""Traps of the hybrid cache: continuing, padding, cutting back, precision, and the mode it was made in."""

import torch

from labkit.doctor.report import Verdict
from labkit.doctor.sample import Sample, build, far, run

SPLITS = ((64,), (1,), (7, 9, 128), (149,))
CLOSE = 1e-3  # float32 logits of one pass against several: up to 7e-4 was seen on random models


def warm_cache(sample: Sample) -> Verdict:
    """Several tokens fed to a warm cache must continue its states (transformers issue 45513)."""
    worst = 0.0
    for cuts in SPLITS:
        cache, parts = sample.cache(), []
        for start, end in zip((0, *cuts), (*cuts, sample.ids.shape[1]), strict=True):
            parts.append(sample.run(sample.ids[:, start:end], cache=cache))
        worst = max(worst, far(torch.cat(parts, 1), sample.logits))
    text = f"a prompt fed in {len(SPLITS)} other ways differs by {worst:.0e} in the logits"
    return Verdict("warm cache", "ok" if worst < CLOSE else "fail", f"{text}, at most {CLOSE:.0e}")


def left_padding(sample: Sample) -> Verdict:
    """With a mask padding is harmless, without one it enters states and attention."""
    pads, real = 6, sample.ids[:, :40]
    padded = torch.cat([torch.zeros(1, pads, dtype=torch.long), real], 1)
    mask = (torch.arange(padded.shape[1]) >= pads).long()[None]
    with_mask = far(sample.run(padded, attention_mask=mask)[:, -1], sample.logits[:, 39])
    without = far(sample.run(padded)[:, -1], sample.logits[:, 39])
    text = f"left padding moves logits by {with_mask:.0e} with a mask, by {without:.1f} without"
    if with_mask > CLOSE:
        return Verdict("left padding", "fail", text)
    return Verdict("left padding", "ok" if without > CLOSE else "warn", f"{text}; labkit passes the mask")


def crop(sample: Sample) -> Verdict:
    """A recurrent state cannot be cut back; a cache that says it can would be silently inconsistent."""
    cache = sample.cache()
    sample.run(sample.ids[:, :20], cache=cache)
    if cache.is_croppable:
        return Verdict("crop", "warn", "a hybrid cache now claims to be croppable; labkit restores snapshots instead")
    try:
        cache.crop(-1)
    except Exception as error:
        text = f"refused, is_croppable is False and crop raises {type(error).__name__}"
        return Verdict("crop", "ok", f"{text}; labkit restores snapshots instead")
    return Verdict("crop", "warn", "is_croppable is False, yet crop(-1) went through; labkit never calls it")


def state_precision(sample: Sample) -> Verdict:
    """States of a 16-bit model must be float32: 16-bit states are known to hurt."""
    cache = sample.cache()
    run(build(torch.bfloat16, sample.family), sample.ids[:, :20], cache=cache)
    layer = cache.layers[0]
    state, window = layer.recurrent_states[0].dtype, layer.conv_states[0].dtype
    text = f"in a bfloat16 model states are {_name(state)}, convolution windows {_name(window)}"
    return Verdict("state precision", "ok" if state == torch.float32 else "fail", text)


def _name(dtype):
    return str(dtype).removeprefix("torch.")


def inference_mode(sample: Sample) -> Verdict:
    """A cache made under inference_mode cannot go on under no_grad."""
    cache = sample.cache()
    with torch.inference_mode():
        sample.run(sample.ids[:, :20], cache=cache)
    try:
        sample.run(sample.ids[:, 20:24], cache=cache)
    except RuntimeError:
        text = "its cache cannot be continued under no_grad (RuntimeError); labkit uses no_grad everywhere"
        return Verdict("inference mode", "ok", text)
    return Verdict("inference mode", "warn", "its cache can now be continued under no_grad; labkit uses no_grad")


CHECKS = (warm_cache, left_padding, crop, state_precision, inference_mode)
