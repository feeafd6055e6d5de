"""How many problems a step draws: as many as it asks for, or further ones to choose among or to replace others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from masa.errors import UserError
from masa.training.config import MASAConfig
from masa.training.groups import ProblemGroup


class Refill:
    """The next draw of a step.

    `none` draws once. `before` replaces problems that the gate skips, `after` groups that came out flat (DAPO, arXiv
    2503.14476), and `best` draws all it may at once for the predictor to choose among (cf. arXiv 2507.04632).

    A step draws at most `refill_limit` x `problems_per_step` problems and none twice, so that it ends whatever the
    gate or the rewards say; it may then have fewer groups than asked for, or none.

    Args:
        problems: how many there are in the training set.

    Raises:
        UserError: if there are fewer than a step draws.
    """

    def __init__(self, config: MASAConfig, problems: int) -> None:
        self._mode = config.refill
        self._wanted = config.problems_a_step
        if self._wanted > problems:
            raise UserError(
                f"a step draws {self._wanted} problems but the training set has {problems}: "
                "lower problems_per_step or add problems"
            )
        self._most = math.floor(min(problems, self._wanted * config.draws_over_problems))

    def missing(
        self, rolled_out: Sequence[ProblemGroup], drawn: Sequence[ProblemGroup], *, foretold: bool = True
    ) -> int:
        """Problems still to draw, beside those rolled out in earlier rounds and those drawn in this one.

        Args:
            foretold: whether something is known of problems before their rollouts: else there is no choosing.
        """
        if not rolled_out and not drawn:
            count = self._most if self._mode == "best" and foretold else self._wanted
        elif self._mode == "before" and not rolled_out:
            count = self._wanted - sum(not group.is_gated for group in drawn)
        elif self._mode == "after" and not drawn:
            count = self._wanted - sum(group.solution.is_live for group in rolled_out)
        else:
            return 0
        return min(count, self._most - len(rolled_out) - len(drawn))
