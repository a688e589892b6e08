"""`shrink` of an encoder-decoder: pairs are split in three, and the target side's perplexity is the measure."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import transformers
from support.data import PAIRS, SENTENCES

import orientc
from orientc.errors import EvaluationError
from orientc.evaluation.pairs import parse
from orientc.models.source import ModelSource
from orientc.storage import calibration as calibrations
from orientc.utils.progress import Progress
from orientc.workflows.three_texts import three_texts

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "village.tsv"
    sides = [(" ".join(draw.choices(WORDS, k=12)), " ".join(draw.choices(WORDS, k=9))) for _ in range(240)]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in sides))
    return path


def test_the_folder_writes_what_it_was_measured_to(t5_folder: Path, pairs: Path, tmp_path: Path) -> None:
    found = orientc.shrink(
        t5_folder, tmp_path / "small", text=pairs, target_bits=4, tokens=1000, device="cpu", out=tmp_path / "runs"
    )
    assert found.calibration
    described = calibrations.read_description(found.calibration)
    assert (described.objective, described.metrics) == ("seq2seq", ("input_importance", "head_importance"))
    assert found.verdict
    assert (found.verdict.measure, found.head) == ("perplexity", "tied")
    verdict = three_texts(ModelSource.resolve(t5_folder), pairs, 0, Progress()).verdict
    (record,) = orientc.perplexity(
        tmp_path / "small", text=verdict, limit=2000, device="cpu", out=tmp_path / "again"
    ).records
    assert record.perplexity == found.verdict.outcome.here
    assert record.settings["protocol"] == "seq2seq"
    assert found.loaded
    assert found.loaded.sentences == 64
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small", trust_remote_code=True)
    assert type(model).__name__ == "T5ForConditionalGeneration"


def test_no_source_and_no_target_is_in_two_of_the_three_texts(t5_folder: Path, tmp_path: Path) -> None:
    again = [(source, f"another {target} in a village that everybody knows") for source, target in PAIRS]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [*PAIRS, *again]))
    found = three_texts(ModelSource.resolve(t5_folder), path, 0, Progress())
    parts = [parse(text.name, text.content) for text in (found.calibration, found.search, found.verdict)]
    assert all(parts)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        for side in (0, 1):
            assert not {pair[side] for pair in parts[one] if len(pair[side]) >= 40} & {
                pair[side] for pair in parts[other]
            }


def test_without_pairs_it_asks_for_some(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="measured on pairs of source and target: name some"):
        orientc.shrink(t5_folder, tmp_path / "small", device="cpu", out=tmp_path)
