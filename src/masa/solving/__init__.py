"""Answers by vote, spent by prediction: a policy foretells first, then gets its token limit and number of samples."""

from __future__ import annotations

from masa.solving.learned import GradedVotes, LearnedStopping, learn_stopping
from masa.solving.solution import Foretold, Solution, StopReason
from masa.solving.solver import Solver
from masa.solving.stopping import AdaptiveConsistency, StoppingRule, leads_by_beta, leads_by_dirichlet
from masa.solving.strategy import STRATEGIES, Foretelling, Strategy, make_strategy
from masa.solving.votes import Ballot, Vote
from masa.solving.worth import likely_right, plan_samples, vote_values

__all__ = [
    "STRATEGIES",
    "AdaptiveConsistency",
    "Ballot",
    "Foretelling",
    "Foretold",
    "GradedVotes",
    "LearnedStopping",
    "Solution",
    "Solver",
    "StopReason",
    "StoppingRule",
    "Strategy",
    "Vote",
    "leads_by_beta",
    "leads_by_dirichlet",
    "learn_stopping",
    "likely_right",
    "make_strategy",
    "plan_samples",
    "vote_values",
]
