"""Mutants of dictionaries: what is read, what is subtracted, what an edit leaves, what a control is."""

from tests.mutants import Mutant

KINDS, DICTIONARY, ATOMS, FILES = (f"labkit/features/{name}.py" for name in ("kinds", "dictionary", "atoms", "files"))
SCOPE, LENS, WRITE, PLACE = (f"labkit/features/{name}.py" for name in ("qwen_scope", "saelens", "writesae", "place"))
ACTIVE, SPOKEN, CHANGES, SLOTS = (f"labkit/features/{name}.py" for name in ("active", "spoken", "changes", "slots"))
TEST = "tests/test_features.py::test_"
QWEN, SAELENS = TEST + "qwen_scope_is_read_as_its_cards_say", TEST + "saelens_is_read_as_it_reads_itself"
WRITESAE, RANKED = TEST + "writesae_is_read_as_its_code_reads_it", TEST + "norms_that_rank_are_those_of_the_decoder"
OLD, DAMAGED = TEST + "configurations_from_before_six_are_flat", TEST + "a_damaged_file_of_qwen_scope_is_told"
CONFIGURED, WEIGHED = TEST + "a_configuration_that_is_not_read_is_told", TEST + "weights_that_do_not_fit_are_told"
READ, NONE = (
    TEST + "activations_are_the_strongest_and_the_error_beside_them",
    TEST + "where_fewer_are_active_none_is_named",
)
CONTROL = TEST + "a_control_has_the_same_norms_and_angles_in_another_space"
MOVED, KNOWN = (
    TEST + "edits_move_a_feature_and_nothing_else",
    TEST + "an_edit_is_known_by_the_numbers_of_its_dictionary",
)
RULE, STATES = TEST + "an_edit_of_an_atom_moves_reads_as_the_rule_says", TEST + "atoms_read_the_states_of_their_head"
LOST = TEST + "a_complete_basis_loses_nothing_and_the_mean_everything"
SAYS = TEST + "a_feature_says_its_direction_through_norm_and_unembedding"
ATOMIC, SAME = TEST + "atoms_that_do_not_fit_are_told", TEST + "a_factor_of_one_changes_no_bit"
TURNED = TEST + "a_control_of_atoms_reads_what_it_adds"
TOLD = TEST + "a_control_that_explains_as_much_is_told"
FITS = TEST + "what_would_not_fit_is_refused_before_it_is_loaded"

