"""vLLM behind a pipe: one JSON object a line in, one out. Runs in an environment of its own, without masa."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Answer the settings with an empty object, then each list of requests with the lengths made."""
    # vLLM prints to standard output: answers go to a private copy of it.
    answers = sys.stdout
    sys.stdout = sys.stderr
    from vllm import LLM, SamplingParams

    def answer(message: dict[str, object]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    settings = json.loads(sys.stdin.readline())
    llm = LLM(
        model=settings["model"],
        dtype=settings["dtype"],
        max_num_seqs=settings["slots"],
        max_model_len=settings["max_model_len"],
    )
    answer({})
    for line in sys.stdin:
        requests = json.loads(line)["requests"]
        llm.reset_prefix_cache()  # in training, weights have changed since
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt, _ in requests],
            [SamplingParams(temperature=1.0, max_tokens=limit, ignore_eos=True) for _, limit in requests],
            use_tqdm=False,
        )
        answer({"lengths": [len(output.outputs[0].token_ids) for output in outputs]})


if __name__ == "__main__":
    main()
