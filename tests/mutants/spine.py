"""Mutants of what every reading stands on: rotary frequencies, caches, edits, proofs, streams."""

from tests.mutants import Mutant

ROTARY, CACHE, EDIT, STREAM = (
    "labkit/rotary.py",
    "labkit/cache/snapshots.py",
    "labkit/edit/hooks.py",
    "labkit/stream/feed.py",
)
FREQUENCIES = "tests/test_rotary.py::test_frequencies_are_those_of_transformers"
LENGTH = "tests/test_rotary.py::test_dynamic_yarn_follows_the_length"
CADENCE = "tests/test_stream.py::test_a_checkpoint_lies_after_every_so_many_chunks"
TOLERANCE = "tests/test_parity.py::test_an_error_above_the_tolerance_is_refused"
WHERE = "tests/test_edit.py::test_positions_are_absolute_in_every_way_of_feeding"
MOVED = "tests/test_edit.py::test_an_edit_moves_only_the_chosen_tokens_and_heads"
OWN = "tests/test_cache.py::test_snapshots_share_keys_and_own_states"
RESUMED = "tests/test_cache.py::test_resumed_equals_cold"
BLOCKS = "labkit/cache/blocks.py"
BITS = "tests/test_blocks.py::test_every_bit_is_that_of_concatenated_keys"
ROOM = "tests/test_blocks.py::test_a_reserved_buffer_is_made_once_and_exactly"
RESTING = "labkit/cache/host.py"
HOSTED = "tests/test_blocks.py::test_keys_that_rest_in_host_memory_give_the_same_bits"
CROSSED = "tests/test_blocks.py::test_only_new_tokens_go_back_and_only_earlier_ones_come"

SENT = "tests/test_trace_host.py::test_"
ANEW = "tests/test_trace.py::test_places_are_found_anew_when_layers_are_exchanged"
LAPACK = "tests/test_deltanet_memory.py::test_singular_values_by_bisection_are_those_of_lapack"
RECORD, HOST, BISECTION = "labkit/trace/record.py", "labkit/trace/host.py", "labkit/deltanet/bisection.py"

