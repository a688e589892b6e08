from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.calibration.config import CalibrationConfig
from orientc.errors import CalibrationError, EvaluationError, UsageError
from orientc.evaluation import texts
from orientc.evaluation.texts import Text, default_calibration_text
from orientc.models.fingerprint import fingerprint
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration
from orientc.utils.progress import Progress

TEXT = Text("sentences", "\n".join(SENTENCES))
Made = Callable[..., Calibration]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """The small masked language model without its head."""
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    transformers.BertModel.from_pretrained(bert_folder).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Calibration]:
    """Calibrate a model on the sentences, each time into another folder."""

    def make(folder: Path, **options: Any) -> Calibration:
        out = tmp_path / f"runs-{len(list(tmp_path.iterdir()))}"
        given = {"text": TEXT, "tokens": 300, "device": "cpu"} | options
        return orientc.calibrate(folder, out=out, **given).calibration

    return make


def test_masked_causal_and_headless_models_are_calibrated(
    made: Made, bert_folder: Path, gpt2_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    metrics = ("input_importance", "head_importance")
    for folder, objective, held in (
        (bert_folder, "masked", metrics),
        (gpt2_folder, "causal", metrics),
        (encoder_folder, "sentence", metrics[:1]),
    ):
        found = made(folder)
        table = read_table(ModelSource.resolve(str(folder))).info
        described = found.description
        assert (described.base, described.objective, described.metrics) == (table, objective, held)
        assert (described.text, described.text_sha256, described.frequency) == ("sentences", TEXT.sha256, None)
        assert 300 <= described.measured < 400
        assert described.counted == int(found.counts.sum()) > 1000
        assert found.counts.shape == (table.vocab,)
        assert found.prior is not None
        assert float(found.prior.sum()) == pytest.approx(float(found.counts.sum()), rel=1e-4)
        assert (found.head_counts is not None) == (len(held) == 2)
        if found.head_counts is not None:
            assert float(found.head_counts.sum()) == pytest.approx(float(found.counts.sum()), rel=1e-4)
        assert all(found.tensors[name].shape == (table.dim, table.dim) for name in held)
        found.check_base(table.sha256)
        path = tmp_path / f"{objective}.safetensors"
        calibrations.save(found, path)
        assert calibrations.load(path).description == described


def test_the_same_seed_gives_the_same_file_and_another_one_another(
    made: Made, bert_folder: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("first", "again", "other")]
    for path, seed in zip(files, (0, 0, 1), strict=True):
        calibrations.save(made(bert_folder, seed=seed), path)
    first, again, other = (path.read_bytes() for path in files)
    assert first == again != other


def test_a_frequency_alone_gives_counts_alone(made: Made, bert_folder: Path) -> None:
    found = made(bert_folder, text=None, frequency="zipf")
    assert found.description.metrics == ()
    assert found.description.objective is None
    assert (found.description.counted, found.description.measured) == (0, 0)
    assert found.description.settings == {"fingerprint": found.description.fingerprint, "frequency": "zipf"}
    assert found.description.fingerprint == fingerprint(ModelSource.resolve(str(bert_folder)))


def test_with_a_text_too_the_matrices_are_the_texts(made: Made, bert_folder: Path) -> None:
    both, text = made(bert_folder, frequency="zipf"), made(bert_folder)
    assert torch.equal(both.counts, made(bert_folder, text=None, frequency="zipf").counts)
    assert both.description.counted == 0
    assert both.input_importance is not None
    assert text.input_importance is not None
    assert torch.equal(both.input_importance, text.input_importance)


def test_few_positions_for_so_many_dimensions_are_said(
    monkeypatch: pytest.MonkeyPatch, bert_folder: Path, tmp_path: Path
) -> None:
    """In one line, with what is made of them, and what to do; with plenty nothing is said."""
    monkeypatch.setattr("orientc.calibration.measure.PER_DIMENSION", 10)
    told: list[str] = []
    options: dict[str, Any] = {"text": TEXT, "device": "cpu", "out": tmp_path, "progress": Progress(warn=told.append)}
    found = orientc.calibrate(bert_folder, tokens=256, **options).calibration
    assert found.input_shrinkage is not None
    assert found.head_shrinkage is not None
    shares = f"{float(found.input_shrinkage):.0%} (input), {float(found.head_shrinkage):.0%} (head)"
    assert told == [
        f"{found.description.measured} positions are few for importance matrices of 32 dimensions, 10 each would do: "
        f"they are shrunk towards their diagonals by {shares}; measure more `tokens`"
    ]
    orientc.calibrate(bert_folder, tokens=320, **options)
    assert len(told) == 1
    monkeypatch.setattr("orientc.calibration.measure.PER_DIMENSION", 1_000)
    orientc.calibrate(bert_folder, tokens=1_000_000, **options)
    assert told[1].endswith("name a longer text")


def test_too_little_text_is_one_line_with_numbers(made: Made, bert_folder: Path, gpt2_folder: Path) -> None:
    short = Text("short.txt", "\n".join(SENTENCES[:3]))
    for folder, named in ((bert_folder, "lines of at least 20"), (gpt2_folder, "tokens to measure,")):
        with pytest.raises(CalibrationError, match=rf"short\.txt has \d+ .*{named}.* 256 are needed") as caught:
            made(folder, text=short)
        assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(
    made: Made, tmp_path: Path, bert_folder: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    model = transformers.BertForMaskedLM.from_pretrained(bert_folder)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.LayerNorm.weight[0] = torch.inf
    model.save_pretrained(tmp_path)
    wordpiece.save_pretrained(tmp_path)
    with pytest.raises(CalibrationError, match="not finite"):
        made(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"tokens": 255}, {"tokens": 2**31}, {"seed": -1}, {"seed": 2**32}]
    + [{"frequency": name} for name in ("often", "wordfreq", "wordfreq:", "zipf:en", "", "words.txt")],
)
def test_an_option_out_of_range_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^`{next(iter(options))}` must be"):
        CalibrationConfig(**options)


def test_a_text_that_is_not_there_is_named(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.txt"):
        orientc.calibrate(str(bert_folder), text=tmp_path / "none.txt")


def test_without_a_text_it_is_none_that_is_scored(monkeypatch: pytest.MonkeyPatch, bert_folder: Path) -> None:
    asked = []
    monkeypatch.setattr("orientc.evaluation.texts.wikitext", lambda split: asked.append(split) or TEXT)
    assert default_calibration_text(ModelSource.resolve(str(bert_folder))) is TEXT
    assert asked == ["validation"]
    text = default_calibration_text(ModelSource.resolve("demo"))
    assert text == texts.demo_calibration()
    lines, scored = ({line.lower() for line in one.content.split("\n")} for one in (text, texts.demo_evaluation()))
    assert len(lines) > 3000
    assert not lines & scored


def test_a_model_may_be_a_source_and_the_result_is_the_file(bert_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    options: dict[str, Any] = {"text": TEXT, "tokens": 300, "device": "cpu", "out": path}
    first = orientc.calibrate(ModelSource.resolve(str(bert_folder)), **options)
    assert (first.path, first.fresh) == (path, True)
    assert first.calibration.description == calibrations.read_description(path)
    again = orientc.calibrate(str(bert_folder), **options)
    assert again.as_dict() == first.as_dict() | {"fresh": False, "seconds": None}
