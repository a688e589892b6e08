from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.commands import run_here
from support.data import PAIRS, SENTENCES
from support.untied import save_translator, save_untied
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import orientc
from orientc.calibration.mixture import Mixture
from orientc.compression.configs import SvdConfig
from orientc.compression.settings import read_config
from orientc.demo import evaluation_text
from orientc.distillation import data
from orientc.distillation.config import TuningConfig
from orientc.distillation.divergence import of_language_model
from orientc.distillation.moving_codes import TrellisTrainable
from orientc.distillation.resume import ResumeFile, ResumeState
from orientc.distillation.tune import Tuned
from orientc.errors import ArtifactError, CalibrationError, EvaluationError, FitError, OutputError, UsageError
from orientc.evaluation import perplexity
from orientc.evaluation.scoring import Example, collate
from orientc.evaluation.texts import Text
from orientc.methods.importance import Importance
from orientc.methods.transform_coding import transform_code
from orientc.modeling.decoding import level_blocks
from orientc.modeling.factors import Factors, widened
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage.artifact import Artifact
from orientc.utils.versions import versions

TEXT = Text("sentences", "\n".join(SENTENCES * 3))
QUICK: dict[str, Any] = {"text": TEXT, "steps": 6, "eval_steps": 3, "batch_size": 4, "device": "cpu"}
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def stored(folder: Path, kind: str, tmp_path: Path) -> Path:
    """A coarse artifact of a model: by "bits", "svd", "kept" with some rows as they are, or "trellis" with some too."""
    path = tmp_path / f"{kind}.safetensors"
    options = ("quantize", "--bits", 2, "--group-size", 16, "--dtype", "float16")
    if kind != "bits":
        options = ("svd", "--rank", 4, "--center") if kind == "svd" else ("svd", "--rank", 4, "--dtype", "float16")
    command, *settings = options
    assert run_here(command, folder, *settings, "--out", path).code == 0
    if kind == "kept":
        made, table = orientc.load(path), read_table(ModelSource.resolve(str(folder)))
        ids, others = torch.arange(5, 25), torch.cat([torch.arange(5), torch.arange(25, table.info.vocab)])
        latents = made.factors.tensors["latents"][others]
        assert made.factors.weight is not None
        factors = Factors.plain(latents, made.factors.weight).with_kept(ids, table.weight[ids].half())
        _replace(made, factors, path)
    if kind == "trellis":
        made, table = orientc.load(path), read_table(ModelSource.resolve(str(folder)))
        weights = 100 / torch.arange(1, table.info.vocab + 1).double()
        weights[90] = 1e6  # far from how the model uses its rows; this one is kept
        importance = Importance(torch.eye(table.info.dim) + 0.5, weights)
        coded = transform_code(table.weight, 4_500, importance, dtype=torch.float16)
        assert coded is not None
        _replace(made, coded.to(torch.float16), path)
    return path


def _replace(made: Artifact, factors: Factors, path: Path) -> None:
    """Store other factors in the place of an artifact's."""
    description = replace(made.description, layout=factors.layout)
    orientc.save(replace(made, factors=factors, description=description), path)


def tuned(path: Path, out: str = "tuned.safetensors", **options: Any) -> Tuned:
    return orientc.tune(path, **(QUICK | {"out": path.with_name(out)} | options))


@pytest.mark.parametrize("kind", ["bits", "svd", "kept"])
def test_the_held_out_loss_falls_and_codes_of_groups_stay(bert_folder: Path, tmp_path: Path, kind: str) -> None:
    path = stored(bert_folder, kind, tmp_path)
    made = tuned(path)
    assert [entry.step for entry in made.evaluations] == [0, 3, 6]
    assert made.evaluations[-1].loss < 0.97 * made.evaluations[0].loss
    before, after = orientc.load(path), made.artifact.factors.tensors
    for name, tensor in before.factors.tensors.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor) != tensor.is_floating_point(), name
    found = made.artifact.description
    assert found == made.description
    assert (found.method, found.layout) == (before.description.method, before.description.layout)
    assert before.description.settings.items() < found.settings.items()
    assert found.distances["cosine"] != before.description.distances["cosine"]


