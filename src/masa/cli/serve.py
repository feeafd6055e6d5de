"""`masa serve`: `masa solve` behind an endpoint that OpenAI's clients can talk to."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, count, pairwise
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from rich.console import Console

from masa.cli.evaluation_data import NamedSet
from masa.cli.loading import Policy
from masa.cli.measuring import Measuring, Options, prepare
from masa.cli.spending import Spending, make_solver
from masa.errors import UserError
from masa.grading import check_kind
from masa.grading.equality import check_voted
from masa.records import FinishReason, Problem, Request, Rollout
from masa.rollout.requests import RequestMaker
from masa.runs.jsonlines import plain
from masa.seeding import Purpose, derive_seed
from masa.solving import Foretelling, Solution, Strategy
from masa.solving.solver import Steps
from masa.training.interruption import leaving_with_a_word

if TYPE_CHECKING:
    from masa.solving.serving.app import Answer
    from masa.solving.serving.protocol import ChatRequest

_SEED_BITS = 53
"""Of seeds made here: what every JSON reader keeps whole."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and for whom.

    Raises:
        UserError: for an address that others can reach without a key, or a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    waiting: int = 32
    together: int = 8
    """Requests that are answered together."""
    grace: int = 10
    """Seconds that running answers have left after Ctrl-C or SIGTERM."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: it must lie between 0 (any free one) and 65535")
        for name, value in (("queue", self.waiting), ("grace", self.grace)):
            if value < 0:
                raise UserError(f"--{name} {value}: it must be at least 0")
        if self.together < 1:
            raise UserError(f"--together {self.together}: it must be at least 1")
        if self.api_key is not None and (not self.api_key.strip() or not self.api_key.isprintable()):
            raise UserError("--api-key is empty or holds characters that no header can: give another")
        if self.api_key is None and not self._is_loopback:
            raise UserError(
                f"--host {self.host} can be reached from other machines: set a key that clients must send "
                "(MASA_API_KEY or --api-key), or leave out --host"
            )

    @property
    def _is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def listen(self) -> socket.socket:
        """A socket that listens.

        Raises:
            UserError: if that cannot be had.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            raise UserError(
                f"cannot listen at {self.host}, port {self.port} ({error.strerror or error}): give another --port "
                "(0 takes any free one) or --host"
            ) from None


