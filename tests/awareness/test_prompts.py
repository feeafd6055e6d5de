import pytest

from masa.awareness import TEMPLATES, MetaPrompt, add_hint, build_meta_prompt, draw_hint, resolve_template
from masa.records import Prediction

AWKWARD = "Let $\\frac{a}{b}$ {problem} {max_length} {{x}} %s \\g<1> {"


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_each_template_holds_the_problem_unchanged_and_the_runs_bounds(name):
    prompt = build_meta_prompt(AWKWARD, name, min_length=128, max_length=8192)
    assert prompt.count(AWKWARD) == 1
    rest = prompt.replace(AWKWARD, "")
    assert "128" in rest
    assert "8192" in rest
    assert "{min_length}" not in rest
    assert "{max_length}" not in rest


def test_brief_is_exactly_this():
    # Small models are pre-trained on this very text.
    prompt = build_meta_prompt("Compute 3 + 4.", "brief", min_length=8, max_length=200)
    assert prompt == "Foretell your own solutions: math_notion, pass_rate 0-8, solution_length 8-200.\nCompute 3 + 4."


@pytest.mark.parametrize("name", ["math", "logic", "science", "code"])
def test_full_templates_ask_for_reasoning_and_the_three_keys(name):
    prompt = build_meta_prompt("Q", name, min_length=1, max_length=9)
    for word in ("<meta>", "</meta>", f'"{name}_notion"', '"pass_rate"', '"solution_length"', "0 to 8"):
        assert word in prompt
    assert TEMPLATES[name].notion_key == f"{name}_notion"


def test_own_template_text():
    template = resolve_template('{problem}\nAnswer {"chess_notion": [..]}, {{literal}}, at most {max_length}')
    assert template.notion_key == "chess_notion"
    filled = template.fill("Q", min_length=1, max_length=7)
    assert filled == 'Q\nAnswer {"chess_notion": [..]}, {literal}, at most 7'


def test_own_template_without_a_named_key_uses_the_papers():
    assert resolve_template("{problem}").notion_key == "math_notion"


def test_template_errors_are_one_clear_line():
    with pytest.raises(ValueError, match=r"unknown placeholder \{length\}.*\{\{length\}\}") as error:
        resolve_template("{problem} {length}")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="lacks the placeholder"):
        MetaPrompt("no problem here {max_length}")
    with pytest.raises(ValueError, match="did you mean 'science'"):
        resolve_template("sciense")
    with pytest.raises(ValueError, match="got 9 and 8"):
        build_meta_prompt("Q", min_length=9, max_length=8)


def test_hint_is_one_more_sentence():
    assert add_hint("Q?", ["carrying", " place\nvalue ", "carrying", ""]) == (
        "Q?\n\nThese notions may be of use here: carrying, place value."
    )
    assert add_hint("Q?", []) == "Q?"
    assert add_hint("Q?", ["  "]) == "Q?"


def test_hint_is_drawn_from_valid_predictions_by_name_not_by_order_of_calls():
    valid = [Prediction(0.5, 10, ("a",)), Prediction(0.5, 10, ("b", "c"))]
    predictions = [Prediction(None, 10, ("unread",)), *valid, Prediction(0.5, 10, ())]
    draws = [draw_hint(predictions, run_seed=0, step=3, key=7, sample=s) for s in range(32)]
    assert set(draws) == {("a",), ("b", "c")}  # false alarm: 2 ** -31
    assert draws == [draw_hint(predictions, run_seed=0, step=3, key=7, sample=s) for s in range(32)]
    assert draw_hint([Prediction()], run_seed=0, step=0, key=0, sample=0) is None
