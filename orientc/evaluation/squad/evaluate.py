"""Fine-tune on SQuAD v1.1 and score: data and model in, a record and predictions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers

from orientc.errors import UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.finetuning import Outputs, Run, Work
from orientc.evaluation.squad import metrics
from orientc.evaluation.squad.data import Data
from orientc.evaluation.squad.spans import best_answers
from orientc.evaluation.squad.windows import features, windows
from orientc.models.resolve import Subject
from orientc.utils import distributed
from orientc.utils.files import write_json
from orientc.utils.progress import Progress

KIND = "squad"
AUTO_CLASS = transformers.AutoModelForQuestionAnswering
PREDICTIONS = "predictions.json"


@dataclass(frozen=True)
class Settings(finetuning.Settings):
    """How a model is fine-tuned; the defaults are the paper's for SQuAD. Windows start every `window_step` tokens."""

    batch_size: int = 16
    learning_rate: float = 3e-5
    max_length: int = 384
    window_step: int = 128

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no training can use."""
        super().__post_init__()
        if self.window_step < 1:
            raise UsageError(f"--window-step must be at least 1, not {self.window_step}")


def work(
    subject: Subject, data: Data, settings: Settings, *, limits: Mapping[str, int | None], progress: Progress
) -> Work:
    """SQuAD for `finetune.run`; `limits` are those the data was cut to, for the record."""
    source = subject.source
    length = finetuning.fitting_length(source, settings.max_length, progress)
    tokenizer = finetuning.tokenizer_for(source)
    cut = {"max_length": length, "step": settings.window_step}
    scored = windows(data.evaluation, tokenizer, labels=False, **cut)
    answers: dict[str, str] = {}

    def figures(outputs: dict[str, Outputs]) -> dict[str, float]:
        start_logits, end_logits = outputs[""][:2]
        answers.update(best_answers(data.evaluation, scored, start_logits, end_logits))
        return metrics.score({question.id: question.answers for question in data.evaluation}, answers)

    def write(run: Run, _outputs: Any) -> None:
        if distributed.is_main():
            write_json(run.folder / PREDICTIONS, answers)

    return Work(
        kind=KIND,
        auto_class=AUTO_CLASS,
        data={"name": data.name, "sha256": data.sha256, **limits},
        configure=lambda _config: None,
        train=lambda: features(windows(data.train, tokenizer, labels=True, **cut)),
        evaluation={"": features(scored)},
        metrics=figures,
        write=write,
        written=lambda run: (run.folder / PREDICTIONS).is_file(),
    )
