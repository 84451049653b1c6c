"""Laws of the delta rule with decay per head and per channel: chunks = scan, backward = forward, nothing overflows."""

import pytest
import torch
import typed
from transformers.models.qwen3_5 import modeling_qwen3_5 as hf

from labkit import deltanet
from labkit.errors import InputError

eq = typed.checked()

T, HK, H, DK, DV = 83, 3, 6, 10, 14  # all different; two value heads read one key head
KINDS = ("head", "channel")


def draw(kind, tokens=T, *, most=2.0, strong=0.5, seed=0, dtype=torch.float64):
    """Random inputs: β up to `most`, -log α up to `strong`, per head or per channel."""
    r = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=r, dtype=torch.float64)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=r, dtype=torch.float64)  # noqa: E731
    x = dict(
        q=eq.unit(normal(tokens, HK, DK)) * DK**-0.5,
        k=eq.unit(normal(tokens, HK, DK)),
        v=normal(tokens, H, DV),
        g=-strong * uniform(*{"head": (tokens, H), "channel": (tokens, H, DK)}[kind]),
        beta=most * uniform(tokens, H),
        state=normal(H, DK, DV),
    )
    return {name: y.to(dtype) for name, y in x.items()}


def part(x, *names):
    return {name: x[name] for name in names}


def close(a, b, tolerance=1e-12):
    assert a.shape == b.shape
    scale = max(1.0, float(b.abs().max()))
    assert float((a - b).abs().max()) <= tolerance * scale, float((a - b).abs().max())


def transition(x, t):
    """Γ_t = (I - β k kᵀ) Diag(α), [head, key, key], written out."""
    k = eq.grouped(x["k"], H)[t]
    alpha = x["g"][t].exp().reshape(H, -1).expand(H, DK)
    erase = torch.eye(DK, dtype=k.dtype) - x["beta"][t, :, None, None] * k[:, :, None] * k[:, None, :]
    return erase @ torch.diag_embed(alpha)


def transitions(x, j, t):
    """Φ_tj = Γ_t … Γ_{j+1} by multiplication."""
    phi = torch.eye(DK, dtype=x["k"].dtype).expand(H, DK, DK)
    for i in range(j + 1, t + 1):
        phi = transition(x, i) @ phi
    return phi


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# --------------------------------------------------------------------------------------------- the reference


def test_the_loop_is_the_recurrence_of_transformers():
    """Outputs and final state of `torch_recurrent_gated_delta_rule`, which knows decay per head."""
    x = draw("head", tokens=37, most=1.0, dtype=torch.float32)
    rule = getattr(hf.torch_recurrent_gated_delta_rule, "__wrapped__", hf.torch_recurrent_gated_delta_rule)
    theirs, final = rule(
        x["q"][None] * DK**0.5,
        x["k"][None],
        x["v"][None],
        g=x["g"][None],
        beta=x["beta"][None],
        initial_state=x["state"][None],
        output_final_state=True,
        use_qk_l2norm_in_kernel=False,
    )
    for form in ("loop", "chunks"):
        out, state = eq.delta_rule(**x, form=form)
        close(out, theirs[0], 2e-6)
        close(state, final[0], 2e-6)


def test_a_step_applies_the_transition_decay_first(kind):
    x = draw(kind)
    t, k = 5, eq.grouped(x["k"], H)[5]
    state, out, recalled, error = eq.step(
        x["state"], eq.grouped(x["q"], H)[t], k, x["v"][t], g=x["g"][t], beta=x["beta"][t]
    )
    written = x["beta"][t, :, None, None] * k[:, :, None] * x["v"][t][:, None, :]
    close(state, transition(x, t) @ x["state"] + written)
    close(out, torch.einsum("hkv,hk->hv", state, eq.grouped(x["q"], H)[t]))
    decayed = x["g"][t].exp().reshape(H, -1, 1) * x["state"]
    close(recalled, torch.einsum("hkv,hk->hv", decayed, k))
    close(error, x["v"][t] - recalled)


