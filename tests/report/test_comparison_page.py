"""The page and the table of a comparison, from a plain value alone."""

from __future__ import annotations

from typing import Any

from masa.report.comparison import render_comparison
from masa.report.comparison_table import NOTHING, columns, markdown, rows
from masa.report.comparison_words import sentences


def mean(value: float, low: float | None = None, high: float | None = None, n: int = 3) -> dict[str, Any]:
    return {"mean": value, "low": low, "high": high, "n": n}


def arm(name: str, *, simulated: bool = False, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "arm": name,
        "simulated": simulated,
        "seeds": [0, 1, 2],
        "at_equal": {
            "tokens": [
                {
                    "budget": 4000,
                    "pass_at_1": mean(0.5, 0.45, 0.55),
                    "ended_at": None,
                    "difference": mean(0.02, -0.01, 0.05),
                }
            ]
        },
        "to_threshold": {},
        "final": {
            "pass_at_1": mean(0.5, 0.45, 0.55),
            "difference": None,
            "by_seed": [{"seed": 0, "pass_at_1": 0.5, "low": 0.4, "high": 0.6}],
        },
        "curves": {"tokens": {"x": [0, 4000], "mean": [0.3, 0.5], "low": [0.2, 0.45], "high": [0.4, 0.55]}},
        "runs": [{"seed": 0, "pass_at_1": [0.3, 0.5], "tokens": [0, 4000]}],
    }
    return found | more


def spending() -> dict[str, Any]:
    """What a trained arm has besides."""
    ledger = {name: mean(100.0) for name in ("generated", "trained", "net_saved", "net_saved_share")}
    ledger["tokens"] = dict.fromkeys(("solution", "audit", "meta", "warm_start"), mean(50.0))
    return {"ledger": ledger, "steps": mean(10), "policy_updates": mean(9)}


def reached(**more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "spent": None,
        "reached": 0,
        "runs": 3,
        "beyond": None,
        "mean_curve": None,
        "speed_up": None,
        "pairs": 0,
        "pairs_left_out": 0,
        "mean_curve_speed_up": None,
    }
    return {"tokens": entry | more}


def comparison(*arms: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "baseline": "grpo",
        "seeds": [0, 1, 2],
        "heldout_problems": [200],
        "budgets": {"tokens": [4000], "seconds": []},
        "threshold": {"pass_at_1": 0.5, "evaluations": 3, "smoothing_window": 3},
        "arms": list(arms),
        "notes": ["Two cores."],
        "settings": {"common": {"lr": 0.1}, "differing": {"gate": {"grpo": "none", "new": "self"}}},
        "machines": [{"cores": 2}],
        "versions": [],
    }
    return found | more


def cells(value: dict[str, Any]) -> dict[str, list[str]]:
    def plain(text: str) -> str:
        return text.replace("\u00a0", " ")

    return {plain(row.title): [plain(cell) for cell in row.cells] for row in rows(value)}


def test_cells_are_what_they_say() -> None:
    found = cells(
        comparison(
            arm("grpo", to_threshold=reached(beyond=5000.0)),
            arm(
                "new",
                to_threshold=reached(
                    spent=mean(3000.0), reached=2, speed_up=mean(1.5, 1.2, 1.9, 2), pairs=2, pairs_left_out=1
                ),
            ),
        )
    )
    assert found["pass@1 at 4 k tokens"] == ["50.0 [45.0, 55.0]"] * 2
    assert found["… minus baseline"] == ["+2.0 [-1.0, +5.0]"] * 2
    assert found["tokens to grpo's final accuracy"] == ["> 5 k (0 of 3)", "3 k (2 of 3)"]
    assert found["speed-up in tokens"] == [NOTHING, "1.50x [1.20, 1.90] (2 of 3)"]
    assert "gate precision" not in found  # what no arm has is left out


def test_what_is_simulated_says_so_everywhere() -> None:
    ended = {"tokens": [{"budget": 4000, "pass_at_1": None, "ended_at": 2500, "difference": None}]}
    value = comparison(arm("grpo"), arm("oracle gate", simulated=True, at_equal=ended))
    assert columns(value) == ["grpo (3 seeds)", "oracle gate (simulated)"]
    assert cells(value)["pass@1 at 4 k tokens"][1] == "ended at 2.5 k tokens"
    text = markdown(value)
    assert "The oracle gate is simulated" in text
    assert text.splitlines()[0] == "|  | grpo (3 seeds) | oracle gate (simulated) |"
    assert "- Two cores." in text


def test_the_page_holds_the_curves_the_table_and_the_methods() -> None:
    page = render_comparison(comparison(arm("<grpo>", **spending()), arm("new", **spending())))
    assert "<grpo>" not in page.split("<script", 1)[0]
    assert "&lt;grpo&gt; (3 seeds)" in page
    assert '"fill": "tonexty"' in page
    assert "How each figure was made" in page
    assert "Settings that differ" in page
    assert "https://" not in page.split("<script", 1)[0]


def ended(value: float, *difference: float) -> dict[str, Any]:
    given = mean(*difference) if difference else None
    return {"pass_at_1": mean(value, value - 0.1, value + 0.1), "difference": given, "by_seed": []}


def test_the_summary_in_words() -> None:
    faster = reached(speed_up=mean(1.5, 1.2, 1.9, 3))
    value = comparison(
        arm("grpo", final=ended(0.5)),
        arm("good", final=ended(0.6, 0.1, 0.05, 0.15), to_threshold=faster),
        arm("same", final=ended(0.51, 0.01, -0.1, 0.12), to_threshold=reached(speed_up=mean(1.1, 0.9, 1.3, 3))),
        arm("bad", final=ended(0.3, -0.2, -0.25, -0.15)),
        arm("oracle gate", simulated=True, final=ended(0.9)),
    )
    assert [line.replace("\u00a0", " ") for line in sentences(value)] == [
        "grpo ends at 50.0 % (40.0 to 60.0) held-out pass@1 (4 k tokens are what every run has spent).",
        "Of the 3 others good ends highest: at 60.0 % (50.0 to 70.0), +10.0 points to grpo (+5.0 to +15.0).",
        "At the end, against grpo, surely above: good; surely below: bad; of the others no difference is sure.",
        "The fewest tokens to grpo's final accuracy are good's: grpo needs 1.50 times as many (1.20 to 1.90).",
    ]
    slower = reached(speed_up=mean(0.8, 0.7, 0.9, 3))
    value = comparison(arm("grpo", final=ended(0.5)), arm("slow", final=ended(0.5, 0.0), to_threshold=slower))
    assert sentences(value)[-1] == "No arm comes to grpo's final accuracy with fewer tokens than grpo."
    value = comparison(arm("grpo", final=ended(0.5)), arm("same", final=ended(0.51, 0.01, -0.1, 0.12)))
    assert "+1.0 points to grpo (-10.0 to +12.0), which may be chance." in sentences(value)[1]
    assert sentences(comparison(arm("grpo", final=ended(0.5)))) == []
