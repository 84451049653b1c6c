"""The DeltaNet microscope: exact maps, updates, survival, rows and spectra."""

import time

from tests.benchmarks.tools import fresh, paired, peak, seconds


def random_inputs(tokens, *, key_heads=4, heads=12, dk=64, dv=64, seed=0):
    """Random inputs of the rule, long memories and weak writes as in a trained model."""
    import torch

    from labkit.deltanet import unit
    from labkit.deltanet.recompute import Inputs

    r = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=r)  # noqa: E731
    return Inputs(
        q=unit(normal(tokens, key_heads, dk)) * dk**-0.5,
        k=unit(normal(tokens, key_heads, dk)),
        v=normal(tokens, heads, dv),
        g=-torch.rand(tokens, heads, generator=r) * 0.05,
        beta=torch.rand(tokens, heads, generator=r) * 0.5,
        state=None,
    )


def exact_map():
    """Exact implied maps of all 12 heads at 2,048 tokens / the dense maps that drop removal. Goal: at most 2."""
    from labkit.deltanet import implied

    x = random_inputs(2048)
    return paired(lambda: implied(x.q, x.k, g=x.g, beta=x.beta), lambda: heuristic(x), rounds=9)


def heuristic(x):
    """Queries times keys, decayed, times write strength: a dense T x T product per head, as other tools make it."""
    import torch

    from labkit.deltanet.equation import grouped

    q, k = (grouped(y, x.v.shape[1]).transpose(0, 1) for y in (x.q, x.k))
    total = x.g.T.cumsum(-1)
    decay = (total[:, :, None] - total[:, None, :]).masked_fill(
        torch.ones(len(x.v), len(x.v)).triu(1).bool(), -torch.inf
    )
    return (q @ k.transpose(1, 2)) * decay.exp() * x.beta.T[:, None]


def updates_and_survival():
    """Ledger and survival of one layer at 16,384 tokens / the readable loops. Goal: at most 0.05 (20 times faster).

    The loops are timed on 1,024 tokens and taken 16 times; they are linear.
    """
    x, short = random_inputs(16_384), random_inputs(1024)
    fast = min(seconds(lambda: walk(x)) for _ in range(5))
    slow = 16 * min(seconds(lambda: readable(short)) for _ in range(3))
    few, many = fresh("memory.walk_peak", 16_384), fresh("memory.walk_peak", 32_768)
    return dict(ratio=fast / slow, memory_of_twice_as_many=many / few, MiB=few / 2**20)


def readable(x):
    """The same numbers by the equations as they are written: the state forward, and Φ backward."""
    import torch

    from labkit.deltanet import step
    from labkit.deltanet.equation import grouped

    heads, norm = x.v.shape[1], lambda y: y.flatten(1).norm(dim=1)
    q, k = grouped(x.q, heads), grouped(x.k, heads)
    state, rows = torch.zeros(heads, k.shape[-1], x.v.shape[-1]), []
    for t in range(len(x.v)):
        keep, write, old = x.g[t].exp(), x.beta[t], state
        state, _, recalled, error = step(old, q[t], k[t], x.v[t], g=x.g[t], beta=write)
        erased = torch.einsum("hk,hv->hkv", k[t], recalled) * write[:, None, None]
        written = torch.einsum("hk,hv->hkv", k[t], x.v[t]) * write[:, None, None]
        rows.append((norm(old) * (1 - keep), norm(erased), norm(written), norm(state), error.norm(dim=-1)))
    run, share = torch.eye(k.shape[-1]).expand(heads, -1, -1), []
    for t in range(len(x.v) - 1, -1, -1):
        left = torch.einsum("hij,hj->hi", run, k[t])
        share.append(left.norm(dim=-1))
        run = x.g[t].exp()[:, None, None] * (run - x.beta[t, :, None, None] * torch.einsum("hi,hj->hij", left, k[t]))
    return rows, share


def walk(x):
    """The numbers behind `deltanet.memory` and `deltanet.survival`, without labels."""

    from labkit.deltanet.equation import left_of_keys, tiled
    from labkit.deltanet.recompute import terms

    before, rows = x.start_squares(), []
    for first, count, part in tiled(**vars(x)):
        tile, before = terms(x, part, first, count, before)
        rows.append(tile)
    share = [found.norm(dim=-1) for first, found in left_of_keys(x.k, g=x.g, beta=x.beta) if first is not None]
    return rows, share


def walk_peak(tokens):
    x = random_inputs(tokens)
    walk(random_inputs(256))
    return peak(lambda: walk(x))


def one_row():
    """One exact row of one head at 131,072 tokens / at 16,384: time and memory. Goal: linear, 8 or less."""
    short, long = fresh("memory.row_peak", 16_384), fresh("memory.row_peak", 131_072)
    return dict(ratio=long["seconds"] / short["seconds"], memory=long["peak"] / short["peak"], MiB=long["peak"] / 2**20)


def row_peak(tokens):
    from labkit.deltanet import implied

    x = random_inputs(tokens)
    call = lambda: implied(x.q, x.k, g=x.g, beta=x.beta, rows=[tokens - 1], heads=[5])  # noqa: E731
    implied(x.q[:256], x.k[:256], g=x.g[:256], beta=x.beta[:256], rows=[255], heads=[5])
    begin = time.perf_counter()
    high = peak(call)
    return dict(peak=high, seconds=time.perf_counter() - begin)


def spectra():
    """Singular values of all 48 states of a 27B layer in one call / one by one. No goal."""
    import torch

    states = torch.randn(48, 128, 128, generator=torch.Generator().manual_seed(0))
    return paired(lambda: torch.linalg.svdvals(states), lambda: [torch.linalg.svdvals(one) for one in states], rounds=9)


QUESTIONS = [exact_map, updates_and_survival, one_row, spectra]
