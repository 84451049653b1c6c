"""Mutants of the residual stream and of attribution: what is held, what is summed, what reads."""

from tests.mutants import Mutant

SPOKEN, BRANCHES, STREAM = (f"labkit/residual/{name}.py" for name in ("spoken", "branches", "stream"))
FROZEN, COMPLETE, DIRECT = (f"labkit/attribution/{name}.py" for name in ("frozen", "complete", "direct"))
LENS = "tests/test_residual.py::test_the_lens_is_norm_and_unembedding_at_every_layer"
FAR = "tests/test_residual.py::test_the_last_layer_says_what_the_model_says"
PARTS = "tests/test_residual.py::test_rows_in_parts_are_rows_at_once"
ADDED = "tests/test_residual.py::test_a_contribution_is_the_inner_product_with_the_way_out"
FOIL = "tests/test_residual.py::test_in_float64_branches_add_up_to_the_last_digits"
SUM = "tests/test_attribution.py::test_the_sum_is_the_logit_and_nothing_is_lost_at_any_layer"
HEADS = "tests/test_attribution.py::test_a_head_adds_its_map_times_its_projected_values"
TIES = "tests/test_attribution.py::test_answers_that_are_as_likely_can_be_compared"
NAMES, OTHERS, SAID = (f"labkit/trace/{name}.py" for name in ("names", "others", "said"))
COSTS, WIDE, SPENT = "labkit/attribution/costs.py", "labkit/attribution/wide.py", "labkit/residual/costs.py"
HOOK = "tests/test_names.py::test_a_hook_is_the_tensor_that_transformerlens_hands_to_it"
NORMED = "tests/test_names.py::test_a_norm_behind_a_branch_is_no_part_of_what_the_branch_gives"
MODULE = "tests/test_names.py::test_a_module_path_is_what_a_hook_of_torch_sees"
NEAREST = "tests/test_names.py::test_wrong_names_are_told_what_is_right"
CALLS = "tests/test_names.py::test_what_is_no_seam_names_a_call_that_runs"
TOP = "tests/test_trace.py::test_the_likeliest_tokens_are_those_of_the_softmax_of_the_models_logits"
TEXT = "tests/test_trace.py::test_the_generated_text_is_that_of_the_new_tokens_special_ones_as_they_are"
PLANNED = "tests/test_attribution.py::test_it_takes_what_is_planned"
REFUSED = "tests/test_attribution.py::test_it_is_refused_before_the_model_runs_and_runs_where_it_just_fits"
HALF = "tests/test_attribution.py::test_of_bfloat16_a_copy_in_float32_adds_up"
CHOSEN = "tests/test_attribution.py::test_experts_are_those_of_the_run"
SEEN = "tests/test_attribution.py::test_pictures_are_sources_like_words"
TAKES = "tests/test_residual.py::test_it_takes_what_it_says"
PACKED = "tests/test_residual.py::test_packed_rows_of_the_unembedding_are_those_of_its_forward"
LATENT, OF_LATENTS = "labkit/attribution/latent.py", "tests/test_attribution_latent.py::test_"
LATENTS = f"{OF_LATENTS}a_head_of_latents_adds_the_models_own_map_times_its_values"
OLD = f"{OF_LATENTS}what_heads_read_is_what_values_and_cache_bring"
AGAIN = f"{OF_LATENTS}experts_are_those_of_the_run"
WHOLE = "tests/test_attribution.py::test_heads_mlps_embedding_and_cache_add_up_to_the_logit"

