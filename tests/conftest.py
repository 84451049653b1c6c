"""Fixtures: a small random hybrid in float32 and its lab; one thread, so that numbers repeat."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import tiny
import torch
from browsing import browser, page  # noqa: F401 (fixtures)

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model():
    """The random five-layer hybrid of `tiny`, float32."""
    return tiny.model()


@pytest.fixture
def lab(model):
    """A lab around it, without a tokenizer; afterwards no hook may be left."""
    made = tiny.make_lab(model)
    yield made
    assert tiny.hooks(model) == []
