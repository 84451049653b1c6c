"""Whether edits land: where a pass stands in the text is known by its cache, whatever transformers calls it."""

from labkit import edit
from labkit.doctor.report import Verdict
from labkit.doctor.sample import Sample, far
from labkit.trace import Pass, cache_parameter, decoder

TOKEN, CHUNK = 40, 16  # the token lies inside a chunk, neither first nor last


def cache_argument(sample: Sample) -> Verdict:
    """The cache reaches the decoder stack: its name differs between releases, and an edit counts tokens by it."""
    before = []
    see = lambda module, args, kwargs: before.append(Pass.of(module, args, kwargs).before)  # noqa: E731
    cache, name = sample.cache(), cache_parameter(sample.model)
    hook = decoder(sample.model).register_forward_pre_hook(see, with_kwargs=True)
    try:
        for start, end in ((0, 20), (20, 24)):
            sample.run(sample.ids[:, start:end], cache=cache)
    finally:
        hook.remove()
    text = f"taken as {name}; the stack sees {before[0]} and {before[1]} tokens before two passes, expected 0 and 20"
    return Verdict("cache argument", "ok" if before == [0, 20] else "fail", text)


def chunked_edits(sample: Sample) -> Verdict:
    """Edits at one token move the logits alike in one pass and in chunks, in every family."""
    from labkit.zoo import wrap

    moved, apart = [], 0.0
    for patient in sample.families:
        lab, ids = wrap(patient.model), patient.ids[0]
        for change in (
            edit.scale("gated", layer=0, factor=8, tokens=[TOKEN]),
            edit.scale("mlp_out", layer=1, factor=8, tokens=[TOKEN]),  # in some families a norm follows "gated"
            edit.state(lambda state: 8 * state, layer=2, at=TOKEN),
        ):
            with lab.edit(change):
                whole, parts = lab.trace(ids).logits[0], lab.trace(ids, chunk=CHUNK).logits[0]
            moved.append(far(whole, patient.logits[0, -1]))
            apart = max(apart, far(whole, parts) / max(moved[-1], 1e-9))
    text = f"{len(moved)} edits at token {TOKEN} move logits by {min(moved):.0e} to {max(moved):.0e}"
    status = "ok" if min(moved) > 1e-3 and apart < 0.05 else "fail"
    return Verdict("chunked edits", status, f"{text}; in chunks of {CHUNK} by as much, but for {apart:.0e} of it")


CHECKS = (cache_argument, chunked_edits)
