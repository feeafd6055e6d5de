"""Rows to micro-batches: what is dropped, how it is weighed, how it is padded."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from masa.awareness import Estimate, Gate, PaperRule, group_advantages, group_scale, row_weight, zero_variance
from masa.training.microbatches import Row, build_micro_batches, denominators


def row(
    length: int,
    advantage: float,
    path: str = "solution",
    *,
    live: bool = True,
    masked: bool = False,
    weight: float = 1.0,
) -> Row:
    return Row(tuple(range(1, 4)), tuple(range(1, length + 1)), advantage, path, live, masked, weight)


def build(
    rows: list[Row],
    *,
    count: int = 2,
    loss_type: str = "dapo",
    mode: str = "live",
    drop: bool = True,
    max_rows: int = 64,
    share_prompts: bool = False,
) -> list:
    return build_micro_batches(
        rows,
        count=count,
        max_rows=max_rows,
        loss_type=loss_type,
        denominator=denominators(rows, loss_type=loss_type, mode=mode),
        pad_token_id=0,
        device=torch.device("cpu"),
        drop_dead=drop,
        share_prompts=share_prompts,
    )


def token_mean(batches: list) -> float:
    """TRL's dapo loss where every token's log-ratio term is its advantage: sum of A over tokens / num_items."""
    return sum(
        float((b["advantages"][:, None] * b["completion_mask"]).sum() / b["num_items_in_batch"]) for b in batches
    )


def row_mean(batches: list) -> float:
    """The same for TRL's grpo loss: mean over a micro-batch's rows, divided by the number of micro-batches."""
    return sum(float(b["advantages"].mean()) / len(batches) for b in batches if len(b["advantages"]))


LIVE = [row(4, 1.0), row(6, -0.5), row(10, 2.0, "meta"), row(2, -1.0, "meta")]
DEAD = [row(50, 0.0, live=False), row(9, 0.0, "meta", live=False)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_each_path_is_the_mean_over_its_own_live_tokens(count: int) -> None:
    # solution: (4 x 1 - 6 x 0.5) / 10 = 0.1; meta: (10 x 2 - 2) / 12 = 1.5
    assert token_mean(build(LIVE, count=count)) == pytest.approx(0.1 + 1.5)


def test_dead_groups_change_nothing_under_live_and_dilute_under_all() -> None:
    assert token_mean(build(LIVE + DEAD)) == pytest.approx(token_mean(build(LIVE)))
    # all: (4 - 3 + 20 - 2) / (22 + 59)
    assert token_mean(build(LIVE + DEAD, mode="all")) == pytest.approx(19 / 81)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("drop", [True, False])
def test_row_mean_losses_do_not_notice_dropping_or_splitting(count: int, drop: bool) -> None:
    rows = LIVE[:2] + DEAD[:1]
    # all: (1 - 0.5 + 0) / 3 rows
    assert row_mean(build(rows, count=count, loss_type="grpo", mode="all", drop=drop)) == pytest.approx(0.5 / 3)
    # live: (1 - 0.5) / 2 live rows
    assert row_mean(build(rows, count=count, loss_type="grpo", mode="live", drop=drop)) == pytest.approx(0.5 / 2)


def test_there_are_always_as_many_micro_batches_as_asked_for() -> None:
    for rows in ([], DEAD, LIVE[:1], LIVE):
        batches = build(rows, count=5)
        assert len(batches) == 5
        assert all(b["completion_ids"].shape[1] >= 2 for b in batches)
    assert sum(len(b["advantages"]) for b in build(DEAD, count=5)) == 0


def test_rows_of_like_length_share_a_micro_batch_and_padding_is_trimmed() -> None:
    rows = [row(n, 1.0) for n in (3, 40, 4, 38, 5, 39)]
    widths = sorted(b["completion_ids"].shape[1] for b in build(rows, count=2))
    assert widths == [5, 40]
    assert sorted(len(b["advantages"]) for b in build(rows, count=3, max_rows=2)) == [2, 2, 2]
    padded = sum(b["completion_ids"].numel() for b in build(rows, count=2))
    assert padded <= 1.1 * sum(len(r.completion_ids) for r in rows)


def test_rows_of_one_prompt_stay_together_where_prompts_are_shared() -> None:
    groups = {(8,): [3, 50, 4], (9, 9): [40, 5, 30, 6], (7,): [2]}
    rows = [
        Row(p, tuple(range(1, n + 1)), 1.0, "solution", True)
        for i in range(4)
        for p, ns in groups.items()
        for n in ns[i : i + 1]
    ]
    batches = build(rows, count=3, max_rows=4, share_prompts=True)
    prompts = [{tuple(ids[ids > 0].tolist()) for ids in batch["prompt_ids"]} for batch in batches]
    assert sorted(len(batch["advantages"]) for batch in batches) in ([0, 4, 4], [1, 3, 4])
    assert sum(len(found) for found in prompts) == len(groups)  # no group was cut in two
    assert sum(int(batch["completion_mask"].sum()) for batch in batches) == sum(sum(ns) for ns in groups.values())


@pytest.mark.parametrize("share_prompts", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_how_rows_are_split_does_not_change_the_loss(count: int, share_prompts: bool) -> None:
    batches = build(LIVE + DEAD, count=count, max_rows=2, share_prompts=share_prompts)
    assert len(batches) == count
    assert token_mean(batches) == pytest.approx(0.1 + 1.5)


def test_prompts_are_padded_on_the_left_and_completions_on_the_right() -> None:
    long = Row((7, 8, 9, 7), (5,), 1.0, "solution", True)
    short = Row((7,), (5, 6, 6), -1.0, "solution", True)
    (batch,) = build([long, short], count=1)
    assert batch["prompt_ids"].tolist() == [[7, 8, 9, 7], [0, 0, 0, 7]]
    assert batch["prompt_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert batch["completion_ids"].tolist() == [[5, 0, 0], [5, 6, 6]]
    assert batch["completion_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_masked_rows_count_neither_in_the_sum_nor_in_the_denominator() -> None:
    assert token_mean(build([*LIVE, row(30, 3.0, masked=True)])) == pytest.approx(1.6)


def test_the_meta_weight_scales_its_path_alone() -> None:
    weighed = denominators(LIVE, loss_type="dapo", mode="live", meta_weight=0.5)
    plain = denominators(LIVE, loss_type="dapo", mode="live")
    assert weighed.path_scale["meta"] == pytest.approx(plain.path_scale["meta"] / 2)
    assert weighed.path_scale["solution"] == plain.path_scale["solution"]


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
@pytest.mark.parametrize("mode", ["live", "all"])
def test_a_row_of_weight_two_counts_as_two_rows(loss_type: str, mode: str) -> None:
    measure = token_mean if loss_type == "dapo" else row_mean
    weighed = [replace(one, weight=1.0 + i % 2) for i, one in enumerate(LIVE[:2] + DEAD[:1] + LIVE[2:] + DEAD[1:])]
    doubled = [replace(one, weight=1.0) for one in weighed for _ in range(int(one.weight))]
    for count in (1, 3):
        expected = measure(build(doubled, count=count, loss_type=loss_type, mode=mode))
        assert measure(build(weighed, count=count, loss_type=loss_type, mode=mode)) == pytest.approx(expected)
        unweighed = [replace(one, weight=1.0) for one in weighed]
        assert measure(build(unweighed, count=count, loss_type=loss_type, mode=mode)) != pytest.approx(expected)


def test_weights_by_hand() -> None:
    rows = [row(4, 1.0, weight=2.0), row(6, -0.5, weight=0.5), row(5, 0.0, live=False, weight=3.0)]
    # live: (2 x 4 x 1 - 0.5 x 6 x 0.5) / (2 x 4 + 0.5 x 6); all: the same over 11 + 3 x 5
    assert token_mean(build(rows)) == pytest.approx(6.5 / 11)
    assert token_mean(build(rows, mode="all")) == pytest.approx(6.5 / 26)
    # rows, live: (2 x 1 - 0.5 x 0.5) / 2.5; all: over 5.5
    assert row_mean(build(rows, loss_type="grpo")) == pytest.approx(1.75 / 2.5)
    assert row_mean(build(rows, loss_type="grpo", mode="all")) == pytest.approx(1.75 / 5.5)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
@pytest.mark.parametrize("weight", [0.3, 4.0])
def test_a_common_weight_changes_nothing_under_live(loss_type: str, weight: float) -> None:
    measure = token_mean if loss_type == "dapo" else row_mean
    # Of one path alone, too: each is divided by its own.
    heavy = [replace(one, weight=weight) if one.path == "meta" else one for one in LIVE + DEAD]
    assert measure(build(heavy, loss_type=loss_type)) == pytest.approx(measure(build(LIVE + DEAD, loss_type=loss_type)))


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
@pytest.mark.parametrize("mode", ["live", "all"])
def test_weights_of_one_leave_every_bit_as_it_was(loss_type: str, mode: str) -> None:
    """Against the sums over counts of rows and tokens that weights of one must come down to."""
    rng = random.Random(3)
    rows = [
        row(rng.randint(1, 99), rng.gauss(0, 1) if live else 0.0, path, live=live, masked=rng.random() < 0.1)
        for path in ("solution", "meta")
        for live in rng.choices((True, False), k=40)
    ]
    found = denominators(rows, loss_type=loss_type, mode=mode)
    live = [one for one in rows if one.is_live]
    by_tokens = loss_type == "dapo"
    if mode == "all":
        assert (found.tokens, found.rows) == (float(sum(one.tokens for one in rows)), float(len(rows)))
        scale = {"solution": 1.0, "meta": 1.0}
    else:
        size = {
            path: sum(one.tokens if by_tokens else 1 for one in live if one.path == path)
            for path in ("solution", "meta")
        }
        total = float(sum(size.values()))
        assert (found.tokens, found.rows) == (total, total)
        scale = {path: total / count for path, count in size.items()}
    assert found.path_scale == scale
    (batch,) = build(rows, count=1, loss_type=loss_type, mode=mode)
    kept = sorted((one for one in rows if one.tokens and one.advantage), key=lambda one: -one.width)
    factor = 1.0 if by_tokens else len(kept) / found.rows
    expected = torch.tensor([one.advantage * scale[one.path] * factor for one in kept], dtype=torch.float32)
    assert torch.equal(batch["advantages"], expected)


def solution_rows(groups: list[tuple[list[float], list[int]]], *, nominal: int | None = None) -> list[Row]:
    """Rows of solution groups of (rewards, lengths); with a nominal size, those of an allocation. A row's first
    token is its own."""
    rows = []
    mean_size = sum(len(rewards) for rewards, _ in groups) / len(groups)
    for rewards, lengths in groups:
        scale, weight = 1.0, 1.0
        if nominal is not None:
            scale, weight = group_scale(len(rewards), nominal), row_weight(len(rewards), mean_size)
        for advantage, length in zip(group_advantages(rewards), lengths, strict=True):
            ids = (1000 + len(rows), *range(length - 1))
            is_live = not zero_variance(rewards)
            rows.append(Row((1, 2), ids, advantage * scale, "solution", is_live, weight=weight))
    return rows


def pushes(rows: list[Row], mode: str = "live", loss_type: str = "dapo") -> dict[int, float]:
    """What each kept row's log-probability (each token's, for `dapo`) is multiplied by in the step's loss."""
    found = {}
    for batch in build(rows, count=3, mode=mode, loss_type=loss_type):
        share = batch["num_items_in_batch"] if loss_type == "dapo" else 3 * len(batch["advantages"])
        for ids, advantage in zip(batch["completion_ids"].tolist(), batch["advantages"], strict=True):
            found[ids[0]] = float(advantage / share)
    return found


