"""The rows that `beyond.py --json` wrote, as one Markdown table and one picture.

    python tests/benchmarks/beyond_plot.py ROWS.jsonl NAME=MODEL … [--sizes 4.5,3.5,2.7] [--out beyond.png]

NAME is how a model is called, MODEL the end of its argument as the rows have it. Cells are perplexities in multiples
of the uncompressed one, input-only / tied; the picture has what lies above 1, over bits per weight. Of `--sizes` are
the table's columns, and within them lies what the picture shows. Needs matplotlib (extra `plot`).
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# A row's name without its size, the name here, and how its line looks.
METHODS = {
    "svd, float16": ("SVD", ":", "o"),
    "preset paper, float16": ("paper's autoencoder", ":", "s"),
    "calibrated svd, float16": ("calibrated SVD", "--", "o"),
    "rounding": ("rounding", "-.", "v"),
    "the same with feedback": ("rounding with feedback, calibrated", "--", "v"),
    "not calibrated, target": ("`--target-bits`, not calibrated", "-.", "D"),
    "target": ("`--target-bits`, calibrated", "-", "D"),
    "torchao int4": ("torchao, int4", "", "P"),
}
NEAR = 0.07  # of a size: not every form has every size


def method_of(row: Row) -> str:
    """A row's name without sizes."""
    name = row["name"].split(": ")[-1]
    return re.sub(r"^(rounding) [\d.]+ bits(, groups of \d+)?", r"\1", name)


def cell(row: Row | None, size: str) -> str:
    """What a row says in the table, where its size is about the one it stands under."""
    if row is None or abs(row["bits_per_weight"] / float(size.split()[0]) - 1) > NEAR:
        return "–"
    times = [row[head] / row["base"] for head in ("input-only", "tied")]
    return " / ".join(f"{ratio:.3f}×" if ratio < 9 else f"{ratio:.0f}×" for ratio in times)


def table(rows: list[Row], models: dict[str, str], sizes: list[str]) -> str:
    """Methods down, models and sizes across."""
    columns = [(name, f"{size} bits") for name in models for size in sizes]
    lines = ["| | " + " | ".join(f"{name}, {size}" for name, size in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key, (label, _, _) in METHODS.items():
        found = [
            next((row for row in rows if row["model"].endswith(models[name]) and row["name"].startswith(f"{size}: ")
                  and method_of(row) == key), None)
            for name, size in columns
        ]  # fmt: skip
        if any(found):
            lines.append(
                f"| {label} | "
                + " | ".join(cell(row, size) for row, (_, size) in zip(found, columns, strict=True))
                + " |"
            )
    return "\n".join(lines)


def picture(rows: list[Row], models: dict[str, str], path: Path) -> None:
    """One panel per model: how much worse the tied perplexity is, by bits per weight."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(models), figsize=(4.5 * len(models) + 2, 4), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (name, end) in zip(panels[0], models.items(), strict=True):
        for key, (label, line, marker) in METHODS.items():
            own = sorted((row["bits_per_weight"], row["tied"] / row["base"] - 1) for row in rows
                         if row["model"].endswith(end) and method_of(row) == key)  # fmt: skip
            if own:
                panel.plot(
                    *zip(*own, strict=True), linestyle=line, marker=marker, label=label.replace("`", ""), markersize=4
                )
        panel.set(title=name, xlabel="bits per weight", yscale="log")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("tied perplexity over the original's, less 1")
    figure.legend(*panels[0][-1].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--sizes", default="4.5,3.5,2.7")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    models = dict(model.split("=", 1) for model in options.models)
    sizes = options.sizes.split(",")
    print(table(rows, models, sizes))
    least, most = 0.9 * min(map(float, sizes)), 1.15 * max(map(float, sizes))
    rows = [row for row in rows if least < row["bits_per_weight"] < most]
    if options.out:
        picture(rows, models, options.out)


if __name__ == "__main__":
    main()
