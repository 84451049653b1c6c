"""Exercises: guess first, then build, and learn which law broke.

    from labkit import check
    guess = check.predict("does a second value under a key add to the first?", among=("yes", "no"))
    check.delta_rule(lambda S, k, v, beta=1.0: S + beta * k[:, None] * v)  # not the delta rule

Checkers name the first law that is broken, with what was got and expected. `verdict.working` is your work if it obeys
every law, else the solution, so that a notebook runs on; `verdict.must()` raises, for a course that grades.
"""

from labkit.check.find_the_cause import corrected, sign_flips, stand_ins
from labkit.check.forget import half_life, key_survival, update_terms
from labkit.check.guess_ahead import right_in_a_row, tokens_a_round, verified_round
from labkit.check.guesses import Prediction, Seen, predict
from labkit.check.laws import Law, Verdict, exercise
from labkit.check.look_back import gated_head, induction_score, read_in_chunks
from labkit.check.one_gpu import cache_grows_by, least_seconds
from labkit.check.operate_on_memory import later_reads, patch_effect, rewrite
from labkit.check.read_the_model import implied_map, joint_loss, stream_lens
from labkit.check.remember import delta_rule, effective_rank, gated_step, whose_values
from labkit.check.see_pictures import mass_over_even, picture_tokens, rope_positions
from labkit.check.share_the_work import added_share, facts_recalled, paired_loss
from labkit.check.steer import left_out, taken_out, unit_direction
from labkit.check.stretch_the_context import pair_speeds, rotated, yarn_speeds
from labkit.check.think_aloud import shared_tokens, snapshot_size, tokens_computed

__all__ = [
    "Law",
    "Prediction",
    "Seen",
    "Verdict",
    "exercise",
    "predict",
    # 00_read_the_model
    "implied_map",
    "stream_lens",
    "joint_loss",
    # 01_remember
    "delta_rule",
    "gated_step",
    "effective_rank",
    "whose_values",
    # 02_forget
    "half_life",
    "key_survival",
    "update_terms",
    # 03_operate_on_memory
    "patch_effect",
    "rewrite",
    "later_reads",
    # 04_look_back
    "gated_head",
    "induction_score",
    "read_in_chunks",
    # 05_share_the_work
    "added_share",
    "facts_recalled",
    "paired_loss",
    # 06_think_aloud
    "shared_tokens",
    "snapshot_size",
    "tokens_computed",
    # 07_stretch_the_context
    "pair_speeds",
    "rotated",
    "yarn_speeds",
    # 08_find_the_cause
    "sign_flips",
    "corrected",
    "stand_ins",
    # 09_steer
    "unit_direction",
    "taken_out",
    "left_out",
    # 10_one_gpu
    "least_seconds",
    "cache_grows_by",
    # 11_guess_ahead
    "right_in_a_row",
    "verified_round",
    "tokens_a_round",
    # 12_see_pictures
    "picture_tokens",
    "rope_positions",
    "mass_over_even",
]


def __dir__():
    return sorted(__all__)
