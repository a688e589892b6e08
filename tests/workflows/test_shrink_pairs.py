"""`shrink` of an encoder-decoder: pairs are split in three, and the target side's perplexity is the measure."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import transformers
from support.data import PAIRS, SENTENCES
from support.untied import save_translator
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.errors import EvaluationError
from orientc.evaluation.pairs import parse
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import HeadTable
from orientc.utils.progress import Progress
from orientc.workflows import fresh_process
from orientc.workflows.fresh_process import Loaded
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


@pytest.mark.parametrize("name", ["mt5-two-tensors", "marian-two-tables"])
def test_two_tables_of_an_encoder_decoder_share_a_size(
    name: str,
    pairs: Path,
    tmp_path: Path,
    wordpiece: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each by an importance matrix of its own; Marian's head counts what its decoder looks up in the same table."""
    monkeypatch.setattr(fresh_process, "loaded", lambda *_: Loaded(0, None, "of a test"))
    model = save_translator(name, tmp_path / "model", wordpiece)
    found = orientc.shrink(
        model, tmp_path / "small", text=pairs, target_bits=5, tokens=1000, device="cpu", out=tmp_path / "runs"
    )
    assert found.calibration
    known = calibrations.load(found.calibration)
    head = read_table(model, table="head").info
    assert known.description.metrics == ("input_importance", "head_importance")
    assert known.description.head == HeadTable(head.sha256, head.vocab, head.dim)
    assert known.head_counts is not None
    start, apart = 4, name == "marian-two-tables"  # looked up by a decoder alone
    assert (head.vocab, float(known.counts[start])) == ((128, 0) if apart else (120, 80))
    assert not apart or known.head_counts[start] > 0.03 * known.head_counts.sum()
    assert found.head == "both"
    assert [artifacts.read_description(path).base.table for path in found.artifacts] == ["input", "head"]
    assert found.bits
    assert found.bits <= 5
    assert found.verdict
    assert found.verdict.outcome.here != found.verdict.outcome.original
    alone = orientc.compress(
        model, target_bits=4, table="head", calibration=known, device="cpu", out=tmp_path / "head.safetensors"
    )
    assert 0 < alone.cost < math.inf


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
