"""An untied head's table beside the lookup's: calibrated, compressed alone or together, measured and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.commands import Ended
from support.data import SENTENCES
from support.documents import valid
from support.untied import save_untied
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.comparison.grid import grid
from orientc.compression.configs import TargetConfig
from orientc.compression.fit_and_store import Compressed
from orientc.compression.shared_budget import SharedBudget, equal_shares, total_bytes
from orientc.errors import (
    ArtifactMismatchError,
    CalibrationError,
    CalibrationMismatchError,
    EvaluationError,
    FitError,
    NoTableError,
    UsageError,
)
from orientc.evaluation.texts import Text
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration
from orientc.utils.progress import Progress

TEXT = Text("sentences", "\n".join(SENTENCES))
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return save_untied(tmp_path_factory.mktemp("models") / "untied", bytes_bpe)


@pytest.fixture(scope="module")
def calibration(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrations") / "own.safetensors"
    return orientc.calibrate(model, text=TEXT, tokens=400, device="cpu", out=out).path


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Callable[..., Compressed]:
    def make(**options: Any) -> Compressed:
        return orientc.quantize(model, bits=8, group_size=16, out=tmp_path / "runs", device="cpu", **options)

    return make


# -- a calibration


def test_a_calibration_holds_a_matrix_for_each_table(model: Path, calibration: Path) -> None:
    found, head = calibrations.load(calibration), read_table(model, table="head")
    assert found.description.head is not None
    assert found.description.head.sha256 == head.info.sha256
    assert found.head_counts is not None
    assert len(found.head_counts) == head.info.vocab
    lookup, own = found.of_table("input"), found.of_table("head")
    assert torch.equal(lookup.counts, found.counts)
    assert lookup.head_importance is None
    assert torch.equal(own.counts, found.head_counts)
    assert own.input_importance is found.head_importance
    document = valid(json.loads(json.dumps(orientc.inspect(calibration).as_dict())))
    assert document["head"] == {"sha256": head.info.sha256, "vocab": head.info.vocab, "dim": head.info.dim}


def test_the_head_can_be_left_out(model: Path, tmp_path: Path, gpt2_folder: Path) -> None:
    found = orientc.calibrate(model, text=TEXT, tokens=400, device="cpu", table="input", out=tmp_path).calibration
    assert (found.description.head, found.description.metrics) == (None, ("input_importance",))
    with pytest.raises(CalibrationError, match="nothing of the table head"):
        orientc.svd(model, rank=4, table="head", calibration=found, out=tmp_path)
    with pytest.raises(NoTableError, match="its head shares the input's"):
        orientc.calibrate(gpt2_folder, text=TEXT, table="head", out=tmp_path)


def test_each_table_is_fitted_by_its_own(model: Path, calibration: Path, tmp_path: Path) -> None:
    known = calibrations.load(calibration)
    for table in ("input", "head"):
        statistics, weight = known.of_table(table), read_table(model, table=table).weight
        artifact = orientc.svd(model, rank=8, table=table, calibration=known, out=tmp_path).artifact
        changes = artifact.dense() - weight
        weights = statistics.counts + 0.1 * statistics.counts.mean()
        if statistics.prior is not None:
            weights = weights + statistics.prior
        expected = (weights * ((changes @ _matrix(statistics)) * changes).sum(1)).sum() / weights.sum() / 2
        assert artifact.description.distances["cost"] == pytest.approx(float(expected), rel=0.01)


def _matrix(statistics: Any) -> torch.Tensor:
    matrix, share = statistics.input_importance, float(statistics.input_shrinkage)
    found: torch.Tensor = torch.lerp(matrix, matrix.diagonal().diag(), share)
    return found + 1e-3 * found.diagonal().mean() * torch.eye(len(found))


# -- artifacts


def test_an_artifact_says_which_table_it_is_of(made: Callable[..., Compressed], model: Path) -> None:
    both = made(table="all")
    assert [each.description.base.table for each in both.all] == ["input", "head"]
    assert len({*both.paths}) == 2
    for each, table in zip(both.all, ("input", "head"), strict=True):
        alone = made(table=table)
        assert (alone.path, alone.fresh, alone.others) == (each.path, False, ())
        read = artifacts.load(each.path)
        assert read.description.base == read_table(model, table=table).info
    header = both.path.read_bytes()[:4000]
    assert b'"table"' not in header  # of the lookup's: as it was before there were others
    assert made().path == both.path


def test_what_is_wrong_is_refused(made: Callable[..., Compressed], model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`out` must be a folder"):
        orientc.svd(model, rank=4, table="all", out=tmp_path / "x.safetensors")
    with pytest.raises(NoTableError, match="has no table words: it has no such table; there are input, head"):
        made(table="words")
    both = made(table="all")
    with pytest.raises(ArtifactMismatchError, match="are both of the input table"):
        orientc.perplexity([both.path, _copied(both.path, tmp_path)], text=TEXT)
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        orientc.perplexity([both.path, model], text=TEXT)


def _copied(path: Path, folder: Path) -> Path:
    other = folder / "other.safetensors"
    other.write_bytes(path.read_bytes())
    return other


def test_the_command_prints_all_files(orientc: Run, model: Path, tmp_path: Path) -> None:
    command = ["svd", model, "--rank", "4", "--json", "--quiet"]
    ended = orientc(*command, "--table", "all", "--out", tmp_path)
    document = valid(json.loads(ended.out))
    assert ended.code == 0
    assert [artifacts.read_description(path).base.table for path in document["artifacts"]] == ["input", "head"]
    assert [table["artifact"] for table in document["tables"]] == document["artifacts"]
    alone = valid(json.loads(orientc(*command, "--out", tmp_path).out))
    assert alone["artifacts"] == [alone["artifact"]] == document["artifacts"][:1]
    assert orientc(*command, "--table", "all", "--out", tmp_path / "one.safetensors").code == 2
    shown = orientc("svd", model, "--rank", "4", "--table", "head", "--out", tmp_path).out
    assert "table head, 320 × 32" in shown


# -- figures


def test_figures_are_under_the_policy_that_the_artifacts_make(made: Callable[..., Compressed], model: Path) -> None:
    both = made(table="all")
    subjects = {"input-only": both.path, "head-only": both.all[1].path, "both": [*both.paths]}
    losses = {}
    for policy, subject in subjects.items():
        original, record = orientc.perplexity(subject, text=TEXT, device="cpu", limit=200).records
        valid(json.loads(json.dumps(record.as_dict())))
        assert (original.head, record.head) == ("input-only", policy)
        assert record.metrics["kl"] > 0
        losses[policy] = record.metrics["loss"]
        again = orientc.perplexity(subject, text=TEXT, device="cpu", limit=200).records[1]
        assert again == record
    assert len({*losses.values()}) == 3
    parts = record.artifact["parts"]
    assert [part.get("table", "input") for part in parts] == ["input", "head"]
    assert parts[1]["table_sha256"] == read_table(model, table="head").info.sha256
    with pytest.raises(EvaluationError, match="of head compressed there is no tied figure"):
        orientc.perplexity(subjects["head-only"], text=TEXT, head="tied", limit=200)


def test_figures_are_those_of_a_model_with_the_decoded_tables(
    made: Callable[..., Compressed], model: Path, tmp_path: Path
) -> None:
    both = made(table="all")
    dense = transformers.LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        dense.get_input_embeddings().weight.copy_(both.artifact.dense())
        dense.get_output_embeddings().weight.copy_(both.all[1].artifact.dense())
    dense.save_pretrained(tmp_path / "dense")
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "dense")
    expected = orientc.perplexity(tmp_path / "dense", text=TEXT, device="cpu", out=tmp_path / "a").records[0]
    found = orientc.perplexity([*both.paths], text=TEXT, device="cpu").records[1]
    assert found.metrics["loss"] == pytest.approx(expected.metrics["loss"], abs=1e-5)


# -- a size that both share


def test_a_size_is_shared_out_by_predicted_loss(model: Path, calibration: Path, tmp_path: Path) -> None:
    known: Calibration = calibrations.load(calibration)
    tables = [read_table(model, table=table) for table in ("input", "head")]
    budget = SharedBudget(tables, known, "cpu")
    for config in (TargetConfig(target_bits=4.0), TargetConfig(target_mb=0.012), TargetConfig(target_ratio=9.0)):
        shares = budget.shares(config)
        sizes = [share.target_mb for share in shares]
        assert sum(size for size in sizes if size) * 1e6 <= total_bytes(tables, config)
        assert budget.predicted(shares) <= 1.01 * budget.predicted(equal_shares(tables, config))
    made = orientc.compress(model, target_bits=4, table="all", calibration=known, out=tmp_path, device="cpu")
    assert sum(each.description.nbytes for each in made.all) <= total_bytes(tables, TargetConfig(target_bits=4))


@pytest.mark.parametrize(("bits", "pairs"), [(4.5, 1), (5.25, 10), (20.0, 25)])
def test_block_types_share_a_size_as_loses_the_least(bits: float, pairs: int, model: Path, calibration: Path) -> None:
    """Of all pairs of types that are as small; of 25 the largest two lose the least, of one there is no choice."""
    known = calibrations.load(calibration)
    tables = [read_table(model, table=table) for table in ("input", "head")]
    budget, asked = SharedBudget(tables, known, "cpu"), TargetConfig(target_bits=bits, runtime="gguf")
    types = 4.5, 5.0, 5.5, 6.0, 8.5
    losses = {}
    for own in ((one, other) for one in types for other in types if one + other <= 2 * bits):
        losses[own] = budget.predicted([TargetConfig(target_bits=each, runtime="gguf") for each in own])
    assert len(losses) == pairs
    found = tuple(share.target_bits for share in budget.shares(asked))
    assert losses[found] == min(losses.values())
    with pytest.raises(FitError, match=r"can't be made as small as 0\.0115 MB together"):
        budget.shares(TargetConfig(target_bits=4.49, runtime="gguf"))


def test_without_a_calibration_each_table_has_as_many_bits(model: Path, tmp_path: Path) -> None:
    """Which is said; the artifacts are those of each table alone."""
    said: list[str] = []
    options: dict[str, Any] = {"device": "cpu", "out": tmp_path}
    both = orientc.compress(model, target_bits=3.5, table="all", progress=Progress(warn=said.append), **options)
    (line,) = said
    assert line.startswith("3.5 bits per weight for each table (input, head): without a `calibration` nothing says")
    for each, table in zip(both.all, ("input", "head"), strict=True):
        alone = orientc.compress(model, target_bits=3.5, table=table, **options)
        assert (alone.path, alone.fresh) == (each.path, False)
    counted = orientc.calibrate(model, frequency="zipf", device="cpu", out=tmp_path / "counted.safetensors").path
    with pytest.raises(CalibrationError, match="nothing of the table head"):
        orientc.compress(model, target_bits=3.5, table="all", calibration=counted, **options)
    sizes = {"target_mb": 0.02, "target_ratio": 8, "target_bits": 4}
    for field, value in sizes.items():
        both = orientc.compress(model, table="all", **options, **{field: value})
        tables = [each.description.base for each in both.all]
        assert sum(each.description.nbytes for each in both.all) <= {
            "target_mb": 20_000, "target_ratio": sum(table.nbytes for table in tables) / 8,
            "target_bits": sum(table.vocab * table.dim for table in tables) / 2,
        }[field]  # fmt: skip


def test_a_calibration_of_another_head_is_refused(
    model: Path, calibration: Path, tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    other = transformers.LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        other.get_output_embeddings().weight.add_(1)
    other.save_pretrained(tmp_path / "other")
    bytes_bpe.save_pretrained(tmp_path / "other")
    orientc.svd(tmp_path / "other", rank=4, calibration=calibration, out=tmp_path)  # the lookup is the same
    with pytest.raises(CalibrationMismatchError):
        orientc.svd(tmp_path / "other", rank=4, table="head", calibration=calibration, out=tmp_path)


# -- lined up


def test_artifacts_of_one_model_stand_in_one_comparison(made: Callable[..., Compressed], tmp_path: Path) -> None:
    """Each table's, measured or not, and both together, under the policies that they were measured under."""
    both = made(table="all")
    for subject in ([*both.paths], both.all[1].path):
        orientc.perplexity(subject, text=TEXT, device="cpu", limit=200)
    compared = orientc.compare([tmp_path / "runs"])
    (found,) = compared.comparisons
    assert not compared.problems
    assert {row.name: [*row.model_mb] for row in found.rows} == {
        "original": ["input-only", "head-only", "both"],
        both.path.stem: ["input-only"],
        both.all[1].path.stem: ["head-only"],
        f"{both.path.stem} + {both.all[1].path.stem}": ["both"],
    }
    rows = {next(iter(row.model_mb)): row for row in found.rows if not row.original}
    base = both.description.base
    saved = [each.description.base.nbytes - each.description.nbytes for each in both.all]
    sizes = {"input-only": saved[0], "head-only": saved[1], "both": sum(saved)}
    assert {head: rows[head].model_mb[head] for head in rows} == pytest.approx(
        {head: (base.model_bytes - size) / 1e6 for head, size in sizes.items()}
    )
    measured = {column.name for column in found.columns}
    assert {"perplexity.both", "perplexity.head-only"} <= measured
    key = next(column.key for column in found.columns if column.name == "perplexity.both")
    assert {row.name for row in found.rows if key in row.figures} == {"original", rows["both"].name}
    assert rows["both"].bits_per_weight == pytest.approx(both.bits_per_weight)
    assert "model MB" in grid(found).header  # of no one policy


