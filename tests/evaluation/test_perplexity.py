from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.architectures import ARCHITECTURES, build
from support.commands import Ended
from transformers import PreTrainedTokenizerFast

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import ArtifactMismatchError, EvaluationError, UsageError
from orientc.evaluation import perplexity, texts
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import PerplexityMeasurement, protocol_of
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import records
from orientc.storage.records import Record
from orientc.utils.progress import Progress

CPU = torch.device("cpu")


@pytest.fixture
def text(text_file: Path) -> Text:
    return texts.from_file(text_file)


def compressed(folder: Path, where: Path, **options: Any) -> Subject:
    source = ModelSource.resolve(str(folder))
    artifact = fit_table(read_table(source), SvdConfig(**({"rank": 4} | options)))
    path = where / "table.safetensors"
    artifacts.save(artifact, path)
    return Subject(source, path, artifact)


def measurement(
    model: Path, text: Text, where: Path, config: PerplexityConfig, **options: Any
) -> PerplexityMeasurement:
    return PerplexityMeasurement(Setup(ModelSource.resolve(str(model)), where, CPU, **options), config, text)


def run(model: Path, text: Text, where: Path, settings: PerplexityConfig | None = None, **options: Any) -> list[Record]:
    """The record of the uncompressed model, then those of an artifact where one is given."""
    artifact, head = options.pop("compressed", None), options.pop("head", "both")
    subject = artifact or Subject(ModelSource.resolve(str(model)))
    return list(measurement(model, text, where, settings or PerplexityConfig(), **options).all(subject, head))


def test_full_rank_gives_the_originals_figures_and_low_rank_does_not(
    bert_folder: Path, gpt2_folder: Path, text: Text, tmp_path: Path
) -> None:
    for folder in (bert_folder, gpt2_folder):
        original, *full = run(folder, text, tmp_path, compressed=compressed(folder, tmp_path, rank=32))
        assert [record.head for record in full] == ["input-only", "tied"]
        for record in full:
            assert record.metrics["loss"] == pytest.approx(original.metrics["loss"], rel=1e-5)
        _, *low = run(folder, text, tmp_path, compressed=compressed(folder, tmp_path, rank=1))
        for record in low:
            assert record.metrics["loss"] != pytest.approx(original.metrics["loss"], rel=1e-5)
            assert record.metrics["perplexity"] == pytest.approx(math.exp(record.metrics["loss"]))


def test_causal_loss_equals_a_direct_computation(gpt2_folder: Path, text: Text, tmp_path: Path) -> None:
    [record] = run(gpt2_folder, text, tmp_path, PerplexityConfig(limit=100, window=16))
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt2_folder).eval()
    ids = tokenizer(text.content)["input_ids"][:100]
    total = 0.0
    for start in range(0, 100, 16):
        window = torch.tensor([[tokenizer.bos_token_id, *ids[start : start + 16]]])
        with torch.no_grad():
            total += model(input_ids=window, labels=window).loss.item() * (window.shape[1] - 1)
    assert record.metrics["loss"] == pytest.approx(total / 100, rel=1e-5)
    assert record.metrics["tokens"] == 100
    assert record.settings == {
        "protocol": "causal",
        "limit": 100,
        "window": 16,
        "stride": 16,
        "bos": True,
        "dtype": "float32",
    }


@pytest.mark.parametrize(
    ("config", "chosen"),
    [
        (PerplexityConfig(), {}),
        (PerplexityConfig(limit=30, batch_size=2), {"limit": 30}),
        (PerplexityConfig(window=8), {"window": 8, "stride": 8}),
        (PerplexityConfig(stride=7, dtype="bfloat16"), {"stride": 7, "dtype": "bfloat16"}),
        (PerplexityConfig(window=63), {}),  # what the model's positions make of it by themselves
    ],
)
def test_a_record_says_what_of_its_settings_was_chosen(
    gpt2_folder: Path, text: Text, tmp_path: Path, config: PerplexityConfig, chosen: dict[str, Any]
) -> None:
    [record] = run(gpt2_folder, text, tmp_path, config)
    assert record.chosen == chosen | {"text": text.name}


