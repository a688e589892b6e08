"""`orientc compare` from the outside: forms, choices, gates and plots."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.commands import Ended, files_in, one_line
from support.comparisons import MASKED, put, record, table, tuned

from orientc.storage import records

Orientc = Callable[..., Ended]

ALL = ["original", "svd-r2-float32", "svd-r1-float32"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two artifacts: perplexity under both policies, and a score of one of them. For reading only."""
    folder = tmp_path_factory.mktemp("runs") / "model-0"
    two, one = put(folder, 2), put(folder, 1)
    records.write(record(10.0), folder)
    for artifact, input_only, tied in ((two, 11.0, 12.0), (one, 15.0, 25.0)):
        records.write(record(input_only, artifact, "input-only"), folder)
        records.write(record(tied, artifact), folder)
    records.write(tuned({"accuracy": 0.9}, task="sst2"), folder)
    records.write(tuned({"accuracy": 0.895}, two, task="sst2"), folder)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def compare(orientc: Orientc, measured: Path) -> Orientc:
    """`compare("--sort", "rank")` on what was measured."""
    return lambda *arguments: orientc("compare", measured, *arguments)


def shown_rows(ended: Ended) -> list[str]:
    """The names of the rows of a table."""
    assert ended.code in (0, 3), ended.err
    lines = ended.out.splitlines()
    rows = lines[next(number for number, line in enumerate(lines) if set(line.strip()) == {"─"}) + 1 :]
    return [row.replace("◆", " ").split()[0] for row in rows[: next(n for n, row in enumerate(rows) if " on " in row)]]


# -- forms


def test_the_table_has_every_row_and_says_how_figures_were_measured(compare: Orientc) -> None:
    ended = compare()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "model-0"
    assert shown_rows(ended) == ALL
    assert "25.00 (2.50×)" in ended.out
    assert "0.8950 (-0.0050)" in ended.out
    assert "perplexity on text.txt (protocol masked, seed 0; aaaaaaaa)" in ended.out


def test_every_form_tells_the_same_figures(compare: Orientc) -> None:
    document = compare("--json").document
    assert compare("--format", "json").document == document
    (found,) = document["comparisons"]
    rows = list(csv.DictReader(io.StringIO(compare("--format", "csv").out)))
    assert [row["name"] for row in rows] == [row["name"] for row in found["rows"]] == ALL
    for line, row in zip(rows, found["rows"], strict=True):
        for key in (column["key"] for column in found["columns"]):
            assert line[key] == (repr(row["figures"][key]["value"]) if key in row["figures"] else "")
    table = [line for line in compare("--format", "markdown").out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ALL)
    assert len({line.count(" |") for line in table}) == 1
    assert "25.00 (2.50×)" in table[-1]


def test_the_page_is_html_with_a_plot_of_every_figure(compare: Orientc) -> None:
    ended = compare("--format", "html")
    assert (ended.code, ended.err) == (0, "")
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append(tag)

    Reader().feed(ended.out)
    assert ended.out.startswith("<!doctype html>")
    assert (seen.count("svg"), seen.count("table"), seen.count("tr")) == (3, 1, 1 + len(ALL))
    assert compare("--format", "html").out == ended.out


def test_an_unknown_form_is_a_wrong_request(compare: Orientc) -> None:
    assert "markdown" in one_line(compare("--format", "latex"), 2)


def test_models_are_shown_one_after_the_other(orientc: Orientc, measured: Path, tmp_path: Path) -> None:
    put(tmp_path / "other", 1, table(1))
    ended = orientc("compare", measured, tmp_path / "other")
    assert ended.code == 0
    assert sorted(line for line in ended.out.splitlines() if line in ("model-0", "model-1")) == ["model-0", "model-1"]


def test_files_that_cannot_be_used_are_named_on_stderr_unless_quiet(
    orientc: Orientc, measured: Path, tmp_path: Path
) -> None:
    (tmp_path / "half.json").write_text("{")
    ended = orientc("compare", measured, tmp_path)
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("orientc: skipped: ")
    assert "half.json" in line
    quiet = orientc("compare", measured, tmp_path, "--quiet")
    assert (quiet.err, quiet.out) == ("", ended.out)


