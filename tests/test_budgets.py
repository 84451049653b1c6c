"""Budgets that are true: what is planned against counted bytes, and what bounds a process that runs in a container."""

import subprocess
import sys

import measure
import pytest
import siblings
import tiny
import torch

import labkit
from labkit import attention, deltanet, plan, reuse, stream, yarn
from labkit.errors import BudgetError
from labkit.plan import bounds, requests
from labkit.trace import wanted_seams

SHAPES = {"small": {}, "states": dict(linear_key_head_dim=40, linear_value_head_dim=56, vocab_size=307)}
SIZES = (300, 900)
LIGHT = ["resid_post"]


@pytest.fixture(scope="module", params=SHAPES, ids=list(SHAPES))
def sized(request):
    lab = tiny.make_lab(tiny.model(max_position_embeddings=4096, **SHAPES[request.param]))
    lab.trace(tiny.ids(3))
    return lab, {tokens: lab.trace(tiny.ids(tokens)) for tokens in SIZES}


def rows(tokens):
    return [tiny.ids(tokens), tiny.ids(tokens // 3), tiny.ids(tokens // 2)]


def warm(lab, count=500):
    cache = lab.cache()
    lab.trace(tiny.ids(count, seed=3), layers=[], cache=cache)
    return lab.snapshot(cache)


def continued(lab, tokens):
    snap = warm(lab)
    return lambda: (cache := lab.restore(snap), lab.trace(tiny.ids(tokens), cache=cache))


def many(lab, tokens):
    stack = warm(lab).stacked(7)
    return lambda: (cache := lab.restore(stack), lab.logits(tiny.ids(tokens)[None].expand(7, -1), cache=cache))


# Of the model: what is planned, and the call, made ready outside of what is counted.
REQUESTS = {
    "trace": (lambda lab, n: lab.plan(tokens=n), lambda lab, n: lambda: lab.trace(tiny.ids(n))),
    "chunks": (
        lambda lab, n: lab.plan(tokens=n, chunk=128),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), chunk=128),
    ),
    "few seams in chunks": (
        lambda lab, n: lab.plan(tokens=n, chunk=192, seams=LIGHT),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), chunk=192, seams=LIGHT),
    ),
    "few seams": (
        lambda lab, n: lab.plan(tokens=n, seams=LIGHT, layers=[1, 2]),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), seams=LIGHT, layers=[1, 2]),
    ),
    "gradients": (
        lambda lab, n: lab.plan(tokens=n, grad=True),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), grad=True),
    ),
    "all logits": (
        lambda lab, n: lab.plan(tokens=n, logits=n, seams=LIGHT),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), logits="all", seams=LIGHT),
    ),
    "a batch": (
        lambda lab, n: requests.trace(lab, n, wanted_seams(lab.spec), prompts=3, padded=True),
        lambda lab, n: lambda: lab.trace(rows(n)),
    ),
    "a warm cache": (lambda lab, n: lab.plan(tokens=n, cached=500), continued),
    "generate": (
        lambda lab, n: lab.plan(tokens=n, want="generate", max_new_tokens=19),
        lambda lab, n: lambda: lab.generate(tiny.ids(n), max_new_tokens=19),
    ),
    "rows of logits": (lambda lab, n: lab.plan(tokens=n, want="logits", prompts=7, cached=500), many),
    "scores of heads": (
        lambda lab, n: lab.plan(tokens=n // 6 * 2, want="attention.scores"),
        lambda lab, n: lambda: attention.scores(lab, length=n // 6, samples=2),
    ),
}
# Of a run, by what the reading itself says.
READINGS = {
    "attention.pattern": (2, {}),
    "attention.summary": (2, {}),
    "deltanet.memory": (1, {}),
    "deltanet.implied_attention": (1, {}),
    "deltanet.implied_row": (1, {"token": -1}),
    "deltanet.written_by": (1, {"segments": [f"part {n // 3}" for n in range(max(SIZES))]}),
    "deltanet.spectrum": (1, {}),
}
STREAMS = {
    "gates and norms": lambda n: [deltanet.gates(), deltanet.norms()],
    "attention": lambda n: [attention.watch(block=64)],
    "bands": lambda n: [attention.watch_bands(samples=4)],
    "whole seams": lambda n: [stream.capture("resid_post", tokens=range(n))],
    "exact rows": lambda n: [deltanet.rows(tokens=[n - 5])],
}


def true(planned, counted):
    assert 0.8 < counted / planned < 1.15, f"planned {planned:,}, counted {counted:,}: {counted / planned:.2f}"


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_takes_what_was_planned(sized, name, tokens):
    lab, _ = sized
    planned, made = REQUESTS[name]
    call = made(lab, tokens)
    peak, kept, result = measure.peak(call)
    true(planned(lab, tokens).peak, peak)
    if name in ("trace", "chunks", "few seams", "gradients", "all logits", "a batch", "generate", "a warm cache"):
        true(planned(lab, tokens).kept, kept)


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("seams", [None, LIGHT], ids=["all seams", "few seams"])
@pytest.mark.parametrize("sizes", [{}, dict(linear_head_dim=32, linear_num_heads=5)], ids=["small", "wide"])
def test_decay_by_channel_takes_what_was_planned(sizes, seams, tokens):
    lab = tiny.make_lab(siblings.kimi(model_max_length=4096, **sizes))
    lab.trace(tiny.ids(3))
    peak, kept, _ = measure.peak(lambda: lab.trace(tiny.ids(tokens), seams=seams))
    planned = lab.plan(tokens=tokens, seams=seams)
    true(planned.peak, peak)
    true(planned.kept, kept)


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("name", READINGS)
def test_a_reading_takes_what_it_says(sized, name, tokens):
    lab, runs = sized
    (layer, options), needs, function = READINGS[name], plan.readings()[name], name.split(".")[1]
    call = lambda: getattr(attention if layer == 2 else deltanet, function)(runs[tokens], layer=layer, **options)  # noqa: E731
    call()
    peak, _, _ = measure.peak(call)
    cost = needs.cost(needs.request(lab.spec, tokens, options=options))
    true(cost.result + cost.scratch, peak)


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_takes_what_was_planned(sized, name, tokens):
    lab, _ = sized
    planned = lab.plan(tokens=tokens, want="stream", chunk=128, probes=STREAMS[name](tokens))
    peak, _, _ = measure.peak(lambda: lab.stream(tiny.ids(tokens), probes=STREAMS[name](tokens), chunk=128))
    true(planned.peak, peak)


def test_the_mask_of_chunks_is_planned(lab):
    """Truth values and the same as numbers, of a chunk times all tokens: alone they are more than the rest."""
    planned = lab.plan(tokens=32_768, chunk=1024, seams=LIGHT)
    assert planned.parts["attention mask"] == 1024 * 32_768 * (1 + 4) > planned.peak / 2
    assert lab.plan(tokens=32_768, seams=LIGHT).parts["attention mask"] == 0, "one pass needs none"


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_stream_is_asked_for_everything_that_it_holds(lab, monkeypatch):
    """Above keys and values alone, below model, mask and probes together: refused before the model runs."""
    ids, probes = tiny.ids(400), [deltanet.norms()]
    whole = lab.plan(tokens=400, want="stream", chunk=128, probes=[deltanet.norms()])
    assert whole.parts["keys and values"] < whole.peak / 4
    monkeypatch.setattr(plan.card, "budget", lambda device: (whole.peak - 1, "a small machine"))
    handle = lab.model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    try:
        with pytest.raises(BudgetError, match="(?s)stream of 400.*attention mask.*a small machine.*chunk=64"):
            lab.stream(ids, probes=probes, chunk=128)
    finally:
        handle.remove()
    monkeypatch.setattr(plan.card, "budget", lambda device: (whole.peak, "a small machine"))
    assert "keep" not in lab.stream(ids, probes=probes, chunk=128)


def test_the_rows_of_a_probe_count(lab, monkeypatch):
    probes = lambda: [stream.capture("resid_post", tokens=range(400))]  # noqa: E731
    few = lab.plan(tokens=400, want="stream", chunk=128, probes=[stream.capture("resid_post", tokens=[3])])
    all_rows = lab.plan(tokens=400, want="stream", chunk=128, probes=probes())
    assert all_rows.peak - few.peak > 4 * 5 * 44 * 200
    monkeypatch.setattr(plan.card, "budget", lambda device: (few.peak, "a small machine"))
    with pytest.raises(BudgetError, match="rows of the probes"):
        lab.stream(tiny.ids(400), probes=probes(), chunk=128)


def test_a_probe_that_says_nothing_is_taken_to_copy_its_seams(lab):
    class Own(stream.Probe):
        def needs(self, spec):
            return {1: ["qkv"], 2: ["q", "k"]}

    seams = lab.spec.seams["deltanet"]["qkv"].width(lab.spec)
    assert Own().cost(lab.spec, tokens=400, chunk=100, width=4) == plan.ProbeCost(8 * 100 * seams)


def test_scratch_is_refused_like_results(lab, monkeypatch):
    """A spectrum's result is small; the states that it is made from are not."""
    run = lab.trace(tiny.ids(300))
    needs = deltanet.spectrum.needs
    cost = needs.cost(needs.request(lab.spec, 300))
    assert cost.result < cost.scratch / 20
    monkeypatch.setattr(plan.card, "budget", lambda device: (cost.scratch, "a small machine"))
    with pytest.raises(BudgetError, match="(?s)deltanet.spectrum of 300 tokens would not fit.*scratch of the reading"):
        deltanet.spectrum(run, layer=1)


def test_several_layers_are_refused_at_once(lab, monkeypatch):
    run, needs = lab.trace(tiny.ids(300)), attention.pattern.needs
    cost = needs.cost(needs.request(lab.spec, 300))
    monkeypatch.setattr(plan.card, "budget", lambda device: (2 * cost.result + cost.scratch, "a small machine"))
    assert attention.pattern(run, layer=2).layer == 2
    with pytest.raises(BudgetError, match=r"(?s)attention.pattern.*try: layer=2 "):
        attention.pattern(run, layer=[2, 4])


def test_links_and_segments_take_no_memory_of_their_own():
    """Links of every row took 12 bytes x links x rows x heads; every segment a state."""
    lab = tiny.make_lab(tiny.model(max_position_embeddings=2048, linear_key_head_dim=40, linear_value_head_dim=56))
    run = lab.trace(tiny.ids(1200))
    few, _, _ = measure.peak(lambda: attention.summary(run, layer=2, links=10))
    many, _, ds = measure.peak(lambda: attention.summary(run, layer=2, links=20_000))
    assert ds.sizes["link"] == 20_000 and many < few + 6 * 20_000 * 60
    names = [["one"] * 1200, [f"part {n}" for n in range(1200)]]
    one, each = (measure.peak(lambda at=at: deltanet.written_by(run, layer=1, segments=at))[0] for at in names)
    assert each < 1.1 * one


def test_links_are_the_largest_weights_and_no_more_than_there_are(lab):
    run = lab.trace(tiny.ids(90))
    p = torch.tensor(attention.pattern(run, layer=2).weight.values)
    ds = attention.summary(run, layer=2, links=10**6)
    assert ds.sizes["link"] == 90 * 91 // 2
    assert (ds.link_source <= ds.link_token).all()
    for head in range(p.shape[0]):
        expected = p[head].flatten().topk(ds.sizes["link"]).values
        assert abs(torch.tensor(ds.links[head].values) - expected).max() < 1e-6
        pairs = set(zip(ds.link_token[head].values.tolist(), ds.link_source[head].values.tolist(), strict=True))
        assert len(pairs) == ds.sizes["link"], "every pair once"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lab: plan.admit_logits(lab, tokens=40, prompts=900, cached=200), "logits.*try: one row at a time"),
        (lambda lab: attention.scores(lab, length=100), "attention.scores of 200 tokens.*try: length=50"),
        (
            lambda lab: plan.admit_generate(lab, tokens=200, new=100, wanted=wanted_seams(lab.spec)),
            "generate of 300 tokens.*seams",
        ),
        (lambda lab: plan.admit_copies(lab, want="lab.fork", length=9, each=5000, n=900), "900 branches.*try: n=450 "),
        (
            lambda lab: deltanet.patch_states(
                lab, tiny.ids(40), tiny.ids(40, seed=1), tiny.ids(30), score=(3, 4), batch=64
            ),
            "branches.*try: batch=1 ",
        ),
        (
            lambda lab: deltanet.implied(
                *[torch.ones(900, 3, 10)] * 2, g=torch.zeros(900, 9) - 0.1, beta=torch.ones(900, 9) / 2
            ),
            "deltanet.implied of 900.*weights",
        ),
    ],
    ids=["logits", "scores", "generate", "fork", "patch", "implied"],
)
def test_calls_that_allocate_more_than_their_input_ask(lab, monkeypatch, call, message):
    monkeypatch.setattr(plan.card, "budget", lambda device: (2_300_000, "a small machine"))
    with pytest.raises(BudgetError, match=f"(?s){message}"):
        call(lab)


