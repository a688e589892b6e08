"""The forms a comparison takes for people and programs: grid, Markdown, CSV, HTML and plots."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from support.comparisons import column, comparison, row

from orientc.comparison import formats, plot
from orientc.comparison.compare import Comparisons
from orientc.comparison.grid import FRONT, grid
from orientc.comparison.numbers import figure
from orientc.comparison.rows import Column, Comparison, Figure
from orientc.errors import OutputError, UsageError
from orientc.utils.files import strict_json
from orientc.utils.words import explained

TIED, SST2 = "perplexity.tied", "sst2.accuracy"
NASTY = ["a|b", r"back\slash", r"a\|b", "*bold*", "_under_score_", "<b>&amp;", "`x`", "[to](there)", "~~no~~", "$x$",
         "two\nlines", "", "größe ◆", "&lt;"]  # fmt: skip


def full() -> Comparison:
    """Two ways of one figure, scores over seeds, gaps, a fit's time."""
    columns = [column(TIED, limit=5), column(TIED, limit=9), column(SST2)]
    five, nine = columns[0].key, columns[1].key
    return comparison(
        columns,
        row(figures={five: 10.0, nine: 8.0, SST2: Figure(0.9, 1.0, 0.0, 0.01, (0, 1))}),
        row("svd-4", 4, {five: 12.0, nine: 16.0, SST2: Figure(0.85, 0.944, -0.05, 0.02, (0, 1))}, seconds=1.25),
        row("svd-2", 2, {five: 1234.5678, SST2: Figure(0.7, 0.778, -0.2, None, (0,))}, settings="center True"),
        row("mine", 2, {}, method="autoencoder"),
    )


def texts(found: Comparison, **options: object) -> list[list[str]]:
    made = grid(found, **options)  # type: ignore[arg-type]
    return [list(made.header), *([cell.text for cell in cells] for cells in made.rows)]


# -- the grid


def test_every_row_has_a_cell_for_every_heading() -> None:
    header, *rows = texts(full())
    assert header[:5] == ["table", "method", "settings", "rank", "ratio"]
    assert header[-4:] == ["ppl tied [a]", "ppl tied [b]", "sst2 accuracy", "fit s"]
    assert "model MB tied" in header
    assert {len(cells) for cells in rows} == {len(header)}
    assert len(set(header)) == len(header)


def test_what_a_rows_name_does_not_tell_of_its_method_and_settings_has_columns() -> None:
    assert [cells[:3] for cells in texts(full())] == [
        ["table", "method", "settings"], ["original", "original", ""], ["svd-4", "svd", ""],
        ["svd-2", "svd", "center True"], ["mine", "autoencoder", ""],
    ]  # fmt: skip
    assert grid(full()).words == 3
    plain = replace(full(), rows=full().rows[:2])
    assert texts(plain)[0][:2] == ["table", "rank"]


def test_figures_are_told_against_the_uncompressed_models() -> None:
    _, original, four, two, bare = (cells[-4:] for cells in texts(full()))
    assert original[:3] == ["10.00", "8.000", "0.9000 ± 0.0100 seeds 0,1"]
    assert four == ["12.00 (1.50×)", "16.00 (1.50×)", "0.8500 ± 0.0200 seeds 0,1 (-0.0500)", "1.2"]
    assert two == ["1 235 (1.50×)", "–", "0.7000 seed 0 (-0.2000)", ""]
    assert bare == ["–", "–", "–", ""]


def test_seeds_are_told_only_where_rows_differ_in_them() -> None:
    found = full()
    rows = [entry for entry in found.rows if entry.name != "svd-2"]
    assert not any("seed" in cell for cells in texts(replace(found, rows=tuple(rows))) for cell in cells)


def test_each_way_of_measuring_is_told_in_a_note_by_its_letter() -> None:
    columns = [
        Column(TIED, {}, {"on": "a.txt", "limit": None, "bos": True, "sha256": "aaaa"}),
        Column(TIED, {"limit": 5}, {"on": "a.txt", "limit": 5, "bos": None, "sha256": "aaaa"}),
        Column(SST2, {"limit_train": 5}, {"on": "glue", "limit_train": 5, "sha256": "bbbb"}),
    ]
    made = grid(comparison(columns, row(), row("svd", 2)))
    assert made.header[-4:-1] == ("ppl tied", "ppl tied [a]", "sst2 accuracy")
    assert made.notes == (
        "perplexity on a.txt (bos True; aaaa)",
        "[a] perplexity[limit=5] on a.txt (limit 5; aaaa)",
        "sst2[limit_train=5] on glue (limit train 5; bbbb)",
    )
    assert made.legend("*")[:3] == made.notes
    assert made.legend("*")[3] == f"{FRONT} nothing else is as small and as good in ppl tied"


