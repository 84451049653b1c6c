"""Names of TransformerLens and of Hugging Face give the seams that they mean, or the call that gives what they mean."""

import numpy as np
import pytest
import siblings
import tiny
import torch

import labkit
from labkit import attention, deltanet, edit, experts
from labkit.errors import InputError, LayerError, SeamError
from labkit.families import ATTENTION, DELTANET, FAMILIES
from labkit.trace import decoder, names, others

IDS = tiny.ids(23)
MODELS = {family: lambda family=family: tiny.model(family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "kimi_linear": siblings.kimi}
ADAPTED = ("qwen3_5", "qwen3_5_moe", "qwen3_next")  # with one mixer that TransformerLens has an adapter for


@pytest.fixture(scope="module", params=MODELS)
def own(request):
    """A lab of each family, and a run of it."""
    lab = tiny.make_lab(MODELS[request.param]())
    return lab, lab.trace(IDS)


def watched(lab, layer, paths):
    """{path: (what enters, what leaves)} of modules of a layer, by hooks of torch."""
    block, seen, handles = decoder(lab.model).layers[layer], {}, []
    first = lambda given: given[0] if isinstance(given, tuple) else given  # noqa: E731
    for path in paths:

        def keep(module, args, kwargs, output, path=path):
            entered = args[0] if args else kwargs["hidden_states"]
            seen[path] = entered.clone(), first(output).clone()

        handles.append(block.get_submodule(path).register_forward_hook(keep, with_kwargs=True))
    with torch.no_grad():
        lab.model(IDS[None])
    for handle in handles:
        handle.remove()
    return seen


def test_every_family_is_tested():
    assert set(MODELS) == set(FAMILIES)


@pytest.mark.parametrize("layer", [1, 2], ids=["DeltaNet", "attention"])
def test_a_module_path_is_what_a_hook_of_torch_sees(own, layer):
    """Every module that a seam lies at: all that it returns or that enters it, or a refusal that names the seam."""
    lab, run = own
    kind = lab.spec.kind(layer)
    paths = names.modules(lab.spec, kind)
    seen = watched(lab, layer, {path.removesuffix("input").rstrip(".") for path in paths})
    whole = 0
    for path, seams in paths.items():
        name = f"model.layers.{layer}{'.' * bool(path)}{path}"
        entered, left = seen[path.removesuffix("input").rstrip(".")]
        by_hand = entered if path.endswith("input") else left
        if by_hand.numel() != run.seams[layer, seams[0]].numel():
            with pytest.raises(SeamError, match="seams are parts of what it returns"):
                run[name]
            continue
        whole += 1
        assert torch.equal(run[name].flatten(), by_hand.flatten()), name
        assert any(run[name] is run.seams[layer, seam] for seam in seams) and len(run[name]) == 23
        if not path.endswith("input"):
            assert run[f"{name}.output"] is run[name]
    assert whole >= 6


def by_transformerlens(lab, layer):
    """{hook: tensor} of one prompt, batch axis taken away, as `GatedDeltaNetBridge._hooked_forward`,
    `PositionEmbeddingsAttentionBridge.forward` and `BlockBridge` hand them to their hooks."""
    block, spec = decoder(lab.model).layers[layer], lab.spec
    if spec.kind(layer) == DELTANET:
        mixer = block.linear_attn
        fused = hasattr(mixer, "in_proj_qkvz")
        own = ("in_proj_qkvz", "in_proj_ba") if fused else ("in_proj_qkv", "in_proj_z", "in_proj_b")
        seen = watched(
            lab,
            layer,
            ["", "mlp", "input_layernorm", "linear_attn", "linear_attn.norm"] + [f"linear_attn.{n}" for n in own],
        )
        if fused:
            q, k, v, z, b, _ = mixer.fix_query_key_value_ordering(*(seen[f"linear_attn.{name}"][1] for name in own))
        else:
            mixed, z, b = (seen[f"linear_attn.{name}"][1] for name in own)
            parts = mixed.split([mixer.key_dim, mixer.key_dim, mixer.value_dim], -1)
            widths = mixer.head_k_dim, mixer.head_k_dim, mixer.head_v_dim
            q, k, v = (part.reshape(1, 23, -1, width) for part, width in zip(parts, widths, strict=True))
            z = z.reshape(1, 23, -1, mixer.head_v_dim)
        found = dict(hook_q_pre_conv=q, hook_k_pre_conv=k, hook_v_pre_conv=v, hook_beta_logit=b, hook_gate_input=z)
        found["hook_recurrence_out"] = seen["linear_attn.norm"][0].view(1, 23, *z.shape[2:])
        found |= dict(hook_in=seen["input_layernorm"][1], hook_out=seen["linear_attn"][1])
        found |= dict(hook_linear_attn_in=found["hook_in"], hook_linear_attn_out=found["hook_out"])
        found = {f"linear_attn.{name}": tensor for name, tensor in found.items()}
    else:
        mixer = block.self_attn
        own = [f"self_attn.{name}" for name in ("q_proj", "q_norm", "k_norm", "v_proj", "o_proj")]
        seen = watched(lab, layer, ["", "mlp", "input_layernorm", "self_attn", *own])
        asked, gate = seen["self_attn.q_proj"][1].view(1, 23, -1, 2 * mixer.head_dim).chunk(2, -1)
        heads = lambda x: x.reshape(1, 23, -1, mixer.head_dim)  # noqa: E731
        found = dict(
            hook_in=seen["input_layernorm"][1], hook_out=seen["self_attn"][1], hook_q_gate=gate.reshape(1, 23, -1)
        )
        found |= dict(hook_v=heads(seen["self_attn.v_proj"][1]), hook_z=heads(seen["self_attn.o_proj"][0]))
        for name in ("q", "k"):
            found[f"hook_{name}_normed"] = (
                seen[f"self_attn.{name}_norm"][1].view(1, 23, -1, mixer.head_dim).transpose(1, 2)
            )
        found = {f"attn.{name}": tensor for name, tensor in found.items()} | {"hook_attn_out": seen["self_attn"][1]}
    found |= dict(hook_resid_pre=seen[""][0], hook_in=seen[""][0], hook_resid_post=seen[""][1], hook_out=seen[""][1])
    mlp = seen["mlp"][1]
    found |= {"hook_mlp_out": mlp, "mlp.hook_out": mlp, "ln1.hook_out": seen["input_layernorm"][1]}
    return {name: tensor[0] for name, tensor in found.items()}


@pytest.mark.parametrize("layer", [3, 4], ids=["DeltaNet", "attention"])
@pytest.mark.parametrize("family", ADAPTED)
def test_a_hook_is_the_tensor_that_transformerlens_hands_to_it(family, layer):
    lab = tiny.make_lab(tiny.model(family=family))
    run, expected = lab.trace(IDS), by_transformerlens(lab, layer)
    assert set(expected) == set(others.HOOKS[lab.spec.kind(layer)])
    for hook, theirs in expected.items():
        ours = run[f"blocks.{layer}.{hook}"]
        said = others.AXES.get(hook, "")
        theirs = theirs.transpose(0, 1) if "heads before tokens" in said else theirs
        theirs = theirs.unflatten(-1, ours.shape[1:]) if "heads side by side" in said else theirs
        assert ours.shape == theirs.shape and torch.equal(ours, theirs), hook


def test_every_hook_gives_a_seam_of_every_family_or_says_that_it_has_none(own):
    lab, run = own
    for layer, kind in enumerate(lab.spec.kinds):
        for hook, meant in others.HOOKS[kind].items():
            name, seam = f"blocks.{layer}.{hook}", names.crossed(lab.spec, kind, meant)
            if seam is None:
                with pytest.raises(SeamError, match=f"{name} crosses no seam of this family"):
                    run[name]
            else:
                assert run[name].untyped_storage().data_ptr() == run.seams[layer, seam].untyped_storage().data_ptr()
    lacking = {
        hook
        for kind in others.HOOKS
        for hook, at in others.HOOKS[kind].items()
        if not names.crossed(lab.spec, kind, at)
    }
    assert lacking == {
        "olmo_hybrid": {"attn.hook_q_gate", "hook_mlp_out", "mlp.hook_out", "ln1.hook_out"},
        "kimi_linear": {"attn.hook_q_gate", "attn.hook_q_normed", "attn.hook_k_normed", "attn.hook_v"},
    }.get(lab.spec.family, set())


def test_a_norm_behind_a_branch_is_no_part_of_what_the_branch_gives():
    """In OLMo's attention layers what a mixer and an MLP return is normed before it is added."""
    lab = tiny.make_lab(siblings.olmo())
    run, seen = lab.trace(IDS), watched(lab, 2, ["self_attn", "mlp"])
    assert torch.equal(run["blocks.2.hook_attn_out"], seen["self_attn"][1][0])
    assert not torch.allclose(run["blocks.2.hook_attn_out"], run.seams[2, "mixer_out"], atol=1e-2)
    with pytest.raises(SeamError, match="blocks.2.mlp.hook_out crosses no seam"):
        run["blocks.2.mlp.hook_out"]
    assert torch.equal(run["blocks.1.mlp.hook_out"], run.seams[1, "mlp_out"]), "a DeltaNet layer norms before"


def test_what_is_no_seam_names_a_call_that_runs(own):
    lab, run = own
    here = dict(lab=lab, run=run, attention=attention, deltanet=deltanet, experts=experts, edit=edit)
    for layer, kind in enumerate(lab.spec.kinds):
        given = names.calls(lab.spec, kind)
        for hook, (call, differs) in given.items():
            with pytest.raises(SeamError) as caught:
                run[f"blocks.{layer}.{hook}"]
            assert caught.value.expected == differs and bool(caught.value.hint) == bool(call)
            if call:
                eval(caught.value.hint, dict(here))
        lost = set(others.READINGS[kind]) - set(given)
        assert ("mlp.hook_router_scores" in lost) == (not lab.spec.experts or lab.spec.family == "kimi_linear")
        assert ("attn.hook_q" in lost) == (kind == ATTENTION and lab.spec.family == "kimi_linear")
        assert ("attn.hook_pattern" in lost) == (kind == ATTENTION and lab.spec.family == "kimi_linear")
    for name in others.CALLS:
        with pytest.raises(SeamError, match=f"{name} is no seam") as caught:
            run[name]
        eval(caught.value.hint, dict(here))


def test_calls_give_what_the_hooks_would(lab):
    """Sums of seams against a hook of torch, bit for bit; patterns against the model's own, in eager attention."""
    run, seen = lab.trace(IDS), watched(lab, 1, ["post_attention_layernorm"])
    middle = run.seams[1, "resid_pre"] + run.seams[1, "mixer_out"]
    assert torch.equal(middle, seen["post_attention_layernorm"][0][0])
    assert (
        torch.equal(run["hook_embed"], lab.model.model.embed_tokens.weight[IDS])
        and run["model.embed_tokens"] is run["hook_embed"]
    )
    assert run["ln_final.hook_in"] is run.seams[4, "resid_post"]
    x, taken = deltanet.inputs(run, 1), deltanet.memory(run, layer=1)
    assert np.allclose(x.beta.T, taken.write, atol=1e-6) and np.allclose(x.g.exp().T, taken.keep, atol=1e-6)


def test_every_name_of_the_table_is_understood(own):
    """None of them is unknown; what the table prints is what `run[...]` does."""
    lab, run = own
    understood = 0
    for name in names.known(lab.spec):
        try:
            assert len(run[name]) == 23
            understood += 1
        except SeamError:
            pass
    assert understood > 40
    shown = repr(run.names)
    for kind in (DELTANET, ATTENTION):
        for seam in lab.spec.seams[kind]:
            assert any(line.split()[:1] == [seam] for line in shown.splitlines()), seam
        for hook, (call, _) in names.calls(lab.spec, kind).items():
            assert hook in shown and call.format(layer="N").split(" ·")[0] in shown
    assert "<" not in run.names._repr_html_().replace("<t", "").replace("</t", "").replace("<caption", "").replace(
        "</caption", ""
    ).replace("<b>", "").replace("</b>", "")


# what is refused ----------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("blocks.0.hook_resid_pst", InputError, "no such name(?s:.*)expected: blocks.0.hook_resid_post,"),
        ("blocks.2.hook_pattern", InputError, 'try: run\\["blocks.2.attn.hook_pattern"'),
        ("model.layers.3.linear_attn.norm", InputError, "expected: model.layers.3.linear_attn.norm.input"),
        ("blocks.5.hook_out", InputError, "no such layer(?s:.*)0 to 4"),
        ("resid_post", InputError, "no such name"),
        ("", InputError, "no such name"),
        (
            "blocks.0.attn.hook_z",
            LayerError,
            'layer 0 is a Gated DeltaNet layer(?s:.*)\\[2, 4\\](?s:.*)run.seams\\[0, "gated"',
        ),
        ("blocks.3.attn.hook_pattern", LayerError, "try: deltanet.implied_attention\\(run, layer=3\\)"),
        ("blocks.3.attn.hook_rot_q", LayerError, "try: attention.inputs\\(run, 2\\).q"),
        (
            "blocks.2.linear_attn.hook_beta",
            LayerError,
            "layer 2 is a gated attention layer(?s:.*)deltanet.inputs\\(run, 0\\).beta",
        ),
        ("blocks.2.linear_attn.hook_recurrence_out", LayerError, 'try: run.seams\\[0, "read"'),
        ("model.layers.2.linear_attn.out_proj.input", LayerError, 'try: run.seams\\[2, "gated"'),
        ("model.layers.2.self_attn.q_proj", SeamError, 'parts of what it returns(?s:.*)run.seams\\[2, "gate"'),
        (3, InputError, "a run is asked by names"),
        ((0, "resid_post"), InputError, "a run is asked by names"),
    ],
)
def test_wrong_names_are_told_what_is_right(lab, name, error, message):
    with pytest.raises(error, match=message):
        lab.trace(IDS)[name]


