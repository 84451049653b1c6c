"""Exercises of 11_guess_ahead: guesses that a model verifies. Leviathan et al., arXiv 2211.17192."""

from labkit.check.laws import Law, exercise


def _in_a_row(guesses, came):
    count = 0
    for guess, true in zip(guesses, came, strict=False):
        if guess != true:
            break
        count += 1
    return count


def _round(guesses, says):
    count = _in_a_row(guesses, says)
    return [*guesses[:count], says[count]]


def _tokens(share, guesses):
    return sum(share**n for n in range(guesses + 1))


@exercise(solution=_in_a_row)
def right_in_a_row(yours):
    """How many guesses of a chain come true before one does not: `yours(guesses, came)` gives a whole number.

    Args:
        yours: guesses are token ids, first guess first; came are the ids that the text had at these places, as many.

    Source: arXiv 2211.17192, section 2.3.
    """
    yield Law("a chain whose first guess is false counts 0", lambda: yours([7, 8, 9], [6, 8, 9]), 0)
    hint = "stop at the first false guess: what follows was guessed behind a token that never came"
    yield Law("a right guess behind a false one does not count", lambda: yours([7, 8, 9, 4], [7, 5, 9, 4]), 1, hint)
    yield Law("a chain that comes true counts whole", lambda: yours([7, 8, 9, 4, 2], [7, 8, 9, 4, 2]), 5)
    yield Law("the order counts, not which tokens there are", lambda: yours([7, 8], [8, 7]), 0)
    yield Law("no guess is no true guess", lambda: yours([], []), 0)
    ids = lambda: [int(text) for text in "25017 248044 9".split()]  # numbers that are equal and not one object
    yield Law("ids of a large vocabulary are compared by value", lambda: yours(ids(), ids()), 3, "==, not `is`")


@exercise(solution=_round)
def verified_round(yours):
    """The tokens that one round writes: `yours(guesses, says)` gives them as a list.

    Args:
        yours: guesses are k token ids; says are k + 1 ids, what the model itself would write after the last token of
            the text, and after each guess.

    Source: arXiv 2211.17192, algorithm 1, with greedy decoding.
    """
    hint = "the model's own token stands in the place of the first false guess"
    yield Law("a false first guess still writes the model's token", lambda: yours([7, 8, 9], [6, 8, 9, 1]), [6], hint)
    hint = "what the model says behind a false guess is an answer to another text"
    yield Law("nothing is kept behind the first false guess", lambda: yours([7, 8, 9], [7, 5, 9, 1]), [7, 5], hint)
    hint = "the last of what the model says comes behind the last guess, and costs nothing more"
    yield Law("k true guesses write k + 1 tokens", lambda: yours([7, 8], [7, 8, 3]), [7, 8, 3], hint)
    yield Law("without a guess a round is a step of plain decoding", lambda: yours([], [4]), [4])
    each = lambda: [len(yours([1, 2, 3, 4], [1, 2, 3, 4, 5][:n] + [9] * (5 - n))) for n in range(5)]
    yield Law("n true guesses write n + 1 tokens", each, [1, 2, 3, 4, 5])
    ids = [25017, 248044, 9]
    again = lambda: yours([int(str(token)) for token in ids[:2]], list(ids))
    yield Law("ids of a large vocabulary are compared by value", again, ids, "==, not `is`")
    hint = "a list of what stands in the lists: tokens are compared, never computed with"
    yield Law("the pencil's second round writes d", lambda: yours(["x", "e"], ["d", ".", "."]), ["d"], hint)


@exercise(solution=_tokens)
def tokens_a_round(yours):
    """Tokens that a round writes on average: `yours(share, guesses)` gives a number.

    Args:
        yours: share is how often a guess is right if those before it are, guesses how many a round makes.

    Source: arXiv 2211.17192, section 3.1, equation 1.
    """
    yield Law("guesses that are never right leave plain decoding", lambda: yours(0.0, 5), 1.0, "the model's own token")
    hint = "a sum of guesses + 1 terms; its closed form divides by zero at a share of 1"
    yield Law("guesses that are always right write themselves and one more", lambda: yours(1.0, 5), 6.0, hint)
    yield Law("one guess adds its share", lambda: yours(0.3, 1), 1.3, hint)
    hint = "the second guess counts only if the first was right as well"
    yield Law("two guesses of one half write 1.75 tokens", lambda: yours(0.5, 2), 1.75, hint)
    more = lambda: yours(0.7, 4) - yours(0.7, 3)
    yield Law("the fourth guess adds share to the fourth", more, 0.7**4, hint)
