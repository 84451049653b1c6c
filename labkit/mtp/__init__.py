"""Multi-token prediction: what the head that a checkpoint brings along guesses for the tokens after the next one.

    ds = mtp.drafts(run, lab, drafts=3)     # guesses at every token of a run, beside what came
    mtp.failures(ds)                        # where they fail
    mtp.generate(lab, "red fox")            # greedy decoding that guesses ahead

The head is one attention layer on top of the model (arXiv 2412.19437, section 2.2). transformers leaves its tensors
`mtp.*` unread; here they are read from the lab's checkpoint when they are first asked for.

In this folder:

    loading     the head: its tensors, checked and put into transformers' `MtpModel`
    readings    what it guesses at every position of a run, how good that is, beside a control and a baseline
    groups      where guesses fail: by kind of token, by surprise
    verify      greedy decoding that guesses ahead, verifies, and rolls the states back
"""

from labkit.mtp.groups import failures
from labkit.mtp.loading import Head, head
from labkit.mtp.readings import drafts
from labkit.mtp.verify import generate

__all__ = ["Head", "drafts", "failures", "generate", "head"]


def __dir__():
    return sorted(__all__)