def test_what_the_uncompressed_model_alone_was_measured_by_is_shown_by_its_key() -> None:
    own = replace(column(TIED, limit=5), of_artifacts=False)
    found = comparison([column(TIED), own], row(), row("svd", 2))
    assert "ppl tied [a]" not in grid(found).header
    assert grid(found, shown=["perplexity"]).header == ("table", "ppl tied")
    assert grid(found, shown=["perplexity.tied[limit=5]"]).header == ("table", "ppl tied")
    assert grid(comparison([own], row())).header[-2] == "ppl tied"
    assert f"{TIED}[limit=5]" in formats.as_csv([found])


def test_policies_measured_alike_share_a_note() -> None:
    made = grid(comparison([column("perplexity.input-only"), column(TIED)], row()))
    assert sum("text.txt" in note for note in made.notes) == 1


def test_more_ways_than_letters_have_headings_of_their_own() -> None:
    columns = [column(TIED, limit=number) for number in range(60)]
    header = grid(comparison(columns, row())).header
    assert len(set(header)) == len(header)
    assert "ppl tied [aa]" in header


def test_only_the_columns_asked_for_are_shown() -> None:
    names = ["table", "method", "settings"]
    assert texts(full(), shown=["rank", SST2])[0] == [*names, "rank", "sst2 accuracy"]
    assert texts(full(), shown=["perplexity"])[0] == [*names, "ppl tied [a]", "ppl tied [b]"]
    assert texts(full(), shown=["seconds", "perplexity.tied[limit=9]"])[0] == [*names, "ppl tied", "fit s"]
    assert texts(full(), shown=["model_mb", "table_mb"])[0] == [*names, "MB", "model MB tied"]


def test_the_best_and_the_front_are_marked() -> None:
    found = full()
    made = grid(found)
    heads = made.header
    best = {
        heads[place]: {row for row, cells in enumerate(made.rows) if cells[place].best} for place in range(len(heads))
    }
    assert best["table"] == best["rank"] == best["fit s"] == best["ppl tied [b]"] == set()
    assert (best["MB"], best["RMSE"]) == ({2, 3}, {1})
    assert best["ppl tied [a]"] == {1}
    assert best["sst2 accuracy"] == {1}
    assert made.front == {0, 1, 2} == found.pareto(found.columns[0])
    assert grid(found, quality=found.columns[1]).front == {0, 1}


def test_the_figure_that_size_is_weighed_against_is_one_that_is_shown() -> None:
    found = full()
    assert grid(found, shown=[SST2]).weighed == "sst2 accuracy"
    bare = grid(found, shown=["table_mb"])
    assert (bare.weighed, bare.front, bare.legend("*")) == (None, frozenset(), ("* best of its column",))
    chosen = grid(found, shown=["rank"], quality=found.columns[2])
    assert (chosen.weighed, chosen.header[-1]) == ("sst2 accuracy", "sst2 accuracy")


def test_the_row_that_others_are_held_against_has_nothing_in_brackets() -> None:
    held = replace(full(), held_against="svd-4")
    assert {cell for cells in texts(held)[1:] for cell in cells if "(" in cell} == set()


def test_without_figures_there_is_no_front_to_explain() -> None:
    made = grid(comparison([], row(), row("svd", 2)))
    assert (made.front, made.legend("*")) == (frozenset(), explained("tied"))


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.0, 3, "0"), (1.0, 3, "1.00"), (9.9999, 3, "10.00"), (123456.0, 3, "123 456"), (0.00012345, 3, "0.000123"),
        (-2.5, 2, "-2.5"), (math.inf, 3, "∞"), (-math.inf, 3, "-inf"), (math.nan, 3, "nan"), (12, 4, "12.00"),
    ],
)  # fmt: skip
def test_numbers_are_shown_without_exponents(value: float, digits: int, shown: str) -> None:
    assert figure(value, digits) == shown


# -- the table


