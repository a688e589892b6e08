from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.data import SENTENCES
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import orientc
from orientc.compression.configs import Config, QuantizeConfig, SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.compression.settings import read_config
from orientc.demo import evaluation_text
from orientc.distillation import data
from orientc.distillation.config import Settings
from orientc.distillation.divergence import of_language_model
from orientc.distillation.plan import Plan
from orientc.distillation.resume import State, Unfinished
from orientc.distillation.training import Evaluation
from orientc.distillation.tune import produce, tune
from orientc.errors import EvaluationError, FitError, OutputError, UsageError
from orientc.evaluation import perplexity
from orientc.evaluation.scoring import Example, collate
from orientc.evaluation.texts import Text
from orientc.modeling.factors import Factors
from orientc.models.resolve import subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.storage.artifact import Artifact
from orientc.utils.versions import versions

TEXT = Text("sentences", "\n".join(SENTENCES * 3))
QUICK = Settings(steps=6, eval_steps=3, batch_size=4)
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def fitted(folder: Path, kind: str) -> Artifact:
    """A coarse artifact of a model: by "bits", "svd", or "kept" with some rows as they are."""
    table = read_table(ModelSource.resolve(str(folder)))
    made_by: dict[str, Config] = {
        "bits": QuantizeConfig(bits=2, group_size=16, dtype="float16"),
        "svd": SvdConfig(rank=4, center=True),
        "kept": SvdConfig(rank=4, dtype="float16"),
    }
    made = fit_table(table, made_by[kind])
    if kind != "kept":
        return made
    ids, others = torch.arange(5, 25), torch.cat([torch.arange(5), torch.arange(25, table.info.vocab)])
    latents = made.factors.tensors["latents"][others]
    assert made.factors.weight is not None
    factors = Factors.plain(latents, made.factors.weight).with_kept(ids, table.weight[ids].half())
    return replace(made, factors=factors, description=replace(made.description, layout=factors.layout))


def stored(folder: Path, kind: str, tmp_path: Path) -> Path:
    path = tmp_path / f"{kind}.safetensors"
    orientc.save(fitted(folder, kind), path)
    return path


@pytest.mark.parametrize("kind", ["bits", "svd", "kept"])
def test_the_held_out_loss_falls_and_codes_stay(bert_folder: Path, tmp_path: Path, kind: str) -> None:
    path = stored(bert_folder, kind, tmp_path)
    told: list[Evaluation] = []
    tuned = tune(path, text=TEXT, settings=QUICK, device="cpu", on_evaluation=told.append)
    assert [entry.step for entry in told] == [0, 3, 6]
    assert told[-1].loss < 0.97 * told[0].loss
    before, after = orientc.load(path), tuned.factors.tensors
    for name, tensor in before.factors.tensors.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor) != tensor.is_floating_point(), name
    orientc.save(tuned, tmp_path / "tuned.safetensors")
    found = orientc.load(tmp_path / "tuned.safetensors").description
    assert found == tuned.description
    assert (found.method, found.layout) == (before.description.method, before.description.layout)
    assert before.description.settings.items() < found.settings.items()
    assert found.distances["cosine"] != before.description.distances["cosine"]


def test_a_causal_model_is_tuned_under_either_head(gpt2_folder: Path, tmp_path: Path) -> None:
    path = stored(gpt2_folder, "bits", tmp_path)
    for head in ("tied", "input-only"):
        told: list[Evaluation] = []
        made = tune(path, text=TEXT, head=head, settings=QUICK, device="cpu", on_evaluation=told.append)
        assert told[-1].loss < told[0].loss
        assert made.description.settings["tuned_head"] == head


