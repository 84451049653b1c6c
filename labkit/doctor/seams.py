"""What labkit stands on: the module boundaries it watches fire, give what it expects, and watching changes nothing."""

import torch

from labkit.doctor.report import Verdict
from labkit.doctor.sample import far


def layer_output(sample):
    """A decoder layer returns a tensor; code that takes `output[0]` would silently get the first row of the batch."""
    seen = _output_of(sample, sample.model.model.layers[0])
    kind = type(seen).__name__
    return Verdict("layer output", "ok" if kind == "Tensor" else "fail", f"a decoder layer returns a {kind}")


def convolution_hook(sample):
    """The convolution's weight is used without its module: a hook there records nothing and raises nothing."""
    fired = _output_of(sample, sample.model.model.layers[0].linear_attn.conv1d) is not None
    text = "a hook on conv1d fires now" if fired else "a hook on conv1d never fires"
    return Verdict("convolution hook", "warn" if fired else "ok", f"{text}; labkit recomputes what follows it")


def _output_of(sample, module):
    seen = []
    hook = module.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        sample.run(sample.ids[:, :20])
    finally:
        hook.remove()
    return seen[0] if seen else None


def tracing(sample):
    """All seams of all layers fire, and the logits with hooks are those without."""
    from labkit import spec
    from labkit.lab import Lab

    lab = Lab(sample.model, None, spec.read(sample.model.config), None, "sample")
    before = _hooks(sample.model)
    run = lab.trace(sample.ids[0], logits="all")
    moved, left = far(run.logits, sample.logits[0]), _hooks(sample.model) - before
    text = f"{len(run.seams)} seams of {lab.spec.layers} layers; logits moved by {moved:.0e}, {left} hooks left"
    return Verdict("tracing", "ok" if moved < 1e-3 and not left else "fail", text)


def _hooks(model):
    """Hooks on the model now; transformers leaves some of its own once attention maps were asked for."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def random_numbers(sample):
    """A forward pass in eval mode leaves the global random generator as it was."""
    before = torch.get_rng_state()
    sample.run(sample.ids[:, :20])
    same = torch.equal(before, torch.get_rng_state())
    text = "a forward pass draws no random numbers" if same else "a forward pass drew random numbers: dropout is on"
    return Verdict("random numbers", "ok" if same else "fail", text)


CHECKS = (layer_output, convolution_hook, tracing, random_numbers)
