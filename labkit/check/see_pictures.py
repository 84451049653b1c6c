"""Exercises of 12_see_pictures: how a picture becomes tokens and where they stand. Qwen2-VL, arXiv 2409.12191."""

import numpy as np

from labkit.check.laws import Law, exercise


def _tokens(height, width, patch, merge):
    return height // (patch * merge), width // (patch * merge)


def _positions(before, rows, columns, after):
    text = np.tile(np.arange(before), (3, 1))
    grid = np.stack(
        [np.zeros(rows * columns, int), np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)]
    )
    behind = np.tile(before + max(rows, columns) + np.arange(after), (3, 1))
    return np.concatenate([text, before + grid, behind], 1)


def _lift(weights, part):
    weights, part = np.asarray(weights), np.asarray(part)
    return np.log2(weights[:, part].sum(1) / part.mean())


@exercise(solution=_tokens)
def picture_tokens(yours):
    """Rows and columns of tokens of a picture: `yours(height, width, patch, merge)` gives (rows, columns).

    Args:
        yours: height and width in pixels, multiples of patch · merge; patch is the side of a patch in pixels, and
            merge by merge patches are joined into one token.

    Source: arXiv 2409.12191, section 2.1.
    """
    yield Law("height makes rows and width makes columns", lambda: yours(40, 56, 4, 2), (5, 7), "rows come first")
    yield Law("without joining every patch is a token", lambda: yours(36, 12, 3, 1), (12, 4))
    hint = "joined patches are fewer in both directions, not in one"
    yield Law("joining three by three leaves a ninth", lambda: yours(90, 45, 5, 3), (6, 3), hint)
    told = lambda: int(np.prod(np.asarray(yours(224, 224, 14, 2)))) + 2
    yield Law("224 by 224 pixels are 66 tokens with the two signs around them", told, 66)


@exercise(solution=_positions)
def rope_positions(yours):
    """Three rotary positions of every token: `yours(before, rows, columns, after)` gives (axis, token).

    Args:
        yours: before and after are numbers of text tokens around a picture of rows by columns tokens, row by row; the
            axes are time, height and width. Whole numbers, from 0.

    Source: arXiv 2409.12191, section 2.1 and figure 3.
    """
    before, rows, columns, after = 4, 2, 5, 3
    made = lambda part=slice(None), axis=slice(None): np.asarray(yours(before, rows, columns, after))[axis, part]
    right = _positions(before, rows, columns, after)
    whole = lambda: tuple(made().shape)
    yield Law("three axes and a place for every token", whole, (3, before + rows * columns + after), "(axis, token)")
    text, seen = slice(0, before), slice(before, before + rows * columns)
    yield Law("in the text before, all three count tokens", lambda: made(text), right[:, text])
    hint = "the whole picture is one moment: the position where the text has stopped"
    yield Law("within the picture time stands still", lambda: made(seen, 0), right[0, seen], hint)
    yield Law("height counts rows", lambda: made(seen, 1), right[1, seen], "five tokens share a row, from `before` on")
    yield Law("width counts columns", lambda: made(seen, 2), right[2, seen], "it begins anew in each row")
    hint = "after the largest position that was used, which belongs to the longer side"
    yield Law("the text goes on behind the longer side", lambda: made(slice(-after, None)), right[:, -after:], hint)
    tall = lambda: int(np.asarray(yours(1, 6, 2, 1))[0, -1])
    yield Law("a tall picture takes as many positions as it has rows", tall, 7, hint)
    alone, hint = _positions(0, 2, 3, 0), "`before` and `after` may be 0"
    yield Law("a picture without text around it begins at 0", lambda: yours(0, 2, 3, 0), alone, hint)


@exercise(solution=_lift)
def mass_over_even(yours):
    """Attention on a part over that of an even head, in log2: `yours(weights, part)` gives (head,).

    Args:
        yours: weights (head, source) sum to 1 over the sources, part (source,) is true for those that are meant.

    Source: the baseline is an even head, as in `attention.window`; softmax attention, arXiv 1706.03762.
    """
    part = np.array([True, False, False, True, False, False, False, False])
    even = np.full((3, 8), 1 / 8)
    one = lambda: tuple(np.asarray(yours(even, part)).shape)
    yield Law("there is one number for each head", one, (3,), "sum over the columns that are meant, axis 1")
    yield Law("an even head is at 0", lambda: yours(even, part), np.zeros(3), "over the share of the tokens, then log2")
    onto = np.zeros((1, 8))
    onto[0, [0, 3]] = 0.5
    yield Law("all of its mass on a quarter of the tokens is 2", lambda: yours(onto, part), [2.0], "log2, not ln")
    half = np.array([[0.0625, 0, 0.875, 0.0625, 0, 0, 0, 0]])
    yield Law("half of what an even head gives is -1", lambda: yours(half, part), [-1.0])
    heads = np.full((3, 10), 0.1)
    heads[:, 7] = 0.9, 0.02, 0.3
    heads[:, :7], heads[:, 8:] = (np.repeat((1 - heads[:, [7]]) / 9, n, 1) for n in (7, 2))
    tenth, hint = np.arange(10) == 7, "each head by itself, over the share that this part has of these tokens"
    yield Law("three heads differ on a tenth of the tokens", lambda: yours(heads, tenth), np.log2([9, 0.2, 3]), hint)