MUTANTS = [
    Mutant(
        "labkit/watched.py",
        "self.modules, self._bounds = dict(self.model.named_modules()), (None, [])",
        "self.modules = dict(self.model.named_modules())",
        ANEW,
    ),
    Mutant("labkit/watched.py", "self._made, self._alike = None, (None, [])", "self._made = None", ANEW),
    Mutant(
        RECORD,
        "            self.host.wait()",
        "            pass",
        SENT + "a_seam_written_into_on_its_way_is_an_error",
    ),
    Mutant(
        HOST,
        "                self.waiting[0].event.synchronize()\n                self._arrive()",
        "                self._arrive()",
        SENT + "beyond_the_bound_the_oldest_buffer_is_set_down_and_used_again",
    ),
    Mutant(
        HOST,
        "(self.flying > most or self.waiting[0].event.query())",
        "self.waiting[0].event.query()",
        SENT + "no_more_bytes_are_on_their_way_than_allowed",
    ),
    Mutant(
        HOST,
        "writes(self.source) != self.version, None, None",
        "False, None, None",
        SENT + "what_is_written_before_it_is_there_is_torn_and_later_is_not",
    ),
    Mutant(
        HOST,
        "each.data_ptr(), each.shape, ",
        "each.shape, ",
        SENT + "copies_are_there_after_one_wait_and_their_sources_are_held_until_then",
    ),
    Mutant(BISECTION, "a if a.shape[1] >= a.shape[2] else a.mT", "a", LAPACK),
    Mutant(BISECTION, "less = count > below", "less = count >= below", LAPACK),
    Mutant(BISECTION, "STEPS = 42", "STEPS = 38", LAPACK),
    Mutant(ROTARY, "0.1 * math.log(self.factor) + 1.0", "0.1 * math.log2(self.factor) + 1.0", FREQUENCIES),
    Mutant(ROTARY, "max(math.floor(at[0]), 0)", "max(math.ceil(at[0]), 0)", FREQUENCIES),
    Mutant(ROTARY, "(width / (width - 2))", "(width / (width + 2))", FREQUENCIES),
    Mutant(
        ROTARY, "max(1.0, length / window), self.factor)", "max(1.0, length / window), 99.0)", "tests/test_rotary.py"
    ),
    Mutant(
        CACHE,
        "(differ := (ids[:same] != snap.ids[:same]).nonzero())",
        "(differ := (ids[: same - 1] != snap.ids[: same - 1]).nonzero())",
        "tests/test_cache.py::test_the_last_token_of_a_snapshot_counts",
    ),
    Mutant(CACHE, "layer.recurrent_states[0].clone()\n        elif", "layer.recurrent_states[0]\n        elif", OWN),
    Mutant(CACHE, "layer.conv_states[0].copy_(snap.conv[index])", "pass", RESUMED),
    Mutant(CACHE, "layer.recurrent_states[0].copy_(snap.state[index])", "pass", RESUMED),
    Mutant(EDIT, "(torch.arange(tokens) + seen)", "torch.arange(tokens)", WHERE),
    Mutant(
        EDIT,
        "torch.where(real, real.cumsum(1) - 1, -1)[:, -tokens:]",
        "torch.arange(tokens).expand(current.batch, -1)",
        "tests/test_edit.py::test_positions_count_from_the_first_real_token_of_a_padded_row",
    ),
    Mutant(EDIT, "torch.where(chosen, new.to(old), old)", "new.to(old)", MOVED),
    Mutant(
        EDIT,
        "if item.at == seen - 1:",
        "if item.at <= seen - 1:",
        "tests/test_edit.py::test_state_surgery_is_the_same_in_every_way_of_feeding",
    ),
    Mutant("labkit/trace/run.py", "torch.bfloat16: 1e-2}", "torch.bfloat16: 1e-1}", TOLERANCE),
    Mutant("labkit/trace/run.py", "torch.float32: 1e-4,", "torch.float32: 1e-3,", TOLERANCE),
    Mutant("labkit/trace/run.py", "if not error <= tolerance:", "if error > 10 * tolerance:", TOLERANCE),
    Mutant(STREAM, "(a // chunk + 1) % every == 0 or last", "a // chunk % every == 0 or last", CADENCE),
    Mutant(STREAM, "(a // chunk + 1) % every == 0 or last", "(a // chunk + 1) % every == 0", CADENCE),
    Mutant(STREAM, "(a // chunk + 1) % every == 0 or last", "True", CADENCE),
    Mutant(BLOCKS, "buffer[:, :, first:last].copy_(states)", "buffer[:, :, : last - first].copy_(states)", BITS),
    Mutant(BLOCKS, "max(length, self.reserved) if exact", "max(length, self.reserved - BLOCK) if exact", ROOM),
    Mutant(
        BLOCKS,
        "self._keys = None if tensor is None else (tensor, tensor.shape[-2])",
        "self._keys = None if tensor is None else (self._keys[0] if self.room else tensor, tensor.shape[-2])",
        "tests/test_blocks.py::test_tokens_that_were_cropped_are_not_written_over",
    ),
    Mutant(
        BLOCKS,
        "return same and not (torch.is_grad_enabled() and (states.requires_grad or buffer.requires_grad))",
        "return same",
        "tests/test_blocks.py::test_a_graph_through_the_cache_stays_whole",
    ),
    Mutant(RESTING, "shown[0] is keys and shown[1] is values and", "", HOSTED),
    Mutant(
        RESTING,
        "_copy(source[:, :, first:last], target[:, :, first:last])",
        "_copy(source[:, :, :last], target[:, :, :last])",
        CROSSED,
    ),
    Mutant(
        "labkit/stream/store.py",
        "self._writing = self._writer.submit(self._write, self.points, done, grown, tensors, rows)",
        "self._write(self.points, done, grown, tensors, rows)",
        "tests/test_stream.py::test_a_checkpoint_is_written_while_the_next_chunk_is_computed",
    ),
]
