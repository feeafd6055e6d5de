"""Self-prediction for those who train with verl 0.9.1, without a fork.

With `VERL_USE_EXTERNAL_MODULES=masa.integrations.verl` verl imports this module at the end of its own import, in the
driver and in every Ray worker. It brings

- `MASADataset` (`data.custom_cls`): every training problem as two rows, its own prompt and the request to foretell it;
- the reward manager `masa` (`reward.reward_manager.name`): scores solutions and notes which are correct;
- the trainer `masa` (`trainer.v1.trainer_mode`): keeps both groups of a problem in one step and rewards the
  predictions once the step's solutions are there.

The configuration lines, and what has never been run, are in docs/verl.md.
"""

from __future__ import annotations

from masa.errors import UserError

try:
    from masa.integrations.verl.dataset import MASADataset
    from masa.integrations.verl.reward import MASARewardManager, compute_score
    from masa.integrations.verl.trainer import MASATrainerVerl
except ModuleNotFoundError as error:
    raise UserError(
        f"masa.integrations.verl needs the module {error.name!r}: install verl==0.9.1 and TransferQueue>=0.1.10, see "
        "docs/verl.md"
    ) from error

__all__ = ["MASADataset", "MASARewardManager", "MASATrainerVerl", "compute_score"]
