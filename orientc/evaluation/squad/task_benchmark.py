"""SQuAD v1.1 as a `Benchmark`: contexts cut into windows, outputs turned into answers, figures and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import transformers

from orientc.evaluation import finetuning
from orientc.evaluation.configs import SquadConfig
from orientc.evaluation.finetuning import Benchmark, Outputs, Run
from orientc.evaluation.setup import Setup, tokenizer_for
from orientc.evaluation.squad import metrics
from orientc.evaluation.squad.data import Data, Question
from orientc.evaluation.squad.spans import best_answers
from orientc.evaluation.squad.windows import Window, features, windows
from orientc.models.tokens import check_ids
from orientc.utils import distributed
from orientc.utils.files import json_bytes
from orientc.utils.folders import add_file

KIND = "squad"
AUTO_CLASS = transformers.AutoModelForQuestionAnswering
PREDICTIONS = "predictions.json"


def questions_benchmark(
    setup: Setup, data: Data, config: SquadConfig, *, limits: Mapping[str, int | None]
) -> Benchmark:
    """SQuAD for one model; it serves each of the model's artifacts, and configs that differ in the seed.

    Args:
        setup: The model, and how it is evaluated.
        data: Questions to train on and to score.
        config: How the model is fine-tuned.
        limits: What the data was cut to, for the record.

    Raises:
        EvaluationError: Where the model can't do the task.
    """
    source = setup.source
    length = finetuning.fitting_length(source, config.max_length, setup.progress)
    tokenizer = tokenizer_for(source)

    def cut_up(questions: Sequence[Question], *, labels: bool) -> list[Window]:
        cut: dict[str, Any] = {"max_length": length, "step": config.window_step, "progress": setup.progress}
        found = windows(questions, tokenizer, labels=labels, **cut)
        check_ids(source, [[tokenizer.pad_token_id], *(window.input_ids for window in found)])
        return found

    scored = cut_up(data.evaluation, labels=False)
    answers: dict[str, str] = {}

    def figures(outputs: dict[str, Outputs]) -> dict[str, float]:
        start_logits, end_logits = outputs[""][:2]
        answers.update(best_answers(data.evaluation, scored, start_logits, end_logits))
        return metrics.score({question.id: question.answers for question in data.evaluation}, answers)

    def blocks(_outputs: dict[str, Outputs]) -> dict[str, list[float]]:
        return metrics.blocks(data.evaluation, answers)

    def write(run: Run, _outputs: Any) -> None:
        if distributed.is_main():
            add_file(run.folder, PREDICTIONS, json_bytes(answers))

    return Benchmark(
        kind=KIND,
        auto_class=AUTO_CLASS,
        data={"name": data.name, "sha256": data.sha256, **limits},
        configure=lambda _config: None,
        train=lambda: features(cut_up(data.train, labels=True)),
        evaluation={"": features(scored)},
        metrics=figures,
        blocks=blocks,
        score=lambda found: found["f1"],
        write=write,
        written=lambda run: (run.folder / PREDICTIONS).is_file(),
        files=[PREDICTIONS],
    )
