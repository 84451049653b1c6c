"""Laws of the gated delta rule: fast = reference, hand-over of state, limits, exact implied attention, the ledger."""

import pytest
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5 as hf

from labkit.deltanet import equation as eq

T, HK, H, DK, DV = 150, 3, 6, 10, 14


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


def test_step_is_the_recurrence_of_transformers():
    """Outputs and final state of `torch_recurrent_gated_delta_rule`, at its own float32."""
    x = draw(tokens=33)
    out, _, _, state = eq.scan(**x)
    rule = getattr(hf.torch_recurrent_gated_delta_rule, "__wrapped__", hf.torch_recurrent_gated_delta_rule)
    q, k = x["q"] * DK**0.5, x["k"]
    theirs, final = rule(
        q[None].float(),
        k[None].float(),
        x["v"][None].float(),
        g=x["g"][None].float(),
        beta=x["beta"][None].float(),
        initial_state=x["state"][None].float(),
        output_final_state=True,
        use_qk_l2norm_in_kernel=False,
    )
    close(theirs[0].double(), out, 3e-6)
    close(final[0].double(), state, 3e-6)


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, T])
def test_chunks_equal_the_scan_final_state_included(tokens):
    x = draw(tokens=tokens)
    out, recalled, error, state = eq.scan(**x)
    part = eq.chunks(**x)
    for mine, reference in ((part.out, out), (part.recalled, recalled), (part.error, error)):
        close(part.flat(mine, tokens), reference)
    close(part.state, state)


def test_scan_of_a_and_b_is_scan_of_b_from_the_state_of_a():
    x = draw()
    whole = eq.scan(**x)
    for rule in (lambda **y: eq.scan(**y)[3], lambda **y: eq.chunks(**y).state):
        first = rule(**{n: y if n == "state" else y[:83] for n, y in x.items()})
        second = rule(**({n: y[83:] for n, y in x.items() if n != "state"} | {"state": first}))
        close(second, whole[3])


def test_states_at_any_token_and_their_norms():
    x = draw()
    part = eq.chunks(**x)
    norms = part.flat(part.norms(), T)
    for t in (0, 5, 63, 64, 100, T - 1):
        state = eq.scan(**{n: y if n == "state" else y[: t + 1] for n, y in x.items()})[3]
        close(part.state_after(t), state)
        close(norms[t], state.flatten(1).norm(dim=1))


def test_a_token_moves_only_later_outputs():
    x, y = draw(), draw()
    y["v"] = y["v"].clone()
    y["v"][70] += 1
    a, b = eq.chunks(**x), eq.chunks(**y)
    moved = (a.flat(a.out, T) - b.flat(b.out, T)).abs().amax((1, 2))
    assert moved[:70].max() == 0 and moved[70] > 1e-3


def test_without_writing_there_is_only_decay():
    x = draw()
    x["beta"] = torch.zeros_like(x["beta"])
    close(eq.chunks(**x).state, x["g"].sum(0).exp()[:, None, None] * x["state"])


def test_orthonormal_keys_without_decay_recall_exactly():
    x = draw(tokens=DK)
    x["k"] = torch.eye(DK, dtype=torch.float64)[:, None].expand(DK, HK, DK)
    x["g"], x["beta"] = torch.zeros_like(x["g"]), torch.ones_like(x["beta"])
    state = eq.chunks(**x).state
    close(torch.einsum("hkv,thk->thv", state, eq.grouped(x["k"], H)), x["v"])


@pytest.mark.parametrize("state", [True, False], ids=["warm", "cold"])
def test_implied_attention_rebuilds_the_outputs(state):
    x = draw()
    if not state:
        x["state"] = None
    out = eq.scan(**x)[0]
    start = x.pop("state")
    for form in ("value", "write"):
        weights, left = eq.implied(**x, form=form)
        part = eq.chunks(**x, state=start)
        acted = x["v"] if form == "value" else part.flat(part.write, T)
        rebuilt = torch.einsum("hts,shv->thv", weights, acted)
        if start is not None:
            rebuilt = rebuilt + torch.einsum("htk,hkv->thv", left, start)
        close(rebuilt, out)
        assert weights.triu(1).abs().max() == 0


def test_implied_rows_equal_the_backward_walk_and_the_dense_solve():
    x = draw()
    x.pop("state")
    weights, left = eq.implied(**x, rows=[0, 64, 99, T - 1], heads=[4, 1])
    for i, t in enumerate((0, 64, 99, T - 1)):
        row, rest = eq.implied_row(**x, token=t)
        close(weights[:, i], row[[4, 1]])
        close(left[:, i], rest[[4, 1]])
    # MATH of the dense form: A = (Q K^T * G) (I + tril(diag(beta) (K K^T * G), -1))^-1 diag(beta)
    whole, _ = eq.implied(**x)
    total = x["g"].cumsum(0).T
    gap = (total[:, :, None] - total[:, None, :]).tril().exp().tril()
    q, k = (eq.grouped(x[n], H).transpose(0, 1) for n in "qk")
    beta = x["beta"].T
    system = torch.eye(T, dtype=torch.float64) + (beta[:, :, None] * (k @ k.transpose(1, 2)) * gap).tril(-1)
    dense = ((q @ k.transpose(1, 2)) * gap) @ torch.linalg.inv(system) * beta[:, None]
    close(whole, dense)


def test_the_heuristic_without_removal_is_exact_only_when_nothing_is_removed():
    x = draw(tokens=DK)
    x.pop("state")
    out = eq.scan(**x)[0]
    rebuilt = torch.einsum("hts,shv->thv", eq.implied(**x, form="heuristic")[0], x["v"])
    assert (rebuilt - out).norm() / out.norm() > 0.1
    x["k"] = torch.eye(DK, dtype=torch.float64)[:, None].expand(DK, HK, DK)
    out = eq.scan(**x)[0]
    rebuilt = torch.einsum("hts,shv->thv", eq.implied(**x, form="heuristic")[0], x["v"])
    close(rebuilt, out)


def test_ledger_sums_to_the_change_of_state_and_its_norms_are_the_terms():
    from labkit.deltanet.readings import Inputs, per_token

    x = draw(tokens=40)
    rows = per_token(Inputs(**x), eq.chunks(**x), 0, 40, x["state"].flatten(1).norm(dim=1))
    old, k = x["state"], eq.grouped(x["k"], H)
    for t in range(40):
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
