from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.comparisons import column, comparison, row

from orientc.comparison.gates import Condition, Verdict, check_names, meets, select, verdicts
from orientc.comparison.rows import Comparison, Figure
from orientc.errors import UsageError

TIED, INPUT_ONLY = "perplexity.tied", "perplexity.input-only"


# -- how a condition is written


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rank <= 64", ("rank", "<=", 64.0, "")),
        ("rank<64", ("rank", "<", 64.0, "")),
        ("  rank   >   64  ", ("rank", ">", 64.0, "")),
        ("rank >= .5", ("rank", ">=", 0.5, "")),
        ("kl_p99.tied <= 0.5", ("kl_p99.tied", "<=", 0.5, "")),
        ("rmse < 1e-3", ("rmse", "<", 1e-3, "")),
        ("rank == 5.", ("rank", "==", 5.0, "")),
        ("perplexity.tied <= 1.2x", (TIED, "<=", 1.2, "x")),
        ("perplexity.tied <= 1.2 X", (TIED, "<=", 1.2, "x")),
        ("perplexity.tied <= 1.2×", (TIED, "<=", 1.2, "x")),
        ("sst2.accuracy >= -0.5pt", ("sst2.accuracy", ">=", -0.5, "pt")),
        ("sst2.accuracy >= +1e-1 PT", ("sst2.accuracy", ">=", 0.1, "pt")),
        ("method == svd", ("method", "==", "svd", "")),
        ("settings != lr 0.01, ae", ("settings", "!=", "lr 0.01, ae", "")),
        ("perplexity.tied[limit=5, seed=1] < 9", ("perplexity.tied[limit=5, seed=1]", "<", 9.0, "")),
        ("method == 5 pts", ("method", "==", "5 pts", "")),
        ("perplexity[limit=5] <= 1.2x", ("perplexity[limit=5]", "<=", 1.2, "x")),
        ("kl.tied [text=a<b]=c.txt] >= 1", ("kl.tied [text=a<b]=c.txt]", ">=", 1.0, "")),
    ],
)
def test_a_condition_is_a_name_a_sign_and_a_value(text: str, parts: tuple[str, str, float | str, str]) -> None:
    found = Condition.parse(text)
    assert (found.name, found.sign, found.value, found.unit) == parts
    assert found.text == text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "rank", "64", "rank 64", "rank <=", "<= 64", " == svd", "rank = 64", "rank => 64", "rank =< 64",
        "rank <> 64", "rank === 64", "rank <== 64", "rank !== 64", "rank ! 64", "rank <= sixty", "rank <= 64 MB",
        "rank <= 1,5", "rank <= nan", "rank <= inf", "method < svd", "rank <= 1.2.3", "rank <= 0x10", "rank <= --5",
        "1 < rank < 5", "rank\n", "rank <= 1pt", "perplexity.tied <= 1.5 pt", "perplexity <= 1PT",
        "kl.tied <= 1.2x", "kl <= 1pt", "same_top >= -1pt", "rank <= 5 @95%", "kl.tied == 1 @95%", "kl < 1 @ 90%",
        "sst2.accuracy >= 0.9x @95%", "perplexity[limit=5] <= 1pt", "kl.tied[limit=5] <= 1x", "[limit=5] <= 1",
        "perplexity[limit=5 <= 1",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_own_words(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Condition.parse(text)
    assert repr(text) in str(raised.value)
    assert "\n" not in str(raised.value)


# -- what it holds against


@pytest.mark.parametrize(
    ("condition", "holding", "failing"),
    [
        ("n <= 2", (1.0, 2.0, -3.0), (2.1, math.inf, -math.inf, math.nan)),
        ("n < 2", (1.0,), (2.0,)),
        ("n >= 2", (2.0, 1e300), (1.9, math.inf)),
        ("n > 2", (2.1,), (2.0, math.inf, math.nan)),
        ("n == 2", (2.0, 2), (2.1,)),
        ("n != 2", (2.1, 0.0), (2.0, math.inf, math.nan)),
        ("n == svd", ("svd",), ("SVD", "svd ", "", 2.0)),
        ("n != svd", ("autoencoder", ""), ("svd", 2.0)),
    ],
)
def test_a_value_holds_or_does_not(
    condition: str, holding: tuple[float | str, ...], failing: tuple[float | str, ...]
) -> None:
    parsed = Condition.parse(condition)
    assert [value for value in holding if not parsed.holds(value)] == []
    assert [value for value in failing if parsed.holds(value)] == []


@pytest.mark.parametrize("sign", ["<=", ">=", "==", "!=", "<", ">"])
@pytest.mark.parametrize("value", ["5", "5x", "5pt"])
def test_nothing_holds_against_a_figure_that_is_not_there(sign: str, value: str) -> None:
    assert not Condition.parse(f"n {sign} {value}").holds(None, 1.0)


def test_a_number_is_never_held_against_a_word() -> None:
    assert not Condition.parse("n == 5").holds("5")
    assert not Condition.parse("n != 5").holds("svd")


def test_x_is_a_multiple_of_the_uncompressed_models() -> None:
    gate = Condition.parse("n <= 1.2x")
    assert gate.holds(12.0, 10.0)
    assert not gate.holds(12.01, 10.0)
    assert not gate.holds(1.0, None)


@pytest.mark.parametrize("sign", ["<=", ">=", "==", "!=", "<", ">"])
@pytest.mark.parametrize("unit", ["x", "pt"])
@pytest.mark.parametrize("original", [math.inf, -math.inf, math.nan, None, 0.0])
def test_nothing_meets_a_gate_against_a_base_that_has_no_number(sign: str, unit: str, original: float | None) -> None:
    gate = Condition.parse(f"n {sign} 1{unit}")
    for value in (0.0, 0.01, 5.0, -5.0, math.inf, math.nan):
        wanted = original == 0.0 and unit == "pt" and Condition.parse(f"n {sign} 1").holds(value * 100)
        assert gate.holds(value, original) == wanted, value


def failures(found: Comparison, *conditions: str) -> list[Verdict]:
    return [entry for entry in verdicts([found], map(Condition.parse, conditions)) if not entry.met]


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        ("perplexity.tied <= 2x", "m, small: perplexity.tied is 4.39×, required ≤ 2×"),
        ("perplexity.tied < 4.389x", "m, small: perplexity.tied is 4.39×, required < 4.389×"),
        ("perplexity.tied <= 4.39x", "m, small: perplexity.tied is 4.3904×, required ≤ 4.39×"),
        ("perplexity.tied <= 40", "m, small: perplexity.tied is 43.90, required ≤ 40"),
        ("perplexity.tied <= 43.9", "m, small: perplexity.tied is 43.904, required ≤ 43.9"),
        ("sst2.accuracy >= -0.5pt", "m, small: sst2.accuracy is −8.8 pt, required ≥ −0.5 pt"),
        ("sst2.accuracy >= -8.8pt", "m, small: sst2.accuracy is −8.84 pt, required ≥ −8.8 pt"),
        ("sst2.accuracy > 0.9", "m, small: sst2.accuracy is 0.8116, required > 0.9"),
        ("rank > 64", "m, small: rank is 2, required > 64"),
        ("method != svd", "m, small: method is svd, required ≠ svd"),
        ("perplexity.tied <= 5x @95%",
         "m, small: perplexity.tied is 4.39× (no error is known: measure again), required ≤ 5× @95 %"),
    ],
)  # fmt: skip
def test_a_missed_gate_is_told_in_its_own_unit(condition: str, line: str) -> None:
    rows = row(figures={TIED: 10.0, "sst2.accuracy": 0.9}), row("small", 2, {TIED: 43.904, "sst2.accuracy": 0.8116})
    found = comparison([column(TIED), column("sst2.accuracy")], *rows, model="m")
    assert [str(failure) for failure in failures(found, condition)] == [line]


