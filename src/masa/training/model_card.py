"""Saved models carry a card with the run's figures, in the place of TRL's."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

from trl import GRPOTrainer

from masa.runs import RunFolder
from masa.runs.card import TAGS, write_card
from masa.training.sharding import saved_whole


class CardedTrainer(GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` whose model card tells what the run folder knows; without a run folder it is TRL's."""

    _tag_names: ClassVar[list[str]] = list(TAGS[1:])
    _name = "MASA"
    run: RunFolder | None = None

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write README.md into `args.output_dir`; `push_to_hub` calls this before it uploads."""
        if self.run is None:
            super().create_model_card(model_name, dataset_name, tags)
        elif self.is_world_process_zero():
            self._write_card(Path(self.args.output_dir), name=model_name, dataset=dataset_name, tags=tags)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; if it is asked for by the user and not by a checkpoint, whole and with its card beside it."""
        with nullcontext() if _internal_call else saved_whole(self.accelerator):
            super().save_model(output_dir, _internal_call)
        if self.run is not None and not _internal_call and self.is_world_process_zero():
            self._write_card(Path(output_dir or self.args.output_dir))

    def _write_card(self, folder: Path, *, tags: str | list[str] | None = None, **options: Any) -> None:
        named = str(getattr(self.model.config, "_name_or_path", ""))
        base = named if named.count("/") == 1 and not Path(named).exists() else None
        given = [tags] if isinstance(tags, str) else tags or []
        assert self.run is not None
        write_card(self.run, folder, base_model=base, tags=given, **options)