def test_a_sweep_makes_and_measures_both(model: Path, tmp_path: Path, text_file: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "runs", "text": text_file, "limit": 200, "device": "cpu"}
    done = orientc.sweep(model, methods="quantize", bits="8,4", table="all", perplexity=True, **options)
    assert not done.failed
    assert done.compared is not None
    (found,) = done.compared.comparisons
    figures = {row.name: [key for key in row.figures if key.startswith("perplexity.both")] for row in found.rows}
    assert sorted(name.count(" + ") for name, keys in figures.items() if keys) == [0, 1, 1]
    with pytest.raises(UsageError, match="`table` all is for perplexity"):
        orientc.sweep(model, ratios="4", table="all", similarity=True, **options)


def test_gates_know_the_policies(
    orientc: Run, made: Callable[..., Compressed], tmp_path: Path, text_file: Path
) -> None:
    both = made(table="all")
    measured = orientc("perplexity", *both.paths, "--text", text_file, "--limit", 200)
    assert "both: lookup and head have a table each, and both are compressed" in measured.out
    figure = f"perplexity.both[limit=200,text={text_file.name}]"
    command = ["compare", tmp_path / "runs", "--where", f"{figure} < 1e9", "--require"]
    assert orientc(*command, f"{figure} <= 5x", "--require", "model_mb.both <= 1").code == 0
    ended = orientc(*command, "model_mb.both <= 0.001")
    assert ended.code == 3
    assert "model_mb.both is" in ended.err