def test_a_text_that_is_measured_on_by_default_is_not_chosen(
    gpt2_folder: Path, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, demo = ModelSource.resolve(str(gpt2_folder)), ModelSource.resolve("demo")
    own = Text("copy.txt", texts.demo_evaluation().content)
    assert texts.is_scored_by_default(demo, own)
    assert not texts.is_scored_by_default(source, own)
    assert not texts.is_scored_by_default(demo, text)
    [record] = run(gpt2_folder, Text(texts.WIKITEXT_TEST, text.content), tmp_path)
    assert record.chosen == {}
    monkeypatch.setattr(texts, "WIKITEXT_TEST_SHA256", text.sha256)
    assert texts.is_scored_by_default(source, text)


def test_batch_size_changes_nothing_and_is_no_setting(bert_folder: Path, text: Text, tmp_path: Path) -> None:
    [one] = run(bert_folder, text, tmp_path / "1", PerplexityConfig(batch_size=1))
    [many] = run(bert_folder, text, tmp_path / "2", PerplexityConfig(batch_size=64))
    assert one.settings == many.settings
    assert one.metrics["loss"] == pytest.approx(many.metrics["loss"], rel=1e-6)


def test_the_originals_record_is_reused_only_for_the_same_settings(
    bert_folder: Path, text: Text, tmp_path: Path
) -> None:
    stages: list[str] = []
    progress = Progress(stage=lambda name, _total: stages.append(name))
    artifact = compressed(bert_folder, tmp_path)
    first = run(bert_folder, text, tmp_path, compressed=artifact, progress=progress)
    assert stages == ["original, input-only, tied"]
    assert run(bert_folder, text, tmp_path, progress=progress) == first[:1]
    assert stages[1:] == []
    run(bert_folder, text, tmp_path, PerplexityConfig(seed=1), progress=progress)
    run(bert_folder, text, tmp_path, progress=progress, overwrite=True)
    run(bert_folder, Text("other", text.content + text.content), tmp_path, progress=progress)
    assert stages[1:] == ["original"] * 3


def test_a_model_is_loaded_only_for_a_figure_that_is_not_there(
    bert_folder: Path, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then once, however many artifacts are put into it; taken out again, it is what it was."""
    artifact, settings = compressed(bert_folder, tmp_path), PerplexityConfig(limit=5)
    loaded: list[str] = []
    load = perplexity.load

    def counted(source: ModelSource, *arguments: Any) -> Any:
        loaded.append(source.id)
        return load(source, *arguments)

    monkeypatch.setattr(perplexity, "load", counted)
    source = artifact.source
    measured = measurement(bert_folder, text, tmp_path, settings, overwrite=True)
    first = [measured.original(), *measured.compressed(artifact), *measured.compressed(artifact)]
    assert measured.original().metrics == first[0].metrics
    assert [record.metrics for record in first[1:3]] == [record.metrics for record in first[3:]]
    assert loaded == [source.id]
    assert [record.metrics for record in run(bert_folder, text, tmp_path, settings, compressed=artifact)] == [
        record.metrics for record in first[:3]
    ]
    assert loaded == [source.id]


def test_each_record_is_written_before_it_is_given(bert_folder: Path, text: Text, tmp_path: Path) -> None:
    artifact = compressed(bert_folder, tmp_path)
    measured = measurement(bert_folder, text, tmp_path, PerplexityConfig(limit=5))
    for count, record in enumerate(measured.compressed(artifact), start=1):
        assert records.read(tmp_path / record.file_name) == record
        assert len(list(tmp_path.glob("*.perplexity-*.json"))) == count
    assert count == 2


def test_the_divergence_equals_a_direct_computation(
    bert_folder: Path, gpt2_folder: Path, text: Text, tmp_path: Path
) -> None:
    """In float64 from all logits of whole models, one with the table replaced by a dense one, without any of ours."""
    for folder, auto, config in (
        (bert_folder, transformers.AutoModelForMaskedLM, PerplexityConfig()),
        (gpt2_folder, transformers.AutoModelForCausalLM, PerplexityConfig(limit=60, window=16)),
    ):
        artifact = compressed(folder, tmp_path, rank=2)
        assert artifact.artifact
        original, *records_found = run(folder, text, tmp_path, config, compressed=artifact)
        assert not {*records.DIVERGENCES} & original.metrics.keys()
        examples = measurement(folder, text, tmp_path, config)._selection.examples
        own, tied, input_only = (auto.from_pretrained(folder).eval() for _ in range(3))
        rebuilt = artifact.artifact.factors.dense()
        tied.get_input_embeddings().weight.data.copy_(rebuilt)
        input_only.get_input_embeddings().weight = torch.nn.Parameter(rebuilt)
        for record, model in zip(records_found, (input_only, tied), strict=True):
            kl: list[float] = []
            same: list[bool] = []
            for example in examples:
                ids = torch.tensor([example.input_ids])
                with torch.no_grad():
                    p, q = (
                        each(input_ids=ids).logits[0, example.positions].double().log_softmax(-1)
                        for each in (own, model)
                    )
                kl += (p.exp() * (p - q)).sum(-1).tolist()
                same += (p.argmax(-1) == q.argmax(-1)).tolist()
            found = {name: record.metrics[name] for name in records.DIVERGENCES}
            assert found == pytest.approx(
                {"kl": np.mean(kl), "kl_p99": np.percentile(kl, 99), "kl_max": max(kl), "same_top": np.mean(same)},
                rel=1e-5,
                abs=1e-6,
            )
            assert record.blocks
            assert sum(record.blocks["kl"]) == pytest.approx(found["kl"] * record.metrics["tokens"])
            assert sum(record.blocks["same_top"]) == pytest.approx(found["same_top"] * record.metrics["tokens"])


def test_without_divergences_the_other_figures_are_the_same_and_the_original_is_not_run_again(
    bert_folder: Path, text: Text, tmp_path: Path
) -> None:
    artifact = compressed(bert_folder, tmp_path)
    whole = run(bert_folder, text, tmp_path / "whole", compressed=artifact)
    plain = PerplexityConfig(kl=False)
    run(bert_folder, text, tmp_path)
    measured = measurement(bert_folder, text, tmp_path, plain)
    passes: list[int] = []
    measured._model.base_model.register_forward_hook(lambda *_: passes.append(1))
    without = [*measured.compressed(artifact)]
    batches = len(measured._side_by_side._batches)
    assert len(passes) == batches + 1  # for both head policies, and one that asks what follows the head
    for record, other in zip(without, whole[1:], strict=True):
        assert record.identity == other.identity
        assert not {*records.DIVERGENCES} & record.metrics.keys()
        assert record.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-6)


def test_a_record_without_divergences_serves_where_none_are_wanted_and_is_completed_where_they_are(
    bert_folder: Path, text: Text, tmp_path: Path
) -> None:
    artifact = compressed(bert_folder, tmp_path)
    stages: list[str] = []
    progress = Progress(stage=lambda name, _total: stages.append(name))

    def figures(**options: Any) -> list[set[str]]:
        found = run(bert_folder, text, tmp_path, PerplexityConfig(**options), compressed=artifact, progress=progress)
        return [{*records.DIVERGENCES} & record.metrics.keys() for record in found]

    nothing, everything = set[str](), {*records.DIVERGENCES}
    assert figures(kl=False) == [nothing] * 3
    assert figures(kl=False) == [nothing] * 3
    assert stages == ["original, input-only, tied"]
    assert figures() == [nothing, everything, everything]
    assert stages[1:] == ["input-only, tied"]
    assert figures(kl=False) == [nothing, everything, everything]
    assert len([*tmp_path.glob("*.perplexity-*.json")]) == 3


def test_of_figures_made_together_those_that_are_no_numbers_leave_no_record(
    bert_folder: Path, text: Text, tmp_path: Path
) -> None:
    subject = compressed(bert_folder, tmp_path)
    assert subject.artifact
    broken = dataclasses.replace(
        subject.artifact, factors=subject.artifact.factors.map(lambda tensor: torch.full_like(tensor, math.nan))
    )
    with pytest.raises(EvaluationError, match="not numbers"):
        run(bert_folder, text, tmp_path, compressed=dataclasses.replace(subject, artifact=broken))
    (path,) = tmp_path.glob("*.perplexity-*.json")
    assert records.read(path).artifact is None


def test_heads_are_measured_as_asked(bert_folder: Path, text: Text, tmp_path: Path) -> None:
    artifact = compressed(bert_folder, tmp_path)
    for head in ("input-only", "tied"):
        assert [record.head for record in run(bert_folder, text, tmp_path, compressed=artifact, head=head)][1:] == [
            head
        ]


def test_an_untied_model_has_one_figure(tmp_path: Path, wordpiece: PreTrainedTokenizerFast, text: Text) -> None:
    folder = tmp_path / "untied"
    config = transformers.BertConfig(**ARCHITECTURES["bert"][2] | {"vocab_size": 120}, tie_word_embeddings=False)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    artifact = compressed(folder, tmp_path)
    original, record = run(folder, text, tmp_path, compressed=artifact)
    assert (original.head, record.head) == ("input-only", "input-only")
    with pytest.raises(EvaluationError, match="no tied figure"):
        run(folder, text, tmp_path, compressed=artifact, head="tied")


def test_an_artifact_of_another_table_needs_force(bert_folder: Path, tmp_path: Path, text: Text) -> None:
    subject = compressed(bert_folder, tmp_path)
    artifact = subject.artifact
    assert artifact
    base = dataclasses.replace(artifact.description.base, sha256="0" * 64)
    changed = dataclasses.replace(artifact, description=dataclasses.replace(artifact.description, base=base))
    other = dataclasses.replace(subject, artifact=changed)
    with pytest.raises(ArtifactMismatchError, match="another"):
        run(bert_folder, text, tmp_path, compressed=other)
    assert len(run(bert_folder, text, tmp_path, compressed=other, force=True)) == 3


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("bert", "masked"),
        ("deberta-v2", "masked"),
        ("gpt2", "causal"),
        ("llama", "causal"),
        ("t5", "seq2seq"),
        ("bart", "seq2seq"),
        ("marian", "seq2seq"),
        ("m2m-100", "seq2seq"),
    ],
)
def test_the_protocol_follows_the_architecture(name: str, protocol: str, tmp_path: Path) -> None:
    build(name).save_pretrained(tmp_path)
    assert protocol_of(ModelSource.resolve(str(tmp_path))) == protocol


@pytest.mark.parametrize(
    ("name", "reason"),
    [("BartForSequenceClassification", "encoder-decoder"), ("BertModel", "no language-model head")],
)
def test_models_without_a_perplexity_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    model_class = getattr(transformers, name)
    _, config_class, arguments = ARCHITECTURES[name[:4].lower()]
    model_class(getattr(transformers, config_class)(**arguments)).save_pretrained(tmp_path)
    with pytest.raises(EvaluationError, match=reason):
        protocol_of(ModelSource.resolve(str(tmp_path)))


def test_pretraining_checkpoints_are_masked_language_models(tmp_path: Path) -> None:
    config = transformers.BertConfig(**ARCHITECTURES["bert"][2])
    transformers.BertForPreTraining(config).save_pretrained(tmp_path)
    source = ModelSource.resolve(str(tmp_path))
    assert protocol_of(source) == "masked"
    assert type(perplexity.load(source, "float32", CPU)).__name__ == "BertForMaskedLM"


def refusals() -> Iterator[tuple[str, PerplexityConfig, str]]:
    yield "bert", PerplexityConfig(window=8), "`window` is for causal"
    yield "gpt2", PerplexityConfig(window=64), "choose at most 63"
    yield "gpt2", PerplexityConfig(stride=99), "`stride` 99 is above `window`"


@pytest.mark.parametrize(("model", "settings", "reason"), list(refusals()))
def test_settings_that_do_not_fit_the_model_are_refused(
    model: str,
    settings: PerplexityConfig,
    reason: str,
    bert_folder: Path,
    gpt2_folder: Path,
    text: Text,
    tmp_path: Path,
) -> None:
    with pytest.raises(EvaluationError, match=reason):
        run({"bert": bert_folder, "gpt2": gpt2_folder}[model], text, tmp_path, settings)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"window": -1}, {"batch_size": 0}, {"window": 4, "stride": 5}])
def test_settings_no_evaluation_can_use_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        PerplexityConfig(**wrong)  # type: ignore[arg-type]


def test_too_little_text_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to score"):
        run(bert_folder, Text("short", "a few words"), tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "no text"), (b" \n\n", "no text"), (b"abc \xff\xfe", "byte 4"), (None, "can't read")]
)
def test_unusable_text_files_are_refused(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvaluationError, match=reason):
        texts.from_file(path)


# -- the function


def test_the_function_gives_the_commands_document(
    orientc: Callable[..., Ended], bert_folder: Path, text: Text, text_file: Path, tmp_path: Path
) -> None:
    """Whatever the model, the artifact and the text are given as."""
    subject = compressed(bert_folder, tmp_path)
    path = subject.path
    assert path
    ended = orientc("perplexity", path, "--text", text_file, "--limit", "5", "--seed", "1", "--device", "cpu", "--json")
    document = ended.document
    assert [record["head"] for record in document["records"]] == ["tied", "input-only", "tied"]
    options: dict[str, Any] = {"limit": 5, "seed": 1, "device": "cpu"}
    for found in (
        perplexity.perplexity(path, text=text_file, **options),
        perplexity.perplexity(str(path), text=str(text_file), model=str(bert_folder), **options),
        perplexity.perplexity(path, text=text, model=ModelSource.resolve(str(bert_folder)), **options),
    ):
        assert found.as_dict() == document
        assert (found.protocol, found.text) == ("masked", text.name)


def test_the_function_measures_a_model_given_as_a_source(bert_folder: Path, text: Text, tmp_path: Path) -> None:
    source = ModelSource.resolve(str(bert_folder))
    found = perplexity.perplexity(source, text=text, limit=5, device="cpu", out=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    assert found.records == (records.read(path),)


def test_a_head_that_is_no_policy_is_a_usage_error(bert_folder: Path) -> None:
    with pytest.raises(UsageError, match="`head` must be one of both, input-only, head-only, tied"):
        perplexity.perplexity(bert_folder, head="neither")


@pytest.mark.parametrize("option", [{"head": "tied"}, {"force": True}])
def test_what_is_about_an_artifact_is_refused_for_a_model(
    bert_folder: Path, text: Text, tmp_path: Path, option: dict[str, Any]
) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"`{name}` is .*an artifact"):
        perplexity.perplexity(bert_folder, text=text, device="cpu", out=tmp_path, **option)
    assert not [*tmp_path.rglob("*.json")]


def test_an_artifact_in_memory_leaves_no_record_that_calls_it_the_original(
    bert_folder: Path, text: Text, tmp_path: Path
) -> None:
    artifact: Any = compressed(bert_folder, tmp_path).artifact
    with pytest.raises(UsageError, match="from its file"):
        perplexity.perplexity(artifact, text=text, device="cpu", out=tmp_path)
    assert not [*tmp_path.rglob("original*.json")]


def test_an_option_of_the_other_protocol_is_refused(
    bert_folder: Path, gpt2_folder: Path, text: Text, tmp_path: Path
) -> None:
    for folder, option in ((bert_folder, {"bos": False}), (gpt2_folder, {"seed": 1})):
        (name,) = option
        with pytest.raises(EvaluationError, match=f"language model: `{name}` is for"):
            perplexity.perplexity(folder, text=text, device="cpu", out=tmp_path, **option)
