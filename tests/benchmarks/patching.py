"""Patching: many patches in suffixes that share what is before them, beside whole prompts."""

from tests.benchmarks.tools import make, paired

RERUN = 4  # whole prompts that are timed, of a thousand alike


def patch_suffixes():
    """1,008 patches in the last 16 of 512 tokens: `attribution.patch_sweep` / whole prompts. Goal: at most 0.125.

    84 heads at 12 tokens, the reading of both prompts and the check of a fork included. Whole prompts are read one
    after another by `edit.patch`, four of them, and their time is taken 252 times.
    """
    import torch

    from labkit import attribution, edit

    lab, ids = make(512)
    clean = torch.cat([ids[:490], ids[490:].flip(0)])
    tokens = range(496, 508)
    run = lab.trace(clean, seams=["gated"])
    ours = lambda: attribution.patch_sweep(lab, [(clean, ids)], of=3, against=7, tokens=tokens)
    cells = int(ours().change.notnull().sum())

    def theirs():
        for head in range(RERUN):
            with lab.edit(edit.patch("gated", layer=2 * head, run=run, heads=[head], tokens=[496 + head])):
                lab.logits(ids[None])

    found = paired(ours, theirs, rounds=3)
    share = RERUN / cells
    return dict(
        ratio=found["ratio"] * share,
        quartiles=[edge * share for edge in found["quartiles"]],
        times_faster=1 / (found["ratio"] * share),
        cells=cells,
        rounds=found["rounds"],
    )


QUESTIONS = [patch_suffixes]
