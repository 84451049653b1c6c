"""Laws of the readings of a DeltaNet layer: the ledger of a tile, gates edited shut, states at chosen tokens."""

import torch
import typed

eq = typed.checked()

T, HK, H, DK, DV = 40, 3, 6, 10, 14


def draw(seed=0, tokens=T, dtype=torch.float64):
    """Random inputs of the rule, every size different; a start state too."""
    r = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=r, dtype=dtype)  # noqa: E731
    return dict(
        q=eq.unit(normal(tokens, HK, DK)) * DK**-0.5,
        k=eq.unit(normal(tokens, HK, DK)),
        v=normal(tokens, H, DV),
        g=-torch.rand(tokens, H, generator=r, dtype=dtype) * 0.3,
        beta=torch.rand(tokens, H, generator=r, dtype=dtype),
        state=normal(H, DK, DV),
    )


def close(a, b, tolerance=1e-11):
    assert a.shape == b.shape
    assert (a - b).abs().max() < tolerance, float((a - b).abs().max())


def test_ledger_sums_to_the_change_of_state_and_its_norms_are_the_terms():
    from labkit.deltanet.readings import Inputs, per_token

    x = draw()
    rows = per_token(Inputs(**x), eq.chunks(**x), 0, T, x["state"].flatten(1).norm(dim=1))
    old, k = x["state"], eq.grouped(x["k"], H)
    for t in range(T):
        keep, write = x["g"][t].exp()[:, None, None], x["beta"][t][:, None, None]
        decayed = -(1 - keep) * old
        erased = -keep * write * torch.einsum("hk,hj,hjv->hkv", k[t], k[t], old)
        written = write * torch.einsum("hk,hv->hkv", k[t], x["v"][t])
        new = eq.step(old, x["q"].repeat_interleave(2, 1)[t], k[t], x["v"][t], g=x["g"][t], beta=x["beta"][t])[0]
        close(decayed + erased + written, new - old)
        for name, term in (
            ("decayed", decayed),
            ("erased", erased),
            ("written", written),
            ("state_norm", new),
        ):
            close(rows[name][t], term.flatten(1).norm(dim=1))
        old = new


def test_gates_that_are_edited_shut(lab):
    import tiny

    from labkit import deltanet

    ids = tiny.ids(50)
    free = deltanet.memory(lab.trace(ids), layer=1)
    with lab.edit(deltanet.never_forget(layer=1, head=2), deltanet.never_write(layer=1, head=4)):
        shut = deltanet.memory(lab.trace(ids), layer=1)
    assert (shut.keep.sel(head=2) == 1).all() and (shut.write.sel(head=4) == 0).all()
    assert (free.keep.sel(head=2) < 1).all()
    others = [0, 1, 3, 5, 6, 7, 8]
    assert shut.keep.sel(head=others).identical(free.keep.sel(head=others))
    assert float(abs(shut.state.sel(head=4)).max()) == 0


def test_memory_gives_states_at_chosen_tokens(lab):
    import tiny

    from labkit import deltanet

    ids = tiny.ids(90)
    run = lab.trace(ids)
    some = deltanet.memory(run, layer=3, tokens=[10, 64, -1])
    assert some.state.dims == ("step", "head", "key", "value")
    assert some.state_token.values.tolist() == [10, 64, 89]
    cache = lab.cache()
    lab.trace(ids, cache=cache)
    held = cache.layers[3].recurrent_states[0][0]
    assert abs(some.state.isel(step=2).values - held.numpy()).max() < 1e-5
    assert deltanet.memory(run, layer=3).state.dims == ("head", "key", "value")