def test_a_missed_gate_says_so_where_the_base_is_what_it_missed_by() -> None:
    rows = row(figures={TIED: math.inf}), row("small", 2, {TIED: 5.0}, path="small.safetensors")
    [failure] = failures(comparison([column(TIED)], *rows, model="m"), "perplexity.tied <= 1.2x")
    assert str(failure) == "m, small: perplexity.tied is 5.000 (uncompressed ∞), required ≤ 1.2×"


def test_a_number_no_figure_reaches_is_no_gate() -> None:
    with pytest.raises(UsageError, match="larger than any figure"):
        Condition.parse("n <= 1e999")


@pytest.mark.parametrize(("value", "original", "times"), [(23.0, 20.0, "1.15"), (11.0, 10.0, "1.1"), (0.3, 3.0, "0.1")])
def test_a_multiple_is_met_exactly_whatever_floats_make_of_it(value: float, original: float, times: str) -> None:
    for sign in ("<=", ">=", "=="):
        assert Condition.parse(f"n {sign} {times}x").holds(value, original)
    for sign in ("<", ">", "!="):
        assert not Condition.parse(f"n {sign} {times}x").holds(value, original)


def test_pt_is_a_difference_in_percentage_points() -> None:
    gate = Condition.parse("n >= -0.5pt")
    assert gate.holds(0.895, 0.9)  # though 0.895 - 0.9 is below -0.005 in floats
    assert not gate.holds(0.8949, 0.9)
    assert not gate.holds(0.9, None)
    assert gate.holds(89.5, 90.0, scale=100)
    assert not gate.holds(89.4, 90.0, scale=100)


