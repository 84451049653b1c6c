"""What a card can record of a decode step and play back: when that is allowed, and the recording itself.

A recording holds kernels and addresses. It runs no Python: neither functions of edits nor hooks, nothing that looks at
a number before it goes on. Where such a thing takes part in a step, steps run as ordinary passes, and `refusal` says
why.
"""

import threading
import weakref
from collections.abc import Callable

import torch

from labkit.cache import Blocks, HybridCache, book_of, is_linear
from labkit.kernels import lower_right
from labkit.trace import decoder

ANY_MASK = ("sdpa", "eager", lower_right.NAME)  # attention that takes any mask
WARM = 2  # steps that run before one is recorded: kernels are compiled, workspaces allocated
STATIC_EXPERTS = ("batched_mm", "grouped_mm")  # implementations whose shapes do not depend on the router


def refusal(lab, cache) -> str | None:
    """Why steps of this cache cannot be recorded now; None if they can."""
    scopes, names = lab.scopes, ", ".join
    if lab.device.type != "cuda":
        return f"the model is on {lab.device.type}; steps are recorded on CUDA alone"
    return static(lab, cache) or (f"hooks of others: {names(hooks)}" if (hooks := scopes.watched.hooks()) else None)


def static(lab, cache) -> str | None:
    """What of a step is decided in Python, whatever the device; None if nothing is."""
    scopes, experts = lab.scopes, lab.backend.experts if lab.backend else None
    attention = decoder(lab.model).config._attn_implementation
    if attention not in ANY_MASK:
        return f"attention runs as {attention!r}, which takes no mask of these shapes"
    if scopes.edits:
        return f"edits are open: {', '.join(map(repr, scopes.edits))}"
    if scopes.unrotated is not None:
        return "yarn.dynamic turns every key at every step"
    if "dynamic" in lab.scaling.kind:
        return f"the scaling {lab.scaling} follows the length"
    if experts is not None and experts not in STATIC_EXPERTS:
        return f"experts run as {experts!r}, whose shapes follow the router"
    if not isinstance(cache, HybridCache):
        return f"a {type(cache).__name__} that labkit did not make"
    if book_of(cache).placed:
        return "tokens of this cache stand at chosen positions"
    if book_of(cache).shift:
        return "tokens of this cache are those of pictures"
    if not all(is_linear(layer) or type(layer) is Blocks for layer in cache.layers):
        return "keys and values that do not stay in one place"
    return None


class CudaGraph:
    """A step as a CUDA graph; making it runs nothing on the card.

    Recordings of one model share their scratch memory: they are played one at a time, and what they give is copied out.
    """

    lock = threading.Lock()  # one recording at a time in a process
    pools = weakref.WeakKeyDictionary()  # scopes of a model -> memory pool

    def __init__(self, body: Callable[[], None], lab):
        device = lab.device
        self.graph = torch.cuda.CUDAGraph()
        with self.lock, torch.cuda.device(device):
            pool = self.pools.setdefault(lab.scopes, torch.cuda.graph_pool_handle())
            options = dict(pool=pool, stream=torch.cuda.Stream(device), capture_error_mode="thread_local")
            with torch.cuda.graph(self.graph, **options):
                body()

    def replay(self) -> None:
        """Run the recorded step with what its tensors hold now."""
        self.graph.replay()