def test_channels_that_decay_alike_are_a_head(kind):
    x = draw("head")
    y = x | {"g": x["g"][..., None].expand(T, H, DK).contiguous()}
    for form in ("loop", "chunks"):
        for mine, theirs in zip(eq.delta_rule(**y, form=form), eq.delta_rule(**x, form=form), strict=True):
            close(mine, theirs)
    a, b = (eq.implied(**part(z, "q", "k", "g", "beta")) for z in (x, y))
    close(b[0], a[0])
    close(b[1], a[1])


def test_a_channel_of_the_state_fades_with_its_own_decay():
    x = draw("channel")
    x["beta"] = torch.zeros_like(x["beta"])
    for form in ("loop", "chunks"):
        close(eq.delta_rule(**x, form=form)[1], x["g"].sum(0).exp()[..., None] * x["state"])


def test_a_write_of_two_reflects_and_of_one_erases():
    x = draw("channel", tokens=1)
    x["k"] = torch.nn.functional.normalize(x["k"], dim=-1)
    x["v"], x["g"] = torch.zeros_like(x["v"]), torch.zeros_like(x["g"])
    key = eq.grouped(x["k"], H)[0]
    before = torch.einsum("hkv,hk->hv", x["state"], key)
    for write in (1.0, 2.0):
        x["beta"] = torch.full_like(x["beta"], write)
        state = eq.delta_rule(**x)[1]
        close(torch.einsum("hkv,hk->hv", state, key), (1 - write) * before)


@pytest.mark.parametrize("form", ["loop", "chunks"])
def test_a_token_moves_only_its_own_and_later_reads(kind, form):
    """Each of k, v, g and β of token 40; its query moves its own read alone."""
    x = draw(kind)
    out = eq.delta_rule(**x, form=form)[0]
    for name in ("q", "k", "v", "g", "beta"):
        y = x | {name: x[name].clone()}
        y[name][40] = 0.7 * y[name][40]
        moved = (eq.delta_rule(**y, form=form)[0] - out).abs().amax((1, 2))
        assert moved[:40].max() == 0 and moved[40] > 1e-3, name
        assert (moved[41:].max() == 0) == (name == "q"), name


@pytest.mark.parametrize("form", ["loop", "chunks"])
def test_orthonormal_keys_without_decay_recall_exactly(form):
    x = draw("head", tokens=DK)
    x["k"] = torch.eye(DK, dtype=torch.float64)[:, None].repeat(1, HK, 1)
    x["g"], x["beta"] = torch.zeros_like(x["g"]), torch.ones_like(x["beta"])
    state = eq.delta_rule(**x, form=form)[1]
    close(torch.einsum("hkv,thk->thv", state, eq.grouped(x["k"], H)), x["v"])
    weights, _ = eq.implied(**part(x, "q", "k", "g", "beta"), rows=[DK - 1] * DK, queries=x["k"])
    close(weights, torch.eye(DK, dtype=torch.float64).expand(H, DK, DK))


# -------------------------------------------------------------------------------------------------- the chunks


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 64, T])
def test_chunks_equal_the_loop(kind, tokens):
    x = draw(kind, tokens)
    out, recalled, error, state = eq.scan(**x)
    tile = eq.chunks(**x)
    for mine, reference in ((tile.out, out), (tile.recalled, recalled), (tile.error, error)):
        close(tile.flat(mine, tokens), reference)
    close(tile.flat(tile.write, tokens), x["beta"][..., None] * error)
    close(tile.state, state)
    assert eq.chunks(**x, outputs=False).out is None