# -- rows against conditions


def scored() -> Comparison:
    """Two artifacts, one without a score; SQuAD's figures go to 100."""
    columns = [column(INPUT_ONLY), column(TIED), column("sst2.accuracy"), column("squad.f1")]
    return comparison(
        columns,
        row(figures={INPUT_ONLY: 10.0, TIED: 10.0, "sst2.accuracy": 0.9, "squad.f1": 80.0}),
        row("svd-4", 4, {INPUT_ONLY: 11.0, TIED: 12.0, "sst2.accuracy": 0.89, "squad.f1": 79.0}),
        row("svd-2", 2, {INPUT_ONLY: 13.0, TIED: 20.0}, settings="center True"),
    )


def missed(*conditions: str, of: Comparison | None = None) -> list[tuple[str, str, float | str | None]]:
    return [(entry.row.name, entry.figure, entry.value) for entry in failures(of or scored(), *conditions) if entry.row]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("rank <= 4", []),
        ("rank <= 2", [("svd-4", "rank", 4)]),
        ("rank <= 0.25x", [("svd-4", "rank", 4)]),
        ("table_mb < 0.3", [("svd-4", "table_mb", 0.4)]),
        ("model_mb < 4.3", [("svd-4", "model_mb", 4.4)]),
        ("model_mb.input-only < 5.3", [("svd-4", "model_mb.input-only", 5.4)]),
        ("method == svd", []),
        ("method == autoencoder", [("svd-4", "method", "svd"), ("svd-2", "method", "svd")]),
        ("settings != center True", [("svd-2", "settings", "center True")]),
        ("perplexity.tied <= 1.2x", [("svd-2", TIED, 20.0)]),
        ("perplexity.tied <= 1.19x", [("svd-4", TIED, 12.0), ("svd-2", TIED, 20.0)]),
        ("perplexity <= 1.2x", [("svd-2", INPUT_ONLY, 13.0), ("svd-2", TIED, 20.0)]),
        ("sst2 >= -1pt", [("svd-2", "sst2.accuracy", None)]),
        ("sst2.accuracy >= -0.9pt", [("svd-4", "sst2.accuracy", 0.89), ("svd-2", "sst2.accuracy", None)]),
        ("squad.f1 >= -1pt", [("svd-2", "squad.f1", None)]),
        ("squad.f1 >= -0.9pt", [("svd-4", "squad.f1", 79.0), ("svd-2", "squad.f1", None)]),
        ("squad.f1 > 78", [("svd-2", "squad.f1", None)]),
        ("mnli.accuracy > 0", [("svd-4", "mnli.accuracy", None), ("svd-2", "mnli.accuracy", None)]),
    ],
)
def test_every_artifact_that_misses_a_gate_is_told_with_what_it_has(
    condition: str, expected: list[tuple[str, str, float | str | None]]
) -> None:
    assert missed(condition) == expected


