"""Scopes that survive anything: interrupts, threads, tasks, two labs; the model's mode; calls within calls."""

import asyncio
import concurrent.futures
import contextlib
import copy
import gc
import threading
import weakref

import pytest
import tiny
import torch

from labkit import edit, scopes, stream, yarn
from labkit.errors import InputError, SeamError
from labkit.trace import Recorder
from tests.attacks.interrupts import interrupted

IDS = tiny.ids(21, seed=6)
HALF = edit.scale("gated", layer=1, factor=0.5)


@pytest.fixture
def own():
    """A lab of its own model, whose parts may change."""
    return tiny.make_lab(tiny.model(seed=21))


# -------------------------------------------------------------------------------------------------------- one model


def test_two_labs_of_a_model_share_its_scopes(own):
    other = tiny.make_lab(own.model, "other")
    plain = own.trace(IDS).logits
    with own.edit(HALF):
        edited = own.trace(IDS)
        assert other.scopes.edits == [HALF] and torch.equal(other.trace(IDS).logits, edited.logits)
        assert other.trace(IDS).identity.edits == edited.identity.edits != ()
    with yarn.scaled(other, 2.0):
        assert str(own.scaling) == "yarn 2" and own.window == 2 * own.spec.window
        assert not torch.equal(own.trace(IDS).logits, plain)
    assert torch.equal(own.trace(IDS).logits, plain) and tiny.hooks(own.model) == []
    assert own.model.config.max_position_embeddings == own.window == own.spec.window


def test_scopes_nest_and_close_in_any_order(own):
    plain = own.trace(IDS).logits
    first, second = yarn.scaled(own, 2.0), yarn.scaled(own, 4.0)
    first.__enter__()
    two = own.trace(IDS).logits
    second.__enter__()
    four = own.trace(IDS).logits
    first.__exit__(None, None, None)
    assert torch.equal(own.trace(IDS).logits, four) and not torch.equal(two, four)
    second.__exit__(None, None, None)
    assert torch.equal(own.trace(IDS).logits, plain) and own.scaling == own.native


def test_a_scope_is_opened_once(own):
    scope = own.edit(HALF)
    with scope:
        own.trace(IDS)
    with pytest.raises(InputError, match="opened once"), scope:
        pass


def test_who_looks_for_an_exit_closes_nothing(own):
    plain, scope = own.trace(IDS).logits, own.edit(HALF)
    assert hasattr(scope, "__exit__")
    with scope:
        assert hasattr(scope, "__exit__") and callable(scope.__exit__)
        assert not torch.equal(own.trace(IDS).logits, plain) and own.scopes.edits != []
    assert torch.equal(own.trace(IDS).logits, plain) and own.scopes.edits == []


def test_an_edit_that_saw_the_passes_of_other_threads_alone_is_an_error(own):
    message = "(?s)saw no pass of its own thread.*inside the function that the thread runs"
    with pytest.raises(InputError, match=message), own.edit(HALF), concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(own.trace, IDS).result()
    with own.edit(HALF):
        pass


def test_a_copied_model_is_not_edited_after_the_block(own):
    plain = own.model(IDS[None]).logits
    with own.edit(HALF):
        own.trace(IDS)
        twin = copy.deepcopy(own.model)
    assert torch.equal(twin(IDS[None]).logits, plain)


# ------------------------------------------------------------------------------------------------ threads and tasks


def test_an_edit_belongs_to_the_thread_that_opened_it(own):
    plain = own.trace(IDS).logits
    with own.edit(HALF), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(lambda: own.trace(IDS).logits).result(), plain)
        assert pool.submit(lambda: own.scopes.edits).result() == [] and own.scopes.edits == [HALF]
        assert not torch.equal(own.trace(IDS).logits, plain)


def test_an_edit_belongs_to_the_task_that_opened_it_and_to_those_begun_inside(own):
    plain = own.trace(IDS).logits

    async def seen():
        await asyncio.sleep(0)
        return own.trace(IDS).logits

    async def edited():
        with own.edit(HALF):
            inner = asyncio.create_task(seen())
            await asyncio.sleep(0)
            return await inner, await seen()

    async def both():
        return await asyncio.gather(edited(), seen())

    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # there may be a loop in this thread
        (inner, mine), others = pool.submit(lambda: asyncio.run(both())).result()
    assert torch.equal(others, plain) and torch.equal(inner, mine) and not torch.equal(mine, plain)


def test_a_second_thread_waits(own):
    order, entered, leave = [], threading.Event(), threading.Event()

    def slow(values, positions):
        entered.set()
        leave.wait(20)
        order.append("edited")
        return values

    def work():
        with own.edit(edit.function(slow, seam="mlp_out", layer=0)):
            own.trace(IDS)

    first = threading.Thread(target=work)
    first.start()
    entered.wait(20)
    second = threading.Thread(target=lambda: order.append(own.trace(IDS)))
    second.start()
    second.join(0.05)
    assert second.is_alive() and order == [], "one model serves one call at a time"
    leave.set()
    first.join()
    second.join()
    assert order[0] == "edited" and len(order) == 2


