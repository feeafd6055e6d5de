"""The parser. Names with "reference" guard against faults of the paper's released parser."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.awareness import find_prediction, parse_prediction
from masa.awareness.parsing import MAX_NOTION_CHARACTERS, MAX_NOTIONS
from masa.records import Prediction

GOOD = {"math_notion": ["induction"], "pass_rate": 6, "solution_length": 400}
EXPECTED = Prediction(0.75, 400, ("induction",))


def parse(text, **options):
    return parse_prediction(text, **{"max_length": 1000, "min_length": 128, **options})


@pytest.mark.parametrize(
    "text",
    [
        "<meta>why</meta>" + json.dumps(GOOD),
        "<meta>why</meta>\n\n" + json.dumps(GOOD, indent=4),
        "</meta>" + json.dumps(dict(reversed(GOOD.items()))),
        "</meta>```json\n" + json.dumps(GOOD) + "\n```",
        json.dumps(GOOD),
        "I think: " + json.dumps(GOOD) + " and that is \\boxed{}. {} {5}",
        '</meta>{ "math_notion":["induction"],"pass_rate":6.0,"solution_length":4e2,"more":{"a":[{"b":null}]}}',
        '<meta>first {"pass_rate": 1} thought</meta>{"pass_rate": 2}' + json.dumps(GOOD),
        'A set {1, 2 opens and never closes, "so does this: ' + json.dumps(GOOD),
        '{"a { ' + json.dumps(GOOD),
        '{"open": [1, {"deeper": ' + json.dumps(GOOD),
        "</meta>" + json.dumps(GOOD) + '{"unfinished": ',
        "</meta>" + json.dumps(GOOD) + "</meta>",
    ],
)
def test_layouts(text):
    # The reference reads an object only if it begins with exactly {"math_notion": and in its own key order.
    assert parse(text) == EXPECTED


def test_the_last_object_counts():
    assert parse('</meta>{"pass_rate": 1} no, rather {"pass_rate": 2}') == Prediction(pass_rate=0.25)
    # An inner object is not the last one: the outer closes later.
    assert parse('{"pass_rate": 4, "note": {"pass_rate": 8}}') == Prediction(pass_rate=0.5)
    assert parse('{"note": {"pass_rate": 8}, "pass_rate": 4}') == Prediction(pass_rate=0.5)


def test_an_object_before_the_tag_is_part_of_the_reasoning():
    assert parse("<meta>" + json.dumps(GOOD) + "</meta> done") == Prediction()


def test_reference_braces_and_latex_inside_strings():
    text = r'</meta>{"math_notion": ["\frac{a}{b}", "set } brace", "\alpha {", "a \"quote\"", "\\binom{n}{k}"]}'
    assert parse(text).notions == (r"\frac{a}{b}", "set } brace", r"\alpha {", 'a "quote"', r"\binom{n}{k}")


def test_escapes():
    text = r'{"notions": ["caf\u00e9", "\ud83d\ude00", "x\n y", "a\/b", "\u12"]}'
    assert parse(text).notions == ("café", "😀", "x\n y", "a/b", r"\u12")


def test_lone_surrogates_become_writable():
    notions = parse('{"notions": ["a\\ud800b", "c\udfffd"]}').notions
    assert notions == ("a\ufffdb", "c\ufffdd")
    "".join(notions).encode()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0", 0.0), ("8", 1.0), ("8.0", 1.0), ("5", 0.625), ("-0", 0.0), ("9", None), ("-1", None), ("4.5", None),
        ("true", None), ("false", None), ("null", None), ('"4"', None), ("[4]", None), ("{}", None), ("NaN", None),
        ("Infinity", None), ("-Infinity", None), ("1e400", None), ("9" * 100_000, None), ("0." + "0" * 99, None),
    ],
)  # fmt: skip
def test_pass_rate(written, read):
    # The reference scores 9 as if it were a pass rate of 1.125.
    prediction = parse(f'{{"pass_rate": {written}, "solution_length": 500}}')
    assert prediction == Prediction(read, 500)


@pytest.mark.parametrize(
    ("written", "read"),
    [("127", None), ("128", 128), ("1000", 1000), ("1001", None), ("500.0", 500), ("500.5", None), ("5e2", 500)],
)
def test_length_bounds_are_inclusive(written, read):
    assert parse(f'{{"solution_length": {written}}}').length == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('[" a ", "", "  ", "b"]', ("a", "b")),
        ("[]", ()),
        ('["a", 1]', None),
        ('["a", ["b"]]', None),
        ('["a", null]', None),
        ('"a"', None),
        ("{}", None),
        ('{"0": "a"}', None),
    ],
)
def test_notions(written, read):
    assert parse(f'{{"math_notion": {written}, "pass_rate": 8}}') == Prediction(1.0, None, read)


def test_notions_are_bounded():
    text = json.dumps({"math_notion": ["x" * 1000] + [f"n{i}" for i in range(1000)]})
    notions = parse(text).notions
    assert len(notions) == MAX_NOTIONS
    assert len(notions[0]) == MAX_NOTION_CHARACTERS


@pytest.mark.parametrize("key", ["math_notion", "math_notions", "notion", "notions", "logic_notion", "code_notions"])
def test_other_domains_name_the_first_key_otherwise(key):
    assert parse(json.dumps({key: ["a"]})).notions == ("a",)


def test_own_notion_key():
    assert parse('{"Concepts": ["a"]}').notions is None
    assert parse('{"Concepts": ["a"]}', notion_key="Concepts").notions == ("a",)


def test_found_object_says_where_it_stands():
    text = "before {} " + json.dumps(GOOD) + " after"
    found = find_prediction(text)
    assert json.loads(text[found.start : found.end]) == GOOD
    assert find_prediction("nothing {here}") is None


PIECES = st.sampled_from(
    ["{", "}", "[", "]", '"', "\\", ":", ",", "</meta>", '"pass_rate"', '"math_notion"', "4", "1e9", "-", "NaN"]
) | st.sampled_from(["\ud800", "é", "\x00", "{}", '{"', "\\u", "true", " ", json.dumps(GOOD)])


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200))
def test_never_raises_and_stays_in_range(text):
    prediction = parse(text)
    assert prediction.pass_rate is None or prediction.pass_rate in [i / 8 for i in range(9)]
    assert prediction.length is None or 128 <= prediction.length <= 1000
    if prediction.notions:
        assert all(notion and notion == notion.strip() for notion in prediction.notions)
        "".join(prediction.notions).encode()


CLEAN_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet='ab {}[]":,\\', max_size=30),
    st.lists(CLEAN_TEXT, max_size=5),
    st.integers(0, 8),
    st.integers(128, 1000),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_reads_what_json_writes_whatever_stands_before(prefix, notions, steps, length, indent, ascii_only):
    value = {"math_notion": notions, "pass_rate": steps, "solution_length": length}
    text = f"<meta>{prefix}</meta>{json.dumps(value, indent=indent, ensure_ascii=ascii_only)}"
    expected = tuple(notion.strip() for notion in notions if notion.strip())
    assert parse(text) == Prediction(steps / 8, length, expected)


HOSTILE = ["{", '{"', '{"a":', '{"a":[', '{"a":"{",', '{"\\', '{"a":[{"b":1},', '[{"', "{   ", '{":":{', '"', "\\", "["]
HOSTILE += ['{"pass_rate":1}', '{"a":{"b":"c"},', '"{","x":', "</meta>", '\\"{"', '{"pass_rate":']


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_the_length(unit):
    # Eight times the text takes eight times as long if linear and 64 times if quadratic; the bound lies between, and
    # the least of several runs in CPU time is compared, so that a busy machine raises no alarm.
    def seconds(n):
        text = unit * (n // len(unit))
        best = math.inf
        for _ in range(4):
            start = time.process_time()
            parse(text)
            best = min(best, time.process_time() - start)
        return best

    small, large = 6_000, 48_000
    assert seconds(large) < 26 * seconds(small) + 0.005


def test_a_megabyte_of_braces_is_nothing():
    assert parse("{" * 1_000_000) == Prediction()
    assert parse('{"a":' * 20_000 + "1" + "}" * 20_000) == Prediction()
