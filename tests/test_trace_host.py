"""Seams on their way to host memory: order, lifetime and bounds, with a card that copies as late as it may."""

import collections
import gc
import weakref

import pytest
import tiny
import torch

from labkit.errors import SeamError
from labkit.trace import record
from labkit.trace.host import ALIGNED, FIRST, Host

IDS = tiny.ids(19)


class Late:
    """A card whose stream does nothing before somebody waits; `done` lists its copies in their order."""

    def __init__(self):
        self.queue, self.done, self.made, self.waits = collections.deque(), [], [], 0

    def pinned(self, count):
        self.made.append(count)
        return torch.full((count,), 255, dtype=torch.uint8)

    def copy(self, into, tensor):
        event = Event(self)
        self.queue.append((event, into, weakref.ref(tensor)))
        return event

    def run(self, event=None):
        while self.queue and (event is None or not event.over):
            turn, into, source = self.queue.popleft()
            assert source() is not None, "the source is gone before its copy is made"
            into.copy_(source())
            turn.over = True
            self.done.append(turn)

    def synchronize(self):
        self.waits += 1
        self.run()


class Event:
    def __init__(self, card):
        self.card, self.over = card, False

    def query(self):
        return self.over

    def synchronize(self):
        self.card.waits += 1
        self.card.run(self)


def sent(host, count, size=100):
    """(copies, what they should be) of so many tensors that nobody else holds."""
    numbers = [torch.arange(float(size)) + 1000 * i for i in range(count)]
    return [host.take(each.clone()) for each in numbers], numbers


def test_copies_are_there_after_one_wait_and_their_sources_are_held_until_then():
    card = Late()
    copies, numbers = sent(host := Host(card), 7)
    source = weakref.ref(copies[3].source)
    gc.collect()
    assert source() is not None and card.done == []
    host.wait()
    assert card.waits == 1 and source() is None and host.flying == 0
    assert all(torch.equal(copy.tensor, each) and not copy.torn for copy, each in zip(copies, numbers, strict=True))
    assert card.made == [FIRST] and all(copy.start % ALIGNED == 0 for copy in copies)


def test_no_more_bytes_are_on_their_way_than_allowed():
    card = Late()
    host = Host(card, in_flight=1200)  # three tensors of 400 bytes
    for i in range(9):
        host.take(torch.full((100,), float(i)))
        assert host.flying <= 1200 and len(card.queue) == min(i + 1, 3)


@pytest.mark.parametrize("pinned", [2**20, 3 * 2**20, 2**30])
def test_beyond_the_bound_the_oldest_buffer_is_set_down_and_used_again(pinned):
    card = Late()
    copies, numbers = sent(host := Host(card, pinned=pinned), 24, 2**17)  # of half a buffer
    held = sum(len(buffer.memory) for buffer in host.buffers if buffer.pinned)
    assert held <= max(pinned, max(card.made)) and (pinned < 2**30) == any(not each.pinned for each in host.buffers)
    host.wait()
    assert all(torch.equal(copy.tensor, each) for copy, each in zip(copies, numbers, strict=True))


def test_what_is_written_before_it_is_there_is_torn_and_later_is_not():
    card = Late()
    host = Host(card)
    first, second = torch.zeros(5), torch.ones(7)
    early = host.take(first)
    card.run()
    late = host.take(second)  # sees that the first is there
    first.add_(1)
    second.add_(1)
    host.wait()
    assert (early.torn, late.torn) == (False, True) and torch.equal(early.tensor, torch.zeros(5))


def test_one_tensor_after_itself_is_copied_once_unless_it_was_written_into():
    host = Host(Late())
    tensor = torch.arange(6.0)
    one, again, part = host.take(tensor), host.take(tensor.view(6)), host.take(tensor[:3])
    assert one is again and part is not one
    tensor.add_(1)
    assert host.take(tensor[:3]) is not part


@pytest.fixture
def late(monkeypatch):
    card = Late()
    monkeypatch.setattr(record, "host_for", lambda stack, device: device and Host(card, pinned=2**20, in_flight=2**13))
    return card


@pytest.mark.parametrize("options", [{}, {"chunk": 7}, {"layers": [2], "seams": ["gate", "q"]}])
def test_a_trace_through_the_host_is_the_trace(lab, late, options):
    a, b = lab.trace(IDS, **options), lab.trace(IDS, device="cpu", **options)
    assert set(a.seams) == set(b.seams) and all(torch.equal(a.seams[key], b.seams[key]) for key in a.seams)
    assert all(torch.equal(*pair) for pair in zip(a.rotary, b.rotary, strict=True)) and torch.equal(a.logits, b.logits)
    assert late.queue == collections.deque() and len(late.done) > 2


def test_a_batch_through_the_host_is_the_batch(lab, late):
    rows = [IDS[:5], IDS[:11]]
    for a, b in zip(lab.trace(rows), lab.trace(rows, device="cpu"), strict=True):
        assert all(torch.equal(a.seams[key], b.seams[key]) for key in a.seams)


def test_a_seam_written_into_on_its_way_is_an_error(lab, late):
    earlier = []

    def scribble(module, args):
        earlier.pop().zero_()

    norm = lab.model.model.layers[2].input_layernorm.register_forward_hook(lambda *given: earlier.append(given[2]))
    write = lab.model.model.layers[2].mlp.register_forward_pre_hook(scribble)
    try:
        with pytest.raises(SeamError, match="(?s)in place.*'mixer_in' of layer 2"):
            lab.trace(IDS, layers=[2], device="cpu", seams=["mixer_in"])
    finally:
        norm.remove()
        write.remove()


def test_on_the_cpu_nothing_is_copied(lab):
    assert record.host_for(lab.model.model, "cpu") is None
    run, seen = lab.trace(IDS, device="cpu", layers=[0], seams=["resid_post"]), []
    handle = lab.model.model.layers[0].register_forward_hook(lambda *given: seen.append(given[2].data_ptr()))
    run = lab.trace(IDS, device="cpu", layers=[0], seams=["resid_post"])
    handle.remove()
    assert run.seams[0, "resid_post"].data_ptr() == seen[0]