# -- choices


def test_rows_are_chosen_and_sorted(compare: Orientc) -> None:
    assert shown_rows(compare("--where", "rank <= 1")) == [ALL[0], ALL[2]]
    assert shown_rows(compare("--where", "sst2 >= -0.5pt")) == ALL[:2]
    assert shown_rows(compare("--where", "perplexity <= 1.6x", "--where", "method == svd")) == ALL[:2]
    assert shown_rows(compare("--where", "rank > 7")) == ALL[:1]
    assert shown_rows(compare("--sort", "rank")) == [ALL[0], ALL[2], ALL[1]]
    assert shown_rows(compare("--sort", "-perplexity.tied")) == [ALL[0], ALL[2], ALL[1]]
    assert shown_rows(compare("--sort", "-sst2")) == ALL


def test_choices_hold_for_programs_too(compare: Orientc) -> None:
    (found,) = compare("--json", "--where", "rank <= 1").document["comparisons"]
    assert [row["name"] for row in found["rows"]] == [ALL[0], ALL[2]]
    rows = list(csv.DictReader(io.StringIO(compare("--format", "csv", "--sort", "rank").out)))
    assert [row["name"] for row in rows] == [ALL[0], ALL[2], ALL[1]]


def test_only_the_columns_asked_for_are_shown(compare: Orientc) -> None:
    header = compare("--columns", "rank, perplexity.tied").out.splitlines()[1]
    assert header.split() == ["table", "rank", "ppl", "tied"]
    assert "perplexity.tied" not in compare("--columns", "rank,sst2", "--format", "csv").out
    assert compare("--columns", "sst2").out.splitlines()[1].split() == ["table", "sst2", "accuracy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--where", "rnk <= 4"],
        ["--where", "mnli.accuracy > 0"],
        ["--where", "rank"],
        ["--where", "rank <= many"],
        ["--require", "rank"],
        ["--require", "method <= svd"],
        ["--sort", "rnk"],
        ["--sort", "--rank"],
        ["--columns", "rank,rnk"],
        ["--columns", "rank,,"],
        ["--columns", "dtype"],
        ["--columns", "rank", "--json"],
        ["--columns", "rank", "--format", "json"],
        ["--require", "perplexity.tied <= 3pt"],
        ["--where", "rank > -1pt"],
        ["--quality", "mnli"],
        ["--quality", "rank"],
    ],
)
def test_a_name_or_condition_that_makes_no_sense_is_a_wrong_request(compare: Orientc, arguments: list[str]) -> None:
    one_line(compare(*arguments), 2)


def test_the_front_is_that_of_the_figure_chosen(compare: Orientc) -> None:
    def front(*arguments: str) -> list[str]:
        return [line.split()[1] for line in compare(*arguments).out.splitlines() if line.startswith("◆ ")][:-1]

    assert front() == ALL
    assert front("--quality", "sst2") == ALL[:2]
    assert "in sst2 accuracy" in compare("--quality", "sst2").out


# -- gates


def test_gates_that_are_met_end_with_0(compare: Orientc) -> None:
    ended = compare("--require", "perplexity.tied <= 2.5x", "--require", "rank <= 2", "--require", "method == svd")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == compare().out


def test_a_gate_that_is_missed_ends_with_3_and_names_the_rows_below_the_table(compare: Orientc) -> None:
    ended = compare("--require", "perplexity.tied <= 1.2x", "--require", "rank <= 1")
    assert ended.code == 3
    assert ended.out == compare().out
    assert ended.err.splitlines() == [
        "orientc: model-0, svd-r2-float32: rank is 2, required ≤ 1",
        "orientc: model-0, svd-r1-float32: perplexity.tied is 2.50×, required ≤ 1.2×",
        "orientc: the gate is not met: 2 required figures missed",
    ]


def test_a_missed_gate_is_told_though_quiet(compare: Orientc) -> None:
    ended = compare("--require", "rank <= 1", "--quiet")
    assert ended.code == 3
    assert "svd-r2-float32" in ended.err