MUTANTS = [
    Mutant(SPOKEN, "(said > column[:, None])", "(said >= column[:, None])", LENS),
    Mutant(SPOKEN, "own.exp() * (own - said)", "said.exp() * (said - own)", FAR),
    Mutant(SPOKEN, "range(0, len(rows), step)", "range(0, len(rows), step + 1)", PARTS),
    Mutant(BRANCHES, "reads - way_out(", "reads + way_out(", FOIL),
    Mutant(BRANCHES, '("mixer_out", "mlp_out")', '("mlp_out", "mixer_out")', ADDED),
    Mutant(STREAM, "row.detach().abs().max()", "row.detach().abs().min()", TIES),
    Mutant(BRANCHES, "- own, row)", "- own, whole)", TIES),
    Mutant(FROZEN, "c * c.detach().sigmoid()", "c * c.sigmoid()", SUM),
    Mutant(FROZEN, "1 - spec.conv :].T)", "1 - spec.conv :].flip(-1).T)", SUM),
    Mutant(FROZEN, "reads], v[:, reads]", "reads], v[:, sorted(reads, reverse=True)]", SUM),
    Mutant(FROZEN, "<= run.positions", "< run.positions", SUM),
    Mutant(FROZEN, "x * factor(module, x.detach())", "x * factor(module, x.detach()) ** 1.01", SUM),
    Mutant(FROZEN, 'GATES = ("act_fn", ', "GATES = (", SUM),
    Mutant(COMPLETE, "tensor([1.0, -1.0])", "tensor([1.0, 1.0])", SUM),
    Mutant(DIRECT, "rows[0] - (rows[1]", "rows[0] + (rows[1]", WHOLE),
    Mutant(DIRECT, "factor(lab.final_norm, last)", "factor(lab.final_norm, 2 * last)", HEADS),
    Mutant(
        OTHERS,
        '"linear_attn.hook_k_pre_conv": Hook(("k", "qkv"), part=1)',
        '"linear_attn.hook_k_pre_conv": Hook(("k", "qkv"), part=0)',
        HOOK,
    ),
    Mutant(OTHERS, '"attn.hook_z": Hook(("gated",))', '"attn.hook_z": Hook(("v",))', HOOK),
    Mutant(
        OTHERS, '"linear_attn.hook_gate_input": Hook(("z",))', '"linear_attn.hook_gate_input": Hook(("read",))', HOOK
    ),
    Mutant(OTHERS, '"hook_attn_out": Hook(("branch", "mixer_out")),', '"hook_attn_out": Hook(("mixer_out",)),', NORMED),
    Mutant(OTHERS, '"mlp.hook_out": Hook(("mlp_out",), path="mlp")', '"mlp.hook_out": Hook(("mlp_out",))', NORMED),
    Mutant(NAMES, "if not _share(spec.seams[kind][each])", "if each", MODULE),
    Mutant(NAMES, 'if layer is None or f".{layer}." in f"{each}."', "", NEAREST),
    Mutant(NAMES, 'and not (unread and call.startswith(f"{kind}."))', "", CALLS),
    Mutant(SAID, "logits.softmax(-1).gather", "logits.sigmoid().gather", TOP),
    Mutant(SAID, "run.positions[chosen]", "torch.tensor(chosen)", TOP),
    Mutant(SAID, "skip_special_tokens=False", "skip_special_tokens=True", TEXT),
    Mutant(COSTS, "3 * padded * (spec.dk + CHUNK)", "padded * (spec.dk + CHUNK)", PLANNED),
    Mutant(FROZEN, '"hidden_states": entered[layer].detach()', '"hidden_states": entered[layer]', PLANNED),
    Mutant(DIRECT, "del frozen.mixed[layer], frozen", "frozen", PLANNED),
    Mutant(COSTS, "None if snap is None else snap.length).refuse()", "None if snap is None else snap.length)", REFUSED),
    Mutant(WIDE, "abs(_asked(own, twin, options) - float(made.logit))", "0.0", HALF),
    Mutant(FROZEN, 'self._routed(layer) if part is getattr(block.mlp, "gate", None) else _held', "_held", CHOSEN),
    Mutant(FROZEN, 'run.seams[layer, "mixer_out"]).to(', "0).to(", AGAIN),
    Mutant(FROZEN, "self._norm(mixer.kv_a_layernorm, (latent,), None)", "mixer.kv_a_layernorm.forward(latent)", OLD),
    Mutant(FROZEN, "scale=q.shape[-1] ** -0.5", "scale=v.shape[-1] ** -0.5", LATENTS),
    Mutant(FROZEN, 'self._leaf(layer, "values", run.start.keys[layer][0])', "run.start.keys[layer][0]", OLD),
    Mutant(LATENT, "latent)[..., spec.plain :]", "latent)[..., : spec.head_dim]", LATENTS),
    Mutant(LATENT, "torch.cat([plain, shared[", "torch.cat([plain, 0 * shared[", LATENTS),
    Mutant(LATENT, "mixer.q_a_layernorm.forward(mixer.q_a_proj.forward(x))", "mixer.q_a_proj.forward(x)", LATENTS),
    Mutant(
        LATENT,
        ".view(len(latent), spec.query_heads, spec.plain + spec.head_dim)",
        ".view(len(latent), -1, spec.query_heads).transpose(1, 2)",
        LATENTS,
    ),
    Mutant(
        LATENT,
        "torch.cat([run.start.keys[layer][0].to(latent), latent])",
        "torch.cat([latent, run.start.keys[layer][0].to(latent)])",
        OLD,
    ),
    Mutant(COSTS, "+ len(spec.deltanet_layers) * _rule(lab, tokens), ", ", ", PLANNED),
    Mutant(COMPLETE, "prompt if isinstance(prompt, Seen) else None", "None", SEEN),
    Mutant(SPENT, "LENS_ROWS = 7", "LENS_ROWS = 4", TAKES),
    Mutant(BRANCHES, "weight.dtype in TOLERANCE and", "weight.is_floating_point() and", PACKED),
]
