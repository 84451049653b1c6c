"""What labkit stands on: the module boundaries it watches fire, give what it expects, and watching changes nothing."""

import torch

from labkit.doctor.report import Verdict
from labkit.doctor.sample import Sample, far
from labkit.families import DELTANET
from labkit.trace import decoder


def layer_output(sample: Sample) -> Verdict:
    """A decoder layer returns a tensor; code that takes `output[0]` would silently get the first row of the batch."""
    kind = type(_output_of(sample, decoder(sample.model).layers[0])).__name__
    return Verdict("layer output", "ok" if kind == "Tensor" else "fail", f"a decoder layer returns a {kind}")


def convolution_hook(sample: Sample) -> Verdict:
    """The convolution's weight is used without its module: a hook there records nothing and raises nothing."""
    path = sample.family.parameters[DELTANET]["conv1d.weight"].rpartition(".")[0]
    fired = _output_of(sample, decoder(sample.model).layers[0].get_submodule(path)) is not None
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


def tracing(sample: Sample) -> Verdict:
    """All seams of all layers of all families fire, and the logits with hooks are those without."""
    from labkit.zoo import wrap

    moved, seams, layers, left = 0.0, 0, 0, 0
    for patient in sample.families:
        lab, before = wrap(patient.model), _hooks(patient.model)
        run = lab.trace(patient.ids[0], logits="all")
        moved, left = max(moved, far(run.logits, patient.logits[0])), left + _hooks(patient.model) - before
        seams, layers = seams + len(run.seams), layers + lab.spec.layers
    text = f"{seams} seams of {layers} layers of {len(sample.families)} families; logits moved by {moved:.0e}"
    return Verdict("tracing", "ok" if moved < 1e-3 and not left else "fail", f"{text}, {left} hooks left")


def _hooks(model):
    """Hooks on the model now; transformers leaves some of its own once attention maps were asked for."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def random_numbers(sample: Sample) -> Verdict:
    """A forward pass in eval mode leaves the global random generator as it was."""
    before = torch.get_rng_state()
    sample.run(sample.ids[:, :20])
    same = torch.equal(before, torch.get_rng_state())
    text = "a forward pass draws no random numbers" if same else "a forward pass drew random numbers: dropout is on"
    return Verdict("random numbers", "ok" if same else "fail", text)


CHECKS = (layer_output, convolution_hook, tracing, random_numbers)