def test_each_gate_is_told_by_itself() -> None:
    assert missed("rank <= 2", "perplexity.tied <= 1.2x") == [("svd-4", "rank", 4), ("svd-2", TIED, 20.0)]
    assert missed() == []


def two_ways() -> Comparison:
    """One artifact measured by default and on 5, in the wrong order; the original on another text too."""
    columns = [column(TIED, limit=5), column(TIED), replace(column(TIED, text="a.txt:01234567"), of_artifacts=False)]
    original = {TIED: 10.0, f"{TIED}[limit=5]": 10.0, f"{TIED}[text=a.txt:01234567]": 9.0}
    return comparison(columns, row(figures=original), row("svd", 2, {TIED: 11.0, f"{TIED}[limit=5]": 13.0}))


@pytest.mark.parametrize("name", [TIED, "perplexity"])
def test_a_bare_name_means_what_was_measured_by_default_whatever_else_was(name: str) -> None:
    assert missed(f"{name} <= 1.2x", of=two_ways()) == []
    assert missed(f"{name} <= 1.05x", of=two_ways()) == [("svd", TIED, 11.0)]
    alone = comparison([column(TIED)], *(replace(each, figures={TIED: each.figures[TIED]}) for each in two_ways().rows))
    assert missed(f"{name} <= 1.05x", of=alone) == [("svd", TIED, 11.0)]


@pytest.mark.parametrize("name", [f"{TIED}[limit=5]", f"{TIED} [limit=5.0]", "perplexity[ limit = 5 ]"])
def test_a_way_is_named_in_brackets(name: str) -> None:
    assert missed(f"{name} <= 1.2x", of=two_ways()) == [("svd", f"{TIED}[limit=5]", 13.0)]
    assert missed(f"{name} <= 1.3x", of=two_ways()) == []


def test_what_no_artifact_was_measured_by_is_no_column_of_theirs() -> None:
    (failure,) = failures(two_ways(), f"{TIED}[text=a.txt] <= 2x")
    assert str(failure) == (
        f"model, svd: {TIED}[text=a.txt] is not measured so (there is {TIED}[limit=5], {TIED}), required ≤ 2×"
    )
    partly = replace(column(INPUT_ONLY), of_artifacts=False)
    found = comparison([partly, column(TIED)], row(figures={INPUT_ONLY: 1.0, TIED: 1.0}), row("svd", 2, {TIED: 1.5}))
    assert missed("perplexity <= 2x", of=found) == []


def test_verdicts_are_plain_values_too() -> None:
    known = comparison(
        [column("sst2.accuracy")],
        row(figures={"sst2.accuracy": 0.5}),
        row("svd", 2, {"sst2.accuracy": Figure(0.375, 0.75, -0.125, low=0.25, high=0.5)}),
    )
    one, other = verdicts([known], map(Condition.parse, ("sst2.accuracy >= -0.5pt", "sst2.accuracy <= 0.5 @95%")))
    assert one.as_dict() == {
        "condition": "sst2.accuracy >= -0.5pt", "figure": "sst2.accuracy", "value": 0.375, "found": -12.5, "end": None,
        "sign": ">=", "required": -0.5, "unit": "pt", "sure": False, "met": False,
    }  # fmt: skip
    assert (other.as_dict()["end"], other.as_dict()["met"]) == (0.5, True)


