"""Exercises: guess first, then build, and learn which law broke.

    from labkit import check
    guess = check.predict("does a second value under a key add to the first?", among=("yes", "no"))
    check.delta_rule(write)          # your function, held against the laws of the rule

Checkers name the first law that is broken, with what was got and expected. `verdict.working` is your work if it obeys
every law, else the solution, so that a notebook runs on; `verdict.must()` raises, for a course that grades.
"""

from labkit.check.guesses import Prediction, Seen, predict
from labkit.check.laws import Law, Verdict, exercise
from labkit.check.look_back import gated_head, induction_score, read_in_chunks
from labkit.check.operate_on_memory import later_reads, patch_effect, rewrite
from labkit.check.remember import delta_rule
from labkit.check.share_the_work import added_share, facts_recalled, paired_loss
from labkit.check.think_aloud import shared_tokens, snapshot_size, tokens_computed

__all__ = ["Law", "Prediction", "Seen", "Verdict", "exercise", "predict"]
__all__ += ["delta_rule"]
__all__ += ["patch_effect", "rewrite", "later_reads"]
__all__ += ["gated_head", "induction_score", "read_in_chunks"]
__all__ += ["added_share", "facts_recalled", "paired_loss"]
__all__ += ["shared_tokens", "snapshot_size", "tokens_computed"]
