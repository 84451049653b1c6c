"""How the numbers of a quantity merge: where the tokens of a word read, and where they are read."""

from collections.abc import Callable

from labkit.quantities import QUANTITIES

WAYS: dict[str, Callable] = {
    "sum": lambda rows: rows.sum(0),
    "mean": lambda rows: rows.mean(0),
    "product": lambda rows: rows.prod(0),
    "largest": lambda rows: rows.max(0),
    "first": lambda rows: rows[0],
    "last": lambda rows: rows[-1],
}
# By the long name of a quantity, which a variable carries.
_ADDED = {"token": "mean", "source": "sum"}
_MEAN = {"token": "mean", "source": "mean"}
_AFTER = {"token": "last", "source": "mean"}
_STEPS = {"token": "sum", "source": "sum"}
_NAMED = {
    "weight": _ADDED,
    "pattern": _ADDED,
    "gated": _ADDED,
    "mass": _ADDED,
    "contribution": _ADDED,
    "contribution_norm": _ADDED,
    "keep": {"token": "product", "source": "product"},
    "energy": _STEPS,
    "removed": _STEPS,
    "loss": _STEPS,
} | dict.fromkeys(("state_norm", "survival", "returned", "decay_only", "signal", "crosstalk", "recall"), _AFTER)
_NAMED |= dict.fromkeys(("singular", "stable_rank", "effective_rank", "vocab_logit", "chosen"), _AFTER)
_MEANS = "write recalled error surprise agreement decayed erased written out value_norm gate routed predicted measured"
_NAMED |= dict.fromkeys(_MEANS.split(), _MEAN)
RULES = {QUANTITIES[name].long_name: rule for name, rule in _NAMED.items()} | {
    "weight of the source's net write in the head's output": _ADDED,
    "weight of the source's value, removal left out": _ADDED,
    "norm of the source's net write": _MEAN,
    "write strength, up to 2": _MEAN,
    "what is added to the logit directly, norms held": _STEPS,
    "what comes to the logit from here, all routing held": _STEPS,
    "what comes to the logit along drawn paths, all routing held": _STEPS,
    "change of the number if this grew by all of itself, to first order": _STEPS,
    "probability that the lens gives a token": _AFTER,
    "entropy of what the lens says": _AFTER,
    "divergence of what the lens says from what the model says": _AFTER,
    "logit that the lens gives a token": _AFTER,
    "tokens that the lens finds likelier": _AFTER,
    "probability of the next token": _AFTER,
    "what a branch adds to the logit, the norm frozen": _AFTER,
    "what came to the lens's logit by this path, the norm held": _AFTER,
    "norm of what a branch adds to the stream": _MEAN,
    "norm of the slope": _MEAN,
    "router probability of the chosen experts together": _MEAN,
    "entropy of the router's probabilities": _MEAN,
}
