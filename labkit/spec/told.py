"""What a spec says of itself in words, a row for each thing."""

from labkit.families import ATTENTION, FAMILIES
from labkit.spec import memory
from labkit.spec.units import parameter_count


def told(spec) -> tuple[tuple[str, str], ...]:
    """Rows (name, text) of a `Spec`."""
    total = memory.parameters(spec)
    count = f"{parameter_count(total['text'])} text"
    count += f" + {parameter_count(total['vision'])} vision" if total["vision"] else ""
    count += f" + {parameter_count(total['mtp'])} multi-token prediction (not loaded)" if total["mtp"] else ""
    count += f" · {parameter_count(memory.active_parameters(spec))} for one token" if spec.experts else ""
    deltas, attentions = len(spec.deltanet_layers), len(spec.attention_layers)
    tie = "tied to lm_head" if spec.tied else "lm_head apart"
    delta = f"{spec.key_heads} query/key heads of {spec.dk} · {spec.value_heads} value heads of {spec.dv}"
    delta += " · decay per channel" if spec.decays > 1 else ""
    delta += " · writes up to 2" if spec.most_write > 1 else ""
    delta += f" · state {spec.value_heads} × {spec.dk} × {spec.dv} · convolution of {spec.conv} taps"
    attend = f"{spec.query_heads} query heads over {spec.kv_heads} key/value heads of {spec.head_dim}"
    if spec.latent:
        attend = f"{spec.query_heads} heads, keys and values {spec.head_dim} from a latent of {spec.latent}"
        attend += f" and {spec.shared} shared channels"
    rotary = f"{spec.rotary_dim} rotary channels, θ {spec.rope_theta:,.0f}" if spec.rotary_dim else "no rotary"
    gated, soft = "gate" in spec.seams[ATTENTION], "attention"
    soft = f"gated {soft}" if gated else soft
    attend += f" · {rotary} · {'sigmoid' if gated else 'no'} output gate"
    attend += " · no readings" if ATTENTION in FAMILIES[spec.family].unread else ""
    mlp = f"MLP {spec.intermediate:,}"
    if spec.experts:
        mlp = f"{spec.active_experts} of {spec.experts} experts of {spec.intermediate:,}"
        mlp += f" and a shared one of {spec.shared_intermediate:,}"
        mlp += (
            f", in the first {spec.dense_layers} {spec.dense_intermediate:,} without experts"
            if spec.dense_layers
            else ""
        )
    rows = (
        ("layers", f"{spec.layers} = {deltas} D (Gated DeltaNet) + {attentions} A ({soft})"),
        ("strip", spec.strip()),
        (
            "widths",
            f"hidden {spec.hidden:,} · {mlp} · vocabulary {spec.vocab:,}, {tie}",
        ),
        ("D layer", delta),
        ("A layer", attend),
        ("window", f"{spec.window:,} tokens"),
        ("parameters", count),
        ("dtype", str(spec.dtype or "not stated")),
    )
    return rows