def test_a_child_process_waits_for_nobody(own):
    left = scopes.Call(own.scopes)
    left.thread = 0  # of the parent
    own.scopes.calls.append(left)
    scopes.forked()
    assert own.scopes.calls == [] and len(own.trace(IDS)) == len(IDS)


def test_a_call_within_a_call_is_refused(own):
    def again(values, positions):
        own.trace(IDS)

    message = "(?s)in the middle of another call.*before or after"
    with pytest.raises(InputError, match=message), own.edit(edit.function(again, seam="mlp_out", layer=0)):
        own.trace(IDS)
    own.trace(IDS)

    class Nosy(stream.Probe):
        def needs(self, spec):
            return {0: ("mlp_out",)}

        def eat(self, run):
            own.logits(run.ids[None])

    with pytest.raises(InputError, match="a call within a call"):
        own.stream(IDS, probes=Nosy())
    own.trace(IDS)


# ------------------------------------------------------------------------------------------------------- interrupts


def scene(own):
    with own.edit(HALF), yarn.scaled(own, 2.0):
        own.trace(IDS, layers=[1], seams=["gated"])


def test_every_line_between_the_block_and_its_end(own):
    """The last lines of a scope, each in turn: where nothing of ours has run yet, and where it has half run."""
    plain, bare, names = own.trace(IDS).logits, own.model(IDS[None]).logits, []
    lines, _ = interrupted(lambda: scene(own), 0, names=names)
    ways = ("_leave", "leave", "__enter__", "__exit__", "__get__", "turn", "mend", "forget")
    chosen = [line for line, name in enumerate(names, 1) if name in ways]
    assert len(chosen) > 150
    for line in (*chosen, *range(lines - 20, lines + 1)):
        _, raised = interrupted(lambda: scene(own), line)  # held, as a notebook holds the last one
        assert own.scopes.open == () and own.scaling == own.native, f"line {line} of {lines}: {raised!r}"
        assert torch.equal(own.trace(IDS).logits, plain), line
        assert torch.equal(own.model(IDS[None]).logits, bare) and tiny.hooks(own.model) == [], line


def test_what_an_image_left_behind_comes_back_after_an_interrupt():
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    sizes = tiny.config().to_dict()
    model = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=sizes, vision_config={"depth": 1})).eval()
    lab = tiny.make_lab(model)
    model.model.rope_deltas = torch.tensor([[-3]])

    def stop(module, args):
        raise KeyboardInterrupt

    lab.trace(IDS, layers=[])  # the first one has lines of its own
    names = []
    interrupted(lambda: lab.trace(IDS, layers=[]), 0, names=names)
    chosen = [line for line, name in enumerate(names, 1) if name in ("text_alone", "set_aside", "put_back")]
    assert len(chosen) > 15
    for line in chosen:
        _, raised = interrupted(lambda: lab.trace(IDS, layers=[]), line)
        assert isinstance(raised, KeyboardInterrupt)
        lab.trace(IDS, layers=[])
        assert model.model.rope_deltas.tolist() == [[-3]], line
    hook = model.model.language_model.layers[0].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        lab.trace(IDS)
    hook.remove()
    assert model.model.rope_deltas.tolist() == [[-3]]


# ------------------------------------------------------------------------------------------- edits that do not fire


def test_an_exchanged_layer_is_an_error_in_the_pass(own):
    block = own.model.model.layers[1]
    message = "(?s)did not act, though its tokens were read.*scale.*open the edit anew"
    with pytest.raises(InputError, match=message), own.edit(HALF):
        block.linear_attn = copy.deepcopy(tiny.model(seed=3).model.layers[1].linear_attn)
        own.trace(IDS)
    own.trace(IDS)


def test_the_same_edit_twice_acts_twice(own):
    with own.edit(HALF, HALF):
        twice = own.trace(IDS).logits
    with own.edit(edit.scale("gated", layer=1, factor=0.25)):
        assert torch.equal(own.trace(IDS).logits, twice)


# ------------------------------------------------------------------------------------------------- the model's mode


@contextlib.contextmanager
def training(lab):
    lab.model.model.layers[3].mlp.act_fn.train()
    yield


@contextlib.contextmanager
def checkpointing(lab):
    for layer in lab.model.model.layers:
        layer.gradient_checkpointing = True
    lab.model.train()
    yield


@contextlib.contextmanager
def compiled(lab):
    lab.model.model.layers[2].compile()
    yield


@contextlib.contextmanager
def exchanged(lab):
    lab.model.model.layers[2].mlp = torch.compile(lab.model.model.layers[2].mlp)
    yield


@contextlib.contextmanager
def on_meta(lab):
    lab.model.model.layers[2].mlp.up_proj.to("meta")
    yield


@contextlib.contextmanager
def autocast(lab):
    with torch.autocast("cpu", torch.bfloat16):
        yield


