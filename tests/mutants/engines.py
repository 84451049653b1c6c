"""Mutants of presets and of the marks they are made of."""

from tests.mutants import Mutant

SCHEMES, PRESETS, CALL = (f"labkit/reuse/{name}.py" for name in ("schemes", "presets", "call"))
TEST = "tests/test_engines.py::test_"
MARKS, LOGGED, PLACES = (
    TEST + name
    for name in (
        "marks_that_count_tokens",
        "a_preset_gives_what_a_server_logged",
        "states_are_where_an_engine_keeps_them_and_none_beats_attention",
    )
)
SESSION, DRAFT = TEST + "marks_of_a_session", TEST + "what_a_draft_model_reads_again"
SPARE = TEST + "a_draft_model_cannot_use_a_state_at_the_end_of_what_is_shared"
LOOP = TEST + "a_tool_loop_in_a_build_of_one_checkpoint"

MUTANTS = [
    Mutant(SCHEMES, "n - k > call.before_user + past", "n > call.before_user + past", MARKS),
    Mutant(SCHEMES, "not past or not call.before_user or", "not past or", MARKS),
    Mutant(SCHEMES, "range(state + k, n + 1, k)", "range(k, n + 1, k)", MARKS),
    Mutant(SCHEMES, "(n // k + 1) * k, length", "(n // k + 2) * k, length", MARKS),
    Mutant(SCHEMES, "if length // k * k > n else ()", "", MARKS),
    Mutant(SCHEMES, "(n // k * k - k, (n - 1) // k * k - k)", "(n // k * k - k,)", LOGGED),
    Mutant(SCHEMES, '"edge": (n // k * k,)', '"edge": ((n - 1) // k * k,)', LOGGED),
    Mutant(SCHEMES, "parting = min(shared, n - 1)", "parting = shared", MARKS),
    Mutant(SCHEMES, "call.before_think if call.before_think == call.last_user else 0", "call.before_think", SESSION),
    Mutant(SCHEMES, '(past and name != "back")', "False", TEST + "a_scheme_that_is_none"),
    Mutant(CALL, "rows[: questions[-1] + (not leads)]))", "rows[: questions[-1] + 1 + (not leads)]))", SESSION),
    Mutant(CALL, "+ len(self.encode(ASKED)) if leads else 0", "if leads else 0", SESSION),
    Mutant(CALL, "at if at <= same else 0", "at", SESSION),
    Mutant(
        "labkit/reuse/ledger.py", "- self.spare if self.spare else attention", "if self.spare else attention", DRAFT
    ),
    Mutant(PRESETS, "spare=block if self.drafts else 0", "spare=0", SPARE),
    Mutant(PRESETS, "max(1, self.chunk // block) * block", "block", TEST + "64_requests_of_some_beginnings"),
    Mutant(PRESETS, '"live+back 512"', '"live+back 4"', LOOP),
    Mutant(PRESETS, '"live+before_user+back 516/8192"', '"live+back 516"', LOGGED),
    Mutant(PRESETS, '"live+before_user+back 516+back 4"', '"live+before_user+every 8192"', PLACES),
    Mutant(PRESETS, '"end+question+system"', '"end+before_think"', LOGGED),
    Mutant(PRESETS, '"edge 64+step 8192+fork 64+tail 256"', '"branch+step 8192"', LOGGED),
    Mutant(PRESETS, '"end+prompt_end+step 8192"', '"end"', LOGGED),
    Mutant(
        PRESETS,
        '"edge {block}+step {step}+written {block}"',
        '"every {block}"',
        TEST + "64_requests_of_some_beginnings",
    ),
]