def drawn_groups(seed: int, sizes: list[int]) -> list[tuple[list[float], list[int]]]:
    rng = random.Random(seed)
    groups = []
    for i, size in enumerate(sizes):
        rewards = [float(i % 2)] * size if i % 3 else [1.0, *(float(rng.random() < 0.5) for _ in range(size - 2)), 0.0]
        groups.append((rewards, [rng.randint(2, 60) for _ in rewards]))
    return groups


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_a_perfect_gate_leaves_the_gradient_as_it_was(loss_type: str) -> None:
    groups = drawn_groups(0, [8] * 24)
    known = [
        Estimate(sum(r) / len(r), 0.0 if zero_variance(r) else 0.5, abstains=False) for r, _ in groups
    ]  # knows each group's outcome
    decisions = Gate(0, PaperRule(), max_share=1.0, audit=0.0).decide(1, range(len(groups)), known)
    rows = solution_rows(groups)
    by_group = [rows[i : i + 8] for i in range(0, len(rows), 8)]
    passed = [one for d, part in zip(decisions, by_group, strict=True) if not d.gated for one in part]
    assert len(passed) == 8 * 8
    assert pushes(passed, loss_type=loss_type) == pushes(rows, loss_type=loss_type)
    # Not so where dead rows count, nor for a gate that skips a live group.
    assert pushes(passed, "all", loss_type) != pytest.approx(pushes(rows, "all", loss_type))
    assert pushes(passed[8:], loss_type=loss_type) != pytest.approx(pushes(rows, loss_type=loss_type))