# -------------------------------------------------------------------------------------------------------------- bounds


def machine(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "700\n", f"{V2}/memory.current": "300\n"}, [400]),
        (  # its own group has no limit, the one above has; pages of files count as free
            {
                "proc/self/cgroup": "0::/slice/job\n",
                f"{V2}/slice/job/memory.max": "max\n",
                f"{V2}/slice/job/memory.current": "200\n",
                f"{V2}/slice/memory.max": "1000\n",
                f"{V2}/slice/memory.high": "900\n",
                f"{V2}/slice/memory.current": "500\n",
                f"{V2}/slice/memory.stat": "anon 400\ninactive_file 60\n",
            },
            [460],
        ),
        (  # the path is that of the host, the own group is mounted at the top
            {
                "proc/self/cgroup": "5:cpu:/docker/abc\n4:memory:/docker/abc\n",
                f"{V1}/memory.limit_in_bytes": "800\n",
                f"{V1}/memory.usage_in_bytes": "500\n",
                f"{V1}/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
            },
            [330],
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "500\n",
            },
            [],
        ),
        ({"proc/self/cgroup": "0::/../../other\n", f"{V2}/memory.max": "nonsense"}, []),
        ({"proc/self/cgroup": "what is this"}, []),
        ({}, []),
    ],
    ids=["v2", "above", "v1", "no limit", "nonsense", "unknown", "none"],
)
def test_a_container_bounds_the_budget(tmp_path, files, free):
    root = machine(tmp_path, files)
    assert [bytes_ for bytes_, _ in bounds.groups(root)] == free
    if free:
        assert bounds.host(root) == (free[0], "the memory limit of the container (cgroup)")
    else:
        assert bounds.host(root)[1] == "host memory"


