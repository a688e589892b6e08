"""What `glue` and `squad` have in common: what to fine-tune, with which seeds, and how results are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.cli import terminal
from orientc.spread import Spread

if TYPE_CHECKING:
    from orientc.arguments import Subject
    from orientc.evaluate.finetune import Run

DEFAULT_MODEL = "bert-base-uncased"


def subject(embeddings: Path | None, model: str | None, **source: Any) -> Subject:
    """The model to fine-tune, and the artifact to put into it."""
    from orientc import arguments
    from orientc.errors import UsageError

    if embeddings is None:
        return arguments.subject(model or DEFAULT_MODEL, **source)
    if not arguments.is_artifact(str(embeddings)):
        raise UsageError(f"--embeddings takes an artifact, which ends in .safetensors, not {embeddings}")
    return arguments.subject(str(embeddings), model=model, **source)


def seeds(one: int, several: str | None) -> list[int]:
    """The seeds asked for, each once."""
    from orientc.errors import UsageError

    if several is None:
        return [one]
    try:
        return list(dict.fromkeys(int(number) for number in several.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers with commas between, such as 1,2,3, not {several!r}") from None


def summary(runs: Sequence[Run]) -> dict[str, Spread]:
    """Each figure of runs that differ in their seed alone."""
    return {name: Spread.of([run.record.metrics[name] for run in runs]) for name in runs[0].record.metrics}


def as_dict(run: Run) -> dict[str, Any]:
    """A run for JSON: its record, and where it and its model lie."""
    from orientc.evaluate.finetune import HISTORY

    model = str(run.folder) if (run.folder / HISTORY).is_file() else None
    return {"path": str(run.path), "model": model, "fresh": run.fresh, "record": run.record.as_dict()}


def show(
    figures: Mapping[str, Spread], runs: Sequence[Run], *, title: str, rows: Sequence[tuple[str, float]] = ()
) -> None:
    """Figures with their deviation, further `rows` below them; then where the fine-tuned models are."""
    several = any(figure.std is not None for figure in figures.values())
    header = ["figure", "mean", "±", "seeds"] if several else ["figure", "value"]
    table = []
    for name, figure in figures.items():
        spread = [f"{figure.std or 0:.4f}", str(figure.count)] if several else []
        table.append([name, f"{figure.mean:.4f}", *spread])
    table += [[name, f"{value:.4f}", *(["", ""] if several else [])] for name, value in rows]
    first = runs[0].record
    what = f"{first.artifact['method']} r{first.artifact['rank']}" if first.artifact else "original"
    terminal.show_table(header, table, title=f"{first.model['id']} ({what}); {title}")


def note_runs(runs: Sequence[Run], *, quiet: bool) -> None:
    """Say of each run what was there already, and where its model is."""
    for run in runs:
        found = as_dict(run)
        if not run.fresh:
            terminal.note(f"done already: {run.path} has these settings", quiet=quiet)
        if found["model"]:
            terminal.note(f"fine-tuned model: {found['model']}", quiet=quiet)