def test_trellis_codes_and_their_decoder_move_and_gain_more_than_floats_alone(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(bert_folder, "trellis", tmp_path)
    longer: dict[str, Any] = {"steps": 24, "eval_steps": 8, "batch_size": 16, "learning_rate": 0.03}
    made = tuned(path, **longer)
    monkeypatch.setattr(TrellisTrainable, "move_codes", lambda _: 0)
    floats = tuned(path, "floats.safetensors", **longer)
    untuned = made.evaluations[0].loss
    least = [min(entry.loss for entry in run.evaluations) for run in (floats, made)]
    assert untuned > least[0] > 1.2 * least[1]
    before, after = orientc.load(path).factors, made.artifact.factors
    assert after.layout == before.layout
    assert made.path.stat().st_size - path.stat().st_size < 2000  # settings and hashes in its header
    assert before.layout.kept
    moved = {name for name, tensor in after.tensors.items() if not torch.equal(tensor, before.tensors[name])}
    assert {tensor.dtype for tensor in after.tensors.values()} == {tensor.dtype for tensor in before.tensors.values()}
    assert moved >= {"latents.codes", "latents.scales", "latents.offsets", "decoder.weight", "kept.rows"}
    assert moved.isdisjoint({"latents.levels", "latents.row_groups", "kept.ids"})
    assert made.artifact.factors.tensors["decoder.weight"].dtype == torch.int8


def test_the_student_of_a_trellis_computes_with_what_is_stored(bert_folder: Path, tmp_path: Path) -> None:
    factors = orientc.load(stored(bert_folder, "trellis", tmp_path)).factors
    table = read_table(ModelSource.resolve(str(bert_folder))).weight
    trained = TrellisTrainable(factors, CPU, table)
    assert torch.equal(trained.student.dense(), factors.map(widened).dense())
    tensors = trained.stored()
    assert all(torch.equal(tensor, factors.tensors[name]) for name, tensor in tensors.items())
    for number in range(len(factors.layout.row_group_sizes)):  # its own latents are nearest to themselves
        streams, levels = trained.nearest(number, trained.latents(number).detach())
        part = factors.layout.streams[number]
        blocks = level_blocks(factors.layout, factors.tensors, torch.int8, 8)
        assert torch.equal(levels, torch.cat([block for of, block in blocks if of == number]))
        assert torch.equal(streams.flatten(), factors.tensors["latents.codes"][part.start : part.end])


def test_a_causal_model_is_tuned_under_either_head(gpt2_folder: Path, tmp_path: Path) -> None:
    path = stored(gpt2_folder, "bits", tmp_path)
    for head in ("tied", "input-only"):
        made = tuned(path, f"{head}.safetensors", head=head)
        assert made.evaluations[-1].loss < made.evaluations[0].loss
        assert made.description.settings["tuned_head"] == head


def test_the_table_of_a_head_of_its_own_is_tuned(bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = save_untied(tmp_path / "untied", bytes_bpe)
    made = orientc.quantize(folder, bits=2, group_size=16, table="head", out=tmp_path / "bits.safetensors")
    found = tuned(made.path)
    assert found.description.base == made.description.base
    assert found.description.settings["tuned_head"] == "head-only"
    assert found.evaluations[-1].loss < found.evaluations[0].loss
    assert max(abs(entry.hidden) for entry in found.evaluations) < 1e-6  # the states are the same


def test_a_table_is_tuned_beside_artifacts_of_others(bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = save_untied(tmp_path / "untied", bytes_bpe)
    made = {
        table: orientc.quantize(folder, bits=2, group_size=16, table=table, out=tmp_path / f"{table}.safetensors").path
        for table in ("input", "head")
    }
    both = {table: tuned(made[table], f"{table}-both.safetensors", beside=[other]) for table, other in
            zip(made, reversed(made.values()), strict=True)}  # fmt: skip
    first = [found.evaluations[0].loss for found in both.values()]
    assert first[0] == first[1] > tuned(made["input"]).evaluations[0].loss  # with both in place, whichever trains
    for table, found in both.items():
        assert found.description.base.table == table
        assert found.description.settings["tuned_head"] == "both"
        assert found.evaluations[-1].loss < found.evaluations[0].loss
    assert both["input"].description.settings["tuned_beside_sha256"] == orientc.load(made["head"]).sha256
    again = tuned(both["head"].path, "again.safetensors", beside=[both["input"].path])
    assert again.evaluations[0].loss < min(found.evaluations[-1].loss for found in both.values())
    with pytest.raises(ArtifactError, match="both of the head table"):
        tuned(made["head"], beside=[made["head"]])


def test_an_encoder_without_a_head_is_tuned_by_its_sentence_vectors(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    transformers.BertModel.from_pretrained(bert_folder).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    made = tuned(stored(folder, "svd", tmp_path))
    assert made.description.settings["tuned_head"] == "input-only"
    assert made.evaluations[-1].loss < made.evaluations[0].loss


def test_the_original_model_is_not_changed(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[PreTrainedModel] = []
    load = perplexity.load
    monkeypatch.setattr(perplexity, "load", lambda *given: loaded.append(load(*given)) or loaded[0])
    tuned(stored(bert_folder, "bits", tmp_path))
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
        tuned(path, f"{name}.safetensors", seed=seed)
    first, again, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.parametrize("kind", ["bits", "svd", "trellis"])
def test_an_interrupted_run_goes_on_to_what_an_uninterrupted_one_gives(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path, broken = stored(bert_folder, kind, tmp_path), tmp_path / "broken.safetensors"
    whole = tuned(path, "whole.safetensors", steps=9)
    save = ResumeFile.save

    def killed(self: ResumeFile, state: Any) -> None:
        save(self, state)
        if state.step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumeFile, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        tuned(path, broken.name, steps=9)
    monkeypatch.setattr(ResumeFile, "save", save)
    assert not broken.exists()
    with pytest.raises(OutputError, match="go on from step 6 with `resume`"):
        tuned(path, broken.name, steps=9)
    resumed = tuned(path, broken.name, steps=9, resume=True)
    assert broken.read_bytes() == whole.path.read_bytes()
    told = [[(entry.step, entry.loss, entry.train_loss) for entry in made.evaluations] for made in (whole, resumed)]
    assert len(told[0]) == 4
    assert told[0] == told[1]
    assert not list(tmp_path.glob("*unfinished"))


def test_a_state_that_is_damaged_or_of_another_run_is_not_gone_on_from(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    out, state = tmp_path / "out.safetensors", tmp_path / "out.safetensors.unfinished"
    settings = tuned(path, "first.safetensors", steps=1).description.settings
    ResumeFile(state, {"settings": "others"}).save(ResumeState(3, {}, []))
    with pytest.raises(OutputError, match="of another run"):
        tuned(path, out.name, steps=1, resume=True)
    ResumeFile(state, {"settings": settings, "versions": versions()}).save(ResumeState(3, {}, []))
    with pytest.raises(OutputError, match="does not fit"):
        tuned(path, out.name, steps=1, resume=True)
    state.write_text("somebody's notes")
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match="in the way, and orientc did not write it"):
            tuned(path, out.name, steps=1, **options)
    assert state.read_text() == "somebody's notes"
    state.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OutputError, match="start over with `overwrite`"):
        tuned(path, out.name, steps=1, resume=True)
    assert tuned(path, out.name, steps=1, overwrite=True).fresh
    assert not state.exists()


def test_tuning_that_only_harms_leaves_the_numbers_as_they_were(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    made = tuned(path, steps=50, eval_steps=1, patience=2, batch_size=2, learning_rate=30)
    assert [entry.step for entry in made.evaluations] == [0, 1, 2]  # patience ends it
    assert made.tuning == {"steps": 2, "best_step": 0} | dict.fromkeys(("before", "after"), made.evaluations[0].loss)
    before = orientc.load(path).factors.tensors
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.artifact.factors.tensors.items())


def test_numbers_that_leave_the_stored_type_are_an_error(bert_folder: Path, tmp_path: Path) -> None:
    path = stored(bert_folder, "bits", tmp_path)
    with pytest.raises(FitError, match="`learning_rate`"):
        tuned(path, learning_rate=1e9)


def test_minutes_end_it_too(bert_folder: Path, tmp_path: Path) -> None:
    made = tuned(stored(bert_folder, "bits", tmp_path), steps=1000, minutes=1e-6)
    assert made.evaluations[-1].step <= 1


def test_what_is_held_out_is_the_end_of_the_text() -> None:
    def halves(text: Text) -> list[Text]:
        return [part for mixture in data.split(Mixture(((text, 1.0),))) for part, _ in mixture.parts]

    train, held_out = halves(TEXT)
    assert train.name == held_out.name == TEXT.name
    assert train.content + "\n" + held_out.content == TEXT.content
    assert 0.03 < len(held_out.content) / len(TEXT.content) < 0.08
    train, held_out = halves(Text("one line", "word " * 100))
    assert train.content + " " + held_out.content == "word " * 100


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0}, {"minutes": 0.0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"hidden_weight": -1.0}, {"eval_steps": 0}, {"patience": 0}, {"seed": -1},
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^`{next(iter(values))}` must be"):
        TuningConfig(**values)


def test_several_texts_are_tuned_on_by_their_weights(bert_folder: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT.content)
    path = stored(bert_folder, "svd", tmp_path)
    made = tuned(path, text=[tmp_path / "a.txt", f"{tmp_path / 'b.txt'}=3"], steps=1)
    assert made.description.settings["tuned_text"] == "a.txt + b.txt=3"
    other = tuned(path, text=[tmp_path / "a.txt", f"{tmp_path / 'b.txt'}=2"], steps=1, overwrite=True)
    assert other.description.settings["tuned_text_sha256"] != made.description.settings["tuned_text_sha256"]


def test_a_text_that_is_scored_is_refused(tmp_path: Path) -> None:
    scored = tmp_path / "scored.txt"
    scored.write_text(evaluation_text())
    with pytest.raises(EvaluationError, match="perplexity is measured on"):
        data.tuning_texts(ModelSource.resolve("demo"), scored)


@pytest.mark.parametrize(
    ("name", "table"), [("t5", "input"), ("mt5-two-tensors", "input"), ("marian-two-tables", "head")]
)
def test_an_encoder_decoder_is_tuned_on_pairs(
    name: str, table: str, t5_folder: Path, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """By what its decoder predicts and by the states before the head; a decoder looks tokens up in Marian's head."""
    folder = t5_folder if name == "t5" else save_translator(name, tmp_path / "model", wordpiece)
    options: dict[str, Any] = {"table": table, "out": tmp_path / "bits.safetensors", "device": "cpu"}
    path = orientc.quantize(folder, bits=2, group_size=16, **options).path
    rows = ({"de": target, "en": source, "fr": "le village"} for source, target in PAIRS * 9)
    pairs = Text("pairs", "".join(f"{json.dumps(row)}\n" for row in rows))
    made = tuned(path, text=pairs, languages="en,de")
    assert made.evaluations[-1].loss < made.evaluations[0].loss
    assert made.evaluations[0].hidden > 1e-4
    policy = {"t5": "tied", "mt5-two-tensors": "input-only", "marian-two-tables": "head-only"}[name]
    assert made.description.settings["tuned_head"] == policy
    with pytest.raises(EvaluationError, match="say with `languages` which two are meant"):
        tuned(path, "again.safetensors", text=pairs)


def test_an_encoder_decoder_that_writes_no_text_is_refused(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    transformers.BartForSequenceClassification(build("bart").config).save_pretrained(tmp_path / "bart")
    wordpiece.save_pretrained(tmp_path / "bart")
    with pytest.raises(CalibrationError, match="an encoder-decoder that does not write text"):
        tuned(stored(tmp_path / "bart", "svd", tmp_path))


def test_settings_of_a_tuned_artifact_are_not_replayed(bert_folder: Path, tmp_path: Path) -> None:
    made = tuned(stored(bert_folder, "svd", tmp_path), steps=1)
    with pytest.raises(UsageError, match="tuned artifact"):
        read_config((SvdConfig,), {}, like=made.path)


def test_a_tuned_artifact_is_tuned_again(bert_folder: Path, tmp_path: Path) -> None:
    once = tuned(stored(bert_folder, "svd", tmp_path), "once.safetensors", steps=1, minutes=5.0)
    twice = tuned(once.path, "twice.safetensors", steps=1).description.settings
    assert twice["tuned_from_sha256"] != once.description.settings["tuned_from_sha256"]
    assert once.description.settings.keys() - twice.keys() == {"tuned_minutes"}


def test_a_classifier_is_tuned_as_the_encoder_that_it_has(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    transformers.AutoModelForSequenceClassification.from_pretrained(bert_folder).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    found = tuned(stored(folder, "svd", tmp_path))
    assert found.artifact.description.settings["tuned_pooling"] == "mean"