MUTANTS = [
    Mutant(KINDS, "kept.values.relu()", "kept.values", TEST + "what_is_below_zero_among_the_largest_is_zero"),
    Mutant(KINDS, "z > self.threshold", "z >= 0 * self.threshold", SAELENS),
    Mutant(KINDS, "(z + gate > 0)", "(z - gate > 0)", SAELENS),
    Mutant(KINDS, "z * rate.exp()", "z * rate", SAELENS),
    Mutant(DICTIONARY, "        if self.centred:\n", "        if not self.centred:\n", QWEN),
    Mutant(DICTIONARY, "std(-1, keepdim=True)", "std(-1, keepdim=True, correction=0)", SAELENS),
    Mutant(DICTIONARY, "* size + shift", "* size", SAELENS),
    Mutant(DICTIONARY, "strengths / self.weights", "strengths * self.weights", RANKED),
    Mutant(DICTIONARY, "index_copy_(-1, order, y * signs)", "index_copy_(-1, order, y)", CONTROL),
    Mutant(DICTIONARY, "x = x[:, order] * signs", "x = x * signs", CONTROL),
    Mutant(DICTIONARY, ") * self._entered(x)[1]", ")", MOVED),
    Mutant(ATOMS, 'left", "V"), ("right", "W")', 'V", "V"), ("W", "W")', WRITESAE),
    Mutant(ATOMS, ' + self.weights["bias"].to(made)', "", WRITESAE),
    Mutant(ATOMS, "index_copy_(axis, order, x * signs)", "index_copy_(axis, order, x)", TURNED),
    Mutant(FILES, "not bool(piece.isfinite().all())", "bool(piece.isnan().all())", DAMAGED),
    Mutant(FILES, "(held := value.untyped_storage().nbytes()) < size(value)", "(held := 0) > size(value)", DAMAGED),
    Mutant(FILES, 'cpu", weights_only=True', 'cpu", weights_only=False', TEST + "a_program_in_a_file_is_not_run"),
    Mutant(FILES, "digest = fingerprint(dict(weights))", "digest = fingerprint(sorted(weights))", KNOWN),
    Mutant(SCOPE, '["W_dec"].T\n', '["W_dec"].reshape(features, channels)\n', QWEN),
    Mutant(SCOPE, "* 1024 != features", "* 1000 != features", QWEN),
    Mutant(SCOPE, "part: size(value) for", "part: 0 for", FITS),
    Mutant(LENS, 'weights["W_enc"].T', 'weights["W_enc"].reshape(features, channels)', SAELENS),
    Mutant(LENS, '"apply_b_dec_to_input", bool, True', '"apply_b_dec_to_input", bool, False', OLD),
    Mutant(LENS, 'rescale_acts_by_decoder_norm", bool, kind == "batchtopk"', 'rescale", bool, False', SAELENS),
    Mutant(LENS, '"expected_average_only_in" if norm else "none"', '"none"', CONFIGURED),
    Mutant(LENS, 'facts.get("hook_name_out") is not None', "False", CONFIGURED),
    Mutant(LENS, "(channels, features), ", "(features, channels), ", WEIGHED),
    Mutant(LENS, "== 1).all()", "== 1).any() or True", WEIGHED),
    Mutant(LENS, '"hook_resid_pre": "resid_pre"', '"hook_resid_pre": "resid_post"', OLD),
    Mutant(WRITE, 'log_threshold").exp()', 'log_threshold")', WRITESAE),
    Mutant(WRITE, "value[:, None] if flat", "value[:, :, None] if flat", WRITESAE),
    Mutant(
        WRITE, "not 0 <= head < spec.value_heads", "head > spec.value_heads", TEST + "atoms_that_do_not_fit_are_told"
    ),
    Mutant(PLACE, "if not 1 <= k <= features:", "if k > features:", CONFIGURED),
    Mutant(PLACE, "!= channels:", "!= channels and channels == 0:", TEST + "another_model_is_told"),
    Mutant(ACTIVE, "where(best.values > 0, -1)", "where(best.values >= 0, -1)", NONE),
    Mutant(ACTIVE, "sae.wide(x).mean(0)", "sae.wide(x).mean()", READ),
    Mutant(ACTIVE, "_measured(sae.control(seed)", "_measured(sae.control(0)", CONTROL),
    Mutant(
        ACTIVE,
        "if not better[0] < better[1]",
        "if better[0] < better[1]",
        TOLD,
    ),
    Mutant(ACTIVE, "states[rows, sae.head]", "states[rows, 0]", STATES),
    Mutant(ACTIVE, "len(source) - len(states) + row", "row", STATES),
    Mutant(SPOKEN, "raw - raw.mean(-1, keepdim=True)", "raw", SAYS),
    Mutant(SPOKEN, "ids[1:, None]", "ids[:-1, None]", LOST),
    Mutant(SPOKEN, "own.exp() * (own - said)", "said.exp() * (said - own)", LOST),
    Mutant(CHANGES, "rows + sae.change(new(old) - old,", "rows + sae.change(new(old),", MOVED),
    Mutant(
        CHANGES,
        "return rows + sae.change",
        "return sae.decode(sae.encode(rows), rows) + sae.change",
        SAME,
    ),
    Mutant(SLOTS, '"factor", least=-MOST, most=MOST) - 1', '"factor", least=-MOST, most=MOST)', RULE),
    Mutant(SLOTS, "return left + (strength", "return old + (strength", RULE),
    Mutant(SLOTS, "strength = sae.encode(states)[:, feature]", "strength = sae.encode(left[:, 0])[:, feature]", RULE),
    Mutant(SCOPE, 'weights["W_dec"] = weights["W_dec"].T', 'weights["W_dec"] = weights["W_dec"].T.flip(0)', QWEN),
    Mutant(
        DICTIONARY,
        "(x - shift) / (size + TINY)",
        "(x - shift) / size",
        TEST + "rows_that_hardly_vary_are_normalised_as_saelens_does",
    ),
    Mutant(DICTIONARY, "/ x.shape[-1] ** 0.5", "/ x.shape[-1]", SAELENS),
    Mutant(
        DICTIONARY,
        "self._undealt(self._sum(steps, features)) * self._entered(x)[1]",
        "self._undealt(self._sum(steps, features))",
        MOVED,
    ),
    Mutant(LENS, 'weights["W_dec"].norm(dim=-1)', 'weights["W_enc"].norm(dim=0)', RANKED),
    Mutant(LENS, 'say("apply_b_dec_to_input", bool, True)', 'say("apply_b_dec_to_input", bool, False)', OLD),
    Mutant(LENS, 'kind == "batchtopk") and kind in', "False) and kind in", SAELENS),
    Mutant(LENS, 'weights["topk_threshold"].expand', 'weights["topk_threshold"].exp().expand', SAELENS),
    Mutant(WRITE, '"left": atoms("V_enc", dk)', '"left": decoder["V"]', WRITESAE),
    Mutant(ATOMS, 'back=True) + self.weights["bias"].to(made)', "back=True)", WRITESAE),
    Mutant(
        CHANGES, "places >= 0 if tokens", "places > 0 if tokens", TEST + "an_edit_of_all_tokens_begins_with_the_first"
    ),
]
