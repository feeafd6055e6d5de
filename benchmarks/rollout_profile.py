"""Where the engine's time goes, by kind of operator."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rollout_peers import Engine
from rollout_workload import Workload
from torch.profiler import ProfilerActivity, profile

_KINDS = {
    "weights times states": ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"),
    "attention": ("aten::baddbmm", "aten::bmm", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    "softmax (attention and sampling)": ("aten::_softmax",),
    "rest of sampling": ("aten::cumsum", "aten::searchsorted", "aten::isfinite", "aten::max", "aten::amax"),
    "norms, rotations, activations, sums": (
        "aten::_fused_rms_norm",
        "aten::add",
        "aten::add_",
        "aten::addcmul",
        "aten::div_",
        "aten::mean",
        "aten::mul",
        "aten::mul_",
        "aten::pow",
        "aten::roll",
        "aten::rsqrt",
        "aten::silu",
        "aten::sum",
    ),
    "copies and casts (cache, packing)": (
        "aten::cat",
        "aten::copy_",
        "aten::fill_",
        "aten::gather",
        "aten::index",
        "aten::index_put_",
        "aten::_index_put_impl_",
        "aten::zero_",
        "mkldnn::_reorder_linear_weight",
    ),
}
OTHER = "other operators (views, masks, allocation)"


def operator_shares(engine: Engine, workload: Workload) -> dict[str, Any]:
    """Shares of the time within operators, which is all but Python's and the profiler's own."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        engine.run(workload)
    kind_of = {name: kind for kind, names in _KINDS.items() for name in names}
    times: Counter[str] = Counter()
    for event in record.key_averages():
        times[kind_of.get(event.key, OTHER)] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: time / total for kind, time in times.most_common()}
