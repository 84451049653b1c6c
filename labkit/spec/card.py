"""The cost card: what one model costs at one length on one GPU, as numbers and as a table."""

import dataclasses

from labkit.arguments import whole
from labkit.spec import compute, memory
from labkit.spec.units import big_number, duration, parameter_count, size
from labkit.tables import Table

PARTS = {
    "embed": "embedding",
    "deltanet": "{deltas} D mixers",
    "attention": "{attentions} A mixers",
    "mlp": "MLP",
    "norms": "norms",
    "lm_head": "lm_head",
    "text": "all of the text model",
}


@dataclasses.dataclass(frozen=True, repr=False)
class Card(Table):
    """Costs of a `Spec` at a length; made by `Spec.card`, arguments as there.

    Attributes:
        numbers: every number of the table in bytes, FLOPs, tokens or seconds, by name.
    """

    spec: object
    tokens: int
    gpu: object = "H200"
    dtype: str = "bfloat16"
    quantize: str | None = None
    kv_dtype: str | None = None
    numbers: dict = dataclasses.field(init=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "tokens", whole(self.tokens, "tokens", least=1))
        for field, default in (("dtype", "bfloat16"), ("kv_dtype", self.dtype)):
            chosen = getattr(self, field) or default
            memory.dtype_bytes(chosen)
            object.__setattr__(self, field, str(chosen).removeprefix("torch."))
        if self.gpu is not None:
            object.__setattr__(self, "gpu", compute.find_gpu(self.gpu))
        object.__setattr__(self, "numbers", self._numbers())

    def _numbers(self):
        spec, tokens, dtype = self.spec, self.tokens, self.dtype
        weights = memory.weight_bytes(spec, dtype, self.quantize)
        numbers = {f"{part} parameters": count for part, count in memory.parameters(spec).items()}
        numbers["active parameters"] = memory.active_parameters(spec)
        numbers |= {f"{part} bytes": count for part, count in weights.items()}
        numbers["vision bytes"] = numbers["vision parameters"] * memory.dtype_bytes(dtype)
        numbers |= {f"prefill {part} FLOPs": count for part, count in compute.prefill_flops(spec, tokens).items()}
        numbers |= {
            "KV bytes per token": memory.kv_bytes_per_token(spec, self.kv_dtype),
            "KV bytes": memory.kv_bytes(spec, tokens, self.kv_dtype),
            "state bytes": memory.state_bytes(spec),
            "conv bytes": memory.conv_bytes(spec, dtype),
            "snapshot bytes": memory.snapshot_bytes(spec, dtype),
            "equal tokens": compute.equal_tokens(spec),
            "logits bytes": memory.logits_bytes(spec, tokens, dtype),
            "pattern bytes": memory.pattern_bytes(spec, tokens, dtype),
            "trajectory bytes": memory.trajectory_bytes(spec, tokens),
        }
        numbers["snapshot tokens"] = memory.snapshot_tokens(spec, dtype, kv_dtype=self.kv_dtype)
        options = {"dtype": dtype, "quantize": self.quantize, "kv_dtype": self.kv_dtype}
        numbers["decode bytes"] = compute.decode_bytes(spec, tokens, **options)
        numbers["resident bytes"] = weights["text"] + numbers["KV bytes"] + numbers["snapshot bytes"]
        if self.gpu is not None:
            options = {"dtype": dtype, "quantize": self.quantize}
            numbers["prefill seconds"] = compute.prefill_seconds(spec, tokens, self.gpu, **options)
            options["kv_dtype"] = self.kv_dtype
            numbers["decode seconds"] = compute.decode_seconds(spec, tokens, self.gpu, **options)
            numbers["first decode seconds"] = compute.decode_seconds(spec, 0, self.gpu, **options)
        return numbers

    @property
    def title(self) -> str:
        """Model, length, precision and GPU in one line."""
        precision = f"{self.quantize} weights, {self.dtype}" if self.quantize else self.dtype
        where = f" · {self.gpu.name}" if self.gpu else ""
        beyond = f" (window {self.spec.window:,})" if self.tokens > self.spec.window else ""
        return f"{self.spec.name} · {self.tokens:,} tokens{beyond} · {precision}{where}"

    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """Rows (group, name, value) that both the text and the HTML show."""
        groups = {
            "weights": self._weights(),
            "cache of one sequence": self._cache(),
            "prefill": self._prefill(),
        }
        if self.gpu is not None:
            groups[f"{self.gpu.name} at its peak: lower bounds"] = self._gpu()
        groups["too large to keep whole"] = (
            ("logits of every token", size(self.numbers["logits bytes"])),
            ("softmax map of one A layer", size(self.numbers["pattern bytes"])),
            ("states of one D layer, every token", size(self.numbers["trajectory bytes"])),
        )
        return tuple((group, *row) for group, rows in groups.items() for row in rows)

    def _weights(self):
        at, spec = self.numbers, self.spec
        layers = {"deltas": len(spec.deltanet_layers), "attentions": len(spec.attention_layers)}
        for part, shown in PARTS.items():
            if part != "lm_head" or not spec.tied:
                count, stored = parameter_count(at[f"{part} parameters"]), size(at[f"{part} bytes"])
                yield shown.format(**layers), f"{count} parameters · {stored}"
        if spec.experts:
            experts = f"{spec.active_experts} of {spec.experts} experts and the shared one"
            yield "one token uses", f"{parameter_count(at['active parameters'])} parameters · {experts}"
            read, cached = at["decode bytes"], at["KV bytes"] + 2 * at["state bytes"]
            yield "one new token reads", f"{size(read)} · {size(read - cached)} weights, {size(cached)} cache"
        if count := at["vision parameters"]:
            yield "vision", f"{parameter_count(count)} parameters · {size(at['vision bytes'])} more with images=True"
        if count := at["mtp parameters"]:
            yield "multi-token prediction", f"{parameter_count(count)} parameters · not loaded"

    def _cache(self):
        at = self.numbers
        kv, each = size(at["KV bytes"]), size(at["KV bytes per token"])
        yield "keys and values", f"{kv} · {each} a token in {self.kv_dtype}"
        yield "states", f"{size(at['state bytes'])} in float32"
        yield "convolution windows", size(at["conv bytes"])
        copied, tokens = size(at["snapshot bytes"]), f"{at['snapshot tokens']:,.0f}"
        yield "one snapshot", f"{copied} = keys and values of {tokens} tokens"

    def _prefill(self):
        parts = {
            "linear": "linear layers",
            "core": "delta rule, chunk 64",
            "attention": "attention",
            "total": "all",
        }
        for part, shown in parts.items():
            yield shown, f"{big_number(self.numbers[f'prefill {part} FLOPs'])}FLOP"
        yield "attention equals linear", f"at {self.numbers['equal tokens']:,.0f} tokens"

    def _gpu(self):
        at, gpu = self.numbers, self.gpu
        resident, room = at["resident bytes"], gpu.memory * 1e9
        verdict = "fits" if resident <= room else "does not fit"
        yield "weights and cache", f"{size(resident)} of {size(room)}: {verdict}, activations apart"
        fast, rest = compute.rates(gpu, self.dtype, self.quantize)
        split = "" if fast == rest else f" for weights, {rest:g} for the rest"
        yield "prefill", f"{duration(at['prefill seconds'])} at {fast:g} TFLOP/s{split}"
        now, first = duration(at["decode seconds"]), duration(at["first decode seconds"])
        yield "decode", f"{now} a token at {gpu.bandwidth:g} TB/s · {first} with an empty cache"
        yield "source", gpu.source
