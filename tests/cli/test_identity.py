"""No old figure for a new model: the same command before and after something was changed in place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import Ended
from support.data import SENTENCES

import orientc as library
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation.checkpoints import MARK
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import records, runs
from orientc.utils.files import file_sha256

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]
TRAINING = ("--steps", "2", "--eval-steps", "1", "--batch-size", "4", "--device", "cpu")
SCORING = ("--epochs", "0", "--batch-size", "8", "--max-length", "64", "--device", "cpu")
CODE = """
from transformers import BertForMaskedLM


class OwnForMaskedLM(BertForMaskedLM):
    def forward(self, *inputs, **named):
        found = super().forward(*inputs, **named)
        found.logits = found.logits * SCALE
        return found
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(sentence.title() for sentence in SENTENCES * 3))
    return path


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    return Path(shutil.copytree(bert_folder, tmp_path / "m"))


def document(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.document
    return found


def changed_weights(path: Path, part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change tensors of a checkpoint whose names have `part` in them, in place."""
    tensors = load_file(path)
    assert any(part in name for name in tensors)
    for name in [name for name in tensors if part in name]:
        tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def zeroed(folder: Path) -> None:
    """The encoder's layers as zeros; the table is the same."""
    changed_weights(folder / "model.safetensors", "encoder.layer", torch.zeros_like)


def configured(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def in_shards(folder: Path) -> None:
    """A checkpoint in two files, the second in a folder of its own."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "sub").mkdir()
    second = {name for name in tensors if "encoder.layer" in name}
    shards = {name: "sub/2.safetensors" if name in second else "1.safetensors" for name in tensors}
    for shard in set(shards.values()):
        save_file({name: tensors[name] for name in tensors if shards[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def case_kept(folder: Path) -> None:
    path = folder / "tokenizer.json"
    normalizer = json.loads(path.read_text())["normalizer"]
    configured(path, normalizer=normalizer | {"lowercase": False})


def with_code(folder: Path) -> None:
    configured(folder / "config.json", auto_map={"AutoModelForMaskedLM": "own.OwnForMaskedLM"})
    (folder / "own.py").write_text(CODE.replace("SCALE", "1"))


CHANGES: dict[str, tuple[Callable[[Path], object] | None, Callable[[Path], object]]] = {
    "a layer": (None, zeroed),
    "a layer in a shard in a folder of its own": (
        in_shards,
        lambda folder: changed_weights(folder / "sub" / "2.safetensors", "encoder.layer", torch.zeros_like),
    ),
    "the head's bias": (
        None,
        lambda folder: changed_weights(
            folder / "model.safetensors", "cls.predictions.bias", lambda bias: bias + torch.arange(len(bias)) / 9
        ),
    ),
    "lower-casing": (None, case_kept),
    "heads": (None, lambda folder: configured(folder / "config.json", num_attention_heads=8)),
    "activation": (None, lambda folder: configured(folder / "config.json", hidden_act="relu")),
    "code": (with_code, lambda folder: (folder / "own.py").write_text(CODE.replace("SCALE", "3"))),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_perplexity_is_measured_again_after_a_change_in_place(
    orientc: Orientc, folder: Path, text: Path, change: str
) -> None:
    before, edit = CHANGES[change]
    if before:
        before(folder)
    asked = ("perplexity", "m", "--text", text, "--device", "cpu", "--json", "-q")
    asked = (*asked, "--trust-remote-code") if change == "code" else asked
    first = document(orientc(*asked))["records"][0]
    assert document(orientc(*asked))["records"][0] == first  # found, with its seconds
    edit(folder)
    changed = document(orientc(*asked))["records"][0]
    assert changed["model"]["fingerprint"] != first["model"]["fingerprint"]
    assert changed["metrics"]["loss"] != first["metrics"]["loss"]
    fresh = document(orientc(*asked, "--out", "fresh"))["records"][0]
    assert fresh["metrics"] == changed["metrics"]


def test_another_device_or_thread_count_is_measured_again(orientc: Orientc, folder: Path, text: Path) -> None:
    asked = ("perplexity", "m", "--text", text, "--device", "cpu", "--json", "-q")
    first = document(orientc(*asked))["records"][0]
    assert first["environment"] == {"device": "cpu", "threads": 1, "processes": 1}
    torch.set_num_threads(2)
    try:
        other = document(orientc(*asked))["records"][0]
    finally:
        torch.set_num_threads(1)
    assert other["environment"]["threads"] == 2
    assert len(list(Path("runs/m").glob("*.json"))) == 1  # of one thing the latest record


def test_an_artifact_in_the_models_folder_leaves_one_model_and_its_records(
    orientc: Orientc, folder: Path, text: Path
) -> None:
    asked = ("perplexity", "m", "--text", text, "--device", "cpu", "--json", "-q", "--out", "runs")
    first = document(orientc(*asked))["records"][0]
    path = document(orientc("svd", "m", "--rank", 4, "--out", "m/small.safetensors", "--json", "-q"))["artifact"]
    assert document(orientc(*asked))["records"][0] == first
    document(orientc("perplexity", path, "--text", text, "--device", "cpu", "--json", "-q"))
    (one,) = document(orientc("compare", "runs", path, *Path("m").glob("small.*.json"), "--json"))["comparisons"]
    assert [row["name"] for row in one["rows"]] == ["original", "small"]


def test_a_calibration_is_made_anew_for_other_layers(orientc: Orientc, folder: Path, text: Path) -> None:
    asked = ("calibrate", "m", "--text", text, "--tokens", "300", "--device", "cpu", "--json", "-q")
    first = document(orientc(*asked))
    assert not document(orientc(*asked))["fresh"]
    zeroed(folder)
    other = document(orientc(*asked))
    assert other["fresh"]
    assert other["calibration"] != first["calibration"]
    assert other["input_trace"] != first["input_trace"]
    assert other["fingerprint"] != first["fingerprint"]


@pytest.fixture
def small(orientc: Orientc, folder: Path) -> Path:
    return Path(document(orientc("svd", "m", "--rank", 4, "--json", "-q"))["artifact"])


def test_an_artifact_is_tuned_anew_by_another_teacher(orientc: Orientc, folder: Path, small: Path, text: Path) -> None:
    asked = ("tune", small, "--text", text, *TRAINING, "--json", "-q")
    first = document(orientc(*asked))
    assert not document(orientc(*asked))["fresh"]
    zeroed(folder)
    other = document(orientc(*asked))
    assert (other["fresh"], other["artifact"] != first["artifact"]) == (True, True)
    assert other["settings"]["tuned_fingerprint"] != first["settings"]["tuned_fingerprint"]
    assert other["tuning"]["after"] != first["tuning"]["after"]


def test_another_teacher_does_not_go_on_where_one_was_interrupted(
    orientc: Orientc, folder: Path, small: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    asked = ("tune", small, "--text", text, *TRAINING, "--json", "-q")
    with monkeypatch.context() as patched:
        patched.setattr("orientc.distillation.training.Training._trained", killed)
        assert orientc(*asked).code == 130
    content = (folder / "model.safetensors").read_bytes()
    zeroed(folder)
    refused = orientc(*asked, "--resume")
    assert (refused.code, refused.out) == (1, "")
    assert "of another run" in refused.err
    (folder / "model.safetensors").write_bytes(content)
    assert document(orientc(*asked, "--resume"))["fresh"]
    assert not list(small.parent.glob("*.unfinished"))


def test_an_artifact_tuned_by_another_model_is_that_models(
    orientc: Orientc, folder: Path, small: Path, text: Path
) -> None:
    shutil.copytree(folder, "other")
    zeroed(Path("other"))
    made = document(orientc("tune", small, "--model", "other", "--text", text, *TRAINING, "--json", "-q"))
    assert made["base"]["id"] == "other"


def test_glue_runs_again_with_another_tokenizer(orientc: Orientc, folder: Path, glue_folder: Path) -> None:
    asked = ("glue", "--task", "cola", "--model", "m", "--data", glue_folder, *SCORING, "--json", "-q")
    assert document(orientc(*asked))["runs"][0]["fresh"]
    assert not document(orientc(*asked))["runs"][0]["fresh"]
    case_kept(folder)
    assert document(orientc(*asked))["runs"][0]["fresh"]


def test_checkpoints_of_the_model_before_a_change_are_not_gone_on_from(
    orientc: Orientc, folder: Path, glue_folder: Path
) -> None:
    asked = ("glue", "--task", "cola", "--model", "m", "--data", glue_folder, *SCORING, "--epochs", "1", "-q")
    asked = (*asked, "--save-steps", "100", "--checkpoint-dir", "kept")
    assert orientc(*asked).code == 0
    run = next(Path("runs/m").glob("original.glue-cola-*/training.json"))
    identity = json.loads(run.read_text())["run"]
    (Path("kept") / "checkpoint-1").mkdir(parents=True)
    (Path("kept") / "checkpoint-1" / MARK).write_text(json.dumps(identity))
    zeroed(folder)
    refused = orientc(*asked, "--resume")
    assert (refused.code, refused.out) == (1, "")
    assert "of another run" in refused.err


def rows_of(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1


@pytest.mark.parametrize("change", ["more rows", "other words", "the file is gone", "the file is another's"])
def test_predictions_are_of_the_test_set_that_is_there(
    orientc: Orientc, folder: Path, glue_folder: Path, change: str
) -> None:
    data = Path(shutil.copytree(glue_folder / "RTE", "glue/RTE")).parent
    asked = ("glue", "--task", "rte", "--model", "m", "--data", data, *SCORING, "--predict", "--json", "-q")
    first = document(orientc(*asked))
    made = Path(first["submissions"][0]) / "RTE.tsv"
    assert not document(orientc(*asked))["runs"][0]["fresh"]
    header, *rows = (data / "RTE" / "test.tsv").read_text().splitlines()
    before = made.read_text()
    if change == "more rows":
        rows = [f"{number}\t{row.partition(chr(9))[2]}" for number, row in enumerate(rows * 3)]
    elif change == "other words":
        rows[0] = rows[0].replace("\t", "\tnot ", 1)
    elif change == "the file is gone":
        made.unlink()
    else:
        made.write_text("index\tprediction\n0\tnot_entailment\n")
    (data / "RTE" / "test.tsv").write_text("\n".join([header, *rows, ""]))
    again = document(orientc(*asked))
    assert again["runs"][0]["fresh"]
    assert rows_of(made) == len(rows)
    assert made.read_text() == before or change in ("more rows", "other words")
    assert not document(orientc(*asked))["runs"][0]["fresh"]


def test_a_base_that_was_cast_in_place_gives_another_size(orientc: Orientc, folder: Path) -> None:
    changed_weights(folder / "model.safetensors", "", torch.Tensor.half)
    asked = ("compress", "m", "--target-ratio", 4, "--json", "-q")
    half = document(orientc(*asked))
    assert not document(orientc(*asked))["fresh"]
    changed_weights(folder / "model.safetensors", "", torch.Tensor.float)
    whole = document(orientc(*asked))
    assert whole["fresh"]
    assert whole["base"]["sha256"] == half["base"]["sha256"]
    assert whole["base"]["nbytes"] == 2 * half["base"]["nbytes"]
    assert whole["nbytes"] > half["nbytes"]
    assert whole["artifact"] != half["artifact"]


# -- two models that share a table


@pytest.fixture
def two(folder: Path) -> None:
    """`a/m` and `b/m`: the same table, other layers."""
    shutil.copytree(folder, "a/m")
    shutil.copytree(folder, "b/m")
    zeroed(Path("b/m"))


@pytest.mark.usefixtures("two")
def test_models_that_share_a_table_and_a_name_have_artifacts_of_their_own(orientc: Orientc, text: Path) -> None:
    made = {}
    for model in ("a/m", "b/m"):
        found = document(orientc("svd", model, "--rank", 4, "--json", "-q"))
        assert (found["fresh"], found["base"]["id"]) == (True, model)
        made[model] = Path(found["artifact"])
        assert not document(orientc("svd", f"./{model}", "--rank", 4, "--json", "-q"))["fresh"]
    assert made["a/m"].parent == made["b/m"].parent
    figures = {}
    for model, path in made.items():
        measured = document(orientc("perplexity", path, "--text", text, "--device", "cpu", "--json", "-q"))["records"]
        assert {record["model"]["id"] for record in measured} == {model}
        figures[model] = [record["metrics"]["perplexity"] for record in measured]
        uncompressed = document(
            orientc("perplexity", model, "--text", text, "--device", "cpu", "--out", "u", "--json", "-q")
        )
        assert figures[model][0] == uncompressed["records"][0]["metrics"]["perplexity"]
    assert figures["a/m"] != figures["b/m"]
    compared = document(orientc("compare", "runs", "--json"))["comparisons"]
    assert [(each["model"], len(each["rows"])) for each in sorted(compared, key=lambda each: each["model"])] == [
        ("a/m", 2), ("b/m", 2)
    ]  # fmt: skip


@pytest.mark.usefixtures("two")
def test_an_artifact_that_is_not_measured_stands_with_the_model_it_names(orientc: Orientc, text: Path) -> None:
    for model in ("a/m", "b/m"):
        document(orientc("svd", model, "--rank", 4, "--json", "-q"))
    document(orientc("perplexity", "a/m", "--text", text, "--device", "cpu", "--json", "-q"))
    compared = document(orientc("compare", "runs", "--json"))["comparisons"]
    assert sorted((each["model"], len(each["rows"])) for each in compared) == [("a/m", 2), ("b/m", 2)]


@pytest.mark.usefixtures("two")
def test_a_card_has_the_figures_of_the_model_that_is_exported(orientc: Orientc, text: Path) -> None:
    path = document(orientc("svd", "a/m", "--rank", 4, "--json", "-q"))["artifact"]
    scored = ("--text", text, "--device", "cpu", "--json", "-q")
    of_a = document(orientc("perplexity", path, *scored))["records"]
    figure = f"{of_a[0]['metrics']['perplexity']:.2f}"[:4]

    def card(to: str, *options: object) -> str:
        assert orientc("export", path, "--to", to, *options, "-q").code == 0
        return (Path(to) / "README.md").read_text()

    assert figure in card("x/a")
    assert "What it cost" not in card("x/b", "--model", "b/m")
    of_b = document(orientc("perplexity", path, "--model", "b/m", *scored))["records"]
    assert of_b[0]["metrics"] != of_a[0]["metrics"]
    with_both = card("x/c", "--model", "b/m")
    assert f"{of_b[0]['metrics']['perplexity']:.2f}"[:4] in with_both
    assert figure not in with_both
    zeroed(Path("a/m"))
    configured(Path("a/m/config.json"), hidden_act="relu")
    assert "What it cost" not in card("x/d")


# -- a file is hashed and parsed from the same bytes


def test_an_artifact_that_is_replaced_while_it_is_measured_keeps_its_own_figures(
    folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_table(str(folder))
    path, other = Path("x.safetensors"), Path("other.safetensors")
    artifacts.save(fit_table(table, SvdConfig(rank=16), device="cpu"), path)
    artifacts.save(fit_table(table, SvdConfig(rank=2), device="cpu"), other)
    hashes = [file_sha256(path), file_sha256(other)]
    before = library.perplexity(path, text=text, device="cpu", overwrite=True).records[1]
    measured = PerplexityMeasurement._measured

    def replaced(*arguments: Any) -> dict[str, Any]:
        found = measured(*arguments)
        shutil.copy(other, path)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(PerplexityMeasurement, "_measured", replaced)
        during = library.perplexity(path, text=text, device="cpu", overwrite=True).records[1]
    assert during.artifact == before.artifact
    assert during.metrics == before.metrics
    assert (during.artifact or {})["sha256"] == hashes[0]
    after = library.perplexity(path, text=text, device="cpu").records[1]
    assert (after.artifact or {})["sha256"] == hashes[1]
    assert after.metrics != before.metrics


def test_a_model_that_is_replaced_while_it_is_measured_has_no_record(
    orientc: Orientc, folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = PerplexityMeasurement._measured

    def replaced(*arguments: Any) -> dict[str, Any]:
        zeroed(folder)
        return measured(*arguments)

    monkeypatch.setattr(PerplexityMeasurement, "_measured", replaced)
    ended = orientc("perplexity", "m", "--text", text, "--device", "cpu", "-q")
    assert (ended.code, ended.out) == (1, "")
    assert "changed while it was read" in ended.err
    assert list(records.files_under([runs.model_folder("m")], ".json")) == []