def test_seams_that_were_not_kept_and_layers_that_were_not_traced(lab):
    run = lab.trace(IDS, layers=[1], seams=["read"])
    assert run["blocks.1.linear_attn.hook_recurrence_out"] is run.seams[1, "read"]
    with pytest.raises(SeamError, match="seam 'resid_post' of layer 1 was not kept"):
        run["blocks.1.hook_resid_post"]
    with pytest.raises(SeamError, match="seam 'resid_post' of layer 0 was not kept"):
        run["model.layers.0"]
    with pytest.raises(TypeError):
        iter(run)


def test_the_text_model_inside_an_image_text_model(lab):
    """Its layers lie one module deeper; of a family that has no such class the path is unknown."""
    run = lab.trace(IDS)
    assert run["model.language_model.layers.1.mlp"] is run["model.layers.1.mlp"]
    with pytest.raises(InputError, match="no such name"):
        tiny.make_lab(siblings.olmo()).trace(IDS)["model.language_model.layers.1.mlp"]


def test_names_of_a_published_model_without_its_weights():
    spec = labkit.spec.read("Qwen3.6-35B-A3B")
    found = names.Names(spec).facts()
    assert ("gated attention layers", "gated") in {row[:2] for row in found}
    assert sum(row[1] == "mlp.hook_router_scores" for row in found) == 2
