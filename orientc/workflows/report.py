"""A reproduction as a report: its tables, verdicts and lines, in Markdown and in LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orientc.comparison.formats import escaped
from orientc.comparison.numbers import figure
from orientc.evaluation.glue.tasks import TASKS
from orientc.storage.records import ORIGINAL
from orientc.storage.sizes import POLICIES
from orientc.utils.words import explained
from orientc.workflows import paper
from orientc.workflows.claims import Claim
from orientc.workflows.paper import Published
from orientc.workflows.results import Measured, Result
from orientc.workflows.study import AE, SQUAD, SVD

_NONE = "–"
_METHODS = {(ORIGINAL, ""): "original", (SVD, ""): "SVD", (AE, "paper"): "autoencoder, the paper's recipe",
            (AE, "default"): "autoencoder, the default recipe"}  # fmt: skip
_METRICS = {"matthews": "MCC", "accuracy": "acc.", "f1": "F1", "pearson": "Pearson", "spearman": "Spearman",
            "accuracy_matched": "acc. m", "accuracy_mismatched": "acc. mm", "exact_match": "EM"}  # fmt: skip
_AVERAGES = {"glue": "average of nine", "glue_without_wnli": "without WNLI"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$", "±": r"$\pm$", "−": "$-$", "–": "--",
    "∞": r"$\infty$", "<": "$<$", ">": "$>$", "²": r"\textsuperscript{2}",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of texts: a caption, a header, rows, and lines below it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a reproduction says, in the order it is read.

    Attributes:
        title: What was reproduced, on which model.
        facts: How it was measured, a line each.
        claims: Verdicts.
        tables: Figures.
        missing: What there are no figures of and why, a line each.
        otherwise: What the published code does, and what is done here.
    """

    title: str
    facts: tuple[str, ...]
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    missing: tuple[str, ...]
    otherwise: tuple[tuple[str, str], ...] = paper.OTHERWISE

    @property
    def markdown(self) -> str:
        """The report in Markdown."""
        parts = [f"# {escaped(self.title)}", _list(self.facts), "## Verdicts"]
        for claim in self.claims:
            ends = f" ({escaped(claim.told)})" if claim.told else ""
            parts.append(
                f"**{escaped(claim.text)}** ({escaped(claim.source)}): **{escaped(claim.verdict)}**{ends}"
                + "".join(
                    f"\n- ratio {part.ratio:g}: {escaped(part.verdict)}, {escaped(part.told)}" for part in claim.parts
                )
            )
        parts.append("## Figures")
        for table in self.tables:
            lines = [f"**{escaped(table.caption)}**", "", _row(map(escaped, table.header))]
            lines.append(_row(["---", *["---:"] * (len(table.header) - 1)]))
            lines += [_row(map(escaped, row)) for row in table.rows]
            parts.append("\n".join(lines))
            parts += [escaped(note) for note in table.notes]
        parts += ["## Without figures", _list(self.missing)] if self.missing else []
        parts += [
            "## What the published code does otherwise",
            _list(f"{theirs} Here: {ours}" for theirs, ours in self.otherwise),
        ]
        return "\n\n".join(parts) + "\n"

    @property
    def latex(self) -> str:
        """Tables and verdicts in LaTeX, for a document that uses booktabs."""
        parts = [f"% {self.title}", *(f"% {fact}" for fact in self.facts)]
        parts += [_latex_table(table, number) for number, table in enumerate(self.tables, 1)]
        verdicts = []
        for claim in self.claims:
            told = "; ".join(f"ratio {part.ratio:g}: {part.told}" for part in claim.parts) or claim.told
            verdict = f"\\textbf{{{_latex(claim.verdict)}}}"
            verdicts.append(f"\\item {_latex(claim.text)} ({_latex(claim.source)}): {verdict}. {_latex(told)}")
        for title, lines in (
            ("", verdicts),
            ("Without figures", [f"\\item {_latex(line)}" for line in self.missing]),
            (
                "What the published code does otherwise",
                [f"\\item {_latex(f'{theirs} Here: {ours}')}" for theirs, ours in self.otherwise],
            ),
        ):
            if lines:
                head = f"\\paragraph{{{_latex(title)}}}\n" if title else ""
                parts.append(f"{head}\\begin{{itemize}}\n" + "\n".join(lines) + "\n\\end{itemize}")
        return "\n\n".join(parts) + "\n"


