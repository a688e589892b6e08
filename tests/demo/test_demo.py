from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from support.commands import Ended, one_line, run_here
from support.readme import READMES, differences, refreshed, setup

from orientc.demo import FOLDER, corpus, evaluation_text
from orientc.evaluation import masked_lm
from orientc.models.source import ModelSource
from orientc.models.table import read_table

Orientc = Callable[..., Ended]


@dataclass(frozen=True)
class Shown:
    """How `orientc demo` ended, in a folder where another artifact of its model was already."""

    folder: Path
    ended: Ended


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("runs")
    assert run_here("svd", "demo", "--rank", 3, "--out", folder).code == 0
    return Shown(folder, run_here("demo", "--out", folder))


def test_the_packaged_model_is_what_it_should_be() -> None:
    """BERT, float16, at most 8 MB with all that lies beside it, most of it table, trained well."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000
    info = read_table(ModelSource.resolve("demo")).info
    assert (info.dtype, info.tied) == ("float16", True)
    assert 2e6 <= info.model_parameters <= 4e6
    assert info.vocab * info.dim > info.model_parameters / 2
    training = json.loads((FOLDER / "training.json").read_text())
    final = training["curve"][-1]["perplexity"]
    assert final <= training["unigram_perplexity"] / 5
    assert final <= 60


def test_the_model_knows_its_language() -> None:
    """Held-out text it has not seen: the recorded perplexity is what scoring gives (on a part of it)."""
    source = ModelSource.resolve("demo")
    model = source.load(transformers.AutoModelForMaskedLM, dtype=torch.float32)
    found = source.tokenizer("the [MASK] statement is used to define a class", return_tensors="pt")
    with torch.no_grad():
        logits = model(**found).logits[0, 2]
    best = source.tokenizer.convert_ids_to_tokens(logits.topk(20).indices.tolist())
    assert {"with", "class", "def", "import", "if", "assert", "return"} & set(best)


@pytest.mark.slow
def test_the_demo_prints_both_methods_at_both_ratios_and_the_model_shrunk(
    shown: Shown, request: pytest.FixtureRequest
) -> None:
    """As the README says that it does."""
    assert shown.ended.code == 0
    assert all(line.startswith("orientc: ") for line in shown.ended.err.splitlines())
    printed = shown.ended.out.rstrip().splitlines()
    tables = [line.lstrip("◆ ").split()[0].split("-")[0] for line in printed[3:9]]
    assert tables == ["original", "target", "autoencoder", "svd", "autoencoder", "svd"]
    readme = READMES[0]
    (command,) = (step for step in setup(readme) if step.text.endswith("orientc demo"))
    if request.config.getoption("--refresh-readmes"):
        readme.write_text(refreshed(readme, {command.text: printed}), encoding="utf-8")
    else:
        assert differences(command.shown, printed) == []


@pytest.mark.slow
def test_the_demo_shows_its_own_artifacts_alone_and_does_nothing_twice(shown: Shown, orientc: Orientc) -> None:
    files = {path: path.stat().st_ino for path in shown.folder.rglob("*")}
    assert orientc("demo", "--out", shown.folder).out == shown.ended.out
    again = orientc("demo", "--out", shown.folder, "--json")
    assert {path: path.stat().st_ino for path in shown.folder.rglob("*")} == files
    [comparison] = again.document["comparisons"]
    assert [row["rank"] for row in comparison["rows"]] == [192, 192, 37, 37, 18, 18]
    _, shrunk, *others = comparison["rows"]
    assert shrunk["figures"]["perplexity.tied"]["ratio"] <= 1.01
    assert shrunk["table_mb"] < min(row["table_mb"] for row in others)
    for row in others:
        assert row["figures"].keys() >= {"perplexity.input-only", "perplexity.tied"}
        assert row["parameter_ratio"] >= (5 if row["rank"] == 37 else 10)


def test_under_a_launcher_the_demo_is_refused(
    orientc: Orientc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "demo runs in one process" in one_line(orientc("demo", "--out", tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


def test_no_scored_paragraph_was_trained_on() -> None:
    text = evaluation_text()
    packed = (FOLDER / "seen.bin").read_bytes()
    seen = {packed[at : at + corpus.DIGEST_BYTES] for at in range(0, len(packed), corpus.DIGEST_BYTES)}
    assert len(seen) > 50_000
    paragraphs = text.split("\n")
    assert len(paragraphs) > 1000
    assert not {corpus.digest(paragraph) for paragraph in paragraphs} & seen
    # a paragraph that is in both is left out
    [first, *_] = corpus.evaluation_paragraphs(frozenset())
    assert first not in corpus.evaluation_paragraphs(frozenset({corpus.digest(first)}))


def test_paragraphs_are_joined_over_hard_wraps_and_cut_at_blank_lines() -> None:
    text = "A first paragraph that goes on\n   over two lines.\n\n \t\nA second one, long enough to be kept.\n\nshort\n"
    assert list(corpus.paragraphs(text)) == [
        "A first paragraph that goes on over two lines.",
    ]
    assert list(corpus.paragraphs("x" * 40 + "\n\n" + "y" * 40)) == ["x" * 40, "y" * 40]


def test_scored_lines_are_numbered_alike_in_training_and_evaluation() -> None:
    """The demo's own text yields enough masked tokens for a stable figure."""
    source = ModelSource.resolve("demo")
    found = masked_lm.select(evaluation_text(), source.tokenizer, max_ids=128, seed=0).examples
    assert sum(len(example.targets) for example in found) > 5000