@pytest.mark.parametrize("name", ["sst2.accuracy", "mnli.accuracy_matched"])
def test_a_figure_that_was_not_measured_misses_its_gate(compare: Orientc, name: str) -> None:
    ended = compare("--require", f"{name} >= -99pt")
    assert ended.code == 3
    assert f"svd-r1-float32: {name} is not measured" in ended.err
    assert ("svd-r2-float32" in ended.err) == (name != "sst2.accuracy")


@pytest.mark.parametrize("name", ["perplexty.tied", "mnli.accuracy", "arc_easy.acc", "perplexity.tied[limt=5]"])
def test_a_gate_on_what_nothing_is_called_is_a_wrong_request_that_lists_the_names(compare: Orientc, name: str) -> None:
    line = one_line(compare("--require", f"{name} <= 2"), 2)
    assert ("perplexity.input-only|head-only|both|tied" in line) == ("[" not in name)


def test_that_no_row_is_left_is_said(compare: Orientc) -> None:
    ended = compare("--where", "rank > 7")
    assert (ended.code, ended.err) == (0, "orientc: model-0: no row is left by --where 'rank > 7'\n")
    ended = compare("--where", "mrpc > 0.5", "--require", "rank > 0")
    assert ended.code == 3
    assert ended.err.splitlines() == [
        "orientc: model-0: no row is left by --where 'mrpc > 0.5': mrpc is not measured",
        "orientc: model-0: there is no row to meet rank > 0",
        "orientc: the gate is not met: 1 required figure missed",
    ]


def test_gates_are_for_the_rows_that_are_chosen(compare: Orientc) -> None:
    gate = ("--require", "perplexity.tied <= 1.2x")
    assert compare(*gate, "--where", "rank > 1").code == 0
    assert compare(*gate, "--where", "rank == 1").code == 3
    assert compare(*gate, "--where", "rank > 7").code == 3  # nothing is left that could meet it


def test_without_an_artifact_a_gate_is_missed(orientc: Orientc, tmp_path: Path) -> None:
    records.write(record(10.0), tmp_path)
    ended = orientc("compare", tmp_path, "--require", "perplexity.tied <= 2x")
    assert ended.code == 3
    assert ended.out
    assert "there is no row to meet perplexity.tied ≤ 2×" in ended.err


@pytest.mark.parametrize("form", ["csv", "markdown", "html"])
def test_gates_hold_in_every_form(compare: Orientc, form: str) -> None:
    ended = compare("--format", form, "--require", "rank <= 1")
    assert ended.code == 3
    assert ended.out == compare("--format", form).out


def test_json_has_the_verdict_row_by_row(compare: Orientc) -> None:
    ended = compare("--json", "--require", "perplexity.tied <= 1.2x", "--require", "rank <= 2")
    assert ended.code == 3
    (found,) = ended.document["comparisons"]
    told = {
        row["name"]: [(gate["figure"], gate["found"], gate["met"]) for gate in row["gates"]] for row in found["rows"]
    }
    assert found["met"] is False
    assert told == {
        ALL[0]: [],
        ALL[1]: [("perplexity.tied", 1.2, True), ("rank", 2, True)],
        ALL[2]: [("perplexity.tied", 2.5, False), ("rank", 1, True)],
    }
    assert compare("--json", "--require", "rank <= 2").document["comparisons"][0]["met"] is True
    (left,) = compare("--json", "--require", "rank <= 2", "--where", "rank > 7").document["comparisons"]
    assert left["met"] is False