def test_the_table_lines_up_with_its_marks_and_legend() -> None:
    title, header, rule, *lines = formats.table([grid(full())]).splitlines()
    assert title == "model"
    assert header.split() == [word for name in grid(full()).header for word in name.split()]
    assert (set(rule), len(rule)) == ({"─"}, len(header))
    assert {len(line) for line in lines[:4]} == {len(header)}
    assert [line[:8] for line in lines[:4]] == ["◆ origin", "◆ svd-4 ", "◆ svd-2 ", "  mine  "]
    assert "12.00 (1.50×)*" in lines[1]
    assert lines[4:] == list(grid(full()).legend("*"))


@pytest.mark.parametrize("name", [*NASTY, "tab\there", "表", "\x1b[2J"])
def test_any_name_keeps_to_its_line_and_column_of_the_table(name: str) -> None:
    found = comparison([column(TIED)], row(figures={TIED: 1.0}), row(name or "svd", 2, {TIED: 1.0}), model=name)
    lines = formats.table([grid(found)]).split("\n")
    assert len(lines) == 3 + 2 + 3 + 1
    assert {cell_len(line) for line in lines[1:5]} == {cell_len(lines[2])}


# -- any format


def test_a_format_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="table, markdown, csv, json, html, not 'latex'"):
        formats.render(Comparisons((full(),)), "latex")


def test_what_is_shown_follows_the_columns_and_the_quality_chosen() -> None:
    found = Comparisons((full(),), columns=("rank", SST2), quality=SST2)
    table = formats.render(found)
    assert table.splitlines()[1].split() == ["table", "method", "settings", "rank", "sst2", "accuracy"]
    assert "in sst2 accuracy" in table
    assert "| table | method | settings | rank | sst2 accuracy |" in formats.render(found, "markdown")
    with pytest.raises(UsageError, match="JSON has every column"):
        formats.render(found, "json")
    whole = Comparisons((full(),))
    assert json.loads(formats.render(whole, "json")) == strict_json(whole.as_dict())


# -- Markdown


