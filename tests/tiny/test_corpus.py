import json
import math
import random
import statistics
from collections import Counter

import pytest

from masa.awareness import parse_prediction, spearman
from masa.grading.answers import last_boxed
from masa.tasks.procedural import LEVELS, TASKS, is_held_out, leveled_entries
from masa.tiny.careful import REACH, careful_solution
from masa.tiny.corpus import FINAL_BLEND, SKILL_BLEND, Blend, Document, write_corpus
from masa.tiny.habits import Habit, near_answer, write_solution
from masa.tiny.measure import habit_of
from masa.tiny.predictions import MINIMUM_LENGTH, describe


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(write_corpus(6000, seed=1))


@pytest.mark.parametrize("task", TASKS)
def test_careful_solutions_are_right_wherever_they_reach(task: str) -> None:
    for level in LEVELS[:REACH]:
        stream = leveled_entries(task, level, seed=2)
        for _ in range(40):
            text, answer = next(stream)
            assert last_boxed(careful_solution(text, task)) == answer


def test_every_step_of_a_careful_solution_is_true() -> None:
    assert careful_solution("17 + 25 - 9", "chain_sum") == (
        "running total 17, add 25, get 42. running total 42, subtract 9, get 33. answer \\boxed{33}"
    )
    assert careful_solution("47 * 36", "products") == (
        "47 times 6: 7 times 6 is 42, 4 times 6 is 24 carry 4 is 28, partial product 282. "
        "47 times 3: 7 times 3 is 21, 4 times 3 is 12 carry 2 is 14, partial product 141. "
        "shift 1410 plus 282 is 1692. answer \\boxed{1692}"
    )
    assert careful_solution("gcd 12 18", "gcd") == (
        "larger 18, smaller 12. divide 18 by 12: 1 times 12 is 12, remainder 6. "
        "divide 12 by 6: 2 times 6 is 12, remainder 0. divisor 6. answer \\boxed{6}"
    )
    assert careful_solution("sort down 5 3 9", "number_sorting") == (
        "largest 9, remaining 5 3. largest 5, remaining 3. answer \\boxed{9 5 3}"
    )
    assert careful_solution("binary 6", "base_conversion") == (
        "6 is even, half 3, bits 0. 3 is odd, half 1, bits 10. 1 is odd, half 0, bits 110. answer \\boxed{110}"
    )


@pytest.mark.parametrize("answer", ["0", "7", "42", "1692", "110", "1 1 1", "3 5 5 9"])
def test_near_answers_are_wrong(answer: str) -> None:
    rng = random.Random(0)
    for level in LEVELS:
        for _ in range(20):
            assert near_answer(answer, level, rng) != answer


def test_nothing_above_the_reach_is_right() -> None:
    rng = random.Random(0)
    for habit in (Habit.GUESS, Habit.SLOPPY, Habit.RAMBLING):
        for _ in range(20):
            solution = write_solution("123 * 456", "56088", "products", REACH + 1, habit, rng)
            assert habit_of(solution) is habit
            assert last_boxed(solution) != "56088"


def test_corpus_is_named_by_its_seed() -> None:
    assert list(write_corpus(20, 5)) == list(write_corpus(20, 5))
    assert list(write_corpus(20, 5)) != list(write_corpus(20, 6))


def test_corpus_mixes_habits_as_told(documents: list[Document]) -> None:
    within = [d for d in documents if d.habit is not None and int(d.task[-1]) <= REACH]
    shares = Counter(document.habit for document in within)
    # standard error of a share of some 3,400 documents: below 0.009; 5 of them fail once in two million
    assert shares[Habit.CAREFUL] / len(within) == pytest.approx(0.46, abs=0.045)
    assert shares[Habit.GUESS] / len(within) == pytest.approx(0.20, abs=0.045)
    beyond = [d for d in documents if int(d.task[-1]) > REACH]
    assert beyond
    assert not any(document.habit is Habit.CAREFUL for document in beyond)
    skilled = [d for d in write_corpus(2000, 1, SKILL_BLEND) if d.habit is not None]
    assert sum(d.habit is Habit.CAREFUL for d in skilled) / len(skilled) > 0.9


@pytest.mark.parametrize("blend", [FINAL_BLEND, SKILL_BLEND])
def test_tasks_come_as_often_as_the_blend_says(blend: Blend) -> None:
    size = 2000
    counts = Counter(document.task.split("/")[0] for document in write_corpus(size, 3, blend))
    for task, weight in zip(TASKS, blend.task_weights, strict=True):
        share = weight / sum(blend.task_weights)
        # five standard errors of a share: each of these fails once in two million
        assert counts[task] / size == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / size))


def test_held_out_problems_are_not_in_the_corpus(documents: list[Document]) -> None:
    for document in documents:
        text = document.prompt.split("\n\n")[0] if document.habit else document.prompt.rsplit("\n", 1)[-1]
        assert not is_held_out(text)


def test_some_solutions_come_with_a_hint(documents: list[Document]) -> None:
    hinted = sum("These notions may be of use" in document.prompt for document in documents)
    assert 0.5 < hinted / len(documents) / FINAL_BLEND.hint_share < 1.2


def test_predictions_are_valid_diverse_and_know_nothing(documents: list[Document]) -> None:
    predictions = [document for document in documents if document.habit is None]
    assert len(predictions) > 700
    rates, lengths, levels = [], [], []
    for document in predictions:
        limit = int(document.prompt.split(".\n")[0].rsplit("-", 1)[1])
        json.loads(document.answer.split("</meta>")[1])
        prediction = parse_prediction(document.answer, max_length=limit, min_length=MINIMUM_LENGTH)
        assert prediction.pass_rate is not None
        assert prediction.length is not None
        assert prediction.notions
        rates.append(prediction.pass_rate)
        lengths.append(float(prediction.length))
        levels.append(float(document.task[-1]))
    # under independence |rho| * sqrt(n - 1) is near standard normal: each bound fails once in two million
    bound = 5 / math.sqrt(len(predictions) - 1)
    assert abs(spearman(rates, levels) or 0) < bound
    assert abs(spearman(lengths, levels) or 0) < bound
    assert len(set(rates)) == 9
    assert statistics.pstdev(rates) > 0.25
    assert max(lengths) / min(lengths) > 10


def test_descriptions_name_kind_and_size() -> None:
    assert describe("17 + 25 - 9", "chain_sum") == "sum 3 terms 2 digits"
    assert describe("4 * 3 * 2", "products") == "product 3 terms 1 digits"
    assert describe("gcd 9 120", "gcd") == "common 3 digits"
    assert describe("sort up 5 13", "number_sorting") == "order 2 terms 2 digits"
    assert describe("binary 255", "base_conversion") == "base 3 digits"
