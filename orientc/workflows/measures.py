"""The evaluations a sweep can take, each by name and ready for one subject after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from orientc.errors import UsageError
from orientc.evaluation import finetuning, perplexity, similarity, texts
from orientc.evaluation.finetuning import Settings
from orientc.evaluation.glue import data as glue_data
from orientc.evaluation.glue import evaluate as glue
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.recording import RecordedMeasurement
from orientc.evaluation.squad import data as squad_data
from orientc.evaluation.squad import evaluate as squad
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.storage import runs
from orientc.utils.progress import Progress

SQUAD = "squad"


@dataclass(frozen=True)
class Measure:
    """An evaluation by name; `of` evaluates one subject and returns the paths of its records."""

    name: str
    of: Callable[[Subject], Sequence[Path]]


@dataclass(frozen=True)
class Measures:
    """The measures there are for one model; data and texts are fetched when the first subject is measured."""

    source: ModelSource
    out: Path | None
    device: torch.device
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where the records go."""
        return runs.model_folder(self.source.id, self.out)

    def perplexity(self, text: str | Path | Text | None, limit: int | None) -> Measure:
        """Perplexity on a text, or on the default one. Raises `UsageError` for a limit below 1."""
        settings = perplexity.Settings(limit=limit)

        def measurement() -> perplexity.Measurement:
            perplexity.protocol_of(self.source)  # before a text is fetched for nothing
            scored = text if isinstance(text, Text) else texts.scored_text(Path(text) if text else None, self.source)
            return perplexity.Measurement(
                self.source, scored, settings, folder=self.folder, device=self.device, progress=self.progress
            )

        return _measuring("perplexity", measurement)

    def similarity(self, data: Path | None) -> Measure:
        """Sentence vectors on STS-B from a folder, or from the hub."""
        return _measuring(
            "similarity",
            lambda: similarity.Measurement(
                self.source,
                similarity.stsb(data),
                similarity.Settings(),
                folder=self.folder,
                device=self.device,
                progress=self.progress,
            ),
        )

    def task(
        self,
        name: str,
        data: Path | None,
        limits: Mapping[str, int | None],
        seeds: Iterable[int],
        tuned: Mapping[str, Any],
    ) -> Measure:
        """Fine-tuning on a GLUE task or "squad", once for each seed; `tuned` are settings that are not the default.

        Raises `UsageError` for a task there is not.
        """
        if name not in (SQUAD, *TASKS):
            raise UsageError(f"there is no task {name!r}: choose from {', '.join([*TASKS, SQUAD])}")
        kind = squad.Settings if name == SQUAD else Settings
        settings = [kind(**tuned, seed=seed) for seed in seeds]

        @cache
        def loaded() -> Any:
            train = settings[0].epochs > 0
            if name == SQUAD:
                return squad_data.load(data, train=train, **limits)
            return glue_data.load(TASKS[name], data, train=train, **limits)

        def of(subject: Subject) -> list[Path]:
            found = []
            for chosen in settings:
                options: dict[str, Any] = {"limits": limits, "progress": self.progress}
                if isinstance(chosen, squad.Settings):
                    work = squad.work(subject, loaded(), chosen, **options)
                else:
                    work = glue.work(subject, TASKS[name], loaded(), chosen, **options)
                run = finetuning.run(
                    subject,
                    work,
                    chosen,
                    folder=self.folder,
                    device=self.device,
                    resume=True,
                    progress=self.progress,
                )
                found.append(run.path)
            return found

        return Measure(name, of)


def _measuring(name: str, measurement: Callable[[], RecordedMeasurement]) -> Measure:
    """A measure by what `measurement` makes; it is made when the first subject comes."""
    made = cache(measurement)

    def of(subject: Subject) -> list[Path]:
        if subject.path and subject.artifact:
            found = list(made().compressed(subject.path, subject.artifact))
        else:
            found = [made().original()]
        return [made().folder / record.file_name for record in found]

    return Measure(name, of)