@dataclass(slots=True)
class ChatSolver:
    """Answers chat requests as `masa solve` answers questions: the last message is the question."""

    name: str
    measuring: Measuring
    policy: Policy
    strategy: Strategy
    kind: str = "math"
    _numbers: Iterator[int] = field(default_factory=count)

    def prepare(self, chat: ChatRequest) -> Steps[Answer]:
        """The work that an answer takes; see `masa.solving.serving.app.Answerer`."""
        from masa.solving.serving.protocol import ProtocolError

        requests = self._requests(chat)
        strategy = self.strategy if requests.temperature else _greedy(self.strategy)
        measuring = replace(self.measuring, requests=requests)
        messages = [
            {"role": "system" if one.role == "developer" else one.role, "content": one.text} for one in chat.messages
        ]
        extra = {"prompt": messages} if len(messages) > 1 else {}
        problem = Problem(0, messages[-1]["content"], "", self.kind, extra=extra)
        try:
            data = measuring.prompted(NamedSet("the request", (problem,)), self.policy)
            solver = make_solver(data, self.policy, strategy)
            row = data.rows[0]
            prompt_tokens = len(solver.prompts.solution_ids(problem, row))
            self._check_room(prompt_tokens, min(requests.max_tokens, chat.budget or requests.max_tokens))
            if strategy.foretelling is not None and _can_foretell(strategy.foretelling, chat.budget, measuring):
                self._check_room(len(solver.prompts.meta_ids(problem, row)), requests.max_meta_tokens)
        except TemplateError as error:
            raise ProtocolError(f"the model's chat template refuses the messages: {error}", param="messages") from None
        if chat.budget is not None:  # predictions take half of it at most, so that a sample can always be drawn
            solver = replace(solver, min_length=min(solver.min_length, max(1, chat.budget // 2)))

        def steps() -> Steps[Answer]:
            (solution,) = yield from solver.steps([problem], [row], budget=chat.budget)
            return _answer(solution, prompt_tokens, requests.seed)

        return steps()

    def generate(self, asked: Sequence[Sequence[Request]], gone: Sequence[Callable[[], bool]]) -> list[list[Rollout]]:
        """See `masa.solving.serving.app.Answerer`; what nobody waits for any more ends between tokens."""
        requests = list(chain.from_iterable(asked))
        parts = [slice(*ends) for ends in pairwise(accumulate(map(len, asked), initial=0))]
        with self.policy.engine.generation(requests) as generation:

            def look() -> None:
                for part, is_gone in zip(parts, gone, strict=True):
                    if is_gone():
                        generation.limits[part] = 0

            generation.before_step = look
            rollouts = generation.run()
        return [rollouts[part] for part in parts]

    def _requests(self, chat: ChatRequest) -> RequestMaker:
        """The server's sampling, less what the request says of it."""
        own = self.measuring.requests
        seed = chat.seed
        if seed is None:  # a request that is sent twice asks for another answer
            seed = derive_seed(own.seed, Purpose.SERVED, next(self._numbers)) % 2**_SEED_BITS
        return replace(
            own,
            seed=seed,
            temperature=own.temperature if chat.temperature is None else chat.temperature,
            top_p=own.top_p if chat.top_p is None else chat.top_p,
        )

    def _check_room(self, prompt_tokens: int, limit: int) -> None:
        from masa.solving.serving.protocol import ProtocolError

        positions = self.policy.positions
        if positions is not None and prompt_tokens + limit > positions:
            raise ProtocolError(
                f"a prompt of {prompt_tokens} tokens and a limit of {limit} exceed the {positions} positions of "
                f"{self.name}: shorten the messages, or give a lower max_completion_tokens",
                param="messages",
                code="context_length_exceeded",
            )


def _greedy(strategy: Strategy) -> Strategy:
    """At temperature 0 every sample is the same, and every prediction: one of each says it all.

    A foretold limit could not give way to the run's own where it ends the one sample too soon, so there is none.
    """
    foretelling = strategy.foretelling and replace(strategy.foretelling, predictions=1, cutoff=None)
    return replace(strategy, samples=1, foretelling=foretelling)


def _can_foretell(foretelling: Foretelling, budget: int | None, measuring: Measuring) -> bool:
    return budget is None or foretelling.budget_share * budget >= measuring.requests.max_meta_tokens


def _answer(solution: Solution, prompt_tokens: int, seed: int) -> Answer:
    from masa.solving.serving.app import Answer

    told = plain(solution)
    names = ("answer", "confidence", "likely_right", "votes", "samples", "cut", "stopped")
    return Answer(
        text=solution.text or "",
        finish_reason="stop" if solution.finish_reason is FinishReason.STOP else "length",
        prompt_tokens=prompt_tokens,
        text_tokens=solution.length,
        tokens=solution.tokens,
        spending={
            "prediction": told["foretold"],
            **{name: told[name] for name in names},
            "share": solution.share,
            "prediction_tokens": solution.meta_tokens,
            "sample_tokens": solution.solution_tokens,
            "seed": seed,
        },
    )


def run(
    model: str, options: Options, spending: Spending, address: Address, *, name: str | None = None, kind: str = "math"
) -> None:
    """Load the model and serve it until a signal comes.

    Raises:
        UserError: for anything the user can mend.
        Interrupted: on Ctrl-C or SIGTERM, once running answers are done or `address.grace` is over.
    """
    try:
        from masa.solving.serving.app import Server, make_app
    except ImportError as error:
        raise UserError(f"masa serve needs fastapi and uvicorn ({error}): pip install -e '.[serve]'") from None
    check_kind(kind, where="--kind")
    check_voted(Problem(0, "", "", kind))
    with leaving_with_a_word("and serves no longer"), address.listen() as listening:
        measuring = prepare("serve", model, options, [])
        strategy = spending.make(measuring)
        answerer = ChatSolver(name or model, measuring, measuring.load(), strategy, kind)
        app = make_app(answerer, api_key=address.api_key, waiting=address.waiting, together=address.together)
        logging.basicConfig(format="%(levelname)s: %(message)s")
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        Console(stderr=True, highlight=False).print(
            f"serving {answerer.name} at http://{shown}:{port}/v1 (Ctrl-C ends it)", soft_wrap=True, markup=False
        )
        Server(app, address.grace).serve_on(listening)