def tables(
    results: Sequence[Result], published: Mapping[tuple[str, float | None, str], Published]
) -> tuple[Table, ...]:
    """The tables of a study: sizes and perplexities, then the tasks'; without figures there is no table."""
    found = [_perplexities(results, published)]
    names = [f"{name}.{metric}" for name, task in TASKS.items() for metric in task.figures] + [
        f"{SQUAD}.exact_match",
        f"{SQUAD}.f1",
    ]
    there = [name for name in names if any(name in each.figures for each in results)]
    return (*found, *([_tasks(results, there, published)] if there else []))


def _perplexities(results: Sequence[Result], published: Mapping[Any, Published]) -> Table:
    heads = [head for head in POLICIES if any(f"perplexity.{head}" in each.figures for each in results)]
    header = ["table", "ratio", "rank", "MB", "cos dist"]
    for head in heads:
        header += [f"ppl {head}", "× original"]
    notes = [*explained(*header)]
    rows = []
    for each in results:
        row = [_name(each), _NONE if each.ratio is None else f"{each.ratio:g}"]
        row += [str(each.rank), f"{each.table_mb:.2f}", f"{each.cosine:.4f}"]
        for head in heads:
            name = f"perplexity.{head}"
            own, original = each.figures.get(name), results[0].figures.get(name)
            row.append(_shown(own, lambda value: figure(value, 4)) + _theirs(each, name, published, notes, 1))
            times = own.against(original) if own and original and each.ratio else None
            row.append(f"{figure(times.value)} ± {figure(times.standard_error, 2)}" if times else _NONE)
        rows.append(tuple(row))
    if heads:
        notes.insert(0, "± is one standard error, by what was measured on; × original by the paired test.")
    return Table("Initial perplexity" if heads else "Sizes", tuple(header), tuple(rows), tuple(notes))


def _tasks(results: Sequence[Result], names: Sequence[str], published: Mapping[Any, Published]) -> Table:
    averaged = [name for name in _AVERAGES if all(name in each.averages for each in results)]
    header = ["table", "ratio", *(_heading(name) for name in names), *(_AVERAGES[name] for name in averaged)]
    notes: list[str] = []
    rows = []
    for each in results:
        row = [_name(each), _NONE if each.ratio is None else f"{each.ratio:g}"]
        for name in names:
            by = 1 if name.startswith(SQUAD) else 100
            row.append(
                _shown(each.figures.get(name), lambda value: f"{value:.1f}", by)
                + _theirs(each, name, published, notes, by)
            )
        row += [f"{100 * each.averages[name]:.1f}" for name in averaged]
        rows.append(tuple(row))
    runs = {measured.runs for each in results for name, measured in each.figures.items() if name in names}
    over = " to ".join(str(count) for count in sorted({min(runs), max(runs)}))
    notes.insert(0, f"In percent; ± is one standard error, by examples and seeds; runs each: {over}.")
    lacking = [name for name in TASKS if not any(figure.startswith(f"{name}.") for figure in names)]
    if not averaged:
        notes.append(f"There is no average: it lacks {', '.join(lacking) or 'a figure'}.")
    return Table("After fine-tuning", tuple(header), tuple(rows), tuple(notes))


def _name(each: Result) -> str:
    return _METHODS[(each.method, each.preset)]


def _heading(name: str) -> str:
    task, _, metric = name.partition(".")
    return f"{TASKS[task].folder if task in TASKS else 'SQuAD'} {_METRICS[metric]}"


def _shown(measured: Measured | None, number: Any, by: float = 1) -> str:
    if measured is None:
        return _NONE
    error = "" if measured.error is None else f" ± {figure(by * measured.error, 2)}"
    return f"{number(by * measured.value)}{error}"


def _theirs(each: Result, name: str, published: Mapping[Any, Published], notes: list[str], by: float) -> str:
    """The published figure beside ours, with a line that says which table of the paper it stands in."""
    found = published.get((each.method, each.ratio, name)) if each.preset != "default" else None
    if found is None:
        return ""
    note = f"In brackets: {found.table} of {paper.SOURCE}."
    if note not in notes:
        notes.append(note)
    return f" [{figure(by * found.value, 4)}]"


def _list(lines: Any) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_table(table: Table, number: int) -> str:
    header, *rows = (f"{' & '.join(map(_latex, row))} \\\\" for row in (table.header, *table.rows))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.caption)}}}\label{{tab:reproduction-{number}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {_latex(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text)
