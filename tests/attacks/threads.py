"""Threads and asyncio tasks that use one model at once, with and without scopes, through one lab and through two."""

import asyncio
import concurrent.futures
import contextlib
import functools
import random

import tiny
import torch

from labkit import edit, yarn
from tests.attacks import Outcome, attack

PROMPTS = [tiny.ids(length, seed=length) for length in (11, 17, 23)]


@functools.cache
def labs():
    """Two labs around one model."""
    model = tiny.model(seed=5)
    return tiny.make_lab(model, "first"), tiny.make_lab(model, "second")


def scopes(lab):
    """What may be open, by name."""
    return {
        "nothing": list,
        "an edit": lambda: [lab.edit(edit.scale("gated", layer=1, factor=0.5))],
        "another edit": lambda: [lab.edit(edit.scale("mlp_out", layer=3, factor=2.0))],
        "a scaling": lambda: [yarn.scaled(lab, 2.0)],
        "both": lambda: [lab.edit(edit.scale("v", layer=2, factor=0.5)), yarn.scaled(lab, 4.0)],
        "dynamic": lambda: [yarn.dynamic(lab, 2.0)],
    }


@functools.cache
def expected(name, prompt):
    """Logits of a prompt under a scope, made alone."""
    with contextlib.ExitStack() as stack:
        lab = labs()[0]
        for scope in scopes(lab)[name]():
            stack.enter_context(scope)
        return lab.trace(PROMPTS[prompt], logits="all").logits


def verdict(name, prompt, outcomes, who):
    """Whether all logits of one worker are those of its scope alone, bit for bit."""
    for turn, logits in enumerate(outcomes):
        if logits is not None and not torch.equal(logits, expected(name, prompt)):
            return Outcome("wrong", f"{who} under {name}, prompt {prompt}, turn {turn}")
    return Outcome("right", f"{who} under {name}")


def _prepared():
    for name in scopes(labs()[0]):
        for prompt in range(len(PROMPTS)):
            expected(name, prompt)


def _jobs(tries, seed):
    chance = random.Random(seed)
    names = list(scopes(labs()[0]))
    return [(chance.randrange(2), chance.choice(names), chance.randrange(len(PROMPTS))) for _ in range(tries)]


@attack("threads", short=24, long=400)
def threads(tries, seed, folder):
    """Traces of several threads; bare calls are left out, since nobody waits for them."""
    _prepared()

    def work(job):
        which, name, prompt = job
        with contextlib.ExitStack() as stack:
            for scope in scopes(labs()[which])[name]():
                stack.enter_context(scope)
            done = [labs()[which].trace(PROMPTS[prompt], logits="all").logits for _ in range(2)]
        return verdict(name, prompt, done, "a thread")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield from pool.map(work, _jobs(tries, seed))
    yield _left()


@attack("tasks", short=24, long=400)
def tasks(tries, seed, folder):
    """Tasks of one event loop, which let each other on between any two calls, also of the bare model."""
    _prepared()

    async def work(job):
        which, name, prompt = job
        lab, done = labs()[which], []
        with contextlib.ExitStack() as stack:
            for scope in scopes(lab)[name]():
                stack.enter_context(scope)
                await asyncio.sleep(0)
            for turn in range(3):
                await asyncio.sleep(0)
                if turn < 2 or name == "dynamic":
                    done.append(lab.trace(PROMPTS[prompt], logits="all").logits)
                else:
                    done.append(lab.model(PROMPTS[prompt][None]).logits[0])
        return verdict(name, prompt, done, "a task")

    async def everybody():
        outcomes, jobs = [], _jobs(tries, seed)
        for first in range(0, len(jobs), 6):
            outcomes += await asyncio.gather(*(work(job) for job in jobs[first : first + 6]))
        return outcomes

    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # a loop of its own: there may be one in this thread
        yield from pool.submit(lambda: asyncio.run(everybody())).result()
    yield _left()


def _left():
    lab = labs()[0]
    lab.trace(PROMPTS[0])
    clean = tiny.hooks(lab.model) == [] and not lab.scopes.open and lab.scopes.calls == []
    return Outcome("right" if clean else "wrong", f"what is left: {tiny.hooks(lab.model)}, {lab.scopes.open}")
