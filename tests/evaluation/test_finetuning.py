"""Fine-tuning: what trains and what does not, what a run leaves, and that a killed one ends as if it had not been."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from safetensors.torch import load_file
from support import documents
from support.data import SENTENCES
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.compression.svd import svd
from orientc.errors import ArtifactMismatchError, EvaluationError, OutputError, UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.checkpoints import MARK
from orientc.evaluation.configs import FinetuningConfig, SquadConfig
from orientc.evaluation.finetuning import HISTORY, Benchmark, Run, train_only
from orientc.evaluation.glue.data import Data
from orientc.evaluation.glue.task_benchmark import task_benchmark
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.option_values import TRAIN_EMBEDDINGS
from orientc.evaluation.setup import Setup
from orientc.evaluation.squad import data as squad_data
from orientc.evaluation.squad import task_benchmark as squad
from orientc.modeling.layout import Layout
from orientc.models import compact
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import records
from orientc.utils import folders
from orientc.utils.progress import Progress

CPU = torch.device("cpu")
FAST = FinetuningConfig(epochs=2, batch_size=4, learning_rate=5e-3, max_length=24)  # 2 epochs of 2 steps
STEPS = 4
TABLE = "bert.embeddings.word_embeddings"
CLASSIFIER = transformers.AutoModelForSequenceClassification


@dataclass
class Watch:
    """A user who reads along, and may press Ctrl-C after some steps of training."""

    patience: int | None = None
    stages: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        return Progress(self._stage, self._advance, self.warnings.append)

    @property
    def trained(self) -> int:
        """Steps that were really trained: all but those a checkpoint brought."""
        return sum(self.steps[1:])

    def _stage(self, name: str, _total: int) -> None:
        self.stages.append(name)

    def _advance(self, count: int) -> None:
        if self.stages[-1] == "training":
            self.steps.append(count)
            if self.trained == self.patience:
                raise KeyboardInterrupt


def data_of(task: str, *, train: int = 8, evaluation: int = 6) -> Data:
    """A few examples whose label can be told from the text, one class as often as another."""

    def rows(start: int, count: int) -> datasets.Dataset:
        described = TASKS[task]
        examples = []
        for number in range(start, start + count):
            label = number % len(described.labels) if described.labels else number % 4 * 1.25
            texts = (SENTENCES[(12 * number + offset) % len(SENTENCES)] for offset in range(len(described.texts)))
            examples.append(dict(zip(described.texts, texts, strict=True)) | {"label": label, "idx": number})
        return datasets.Dataset.from_list(examples)

    splits = {split: rows(train + 3 * index, evaluation) for index, split in enumerate(TASKS[task].splits)}
    return Data("tiny", rows(0, train), splits, ())


def subject_of(folder: Path, path: Path | None = None) -> Subject:
    source = ModelSource.resolve(str(folder))
    return Subject(source, path, artifacts.load(path)) if path else Subject(source)


def tune(
    out: Path,
    folder: Path,
    path: Path | None = None,
    settings: FinetuningConfig = FAST,
    *,
    task: str = "sst2",
    data: Data | None = None,
    watch: Watch | None = None,
    change: Callable[[Benchmark], Benchmark] = lambda benchmark: benchmark,
    overwrite: bool = False,
    force: bool = False,
    **options: Any,
) -> Run:
    """Fine-tune a model, with an artifact if one is named, on a few examples."""
    subject, progress = subject_of(folder, path), (watch or Watch()).progress
    limits = {"limit_train": None, "limit_eval": None}
    setup = Setup(subject.source, out, CPU, overwrite, force, progress)
    benchmark = task_benchmark(setup, TASKS[task], data or data_of(task), settings, limits=limits)
    return finetuning.run(setup, subject, change(benchmark), settings, **options)


def score_only(out: Path, folder: Path, path: Path | None = None, *, task: str = "sst2", **options: Any) -> Run:
    return tune(out, folder, path, replace(FAST, epochs=0), task=task, **options)


def listening(outputs: list[Any]) -> Callable[[Benchmark], Benchmark]:
    """Also keep what the model gives for the evaluation set."""
    return lambda given: replace(given, metrics=lambda found: outputs.append(found[""]) or given.metrics(found))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def loaded(folder: Path) -> PreTrainedModel:
    return ModelSource.resolve(str(folder)).load(CLASSIFIER, dtype=torch.float32)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25).reshape(2, 10)).logits


def configure(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(transformers.Trainer, "train", train)


@pytest.fixture(scope="module")
def artifact(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compressed table for the tiny BERT."""
    path = tmp_path_factory.mktemp("artifacts") / "svd-r8.safetensors"
    svd(bert_folder, rank=8, center=True, out=path)
    return path