MODES = [
    (training, r"(?s)in eval mode.*training mode in model.layers.3.mlp.act_fn.*lab.model.eval\(\)"),
    (checkpointing, "(?s)in eval mode.*training mode in the model, model, .* more"),
    (compiled, "(?s)plain modules.*compiled: model.layers.2\n"),
    (exchanged, "(?s)plain modules.*compiled: model.layers.2.mlp\n"),
    (on_meta, "(?s)not in memory.*meta device: model.layers.2.mlp.up_proj.weight"),
    (autocast, r"(?s)under autocast.*torch.autocast\('cpu'\).*leave the autocast block"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile in itself
@pytest.mark.parametrize("mode, message", MODES, ids=[mode.__name__ for mode, _ in MODES])
def test_a_mode_in_which_numbers_would_be_others_is_refused(own, mode, message):
    calls = [lambda: own.trace(IDS), lambda: own.generate(IDS, max_new_tokens=2), lambda: own.logits(IDS[None])]
    calls.append(lambda: own.stream(IDS, probes=stream.capture("mlp_out", tokens=[1])))
    with mode(own):
        for call in calls:
            with pytest.raises(InputError, match=message):
                call()


# ------------------------------------------------------------------------------------------------- hooks of others


def test_a_hook_that_only_looks_may_stay(own):
    plain, seen = own.trace(IDS).logits, []
    own.model.model.layers[3].mlp.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    own.model.model.layers[2].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    run = own.trace(IDS)
    assert torch.equal(run.logits, plain) and len(seen) == 2
    assert [text.split(" at ")[1] for text in run.identity.hooks] == ["model.layers.2", "model.layers.3.mlp"]


def test_a_hook_that_changes_a_watched_tensor_is_refused_by_name(own):
    def louder(module, args, output):
        return output * 2

    handle = own.model.model.layers[3].mlp.register_forward_hook(louder)
    with pytest.raises(InputError, match="(?s)not labkit's changes.*louder at layer 3, seam 'mlp_out'.*edit.function"):
        own.trace(IDS)
    handle.remove()

    def shift(module, args):
        args[0].add_(1)

    own.model.model.layers[3].register_forward_pre_hook(shift)
    with pytest.raises(InputError, match="shift at layer 3, seam 'resid_pre'"):
        own.trace(IDS, layers=[3])


def test_a_tensor_written_into_after_it_was_recorded_is_an_error(own):
    own.model.model.layers[3].mlp.down_proj.register_forward_pre_hook(scribble(own))
    with pytest.raises(
        SeamError, match="(?s)in place.*'mixer_in' of layer 2.*remove one of these hooks: .*scribble.*down_proj"
    ):
        own.trace(IDS, layers=[2])


def scribble(lab):
    """A hook that keeps a tensor of an earlier layer and writes into it."""
    earlier = []
    norm = lab.model.model.layers[2].input_layernorm
    norm.register_forward_hook(lambda module, args, output: earlier.append(output))

    def write(module, args):
        earlier.pop().zero_()

    return write


def test_a_recording_is_of_its_own_passes_alone(own):
    """Neither of those that another thread makes amid them, nor of those after a call whose end was lost."""
    plain, begun = own.trace(IDS), []

    def elsewhere(module, args):
        if not begun:
            begun.append(threading.Thread(target=lambda: own.model(tiny.ids(13)[None])))
            begun[0].start()
            begun[0].join()

    handle = own.model.model.layers[2].register_forward_pre_hook(elsewhere)
    run = own.trace(IDS)
    assert begun and all(torch.equal(run.seams[place], plain.seams[place]) for place in plain.seams)
    handle.remove()
    call = own.scopes.call()
    call.__enter__()
    recorder = Recorder(call, own.model, own.spec, {0: ["resid_post"], 2: ["mlp_out"]}).__enter__()
    own.model(IDS[None])
    assert [len(keep.pieces) for keep in recorder.keeps] == [1, 1]
    call.ended = True
    own.model(IDS[None])
    assert [len(keep.pieces) for keep in recorder.keeps] == [1, 1] and recorder.passes == [(1, len(IDS))]


def test_an_exchanged_layer_is_traced_as_it_is_now(own):
    before = own.trace(IDS)
    own.model.model.layers[3].mlp = copy.deepcopy(tiny.model(seed=3).model.layers[3].mlp)
    run = own.trace(IDS)
    bare = own.model(IDS[None]).logits[0, -1]
    assert torch.allclose(run.logits[0], bare, atol=1e-5) and not torch.allclose(run.logits, before.logits, atol=0.1)
    assert run.identity.weights != before.identity.weights


def test_a_model_goes_with_its_last_lab():
    """On a card that is dozens of gigabytes; runs, snapshots and caches that are kept do not hold it."""
    model = tiny.model()
    lab, other = tiny.make_lab(model), tiny.make_lab(model)
    assert lab.scopes is other.scopes and tiny.make_lab(copy.deepcopy(model)).scopes is not lab.scopes
    run, cache = lab.trace(IDS), lab.cache()
    with lab.edit(HALF), yarn.scaled(lab, 2.0):
        lab.trace(IDS)
    lab.trace(IDS, cache=cache)
    kept, known = (run, lab.snapshot(cache), lab.step(cache, 5), cache), weakref.ref(model)
    del model, lab, other
    gc.collect()
    assert known() is None and len(kept[0].seams) > 0