def test_a_limit_that_is_passed_already_leaves_nothing(tmp_path):
    files = {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "700\n", f"{V2}/memory.current": "900\n"}
    assert bounds.host(machine(tmp_path, files))[0] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces these limits")
@pytest.mark.parametrize(("name", "letter"), [("RLIMIT_AS", "-v"), ("RLIMIT_DATA", "-d")])
def test_a_limit_of_the_process_bounds_the_budget(name, letter):
    code = (
        "import resource, torch; from labkit import plan\n"
        "pages = open('/proc/self/statm').read().split()\n"
        f"used = int(pages[{0 if letter == '-v' else 5}]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.{name}, (used + 200 * 2**20, resource.RLIM_INFINITY))\n"
        "print(*plan.budget(torch.device('cpu')), sep='|')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    free, where = found.strip().split("|")
    assert where == f"the limit of this process (ulimit {letter})"
    assert 0.9 * 190 * 2**20 < int(free) <= 0.9 * 200 * 2**20


def test_sessions_and_fillers_that_would_not_fit(monkeypatch):
    """Calls that keep keys and values of much text ask before the first pass."""
    talk = [{"role": "user", "content": "red fox"}, {"role": "assistant", "content": "blue"}]
    ran, nano_lab = [], labkit.load("nano")
    monkeypatch.setattr(nano_lab.model, "forward", lambda *args, **options: ran.append(args))
    monkeypatch.setattr(plan.card, "budget", lambda device: (3_000, "a small machine"))
    for call, name in (
        (lambda: reuse.play(nano_lab, talk), "reuse.play .*a snapshot of every call"),
        (lambda: yarn.counterfactuals(nano_lab, seeds=1), "yarn.counterfactuals .*in blocks, joined and as they stand"),
    ):
        with pytest.raises(BudgetError, match=f"(?s){name}.*a small machine"):
            call()
    assert ran == []