def test_without_an_artifact_no_gate_is_met() -> None:
    bare = comparison([column(TIED)], row(figures={TIED: 10.0}))
    (failure,) = failures(bare, "perplexity.tied <= 1.2x")
    assert (failure.row, str(failure)) == (None, "model: there is no row to meet perplexity.tied ≤ 1.2×")
    assert failures(bare, "rank > 0")
    assert not failures(bare)


# -- selecting and sorting


def names(where: list[str], sort: str | None = None) -> list[str]:
    found = select(scored(), [Condition.parse(text) for text in where], sort)
    return [entry.name for entry in found.rows]


def test_rows_are_those_that_meet_every_condition_after_the_uncompressed() -> None:
    assert names([]) == ["original", "svd-4", "svd-2"]
    assert names(["rank <= 2"]) == ["original", "svd-2"]
    assert names(["perplexity <= 1.25x"]) == ["original", "svd-4"]
    assert names(["sst2 > 0"]) == ["original", "svd-4"]
    assert names(["rank <= 4", "method == svd", "perplexity.tied > 15"]) == ["original", "svd-2"]
    assert names(["rank > 4"]) == ["original"]


def test_a_row_meets_a_condition_where_it_is_told_of_no_failure() -> None:
    found = scored()
    for text in ("rank < 4", "perplexity <= 1.25x", "squad.f1 >= -1pt", "method != svd", "none > 0"):
        condition = Condition.parse(text)
        failed = {entry.row.name for entry in failures(found, text) if entry.row}
        assert {entry.name for entry in found.rows[1:] if not meets(entry, found, condition)} == failed


def test_rows_are_sorted_by_a_name_and_those_without_it_come_last() -> None:
    assert names([], "rank") == ["original", "svd-2", "svd-4"]
    assert names([], "-rank") == ["original", "svd-4", "svd-2"]
    assert names([], "name") == ["original", "svd-2", "svd-4"]
    assert names([], "-perplexity.tied") == names([], "-perplexity") == ["original", "svd-2", "svd-4"]
    assert names([], "sst2") == names([], "-sst2") == ["original", "svd-4", "svd-2"]
    assert names([], "model_mb.tied") == ["original", "svd-2", "svd-4"]


@pytest.mark.parametrize(
    "name", ["rnk", "", "perplexity.ti", "accuracy", "rank.tied", "model_mb.left", "figures", "-rank", "mnli.accuracy"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_name_that_nothing_has_is_refused_with_those_there_are(name: str, there: bool) -> None:
    with pytest.raises(UsageError, match=r"rank.*sst2\.accuracy") as raised:
        check_names([scored()], [name], there=there)
    assert repr(name) in str(raised.value)


def test_a_setting_that_nothing_is_measured_with_is_refused() -> None:
    with pytest.raises(UsageError, match="'limt'"):
        check_names([scored()], ["perplexity[limt=5]"])


def test_a_known_figure_need_not_be_there_to_be_a_gates() -> None:
    bare = comparison([], row())
    check_names([bare], ["rank", "sst2", "mnli.accuracy_matched", "squad.f1", "kl.tied[limit=5]", "similarity"])
    with pytest.raises(UsageError, match="'sst2'"):
        check_names([bare, bare], ["sst2"], there=True)
    check_names([bare, scored()], ["rank", "seconds", "sst2", "perplexity", TIED, "model_mb.tied", "path"], there=True)
    with pytest.raises(UsageError, match="'path'"):
        check_names([bare, scored()], ["path"], ["rank"])


def test_the_figures_of_other_tools_are_known_where_there_are_any() -> None:
    with pytest.raises(UsageError, match=r"'arc_easy\.acc'"):
        check_names([scored()], ["arc_easy.acc"])
    check_names([scored(), comparison([column("arc_easy.acc")], row())], ["arc_easy.acc", "arc_easy"])
