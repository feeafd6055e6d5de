"""What a run will take, before it takes it: parameters, memory, tokens and time in closed formulas, without torch.

    from masa.scaling import Expectations, known_shape, memory_per_gpu, run_tokens

    work = MASAConfig(preset="masa-efficient", problems_per_step=128, num_generations=16, max_steps=314).workload()
    expect = Expectations(gpus=8, solution_tokens=2500, zero_variance=0.6)
    run_tokens(work, expect).net_share, memory_per_gpu(known_shape("Qwen/Qwen3-8B-Base"), work, expect)

docs/scaling.md has the formulas in one place, what they were held against, and what they leave out.
"""

from masa.scaling.memory import STRATEGIES, Memory, memory_per_gpu
from masa.scaling.shapes import ModelShape, known_shape, shape_from_config
from masa.scaling.spending import Expectations, RunTokens, StepTokens, Workload, run_tokens, step_tokens, steps_within

__all__ = [
    "STRATEGIES",
    "Expectations",
    "Memory",
    "ModelShape",
    "RunTokens",
    "StepTokens",
    "Workload",
    "known_shape",
    "memory_per_gpu",
    "run_tokens",
    "shape_from_config",
    "step_tokens",
    "steps_within",
]