def test_an_encoder_without_a_head_is_tuned_by_its_sentence_vectors(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    transformers.BertModel.from_pretrained(bert_folder).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    told: list[Evaluation] = []
    made = tune(stored(folder, "svd", tmp_path), text=TEXT, settings=QUICK, device="cpu", on_evaluation=told.append)
    assert made.description.settings["tuned_head"] == "untied"
    assert told[-1].loss < told[0].loss


def test_the_original_model_is_not_changed(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[PreTrainedModel] = []
    load = perplexity.load
    monkeypatch.setattr(perplexity, "load", lambda *given: loaded.append(load(*given)) or loaded[0])
    tune(stored(bert_folder, "bits", tmp_path), text=TEXT, settings=QUICK, device="cpu")
    fresh = load(ModelSource.resolve(str(bert_folder)), "float32", CPU).state_dict()
    after = loaded[0].state_dict()
    assert fresh.keys() == after.keys()
    assert all(torch.equal(fresh[name], after[name]) for name in fresh)


def test_a_model_agrees_with_itself(bert_folder: Path) -> None:
    model = perplexity.load(ModelSource.resolve(str(bert_folder)), "float32", CPU)
    batch = collate([Example([2, 10, 11, 3], [1, 2], [10, 11]), Example([2, 12, 3], [1], [12])], 0)
    gap = of_language_model(model, model, batch)
    assert (gap.predictions, gap.states) == (3, 7)
    assert float(gap.loss(1.0).detach()) == pytest.approx(0, abs=1e-5)


def test_the_same_seed_gives_the_same_bytes(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        orientc.save(tune(path, text=TEXT, settings=replace(QUICK, seed=seed), device="cpu"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("kind", ["bits", "svd"])
def test_an_interrupted_run_goes_on_to_what_an_uninterrupted_one_gives(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    plan = Plan(subject(str(stored(bert_folder, kind, tmp_path))), TEXT, replace(QUICK, steps=9))
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    produce(plan, whole, device=CPU)
    save = Unfinished.save

    def killed(self: Unfinished, state: Any) -> None:
        save(self, state)
        if state.step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        produce(plan, broken, device=CPU)
    monkeypatch.setattr(Unfinished, "save", save)
    assert not broken.exists()
    with pytest.raises(OutputError, match="go on from step 6 with --resume"):
        produce(plan, broken, device=CPU)
    produce(plan, broken, device=CPU, resume=True)
    assert broken.read_bytes() == whole.read_bytes()
    told = [
        [(entry["step"], entry["loss"], entry["train_loss"]) for entry in runs.fit_reports(path, "evaluations")]
        for path in (whole, broken)
    ]
    assert len(told[0]) == 4
    assert told[0] == told[1]
    assert not list(tmp_path.glob("*unfinished"))


def test_a_state_that_is_damaged_or_of_another_run_is_not_gone_on_from(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    out, state = tmp_path / "out.safetensors", tmp_path / "out.safetensors.unfinished"
    plan = Plan(subject(str(path)), TEXT, replace(QUICK, steps=1))
    Unfinished(state, {"settings": "others"}).save(State(3, {}, []))
    with pytest.raises(OutputError, match="of another run"):
        produce(plan, out, device=CPU, resume=True)
    Unfinished(state, {"settings": plan.settings, "versions": versions()}).save(State(3, {}, []))
    with pytest.raises(OutputError, match="does not fit"):
        produce(plan, out, device=CPU, resume=True)
    state.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OutputError, match="start over with --overwrite"):
        produce(plan, out, device=CPU, resume=True)
    assert produce(plan, out, device=CPU, overwrite=True).fresh
    assert not state.exists()


def test_tuning_that_only_harms_leaves_the_numbers_as_they_were(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    told: list[Evaluation] = []
    harmful = Settings(steps=50, eval_steps=1, patience=2, batch_size=2, learning_rate=30)
    tuned = tune(path, text=TEXT, settings=harmful, device="cpu", on_evaluation=told.append)
    assert [entry.step for entry in told] == [0, 1, 2]  # patience ends it
    before = orientc.load(path).factors.tensors
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned.factors.tensors.items())


def test_numbers_that_leave_the_stored_type_are_an_error(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    with pytest.raises(FitError, match="--learning-rate"):
        tune(path, text=TEXT, settings=replace(QUICK, learning_rate=1e9), device="cpu")


def test_minutes_end_it_too(bert_folder: Path, tmp_path: Path) -> None:
    told: list[Evaluation] = []
    short = replace(QUICK, steps=1000, minutes=1e-6)
    tune(stored(bert_folder, "bits", tmp_path), text=TEXT, settings=short, device="cpu", on_evaluation=told.append)
    assert told[-1].step <= 1


def test_what_is_held_out_is_the_end_of_the_text() -> None:
    train, held_out = data.parted(TEXT.content)
    assert train + "\n" + held_out == TEXT.content
    assert 0.03 < len(held_out) / len(TEXT.content) < 0.08
    train, held_out = data.parted("word " * 100)
    assert train + " " + held_out == "word " * 100


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0}, {"minutes": 0.0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"hidden_weight": -1.0}, {"eval_steps": 0}, {"patience": 0}, {"seed": -1},
    ],
)  # fmt: skip
def test_settings_nothing_can_be_tuned_by_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values)).replace("_", "-")):
        Settings(**values)


def test_a_text_that_is_scored_is_refused(tmp_path: Path) -> None:
    scored = tmp_path / "scored.txt"
    scored.write_text(evaluation_text())
    with pytest.raises(EvaluationError, match="perplexity is measured on"):
        data.text_for(ModelSource.resolve("demo"), path=scored)


def test_an_encoder_decoder_is_refused(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    build("t5").save_pretrained(tmp_path / "t5")
    with pytest.raises(EvaluationError, match="encoder-decoder"):
        data.text_for(ModelSource.resolve(str(tmp_path / "t5")))


def test_settings_of_a_tuned_artifact_are_not_replayed(bert_folder: Path, tmp_path: Path) -> None:
    tuned = tune(stored(bert_folder, "svd", tmp_path), text=TEXT, settings=replace(QUICK, steps=1), device="cpu")
    with pytest.raises(UsageError, match="tuned artifact"):
        read_config((SvdConfig,), {}, like=tuned)


def test_a_tuned_artifact_is_tuned_again(bert_folder: Path, tmp_path: Path) -> None:
    path, again = stored(bert_folder, "svd", tmp_path), tmp_path / "tuned.safetensors"
    once = tune(path, text=TEXT, settings=replace(QUICK, steps=1, minutes=5.0), device="cpu")
    artifacts.save(once, again)
    twice = tune(again, text=TEXT, settings=replace(QUICK, steps=1), device="cpu").description.settings
    assert twice["tuned_from_sha256"] != once.description.settings["tuned_from_sha256"]
    assert once.description.settings.keys() - twice.keys() == {"tuned_minutes"}