def cells_of(line: str) -> list[str]:
    """The cells of a table's line as Markdown reads it: at bars without a backslash, signs as they stand."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return re.split(r" (?<!\\)(?:\\\\)*\| ", line[2:-2])


def unescaped(text: str) -> str:
    plain = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    return plain.replace("&lt;", "<").replace("&amp;", "&")


def test_markdown_is_a_table_with_the_best_in_bold() -> None:
    title, empty, *lines = formats.markdown([grid(full())]).splitlines()
    assert (title, empty) == ("**model**", "")
    table = [cells_of(line) for line in lines if line.startswith("|")]
    assert len({len(cells) for cells in table}) == 1
    assert len(table) == 2 + 4
    assert set(table[1]) == {"---", "---:"}
    assert table[3][0] == f"{FRONT} svd-4"
    assert table[3][-4] == "**12.00 (1.50×)**"
    assert lines[len(table)] == ""
    assert [unescaped(line.rstrip()) for line in lines[len(table) + 1 :]] == list(grid(full()).legend("bold:"))


@pytest.mark.parametrize("name", NASTY)
def test_markdown_shows_any_name_as_it_stands(name: str) -> None:
    columns = [Column(TIED, {"text": name}, {"on": name}), column(TIED)]
    key = columns[0].key
    found = comparison(columns, row(figures={key: 1.0}), row(name or "svd", 2, {key: 1.0}, method=name), model=name)
    text = formats.markdown([grid(found)])
    title, _, *lines = text.splitlines()
    table = [cells_of(line) for line in lines if line.startswith("|")]
    assert {len(cells) for cells in table} == {len(grid(found).header)}
    assert len(table) == 4
    on_one_line = " ".join(name.split())
    assert unescaped(title.removeprefix("**").removesuffix("**")) == on_one_line
    assert unescaped(table[3][0]).endswith(on_one_line or "svd")
    assert not re.search(r"(?<!\\)(\\\\)*[`\[~$_<]", text.replace("**", ""))
    assert not re.search(r"&(?!amp;|lt;)", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://evil.example", r"see https\://evil.example"),
        ("WWW.evil.example", r"WWW\.evil.example"),
        ("![x](y)", r"!\[x](y)"),
        ("a\u202eb\x1b[0m\udce9", r"a\\u202eb\\x1b\[0m\\udce9"),
    ],
)
def test_markdown_makes_no_link_of_a_name_and_hides_nothing_in_it(text: str, shown: str) -> None:
    assert formats.escaped(text) == shown


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "html", "json"])
def test_any_format_of_any_name_can_be_written_to_a_file(format: str) -> None:
    name = "caf\udce9"
    found = comparison([column(TIED)], row(figures={TIED: 1.0}), row(name, 2, {TIED: 1.0}), model=name)
    text = formats.render(Comparisons((found,), (), ()), format)
    assert r"caf\udce9".replace("\\", "\\\\" if format == "markdown" else "\\") in text
    text.encode()


def test_several_tables_stand_apart() -> None:
    text = formats.markdown([grid(full()), grid(replace(full(), model="other"))])
    assert text.count("| --- | --- | --- | ---: |") == 2
    assert "\n\n**other**\n\n|" in text


# -- CSV


def parsed(*comparisons: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(formats.as_csv(comparisons))))


def test_csv_parses_back_to_the_numbers() -> None:
    found = full()
    lines = parsed(found)
    for line, entry in zip(lines, found.rows, strict=True):
        assert None not in line
        assert (line["model"], line["name"], line["method"], line["path"]) == (
            "model", entry.name, entry.method, entry.path or ""
        )  # fmt: skip
        for name in ("parameter_ratio", "byte_ratio", "bits_per_weight", "table_mb", "cosine", "rmse"):
            assert float(line[name]) == getattr(entry, name)
        assert int(line["rank"]) == entry.rank
        assert float(line["model_mb.input-only"]) == entry.model_mb["input-only"]
        for key in (each.key for each in found.columns):
            own = entry.figures.get(key)
            assert line[key] == ("" if own is None else repr(own.value))
            assert line[f"{key} ±"] == ("" if own is None or own.std is None else repr(own.std))
            assert line[f"{key} seeds"] == ("" if own is None else str(len(own.seeds) or ""))
    assert [line["seconds"] for line in lines] == ["", "1.25", "", ""]


def test_csv_has_the_columns_asked_for_and_what_names_a_row() -> None:
    header = formats.as_csv([full()], ["rank", SST2]).splitlines()[0].split(",")
    named = ["model", "name", "method", "settings", "dtype", "rank", "path"]
    assert header == [*named, SST2, f"{SST2} ±", f"{SST2} seeds", f"{SST2} error"]
    assert "model_mb.tied" in formats.as_csv([full()], ["model_mb"]).splitlines()[0].split(",")


def test_csv_of_several_models_is_one_table() -> None:
    other = comparison(
        [column("mrpc.f1")],
        row(figures={"mrpc.f1": 1 / 3}, model_mb={"head-only": 1.5}),
        model="other",
    )
    lines = parsed(full(), other)
    assert [line["model"] for line in lines] == ["model"] * 4 + ["other"]
    assert lines[-1]["mrpc.f1"] == repr(1 / 3)
    assert (lines[-1][SST2], lines[0]["mrpc.f1"]) == ("", "")
    sizes = [lines[-1]["model_mb.head-only"], lines[-1]["model_mb.tied"], lines[0]["model_mb.head-only"]]
    assert sizes == ["1.5", "", ""]


@pytest.mark.parametrize("name", [*NASTY, 'a "quoted", name'])
def test_csv_carries_any_name(name: str) -> None:
    found = comparison([column(TIED, text=name)], row(figures={}), row(name or "svd", 2), model=name)
    lines = parsed(found)
    assert [line["model"] for line in lines] == [name, name]
    assert lines[1]["name"] == (name or "svd")


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "-2+3+cmd|' /C calc'!A0", "＝1", "'=1", "''@x", "-runs/a"],
)
def test_no_text_in_csv_is_a_formula_and_all_of_it_can_be_had_back(name: str) -> None:
    columns = [Column(name, {}, {})]
    found = comparison(
        columns,
        row(figures={}),
        row(name, 2, {name: Figure(-0.5, -0.1, -1.5, None, ())}, method=name, settings=name, cosine=-0.25),
        model=name,
    )
    header, *lines = csv.reader(io.StringIO(formats.as_csv([found])))
    for cells in (header, *lines):
        for cell in cells:
            assert cell[:1] not in ("=", "+", "@", "\t", "\r", "\n", "＝")
            assert cell[:1] != "-" or float(cell) < 0
    told = dict(zip(header, lines[1], strict=True))
    for text in (told["model"], told["name"], told["method"], told["settings"], header[-4]):
        assert text == f"'{name}"
    assert (told[f"'{name}"], told["cosine"]) == ("-0.5", "-0.25")


def test_an_apostrophe_that_guards_nothing_stays_as_it_is() -> None:
    found = comparison([], row(figures={}), row("'quoted'", 2), model="it's")
    assert [(line["model"], line["name"]) for line in parsed(found)][1] == ("it's", "'quoted'")


# -- HTML


TEXTS = ("td", "button", "h2", "p")


class Reader(HTMLParser):
    """Collects elements, texts and attributes, and holds every end tag against the open ones."""

    VOID = ("meta", "br", "hr", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.cells: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in TEXTS:
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in TEXTS:
            self.cells[-1] += data


def page_of(found: Comparison) -> str:
    return formats.page([(grid(found), [plot.svg(picture) for picture in plot.pictures(found, found.columns)])])


def test_the_page_is_one_well_formed_file_that_refers_to_nothing_else() -> None:
    text = page_of(full())
    found = Reader(text)
    assert found.seen.count("svg") == 3
    assert found.seen.count("tr") == 1 + 4
    references = {value for name, value in found.attributes if "://" in value and not name.startswith("xmlns")}
    assert references == set()
    assert set(re.findall(r"https?://[^\"' <>]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip
    assert not {"link", "img", "iframe"} & set(found.seen)
    assert not [name for name, _ in found.attributes if name == "src"]
    assert found.seen.count("script") == 1  # what sorts
    assert "@import" not in text
    assert all(value.startswith("#") for name, value in found.attributes if name.endswith("href"))
    assert [value for name, value in found.attributes if name == "charset"] == ["utf-8"]


def test_the_page_has_every_cell_of_the_grid() -> None:
    made = grid(full())
    found = Reader(page_of(full())).cells
    expected = [made.title, *made.header]
    for number, cells in enumerate(made.rows):
        first, *rest = (cell.text for cell in cells)
        expected += [f"{FRONT} {first}" if number in made.front else first, *rest]
    assert found == [*expected, *made.legend("bold:")]


@pytest.mark.parametrize("name", [*NASTY, "</td><script>alert(1)</script>", '"><svg onload=x>'])
def test_the_page_shows_any_name_as_it_stands(name: str) -> None:
    found = comparison([column(TIED)], row(figures={TIED: 1.0}), row("svd" + name, 2, {TIED: 2.0}), model=name)
    reader = Reader(page_of(found))
    assert reader.cells[0] == name
    assert f"{FRONT} svd{name}" in reader.cells
    assert reader.seen.count("script") == 1
    assert "onload" not in dict(reader.attributes)
    assert reader.seen.count("svg") == 1


# -- plots


def drawable() -> plot.Picture:
    return plot.picture(full(), full().columns[0])


def test_a_picture_has_a_line_for_each_method_and_setting_by_size() -> None:
    key = TIED
    rows = [
        row(figures={key: 5.0}),
        row("svd-4", 4, {key: 9.0}),
        row("svd-2", 2, {key: Figure(11.0, None, None, 0.5, (0, 1))}),
        row("svd-1", 1, {key: 30.0}, settings="center True"),
        row("ae-1", 1, {}, method="autoencoder"),
    ]
    made = plot.picture(comparison([column(key)], *rows), column(key))
    assert (made.title, made.quality, made.original) == ("model", key, (0.8, 5.0))
    assert [(line.name, line.sizes, line.values, line.deviations) for line in made.series] == [
        ("svd", [0.2, 0.4], [11.0, 9.0], [0.5, 0.0]),
        ("svd, center True", [0.1], [30.0], [0.0]),
    ]


def test_pictures_of_one_page_tell_which_way_they_are_of() -> None:
    labels = [picture.quality for picture in plot.pictures(full(), full().columns)]
    assert labels == [column.key for column in full().columns]
    for picture in plot.pictures(full(), full().columns):
        assert f">{picture.quality}<" in plot.svg(picture)


def test_what_is_not_finite_is_not_drawn() -> None:
    rows = [row(figures={TIED: math.inf}), row("svd-2", 2, {TIED: math.inf}), row("svd-1", 1, {TIED: 7.0})]
    made = plot.picture(comparison([column(TIED)], *rows), column(TIED))
    assert ([line.values for line in made.series], made.original) == ([[7.0]], None)
    hopeless = comparison([column(TIED)], *rows[:2])
    with pytest.raises(UsageError, match="nothing to draw"):
        plot.picture(hopeless, column(TIED))
    assert plot.pictures(hopeless, hopeless.columns) == []


@pytest.mark.parametrize(
    ("values", "original", "log"),
    [([1.0, 9.0], None, True), ([1.0, 7.0], None, False), ([4.0, 5.0], 0.5, True), ([-1.0, 9.0], None, False),
     ([0.0, 9.0], None, False)],
)  # fmt: skip
def test_an_axis_is_logarithmic_from_eightfold_on(values: list[float], original: float | None, log: bool) -> None:
    line = plot.Series("svd", [1.0, 2.0], values, [0.0, 0.0])
    assert plot.Picture("m", "q", [line], (1.0, original) if original else None).log_y is log


def test_an_svg_is_the_same_each_time_and_well_formed(tmp_path: Path) -> None:
    text = plot.svg(drawable())
    assert plot.svg(drawable()) == text
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    for name in ("a.svg", "b.svg"):
        plot.save(drawable(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("x.png", b"\x89PNG\r\n"),
        ("x.PNG", b"\x89PNG\r\n"),
        ("x.pdf", b"%PDF-"),
        ("x.svg", b"<svg "),
        ("x.SVG", b"<svg "),
    ],
)
def test_a_plots_form_follows_its_suffix(tmp_path: Path, name: str, begins: bytes) -> None:
    plot.save(drawable(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.gif", "x", "x.jpg", ".png", "x.svg.gz"])
def test_another_suffix_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        plot.save(drawable(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/proc/x.svg", "/proc/x.png"])
def test_a_plot_that_cannot_be_written_is_named(name: str) -> None:
    with pytest.raises(OutputError, match=name):
        plot.save(drawable(), Path(name))


def test_a_name_with_formula_signs_is_drawn_as_it_stands() -> None:
    drawn = plot.svg(replace(drawable(), title=r"a$\x$b <c> & d"))
    assert r"a$\x$b &lt;c&gt; &amp; d" in drawn


@pytest.mark.parametrize("name", [r"$\frac{1}{2}$", "$x$", r"a$\nonsense{$", "_hidden"])
def test_the_legend_shows_names_as_they_stand(name: str) -> None:
    drawn = replace(drawable(), quality=name, series=[replace(drawable().series[0], name=name)])
    assert plot.svg(drawn).count(f">{name}<") == 2  # the axis and the legend


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\x0b", "\ufffe", "\udce9", "\u202e"])
def test_a_drawing_is_xml_whatever_a_name_holds(sign: str, tmp_path: Path) -> None:
    figures = {TIED: 1.0}
    found = comparison([column(TIED)], row(figures=figures), row(f"a{sign}", 2, figures, method=sign), model=sign)
    (picture,) = plot.pictures(found, found.columns)
    for name in ("x.svg", "x.png"):
        plot.save(picture, tmp_path / name)
    ElementTree.fromstring((tmp_path / "x.svg").read_bytes())


def test_the_terminals_picture_has_every_method_and_no_colours() -> None:
    lines = [
        plot.Series("svd", [1.0, 2.0], [30.0, 20.0], [0.0, 0.0]),
        plot.Series("autoencoder", [1.0, 2.0], [20.0, 10.0], [0.0, 0.0]),
    ]
    text = plot.terminal(plot.Picture("the model", TIED, lines, (9.0, 5.0)), width=70, height=20)
    for word in ("svd", "autoencoder", "the model", "table, MB", TIED):
        assert word in text
    assert "\x1b" not in text
    assert len(text.splitlines()) <= 21
    assert max(map(len, text.splitlines())) <= 71


@pytest.fixture(params=["matplotlib", "plotext"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library that is not installed."""
    monkeypatch.setitem(sys.modules, request.param, None)
    name: str = request.param
    return name


def test_without_the_library_that_draws_it_says_what_to_install(missing: str, tmp_path: Path) -> None:
    def draw() -> object:
        return plot.terminal(drawable()) if missing == "plotext" else plot.svg(drawable())

    with pytest.raises(OutputError, match=r"orientc\[plot\]"):
        draw()
    if missing == "matplotlib":
        for name in ("x.svg", "x.png"):
            with pytest.raises(OutputError, match=r"orientc\[plot\]"):
                plot.save(drawable(), tmp_path / name)
        assert list(tmp_path.iterdir()) == []
