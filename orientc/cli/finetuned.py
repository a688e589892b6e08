"""What `glue` and `squad` have in common: what to fine-tune, with which seeds, and how results are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.cli import output
from orientc.evaluation.statistics import Spread

if TYPE_CHECKING:
    import torch

    from orientc.evaluation.finetuning import Run, Settings, Work
    from orientc.models.resolve import Subject
    from orientc.utils.progress import Progress

DEFAULT_MODEL = "bert-base-uncased"


@dataclass(frozen=True)
class Setup:
    """What is fine-tuned, where, and how `finetune.run` is to go about it: its further `options`."""

    subject: Subject
    device: torch.device
    folder: Path
    options: Mapping[str, Any]

    def run(self, work: Work, settings: Settings, progress: Progress) -> Run:
        """Fine-tune and score."""
        from orientc.evaluation import finetuning

        return finetuning.run(
            self.subject, work, settings, folder=self.folder, device=self.device, progress=progress, **self.options
        )


def prepare(
    embeddings: Path | None,
    model: str | None,
    *,
    device: str | None,
    out: Path | None,
    options: Mapping[str, Any],
    **source: Any,
) -> Setup:
    """Find the model and the artifact to put into it, a device, and a folder that can be written in."""
    from orientc.errors import UsageError
    from orientc.models import resolve
    from orientc.storage.runs import records_folder
    from orientc.utils.devices import pick_device
    from orientc.utils.files import check_writable

    if embeddings and not resolve.is_artifact(str(embeddings)):
        raise UsageError(f"--embeddings takes an artifact, which ends in .safetensors, not {embeddings}")
    if embeddings:
        found = resolve.subject(str(embeddings), model=model, **source)
    else:
        found = resolve.subject(model or DEFAULT_MODEL, **source)
    chosen = pick_device(device)
    folder = records_folder(found.source.id, found.path, out)
    check_writable(folder)
    return Setup(found, chosen, folder, options)


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
    from orientc.evaluation.finetuning import HISTORY

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
    output.show_table(header, table, title=f"{first.model['id']} ({what}); {title}")


def note_runs(runs: Sequence[Run], *, quiet: bool) -> None:
    """Say of each run what was there already, and where its model is."""
    for run in runs:
        found = as_dict(run)
        if not run.fresh:
            output.note(f"done already: {run.path} has these settings", quiet=quiet)
        if found["model"]:
            output.note(f"fine-tuned model: {found['model']}", quiet=quiet)
