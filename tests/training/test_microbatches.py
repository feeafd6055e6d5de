"""Rows to micro-batches: what is dropped, how it is weighed, how it is padded."""

from __future__ import annotations

import pytest
import torch

from masa.training.microbatches import Row, build_micro_batches, denominators


def row(length: int, advantage: float, path: str = "solution", *, live: bool = True, masked: bool = False) -> Row:
    return Row(tuple(range(1, 4)), tuple(range(1, length + 1)), advantage, path, live, masked)


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
