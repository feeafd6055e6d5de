"""verl's data set, with the request to foretell beside every training problem."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from masa.awareness import build_meta_prompt
from masa.errors import UserError
from masa.integrations.verl.settings import Settings
from masa.rollout.prompting import last_user_text, replace_user_text

SINGLE_TURN = "single_turn_agent"
"""verl's agent loop without tools: predictions are made without seeing a solution."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a trainer samples the rows."""

    solutions: int
    """G, solution rollouts a problem."""
    predictions: int
    """M, meta rollouts a problem."""
    agent: str
    """Agent loop of rows that name none."""


class MASADataset(RLHFDataset):  # type: ignore[misc]
    """`RLHFDataset` whose training batches hold two rows a problem: the row itself, then its meta row.

    The length is the number of problems, and indices are problems, so that verl's samplers, epochs and step counts
    stay as they are; a fetch of N problems (`__getitems__`, which PyTorch's loaders call where it exists) gives 2 N
    rows. Both rows of a problem are thus always in the same batch, in any order of problems. On top of verl's columns
    a training row has

    - `is_meta`: whether it asks for a prediction;
    - `masa_key`: the same text for both rows of one visit of the problem, and no other row's;
    - `masa_problem`: the question alone;
    - `agent_name`, `__rollout_n__`: verl's own columns for the agent loop and the number of rollouts.

    The trainer of this package claims the training set before it is read; without that, fetching batches from the
    training files is refused, as any other trainer would count the rows wrongly. Other files give verl's rows.

    Args:
        Those of `RLHFDataset`; settings are in `config.masa`.

    Raises:
        UserError: for a setting that cannot be, a row without a question, or one whose question is not plain text.
    """

    def __init__(self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        self.settings = Settings.from_config(config)
        self.sampling: Sampling | None = None
        self.is_training = _files(data_files) == _files(config.get("train_files"))
        super().__init__(data_files, tokenizer, config, processor, max_samples)

    def claim(self, sampling: Sampling | None) -> None:
        """Called by the trainer: give pairs of rows, or, with None, verl's own rows alone."""
        self.is_training = sampling is not None
        self.sampling = sampling

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        """As verl does it, by the longer of both prompts."""
        kept = super().maybe_filter_out_long_prompts(dataframe)
        if not self.is_training or not self.filter_overlong_prompts:
            return kept
        # verl's filter knows one prompt a row, so it is shown the meta prompts with the places of their rows.
        metas = kept.map(
            lambda row, place: {self.prompt_key: self._meta_messages(row), "masa_place": place},
            with_indices=True,
            desc="Building meta prompts",
        )
        return kept.select(super().maybe_filter_out_long_prompts(metas)["masa_place"])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of some problems, in verl's form."""
        if not self.is_training:
            return [self[index] for index in indices]
        if self.sampling is None:
            raise UserError(
                "MASADataset gives two rows a problem, which only its own trainer counts rightly: set "
                "trainer.v1.trainer_mode=masa"
            )
        return [row for index in indices for row in self._pair(index, self.sampling)]

    def _pair(self, index: int, sampling: Sampling) -> tuple[dict[str, Any], dict[str, Any]]:
        solution = self[index]
        meta = copy.deepcopy(solution)  # reward functions write into `extra_info`
        meta[self.prompt_key] = meta["raw_prompt"] = self._meta_messages(solution)
        shared = {"masa_key": f"{index}-{uuid.uuid4().hex}", "masa_problem": self._problem(solution)}
        agent = solution.get("agent_name") or sampling.agent
        solution |= {**shared, "is_meta": False, "agent_name": agent, "__rollout_n__": sampling.solutions}
        meta |= {**shared, "is_meta": True, "agent_name": SINGLE_TURN, "__rollout_n__": sampling.predictions}
        meta |= {"tools_kwargs": {}, "interaction_kwargs": {}}
        return solution, meta

    def _meta_messages(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        request = build_meta_prompt(
            self._problem(row),
            self.settings.template,
            min_length=self.settings.min_length,
            max_length=self.config["max_response_length"],
        )
        messages = replace_user_text(list(row[self.prompt_key]), lambda _: request)
        assert isinstance(messages, list)
        return messages

    def _problem(self, row: Mapping[str, Any]) -> str:
        where = self.settings.problem_key
        text: Any = row
        if where is None:
            text = last_user_text(row[self.prompt_key])
        else:
            for name in where.split("."):
                text = text.get(name) if isinstance(text, Mapping) else None
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"a row has no plain text in {where or 'its last user message'}: set data.masa.problem_key to where "
                "the question is (images are not supported)"
            )
        return text


def _files(names: Any) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else [str(name) for name in names]