@pytest.mark.parametrize("mode", ["live", "all"])
def test_a_uniform_allocation_is_the_token_mean(mode: str) -> None:
    groups = drawn_groups(1, [8] * 9)
    assert pushes(solution_rows(groups, nominal=8), mode) == pushes(solution_rows(groups), mode)
    tokens = sum(len(one.completion_ids) for one in solution_rows(groups) if one.is_live or mode == "all")
    plain = {one.completion_ids[0]: one.advantage / tokens for one in solution_rows(groups) if one.advantage}
    assert pushes(solution_rows(groups, nominal=8), mode) == pytest.approx(plain)


def test_groups_of_an_allocation_count_alike_whatever_their_size() -> None:
    # Half right, all rows of 10 tokens: the absolute push of a group is then sum |A| w, and A about 1 / sd.
    groups = [([1.0, 0.0] * n, [10] * 2 * n) for n in (1, 2, 8)]
    found = pushes(solution_rows(groups, nominal=4))
    sizes, start, totals = [2, 4, 16], 0, []
    for size in sizes:
        totals.append(sum(abs(found[1000 + start + i]) for i in range(size)))
        start += size
    # |A| = 1/2 / s x G/(G-1) x 3/4 with s = sqrt(G / (G-1)) / 2: in all sqrt(G / (G-1)) x 3/4, weight (22/3) / G a row.
    expected = [(size / (size - 1)) ** 0.5 for size in sizes]
    assert [total / totals[1] for total in totals] == pytest.approx([e / expected[1] for e in expected], rel=1e-3)