@pytest.fixture(scope="module")
def dense(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without compression; left as it is."""
    return tune(tmp_path_factory.mktemp("dense"), bert_folder)


@pytest.fixture(scope="module")
def compressed(bert_folder: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a compressed table; left as it is."""
    return tune(tmp_path_factory.mktemp("compressed"), bert_folder, artifact)


# -- what trains


@pytest.mark.parametrize("chosen", TRAIN_EMBEDDINGS)
def test_of_a_compressed_table_what_is_chosen_trains_and_nothing_else(
    chosen: str, bert_folder: Path, artifact: Path, tmp_path: Path
) -> None:
    done = tune(tmp_path, bert_folder, artifact, replace(FAST, train_embeddings=chosen, weight_decay=0.1))

    before, after = artifacts.load(artifact).factors, tensors(done.folder)
    expected = {"latents": chosen == "all", "decoder_weight": chosen != "none", "decoder_bias": chosen != "none"}
    for part, tensor in zip(expected, (before.latents, before.weight, before.bias), strict=True):
        assert torch.equal(after[f"{TABLE}.{part}"], tensor) != expected[part], part
    assert f"{TABLE}.weight" not in after
    original = tensors(bert_folder)
    others = [key for key in after if key in original]
    assert len(others) == 20
    assert not any(torch.equal(after[key], original[key]) for key in others if "key.bias" not in key)


@pytest.mark.parametrize("chosen", TRAIN_EMBEDDINGS)
def test_an_uncompressed_table_trains_only_with_all(chosen: str, bert_folder: Path, tmp_path: Path) -> None:
    done = tune(tmp_path, bert_folder, None, replace(FAST, train_embeddings=chosen, weight_decay=0.1))
    before, after = tensors(bert_folder), tensors(done.folder)
    assert torch.equal(after[f"{TABLE}.weight"], before[f"{TABLE}.weight"]) == (chosen != "all")
    assert not torch.equal(after["bert.embeddings.position_embeddings.weight"][:9], torch.zeros(9, 32))
    assert not torch.equal(
        after["bert.embeddings.token_type_embeddings.weight"], before["bert.embeddings.token_type_embeddings.weight"]
    )


@pytest.mark.parametrize("chosen", TRAIN_EMBEDDINGS)
def test_choosing_again_undoes_what_was_chosen_before(chosen: str, bert_folder: Path, artifact: Path) -> None:
    source = ModelSource.resolve(str(bert_folder))
    model = substitute(source.load(CLASSIFIER, dtype=torch.float32, new_head=True), artifacts.load(artifact))
    for other in TRAIN_EMBEDDINGS:
        train_only(model, other)
    train_only(model, chosen)
    frozen = {name.rpartition(".")[2] for name, entry in model.named_parameters() if not entry.requires_grad}
    assert (
        frozen == {"all": set(), "decoder": {"latents"}, "none": {"latents", "decoder_weight", "decoder_bias"}}[chosen]
    )


def test_the_frozen_latents_of_a_loaded_compact_model_stay_too(compressed: Run, tmp_path: Path) -> None:
    done = tune(tmp_path, compressed.folder)
    before, after = tensors(compressed.folder), tensors(done.folder)
    assert torch.equal(after[f"{TABLE}.latents"], before[f"{TABLE}.latents"])
    assert not torch.equal(after[f"{TABLE}.decoder_weight"], before[f"{TABLE}.decoder_weight"])
    assert before.keys() == after.keys()
    assert done.record.artifact is None
    assert done.record.model["table"]["nbytes"] == artifacts_bytes(before)


def artifacts_bytes(state: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for key, tensor in state.items() if key.startswith(f"{TABLE}."))


# -- what a run leaves


def test_the_model_folder_gives_the_figures_of_the_record(dense: Run, compressed: Run, tmp_path: Path) -> None:
    for run in (dense, compressed):
        again = score_only(tmp_path, run.folder)
        assert again.record.metrics == run.record.metrics
        assert again.fresh
        assert again.record.artifact is None


def test_the_models_outputs_come_back(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    outputs: list[Any] = []
    done = tune(tmp_path, bert_folder, artifact, change=listening(outputs))
    score_only(tmp_path, done.folder, change=listening(outputs))
    trained, scored = outputs
    assert trained.shape == (6, 2)
    assert abs(trained - scored).max() < 1e-6


def test_the_model_folder_is_compact_exactly_where_the_table_is(dense: Run, compressed: Run) -> None:
    assert ModelSource.resolve(str(dense.folder)).compact is None
    held = ModelSource.resolve(str(compressed.folder)).compact
    vocab = held.tables["input"].vocab if held else 0
    assert held == compact.Compact("bert", "input-only", {"input": Layout(vocab, 32, 8, bias=True)})
    tables = [read_table(ModelSource.resolve(str(run.folder))).info for run in (dense, compressed)]
    assert tables[0].nbytes == tables[0].vocab * 32 * 4
    assert tables[1].nbytes == (tables[1].vocab * 8 + 32 * 8 + 32) * 4
    assert tables[0].nbytes - tables[1].nbytes == pytest.approx(
        len(weights(dense.folder)) - len(weights(compressed.folder)), abs=512
    )


def test_a_compact_model_folder_is_compressed_again(compressed: Run, tmp_path: Path) -> None:
    path = tmp_path / "svd-r3.safetensors"
    svd(compressed.folder, rank=3, out=path)
    done = score_only(tmp_path, compressed.folder, path)
    assert done.record.artifact is not None
    assert done.record.artifact["rank"] == 3
    assert done.record.model["table_sha256"] == artifacts.load(path).description.base.sha256


def test_nothing_but_the_record_and_the_model_is_left(dense: Run) -> None:
    assert sorted(os.listdir(dense.path.parent)) == sorted([dense.path.name, dense.folder.name])
    assert {"config.json", "model.safetensors", "tokenizer.json", HISTORY} <= set(os.listdir(dense.folder))
    history = documents.read(dense.folder / HISTORY)
    assert any("loss" in entry for entry in history["log"])


def test_the_record_says_what_was_done(bert_folder: Path, artifact: Path, compressed: Run) -> None:
    record = compressed.record
    assert records.read(compressed.path) == record
    assert (record.kind, record.head, record.text) == ("glue", "input-only", None)
    assert record.settings == vars(FAST)
    data = {"task": "sst2", "name": "tiny", "sha256": data_of("sst2").sha256, "limit_train": None, "limit_eval": None}
    assert record.data == data
    assert record.artifact is not None
    assert record.artifact["path"] == str(artifact)
    assert (record.artifact["method"], record.artifact["rank"]) == ("svd", 8)
    assert record.model["id"] == str(bert_folder)
    assert record.model["table_sha256"] == artifacts.load(artifact).description.base.sha256
    assert record.figures.keys() == {"sst2.accuracy"}
    assert compressed.path.name.startswith("svd-r8.glue-sst2-input-only-")
    assert record.seconds > 0


def test_the_record_of_a_scored_model_has_no_training_settings(
    bert_folder: Path, artifact: Path, dense: Run, tmp_path: Path
) -> None:
    used = {"epochs": 0, "max_length": 24, "precision": "float32", "attention": None}
    scored = score_only(tmp_path, dense.folder).record
    assert (scored.settings, scored.chosen) == (used, {"epochs": 0, "max_length": 24})
    assert score_only(tmp_path, bert_folder, artifact).record.settings == used | {"seed": 0}
    assert set(os.listdir(tmp_path)) == {path.name for path in tmp_path.glob("*.json")}  # no folders


def test_scoring_depends_on_the_seed_only_where_a_head_is_drawn(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    for folder, count in ((dense.folder, 1), (bert_folder, 2)):
        runs = [tune(tmp_path, folder, None, replace(FAST, epochs=0, seed=seed, batch_size=2)) for seed in (0, 1)]
        assert len({run.path for run in runs}) == count


def test_a_model_without_a_head_is_scored_with_a_warning(
    bert_folder: Path, artifact: Path, dense: Run, tmp_path: Path
) -> None:
    for folder, path, warned in ((bert_folder, None, 1), (bert_folder, artifact, 1), (dense.folder, None, 0)):
        watch = Watch()
        score_only(tmp_path, folder, path, watch=watch)
        assert len([line for line in watch.warnings if "a random one is scored" in line]) == warned
        assert watch.stages == ["scoring"]


def test_an_artifact_put_into_a_fine_tuned_model_is_scored(dense: Run, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    svd(dense.folder, rank=32, out=path)
    assert score_only(tmp_path, dense.folder, path).record.metrics == dense.record.metrics


def test_an_artifact_of_another_table_is_refused_unless_forced(
    artifact: Path, bert_folder: Path, tmp_path: Path
) -> None:
    other = transformers.BertForMaskedLM.from_pretrained(bert_folder)
    other.bert.embeddings.word_embeddings.weight.data.add_(1)
    shutil.copytree(bert_folder, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ArtifactMismatchError):
        score_only(tmp_path / "runs", tmp_path / "other", artifact)
    watch = Watch()
    score_only(tmp_path / "runs", tmp_path / "other", artifact, force=True, watch=watch)
    assert any("`force`" in line for line in watch.warnings)


# -- again


def test_the_same_run_gives_the_same_bytes_and_another_seed_does_not(
    bert_folder: Path, artifact: Path, compressed: Run, tmp_path: Path
) -> None:
    same = tune(tmp_path, bert_folder, artifact)
    assert same.record.metrics == compressed.record.metrics
    assert weights(same.folder) == weights(compressed.folder)
    assert same.path.name == compressed.path.name
    other = tune(tmp_path, bert_folder, artifact, replace(FAST, seed=1))
    assert weights(other.folder) != weights(same.folder)
    assert other.path != same.path


def test_a_run_that_is_done_is_not_done_again(bert_folder: Path, dense: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_training(monkeypatch)
    monkeypatch.setattr(transformers.Trainer, "predict", transformers.Trainer.train)
    again = tune(dense.path.parent, bert_folder)
    assert not again.fresh
    assert again.record == dense.record
    with pytest.raises(AssertionError, match="trained"):
        tune(dense.path.parent, bert_folder, overwrite=True, checkpoint_dir=dense.path.parent / "other")
    shutil.rmtree(dense.path.parent / "other")


def test_a_lost_record_is_scored_again_without_training(
    bert_folder: Path, compressed: Run, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(compressed.folder, tmp_path / compressed.folder.name)
    forbid_training(monkeypatch)
    again = tune(tmp_path, bert_folder, artifact)
    assert again.fresh
    assert again.record.metrics == compressed.record.metrics
    assert records.read(again.path) == again.record
    assert sorted(os.listdir(tmp_path)) == sorted([again.path.name, again.folder.name])


@pytest.mark.parametrize("history", ["", "{}", "[]", '{"run": {}}', "[" * 10**5])
def test_a_folder_that_is_not_this_runs_model_is_trained_over(
    history: str, bert_folder: Path, dense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dense.folder, tmp_path / dense.folder.name)
    folders.add_file(tmp_path / dense.folder.name, HISTORY, history.encode())
    forbid_training(monkeypatch)
    with pytest.raises(AssertionError, match="trained"):
        tune(tmp_path, bert_folder)


def test_overwriting_trains_again(bert_folder: Path, tmp_path: Path) -> None:
    first = tune(tmp_path, bert_folder)
    expected = weights(first.folder)
    folders.add_file(first.folder, "stale.txt", b"from before")
    watch = Watch()
    assert tune(tmp_path, bert_folder, overwrite=True, watch=watch).fresh
    assert watch.trained == STEPS
    assert weights(first.folder) == expected
    assert not (first.folder / "stale.txt").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_run_did_not_write_stops_it_before_training(
    overwrite: bool, bert_folder: Path, dense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / dense.folder.name
    folder.mkdir()
    (folder / "notes.txt").write_text("do not lose")
    forbid_training(monkeypatch)
    with pytest.raises(OutputError, match=r"holds notes\.txt, which orientc did not write"):
        tune(tmp_path, bert_folder, overwrite=overwrite)
    assert os.listdir(folder) == ["notes.txt"]


# -- heads and labels


@pytest.mark.parametrize(
    ("names", "opposite"),
    [(("POSITIVE", "Negative"), True), (("negative", "positive"), False), (("LABEL_1", "LABEL_0"), False)],
)
def test_the_outputs_of_a_fine_tuned_model_are_taken_by_their_names(
    names: tuple[str, str], opposite: bool, dense: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(dense.folder, folder)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    configure(folder, lambda values: values.update(labels))
    data = data_of("sst2", evaluation=7)  # an odd number, so that no accuracy is its own opposite

    straight = score_only(tmp_path / "straight", dense.folder, data=data).record.metrics["accuracy"]
    found = score_only(tmp_path / "found", folder, data=data).record.metrics["accuracy"]

    assert found == pytest.approx(1 - straight if opposite else straight)


def test_three_labels_in_another_order_give_the_same_figures(bert_folder: Path, tmp_path: Path) -> None:
    done = tune(tmp_path, bert_folder, task="mnli")
    assert done.record.metrics.keys() == {"accuracy_matched", "accuracy_mismatched"}
    folder = tmp_path / "rolled"
    shutil.copytree(done.folder, folder)
    model = transformers.BertForSequenceClassification.from_pretrained(done.folder)
    assert model.config.label2id == {"entailment": 0, "neutral": 1, "contradiction": 2}
    for parameter in (model.classifier.weight, model.classifier.bias):
        parameter.data = parameter.data[[2, 0, 1]]
    model.config.label2id = {"contradiction": 0, "entailment": 1, "neutral": 2}
    model.config.id2label = {0: "contradiction", 1: "entailment", 2: "neutral"}
    model.save_pretrained(folder)
    assert score_only(tmp_path, folder, task="mnli").record.metrics == done.record.metrics


def test_a_head_for_another_task_is_refused_when_scoring_and_replaced_when_training(
    dense: Run, compressed: Run, tmp_path: Path
) -> None:
    for run in (dense, compressed):
        with pytest.raises(EvaluationError, match="fine-tuned for 2 outputs, mnli has 3"):
            score_only(tmp_path, run.folder, task="mnli")
        with pytest.raises(EvaluationError, match="fine-tuned for 2 outputs, stsb has 1"):
            score_only(tmp_path, run.folder, task="stsb")
        done = tune(tmp_path, run.folder, task="mnli")
        assert tensors(done.folder)["classifier.weight"].shape == (3, 32)
        assert loaded(done.folder).config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
        assert done.record.metrics.keys() == {"accuracy_matched", "accuracy_mismatched"}


def test_a_score_is_learnt_by_one_output(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    outputs: list[Any] = []
    done = tune(tmp_path, bert_folder, artifact, task="stsb", change=listening(outputs))
    assert done.record.metrics.keys() == {"pearson", "spearman"}
    assert tensors(done.folder)["classifier.weight"].shape == (1, 32)
    score_only(tmp_path, done.folder, task="stsb", change=listening(outputs))
    assert outputs[0].shape == (6, 1)
    assert abs(outputs[0] - outputs[1]).max() < 1e-6


def test_a_model_without_such_a_class_is_refused(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    config = transformers.CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.CLIPTextModel(config).save_pretrained(tmp_path / "clip")
    wordpiece.save_pretrained(tmp_path / "clip")
    with pytest.raises(EvaluationError, match="has no SequenceClassification class"):
        tune(tmp_path, tmp_path / "clip")


# -- tokenizers and lengths


def test_a_length_the_model_has_no_positions_for_is_cut_with_a_warning(bert_folder: Path, tmp_path: Path) -> None:
    texts = [" ".join(SENTENCES[number:]) for number in range(4)]
    rows = datasets.Dataset.from_dict({"sentence": texts, "label": [0, 1, 0, 1], "idx": range(4)})
    watch = Watch()
    data = Data("long", rows, {"": rows}, ())
    done = tune(tmp_path, bert_folder, None, replace(FAST, max_length=1000), data=data, watch=watch)
    assert "takes 64 tokens at most: `max_length` 1000 is cut to that" in watch.warnings[0]
    assert done.record.metrics.keys() == {"accuracy"}
    shorter = Watch()
    tune(tmp_path, bert_folder, None, replace(FAST, epochs=0, max_length=64), data=data, watch=shorter)
    assert not any("max_length" in line for line in shorter.warnings)


def test_a_decoder_without_a_padding_token_works(gpt2_folder: Path, tmp_path: Path) -> None:
    """Its batches are padded with the end of text, and the class is read off the last token before that."""
    path = tmp_path / "svd.safetensors"
    svd(gpt2_folder, rank=8, out=path)
    done = tune(tmp_path, gpt2_folder, path)
    one_by_one = tune(tmp_path, done.folder, None, replace(FAST, epochs=0, batch_size=1), overwrite=True)
    assert one_by_one.record.metrics == done.record.metrics
    assert loaded(done.folder).config.pad_token_id == 0


def test_without_any_token_to_pad_with_a_model_is_refused(
    gpt2_folder: Path, bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = tmp_path / "gpt2"
    shutil.copytree(gpt2_folder, folder)
    PreTrainedTokenizerFast(tokenizer_object=bytes_bpe.backend_tokenizer).save_pretrained(folder)
    with pytest.raises(EvaluationError, match="neither a padding nor an end-of-text token"):
        tune(tmp_path, folder)


# -- interrupted


def interrupt(
    out: Path, folder: Path, path: Path | None = None, settings: FinetuningConfig = FAST, **options: Any
) -> Watch:
    """A run that is killed in its second epoch."""
    watch = Watch(patience=3)
    with pytest.raises(KeyboardInterrupt):
        tune(out, folder, path, settings, watch=watch, **options)
    assert watch.trained == 3
    return watch


def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(
    bert_folder: Path, artifact: Path, compressed: Run, tmp_path: Path
) -> None:
    interrupt(tmp_path, bert_folder, artifact)
    with pytest.raises(OutputError, match="go on from step 2 with `resume`"):
        tune(tmp_path, bert_folder, artifact)

    watch = Watch()
    done = tune(tmp_path, bert_folder, artifact, resume=True, watch=watch)

    assert watch.steps == [2, 1, 1]
    assert weights(done.folder) == weights(compressed.folder)
    assert done.record.metrics == compressed.record.metrics
    assert sorted(os.listdir(tmp_path)) == sorted([done.path.name, done.folder.name])
    assert not tune(tmp_path, bert_folder, artifact, resume=True).fresh


@pytest.mark.slow
def test_with_save_steps_a_killed_run_goes_on_within_an_epoch(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    interrupt(tmp_path, bert_folder, save_steps=1)
    watch = Watch()
    done = tune(tmp_path, bert_folder, resume=True, save_steps=1, watch=watch)
    assert watch.steps[0] == 2
    assert watch.trained == 2
    assert weights(done.folder) == weights(dense.folder)


@pytest.mark.slow
def test_gradient_accumulation_is_resumed_exactly_too(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    settings = replace(FAST, batch_size=2, gradient_accumulation=2, warmup=0.25, train_embeddings="all")
    expected = tune(tmp_path / "whole", bert_folder, artifact, settings)
    interrupt(tmp_path, bert_folder, artifact, settings)
    done = tune(tmp_path, bert_folder, artifact, settings, resume=True)
    assert weights(done.folder) == weights(expected.folder)


@pytest.mark.slow
def test_a_run_killed_between_training_and_saving_does_not_train_again(
    bert_folder: Path, dense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "write_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path, bert_folder)
    watch = Watch()
    done = tune(tmp_path, bert_folder, resume=True, watch=watch)
    assert watch.steps == [STEPS]
    assert weights(done.folder) == weights(dense.folder)


@pytest.mark.slow
def test_starting_over_does_not_look_back(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    interrupt(tmp_path, bert_folder)
    watch = Watch()
    done = tune(tmp_path, bert_folder, overwrite=True, watch=watch)
    assert watch.steps == [0, 1, 1, 1, 1]
    assert weights(done.folder) == weights(dense.folder)


def test_checkpoints_are_compact_and_say_whose_they_are(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    interrupt(tmp_path, bert_folder, artifact, checkpoint_dir=tmp_path / "kept")
    checkpoint = tmp_path / "kept" / "checkpoint-2"
    assert sorted(os.listdir(tmp_path / "kept")) == ["checkpoint-2", MARK]
    assert (checkpoint / MARK).is_file()
    latents = compact.compressed_tables(loaded(checkpoint))["input"].latents
    assert torch.equal(latents, artifacts.load(artifact).factors.latents)


@pytest.mark.slow
def test_checkpoints_of_other_settings_are_refused_and_overwritten(
    bert_folder: Path, dense: Run, tmp_path: Path
) -> None:
    """And those of the run that starts over are the ones it goes on from, though the others' numbers are higher."""
    kept = tmp_path / "kept"
    interrupt(tmp_path, bert_folder, settings=replace(FAST, seed=1), checkpoint_dir=kept)
    (kept / "checkpoint-2").rename(kept / "checkpoint-2000")
    for resume in (False, True):
        with pytest.raises(OutputError, match="checkpoints of another run"):
            tune(tmp_path, bert_folder, checkpoint_dir=kept, resume=resume)
    interrupt(tmp_path, bert_folder, checkpoint_dir=kept, overwrite=True)
    done = tune(tmp_path, bert_folder, checkpoint_dir=kept, resume=True)
    assert weights(done.folder) == weights(dense.folder)
    assert not kept.exists()


@pytest.mark.slow
def test_a_half_written_checkpoint_is_none(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    interrupt(tmp_path, bert_folder, checkpoint_dir=kept)
    shutil.copytree(kept / "checkpoint-2", kept / "checkpoint-3")
    (kept / "checkpoint-3" / MARK).unlink()
    (kept / "checkpoint-3" / "model.safetensors").write_bytes(b"half")
    watch = Watch()
    done = tune(tmp_path, bert_folder, checkpoint_dir=kept, resume=True, watch=watch)
    assert watch.steps[0] == 2
    assert weights(done.folder) == weights(dense.folder)

    interrupt(tmp_path, bert_folder, checkpoint_dir=kept, overwrite=True)
    (kept / "checkpoint-2" / MARK).unlink()
    watch = Watch()
    tune(tmp_path, bert_folder, checkpoint_dir=kept, overwrite=True, watch=watch)
    assert watch.steps[0] == 0
    assert not kept.exists()


@pytest.mark.slow
def test_what_else_lies_in_the_checkpoints_folder_is_left_alone(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("do not lose")
    tune(tmp_path, bert_folder, checkpoint_dir=kept)
    assert os.listdir(kept) == ["notes.txt"]
    (kept / "notes.txt").unlink()
    interrupt(tmp_path, bert_folder, settings=replace(FAST, seed=1), checkpoint_dir=kept)
    score_only(tmp_path, dense.folder, checkpoint_dir=kept)
    assert sorted(os.listdir(kept)) == ["checkpoint-2", MARK]  # another run's


# -- what goes wrong


def test_training_that_diverges_is_named_with_its_cure(bert_folder: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the model that is there
        with pytest.raises(EvaluationError, match="not finite: training diverged; try a smaller `learning_rate`"):
            tune(tmp_path, bert_folder, None, replace(FAST, learning_rate=1e30))
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", 0, "`batch_size` must be at least 1"),
        ("batch_size", 2**31, "`batch_size`"),
        ("gradient_accumulation", 0, "`gradient_accumulation` must be at least 1"),
        ("max_length", 0, "`max_length` must be at least 1"),
        ("max_length", -5, "`max_length` must be at least 1"),
        ("epochs", -1, "`epochs` must be 0"),
        ("epochs", float("inf"), "`epochs`"),
        ("epochs", float("nan"), "`epochs`"),
        ("learning_rate", 0, "`learning_rate` must be above 0"),
        ("learning_rate", -1e-5, "`learning_rate`"),
        ("learning_rate", float("inf"), "`learning_rate`"),
        ("learning_rate", float("nan"), "`learning_rate`"),
        ("warmup", -0.1, "`warmup` is a share"),
        ("warmup", 1, "`warmup` is a share"),
        ("warmup", 500, "`warmup` is a share"),
        ("warmup", float("nan"), "`warmup`"),
        ("weight_decay", -0.1, "`weight_decay` must be 0 or more"),
        ("weight_decay", float("inf"), "`weight_decay`"),
        ("weight_decay", float("nan"), "`weight_decay`"),
        ("seed", -1, "`seed`"),
        ("seed", 2**32, "`seed`"),
        ("train_embeddings", "latents", "`train_embeddings` must be one of decoder, all, none"),
        ("train_embeddings", "", "`train_embeddings`"),
    ],
)
@pytest.mark.parametrize("kind", [FinetuningConfig, SquadConfig])
def test_a_setting_no_training_can_use_is_a_usage_error(
    kind: type[FinetuningConfig], name: str, value: float | str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        kind(**{name: value})  # type: ignore[arg-type]


def test_settings_at_their_borders_are_taken() -> None:
    FinetuningConfig(
        epochs=0.5, batch_size=1, max_length=1, warmup=0.0, weight_decay=0.0, seed=2**32 - 1, learning_rate=1e-30
    )
    with pytest.raises(UsageError, match="`window_step` must be at least 1"):
        SquadConfig(window_step=0)


# -- SQuAD


def test_grouping_by_length_does_not_mix_up_what_is_scored(bert_folder: Path, tmp_path: Path) -> None:
    """What is learnt from one word is known of all lengths, each in its place."""
    texts = [" ".join([("fox", "village")[number % 3 == 0]] * (1 + 7 * number % 20)) for number in range(20)]
    rows = [{"sentence": text, "label": int("fox" in text), "idx": number} for number, text in enumerate(texts)]
    known = datasets.Dataset.from_list(rows)
    settings = replace(FAST, epochs=20, learning_rate=1e-2, group_by_length=True)
    run = tune(tmp_path, bert_folder, settings=settings, data=Data("tiny", known, {"": known}, ()))
    assert run.record.metrics["accuracy"] == 1.0


def test_squad_goes_the_same_way(
    bert_folder: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [
        squad_data.Question(
            f"q{number}", "Who or what was it?", text, (text.split()[2],), (text.index(text.split()[2]),)
        )
        for number, text in enumerate(SENTENCES[::6])
    ]
    data = squad_data.Data("tiny", questions[:5], questions[5:], ())
    settings = SquadConfig(epochs=1, batch_size=4, learning_rate=5e-3, max_length=32, window_step=16)

    def run(folder: Path, path: Path | None, settings: SquadConfig) -> Run:
        subject = subject_of(folder, path)
        setup = Setup(subject.source, tmp_path, CPU)
        benchmark = squad.questions_benchmark(setup, data, settings, limits={"limit_train": None})
        return finetuning.run(setup, subject, benchmark, settings)

    done = run(bert_folder, artifact, settings)
    predictions = done.folder / squad.PREDICTIONS
    answered = json.loads(predictions.read_text())
    assert answered.keys() == {question.id for question in questions[5:]}
    assert (done.record.kind, done.record.settings["window_step"]) == ("squad", 16)
    assert done.record.metrics.keys() == {"exact_match", "f1"}
    assert torch.equal(tensors(done.folder)[f"{TABLE}.latents"], artifacts.load(artifact).factors.latents)

    forbid_training(monkeypatch)
    assert not run(bert_folder, artifact, settings).fresh
    predictions.unlink()
    assert run(bert_folder, artifact, settings).record.metrics == done.record.metrics
    assert json.loads(predictions.read_text()) == answered

    scored = run(done.folder, None, replace(settings, epochs=0))
    assert scored.record.metrics == done.record.metrics
    used = {"epochs": 0, "max_length": 32, "precision": "float32", "attention": None, "window_step": 16}
    assert scored.record.settings == used
    assert json.loads((scored.folder / squad.PREDICTIONS).read_text()) == answered


# -- which models stay


def tune_seeds(out: Path, folder: Path, *seeds: int, **options: Any) -> list[Run]:
    subject = subject_of(folder)
    setup = Setup(subject.source, out, CPU)
    benchmark = task_benchmark(
        setup, TASKS["sst2"], data_of("sst2"), FAST, limits={"limit_train": None, "limit_eval": None}
    )
    return finetuning.run_seeds(setup, subject, benchmark, FAST.with_seeds(seeds), **options)


@pytest.mark.slow
def test_of_several_seeds_no_model_stays_and_of_one_its_own(bert_folder: Path, tmp_path: Path) -> None:
    several = tune_seeds(tmp_path / "several", bert_folder, 1, 2)
    assert [run.model for run in several] == [None, None]
    assert [sorted(os.listdir(run.folder)) for run in several] == [[folders.LIST, HISTORY]] * 2
    (alone,) = tune_seeds(tmp_path / "alone", bert_folder, 1)
    assert alone.model
    assert alone.record.metrics == several[0].record.metrics


@pytest.mark.slow
def test_the_best_model_is_all_that_stays_whichever_seed_it_is(bert_folder: Path, tmp_path: Path) -> None:
    scores = iter([0.5, 0.75, 0.25])

    def change(given: Benchmark) -> Benchmark:
        return replace(given, metrics=lambda _found: {"accuracy": next(scores)})

    subject = subject_of(bert_folder)
    setup = Setup(subject.source, tmp_path, CPU)
    limits = {"limit_train": None, "limit_eval": None}
    benchmark = change(task_benchmark(setup, TASKS["sst2"], data_of("sst2"), FAST, limits=limits))
    found = finetuning.run_seeds(setup, subject, benchmark, FAST.with_seeds([1, 2, 3]), keep="best")
    assert [run.model is not None for run in found] == [False, True, False]
    assert all((run.folder / HISTORY).is_file() for run in found)
    assert score_only(tmp_path / "again", found[1].folder).record.metrics["accuracy"] <= 1


@pytest.mark.slow
def test_a_run_whose_model_is_not_kept_goes_on_from_its_checkpoint_too(
    bert_folder: Path, dense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after training, before it was scored: what was trained is not lost."""
    with monkeypatch.context() as patched:
        patched.setattr(transformers.Trainer, "predict", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path, bert_folder, keep_model=False)
    watch = Watch()
    done = tune(tmp_path, bert_folder, keep_model=False, resume=True, watch=watch)
    assert (watch.trained, done.model) == (0, None)
    assert done.record.metrics == dense.record.metrics


def test_training_is_logged_beside_the_record(bert_folder: Path, dense: Run, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = tune(tmp_path, bert_folder, log_with=["tensorboard"])
    events = reader.EventAccumulator(str(done.folder.with_name(f"{done.folder.name}.logs") / "orientc"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))
    (scored,) = events.Scalars("accuracy")
    assert scored.value == pytest.approx(done.record.metrics["accuracy"])
    assert done.record.metrics == dense.record.metrics