def test_another_way_of_measuring_changes_no_verdict_and_no_name(orientc: Orientc, tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    gates = ("--require", "perplexity.tied <= 1.2x", "--require", "perplexity <= 1.2x", "--quiet", "--json")

    def measure(limit: int | None, perplexity: float) -> None:
        for artifact, value in ((None, 10.0), (path, perplexity)):
            records.write(record(value, artifact, settings=MASKED | {"limit": limit}), tmp_path)

    measure(None, 11.0)
    before = orientc("compare", tmp_path, *gates)
    measure(5, 19.0)
    after = orientc("compare", tmp_path, *gates)
    assert (before.code, after.code) == (0, 0)
    old, new = (ended.document["comparisons"][0]["rows"][1] for ended in (before, after))
    assert new["gates"] == old["gates"]
    assert new["figures"].items() > old["figures"].items()
    ended = orientc("compare", tmp_path, "--require", "perplexity.tied[limit=5] <= 1.2x")
    assert ended.code == 3
    assert "perplexity.tied[limit=5] is 1.90×, required ≤ 1.2×" in ended.err


# -- plots


@pytest.mark.parametrize(("name", "begins"), [("x.png", b"\x89PNG"), ("x.svg", b"<svg"), ("x.pdf", b"%PDF")])
def test_a_plot_is_written_in_the_form_of_its_suffix(
    compare: Orientc, tmp_path: Path, name: str, begins: bytes
) -> None:
    ended = compare("--plot", name)
    assert (ended.code, ended.err, ended.out) == (0, "", compare().out)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert files_in(tmp_path) == [name]


def test_the_plot_is_of_the_figure_chosen(compare: Orientc, tmp_path: Path) -> None:
    for name in ("perplexity.input-only", "sst2.accuracy"):
        assert compare("--plot", "x.svg", "--quality", name).code == 0
        assert f">{name}<" in (tmp_path / "x.svg").read_text()


def test_a_plot_in_the_terminal_follows_the_table(compare: Orientc, tmp_path: Path) -> None:
    ended = compare("--plot", "-")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(compare().out)
    assert "table, MB" in ended.out
    assert "\x1b" not in ended.out
    assert files_in(tmp_path) == []


def last_line(ended: Ended, code: int) -> str:
    assert ended.code == code, ended
    (line,) = ended.err.splitlines()
    return line


@pytest.mark.parametrize("name", ["x.gif", "x", "svg"])
def test_a_plot_of_another_suffix_is_a_wrong_request(compare: Orientc, tmp_path: Path, name: str) -> None:
    assert ".png, .svg, .pdf" in last_line(compare("--plot", name), 2)
    assert files_in(tmp_path) == []


def test_a_plot_that_cannot_be_written_is_named(compare: Orientc) -> None:
    assert "/proc/x.png" in last_line(compare("--plot", "/proc/x.png"), 1)


@pytest.mark.parametrize("target", ["x.svg", "-"])
def test_without_a_figure_there_is_nothing_to_draw(orientc: Orientc, tmp_path: Path, target: str) -> None:
    put(tmp_path / "bare", 1)
    assert "nothing to draw" in last_line(orientc("compare", "bare", "--plot", target), 2)
    records.write(record(10.0), tmp_path / "bare")
    assert "nothing to draw" in last_line(orientc("compare", "bare", "--plot", target), 2)
    assert not Path("x.svg").exists()


def test_a_file_is_a_plot_of_one_model(orientc: Orientc, measured: Path, tmp_path: Path) -> None:
    other = table(1)
    path = put(tmp_path / "other", 1, other)
    records.write(record(20.0, path, of=other), tmp_path / "other")
    assert "one base model" in last_line(orientc("compare", measured, "other", "--plot", "x.svg"), 2)
    assert not Path("x.svg").exists()
    both = orientc("compare", measured, "other", "--plot", "-")
    assert both.code == 0
    assert both.out.count("table, MB") == 2


@pytest.mark.parametrize(
    ("library", "arguments"),
    [("matplotlib", ["--plot", "x.svg"]), ("plotext", ["--plot", "-"]), ("matplotlib", ["--format", "html"])],
)
def test_without_the_extra_only_drawing_fails(
    compare: Orientc, monkeypatch: pytest.MonkeyPatch, library: str, arguments: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert "pip install 'orientc[plot]'" in last_line(compare(*arguments), 1)
    assert compare("--format", "csv").code == compare("--require", "rank < 9").code == 0
    assert not Path("x.svg").exists()


# -- as a process


def test_the_table_and_gates_wait_for_neither_torch_nor_matplotlib(measured: Path) -> None:
    code = (
        "import sys; from orientc.cli import main\n"
        f"sys.argv = ['orientc', 'compare', {str(measured)!r}, '--require', 'rank < 9', '--sort', 'rank']\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'matplotlib', 'plotext'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "40"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
    assert "svd-r2-float32" in done.stdout