def test_states_and_norms_at_every_token(kind):
    x = draw(kind)
    tile, q, k = eq.chunks(**x), eq.grouped(x["q"], H), eq.grouped(x["k"], H)
    norms, state = tile.flat(tile.norms(), T), x["state"]
    for t in range(T):
        if t % 32 == 0:
            close(tile.entry[:, t // 32], state)
        state = eq.step(state, q[t], k[t], x["v"][t], g=x["g"][t], beta=x["beta"][t])[0]
        close(tile.state_after(t), state)
        close(norms[t], state.flatten(1).norm(dim=1))


@pytest.mark.parametrize("tile", [32, 70, 512])
@pytest.mark.parametrize("warm", [True, False])
def test_tiles_hand_the_state_on(kind, tile, warm):
    x = draw(kind) if warm else draw(kind) | {"state": None}
    out, *_, state = eq.scan(**x)
    firsts, reads = [], []
    for first, count, piece in eq.tiled(**x, tile=tile):
        firsts.append((first, count))
        reads.append(piece.flat(piece.out, count))
    assert firsts == [(a, min(tile, T - a)) for a in range(0, T, tile)]
    close(torch.cat(reads), out)
    close(piece.state, state)


@pytest.mark.parametrize("form", ["loop", "chunks"])
def test_two_pieces_are_the_whole(kind, form):
    x = draw(kind)
    out, state = eq.delta_rule(**x, form=form)
    gates = [{n: y[a:b] for n, y in x.items() if n != "state"} for a, b in ((0, 47), (47, T))]
    first, middle = eq.delta_rule(**gates[0], state=x["state"], form=form)
    second, final = eq.delta_rule(**gates[1], state=middle, form=form)
    close(torch.cat([first, second]), out)
    close(final, state)
    nothing, same = eq.delta_rule(**x, form=form, outputs=False)
    assert nothing is None
    close(same, state)


def test_more_than_one_tile_through_the_one_door(kind):
    x = draw(kind, tokens=eq.TILE + 7)
    for mine, reference in zip(eq.delta_rule(**x), eq.delta_rule(**x, form="loop"), strict=True):
        close(mine, reference, 1e-11)


def test_float32_stays_near_float64(kind):
    x = draw(kind, tokens=150)
    tile = eq.chunks(**{n: y.float() for n, y in x.items()})
    out, *_, state = eq.scan(**x)
    assert tile.out.dtype == tile.state.dtype == torch.float32
    close(tile.flat(tile.out, 150).double(), out, 2e-6)
    close(tile.state.double(), state, 2e-6)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_strong_and_unequal_decay_neither_overflows_nor_vanishes(dtype, tolerance):
    """-60 a token is e^-1920 over a chunk: each side of a naive split overflows; neighbours still act on each other."""
    x = draw("channel", tokens=70, strong=0.05, most=1.9)
    x["g"][:, :, ::3] = -60.0
    x["g"][11:29, :, 1] = -60.0  # and mild before and after: what lies between must not spoil what comes later
    x["g"][40, 2] = -60.0
    truth = eq.scan(**x)
    low = {n: y.to(dtype) for n, y in x.items()}
    tile = eq.chunks(**low)
    for mine, reference in zip((tile.out, tile.recalled, tile.error), truth, strict=False):
        assert mine.isfinite().all()
        close(tile.flat(mine, 70).double(), reference, tolerance)
    close(tile.state.double(), truth[3], tolerance)
    assert tile.norms().isfinite().all()
    weights, rest = eq.implied(**part(low, "q", "k", "g", "beta"))
    rebuilt = torch.einsum("hts,shv->thv", weights.double(), x["v"])
    close(rebuilt + torch.einsum("htk,hkv->thv", rest.double(), x["state"]), truth[0], tolerance)
    *parts, (_, whole) = eq.left_of_keys(**part(low, "k", "g", "beta"))
    rebuilt = sum(
        torch.einsum("thk,th,thv->hkv", y.double(), x["beta"][a : a + len(y)], x["v"][a : a + len(y)]) for a, y in parts
    )
    close(rebuilt + whole.double() @ x["state"], truth[3], tolerance)


def test_gradients_of_chunks_are_those_of_the_loop(kind):
    r = torch.Generator().manual_seed(1)
    grads = []
    for form in ("loop", "chunks"):
        x = {n: y.requires_grad_() for n, y in draw(kind, tokens=45).items()}
        out, state = eq.delta_rule(**x, form=form)
        weight = [torch.randn(y.shape, generator=r.manual_seed(2), dtype=y.dtype) for y in (out, state)]
        loss = (out * weight[0]).sum() + (state * weight[1]).sum()
        grads.append(torch.autograd.grad(loss, list(x.values())))
    for mine, reference in zip(*grads, strict=True):
        close(mine, reference, 1e-11)


# ------------------------------------------------------------------------------------------- the rule backwards


def test_rows_rebuild_reads_and_a_backward_row_is_a_row(kind):
    x = draw(kind)
    gates = part(x, "q", "k", "g", "beta")
    weights, rest = eq.implied(**gates)
    rebuilt = torch.einsum("hts,shv->thv", weights, x["v"]) + torch.einsum("htk,hkv->thv", rest, x["state"])
    close(rebuilt, eq.scan(**x)[0])
    assert weights.triu(1).abs().max() == 0
    for t in (0, 1, 63, 64, T - 1):
        row, left = eq.implied_row(**gates, token=t)
        close(row, weights[:, t])
        close(left, rest[:, t])
        assert row[:, t + 1 :].abs().sum() == 0
    some, tail = eq.implied(**gates, rows=[70, 2, -1], heads=[4, 1], chunk=16)
    close(some, weights[[4, 1]][:, [70, 2, T - 1]])
    close(tail, rest[[4, 1]][:, [70, 2, T - 1]])
    assert eq.implied(**gates, rows=[])[0].shape == (H, 0, T)


def test_entries_are_queries_times_transitions_times_keys(kind):
    x = draw(kind)
    t, q, k = 70, eq.grouped(x["q"], H), eq.grouped(x["k"], H)
    weights, rest = eq.implied(**part(x, "q", "k", "g", "beta"), rows=[t])
    for j in (0, 31, 63, 64, 69, 70):
        entry = x["beta"][j] * torch.einsum("hk,hkj,hj->h", q[t], transitions(x, j, t), k[j])
        close(weights[:, 0, j], entry)
    close(rest[:, 0], torch.einsum("hk,hkj->hj", q[t], transitions(x, -1, t)))


def test_weights_of_net_writes_rebuild_the_reads_too(kind):
    """form="write": Σ_κ q̃_κ k_κ exp(c_t - c_j) acts on u = βe; times β it is the heuristic, which is not exact."""
    x = draw(kind)
    gates = part(x, "q", "k", "g", "beta")
    out, _, error, _ = eq.scan(**x)
    weights, rest = eq.implied(**gates, form="write")
    total = x["g"].cumsum(0).reshape(T, H, -1).expand(T, H, DK)
    q, k = eq.grouped(x["q"], H), eq.grouped(x["k"], H)
    for t, j in ((70, 3), (70, 66), (64, 64), (40, 39)):
        close(weights[:, t, j], (q[t] * k[j] * (total[t] - total[j]).exp()).sum(-1))
    assert weights.triu(1).abs().max() == 0
    close(rest, (q * total.exp()).transpose(0, 1))
    written = x["beta"][..., None] * error
    close(torch.einsum("hts,shv->thv", weights, written) + torch.einsum("htk,hkv->thv", rest, x["state"]), out)
    close(eq.implied(**gates, form="heuristic")[0], weights * x["beta"].T[:, None])


def test_other_queries_read_the_same_memory(kind):
    """Queries of the caller's own, several at one token: S_tᵀ k_j = Σ_i c_ji v_i + S_0ᵀ x."""
    x = draw(kind)
    t, sources = 50, [3, 47, 50]
    weights, rest = eq.implied(**part(x, "q", "k", "g", "beta"), rows=[t] * 3, queries=x["k"][sources])
    state = eq.chunks(**x).state_after(t)
    said = torch.einsum("hjs,shv->jhv", weights, x["v"]) + torch.einsum("hjk,hkv->jhv", rest, x["state"])
    close(said, torch.einsum("hkv,jhk->jhv", state, eq.grouped(x["k"], H)[sources]))


def test_rows_are_the_dense_solve_of_the_paper():
    """A = (Q̃Kᵀ ⊙ Γ)(I + tril(diag(β)(KKᵀ ⊙ Γ), -1))⁻¹ diag(β) over the whole window, without chunk borders."""
    x = draw("head")
    total = x["g"].cumsum(0).T
    gap = (total[:, :, None] - total[:, None, :]).tril().exp().tril()
    q, k = (eq.grouped(x[n], H).transpose(0, 1) for n in "qk")
    beta = x["beta"].T
    system = torch.eye(T, dtype=torch.float64) + (beta[:, :, None] * (k @ k.transpose(1, 2)) * gap).tril(-1)
    dense = ((q @ k.transpose(1, 2)) * gap) @ torch.linalg.inv(system) * beta[:, None]
    close(eq.implied(**part(x, "q", "k", "g", "beta"))[0], dense)


def test_the_heuristic_is_exact_only_when_nothing_is_removed(kind):
    x = draw(kind, tokens=DK) | {"state": None}
    gates = part(x, "q", "k", "g", "beta")
    out = eq.scan(**x)[0]
    rebuilt = torch.einsum("hts,shv->thv", eq.implied(**gates, form="heuristic")[0], x["v"])
    assert (rebuilt - out).norm() / out.norm() > 0.1
    x["k"] = gates["k"] = torch.eye(DK, dtype=torch.float64)[:, None].repeat(1, HK, 1)
    rebuilt = torch.einsum("hts,shv->thv", eq.implied(**gates, form="heuristic")[0], x["v"])
    close(rebuilt, eq.scan(**x)[0])


@pytest.mark.parametrize("tile", [32, 64, 512])
@pytest.mark.parametrize("tokens", [1, 32, 33, T])
def test_what_is_left_of_keys_is_the_product_of_transitions(kind, tokens, tile):
    x = draw(kind, tokens)
    *parts, (end, whole) = eq.left_of_keys(**part(x, "k", "g", "beta"), tile=tile)
    assert end is None and [a for a, _ in parts] == list(range(0, tokens, tile))[::-1]
    left = torch.cat([y for _, y in parts[::-1]])
    keys = eq.grouped(x["k"], H)
    phi = torch.eye(DK, dtype=keys.dtype).expand(H, DK, DK)
    for j in range(tokens - 1, -1, -1):
        close(left[j], torch.einsum("hkj,hj->hk", phi, keys[j]))
        phi = phi @ transition(x, j)
    close(whole, phi)
    state = torch.einsum("thk,th,thv->hkv", left, x["beta"], x["v"]) + whole @ x["state"]
    close(state, eq.scan(**x)[3])


def test_one_key_forward_is_what_is_left_of_it(kind):
    """The rule started at k_j with one value channel of zeros."""
    x, j = draw(kind), 20
    k, g, beta = (x[n][j + 1 :] for n in ("k", "g", "beta"))
    tile = eq.chunks(k, k, k.new_zeros(len(k), H, 1), g=g, beta=beta, state=eq.grouped(x["k"], H)[j][..., None])
    left = tile.flat(tile.vectors(), len(k))
    for n, t in enumerate(range(j + 1, T)):
        close(left[n], torch.einsum("hkj,hj->hk", transitions(x, j, t), eq.grouped(x["k"], H)[j]))


def test_survival_is_at_most_what_decay_leaves_up_to_a_write_of_one():
    """Per head ‖Φk‖ ≤ Πα ‖k‖ for β ≤ 1; a write of two keeps the length but turns the sign."""
    x = draw("head", most=1.0)
    *parts, _ = eq.left_of_keys(**part(x, "k", "g", "beta"))
    left = torch.cat([y for _, y in parts[::-1]])
    decay = x["g"].flip(0).cumsum(0).flip(0)[1:].exp()
    share = left.norm(dim=-1) / eq.grouped(x["k"], H).norm(dim=-1)
    assert (share[:-1] <= decay * (1 + 1e-12)).all() and (share[:60] < 0.9 * decay[:60]).all()
    close(share[-1], torch.ones(H, dtype=share.dtype))
    key = torch.nn.functional.normalize(x["k"][:1], dim=-1).expand(2, HK, DK).contiguous()
    zero = torch.zeros(2, H, dtype=key.dtype)
    (_, left), _ = eq.left_of_keys(key, g=zero, beta=zero + 2)
    close(left[0], -eq.grouped(key, H)[0])


# ------------------------------------------------------------------------------------------------- what is refused

ENTRIES = {
    "delta_rule": lambda module, x: module.delta_rule(**x),
    "loop": lambda module, x: module.delta_rule(**x, form="loop"),
    "scan": lambda module, x: module.scan(**x),
    "chunks": lambda module, x: module.chunks(**x),
    "implied": lambda module, x: module.implied(**part(x, "q", "k", "g", "beta")),
    "implied_row": lambda module, x: module.implied_row(**part(x, "q", "k", "g", "beta"), token=3),
    "left_of_keys": lambda module, x: list(module.left_of_keys(**part(x, "k", "g", "beta"))),
}


@pytest.fixture(params=ENTRIES)
def entry(request):
    return ENTRIES[request.param]


def refused(entry, x, match):
    """The error says what, got, expected; and its hint runs, with the arguments that were refused."""
    with pytest.raises(InputError, match=match) as caught:
        entry(deltanet.equation, x)
    if caught.value.hint:
        eval(caught.value.hint, {"deltanet": deltanet}, dict(x))
    return caught.value


def test_gates_that_are_exchanged_are_refused(entry):
    x = draw("head", most=1.0)
    x["g"], x["beta"] = x["beta"], x["g"]
    error = refused(entry, x, "(?s)g and beta are exchanged.*got: g from 0.*beta from -0.*expected: g = log α")
    assert error.hint == "deltanet.delta_rule(q, k, v, g=beta, beta=g)"


def test_a_decay_instead_of_its_logarithm_is_refused(entry, kind):
    x = draw(kind)
    x["g"] = x["g"].exp()
    error = refused(entry, x, "(?s)g is the logarithm of the decay α.*got: g from 0.*at most 0")
    assert "g=g.clamp(min=1e-30).log()" in error.hint


def test_a_write_strength_outside_its_range_is_refused(entry):
    x = draw("head")
    x["beta"] = 2.5 * x["beta"]
    refused(entry, x, "(?s)write strength.*0 to 2.*got: .*beta from 0.*to 4.*try: .*sigmoid")
    x["beta"] = x["beta"] - 2.6
    refused(entry, x, "write strength")


def test_a_decay_of_exactly_nothing_is_refused(entry):
    x = draw("channel")
    x["g"][4, 1, 2] = -torch.inf
    refused(entry, x, "(?s)-inf.*got: g from -inf.*finite")


def test_gates_that_fit_no_keys_are_refused(entry):
    x = draw("head")
    for wrong in (
        {"g": x["g"].T.contiguous()},
        {"beta": x["beta"][:-1]},
        {"g": x["g"][..., None]},
        {"g": x["g"].T.contiguous(), "beta": x["beta"].T.contiguous()},
    ):
        refused(entry, x | wrong, "(?s)axes of the gates.*got: g .*expected: .*token, head")


def test_no_tokens_and_unknown_forms_are_refused():
    x = draw("head", tokens=12)
    with pytest.raises(InputError, match="at least one token"):
        deltanet.delta_rule(**{n: y if n == "state" else y[:0] for n, y in x.items()})
    refused(lambda module, x: module.delta_rule(**x, form="fast"), x, "(?s)unknown form.*fast.*loop, chunks")
    with pytest.raises(InputError, match="(?s)unknown form.*values.*'value', 'write' or 'heuristic'"):
        eq.implied(**part(x, "q", "k", "g", "beta"), form="values")
    with pytest.raises(InputError, match="(?s)token out of range.*12"):
        eq.implied(**part(x, "q", "k", "g", "beta"), rows=[12])
    with pytest.raises(InputError, match="(?s)power of two.*24"):
        eq.chunks(**draw("channel"), chunk=24)


@pytest.mark.parametrize("name", ["q", "k", "v", "state"])
def test_axes_in_another_order_are_refused_by_their_types(name):
    import jaxtyping

    for kind in KINDS:
        x = draw(kind)
        x[name] = x[name].transpose(-1, -2) if name == "state" else x[name].transpose(0, 1)
        for call in (eq.scan, eq.chunks, eq.delta_rule):
            with pytest.raises(jaxtyping.TypeCheckError, match="(?s)key"):
                call(**x)


def test_every_function_of_the_equation_is_typed():
    """No parameter and no result without an annotation, so that the hook checks all of them."""
    import inspect

    for name in eq.__all__:
        if inspect.isfunction(function := getattr(eq, name)):
            signature = inspect.signature(function)
            assert signature.return_annotation is not inspect.Signature.empty, name
            bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
            assert not bare, f"{name}: {bare}"
