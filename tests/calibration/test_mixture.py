from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from support.data import SENTENCES

import orientc
from orientc.calibration.mixture import Mixture, TokenizedMixture
from orientc.calibration.tokenized_text import TokenizedText
from orientc.errors import CalibrationError, UsageError
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress

DEMO = ModelSource.resolve("demo")
LONG, SHORT = Text("long.txt", "\n".join(SENTENCES)), Text("short.txt", "\n".join(SENTENCES[:12]))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two texts as files, and one whose name looks like a text with a weight."""
    found = [tmp_path / name for name in ("a.txt", "b.txt", "a.txt=2")]
    for path in found:
        path.write_text(f"This is {path.name}.\n")
    return found


def test_texts_have_the_shares_of_their_weights(files: list[Path]) -> None:
    first, second, like_weight = files
    two = Mixture.of(DEMO, [first, f"{second}=3"])
    assert two.shares == [0.25, 0.75]
    assert (two.name, [text.name for text, _ in two.parts]) == ("a.txt + b.txt=3", ["a.txt", "b.txt"])
    assert Mixture.of(DEMO, [str(first), str(second)]).shares == [0.5, 0.5]
    # a file of that very name is what is meant
    assert [text.name for text, _ in Mixture.of(DEMO, [like_weight, f"{first}=2e-1"]).parts] == ["a.txt=2", "a.txt"]


def test_one_text_is_itself_whatever_its_weight(files: list[Path]) -> None:
    plain, weighted = Mixture.of(DEMO, files[0]), Mixture.of(DEMO, [f"{files[1]}=7"])
    assert (plain.name, plain.sha256) == ("a.txt", plain.parts[0][0].sha256)
    assert (weighted.name, weighted.sha256) == ("b.txt", weighted.parts[0][0].sha256)
    assert Mixture.of(DEMO, LONG).sha256 == LONG.sha256
    assert Mixture.of(DEMO).name == "python-docstrings"


def test_a_mixture_is_told_from_another_by_its_texts_and_shares() -> None:
    given = [((LONG, 1.0), (SHORT, 1.0)), ((LONG, 1.0), (SHORT, 2.0)), ((LONG, 1.0), (Text("short.txt", "other"), 1.0))]
    assert len({Mixture(parts).sha256 for parts in given}) == 3
    assert Mixture(((LONG, 2.0), (SHORT, 4.0))).sha256 == Mixture(((LONG, 1.0), (SHORT, 2.0))).sha256


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "much", ""])
def test_a_weight_is_a_number_above_zero(files: list[Path], weight: str) -> None:
    for field, given in (("text", {"text": f"{files[0]}={weight}"}), ("dataset", {"dataset": f"reviews={weight}"})):
        with pytest.raises(UsageError, match=f"^`{field}` .*weight") as caught:
            Mixture.of(DEMO, **given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_files_and_data_sets_go_together(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orientc.evaluation.texts.from_dataset", lambda name, column, **_: Text(f"{name}/{column}", "words")
    )
    found = Mixture.of(DEMO, files[0], ["imdb::test=2", "news"], "body")
    assert found.name == "a.txt + imdb::test/body=2 + news/body"
    with pytest.raises(UsageError, match="`column` is one of a data set"):
        Mixture.of(DEMO, files[0], column="body")


def test_counts_and_measured_positions_follow_the_shares(bert_folder: Path) -> None:
    source, told = ModelSource.resolve(str(bert_folder)), list[str]()
    vocab = source.config.vocab_size
    alone = [TokenizedMixture(source, Mixture(((text, 1.0),))).counts(vocab, Progress()) for text in (LONG, SHORT)]
    both = TokenizedMixture(source, Mixture(((LONG, 1.0), (SHORT, 3.0))))
    counts = both.counts(vocab, Progress())
    whole = alone[0].sum() + alone[1].sum()
    torch.testing.assert_close(counts / whole, alone[0] / alone[0].sum() / 4 + alone[1] / alone[1].sum() * 3 / 4)
    examples, positions = both.examples(400, 0, Progress(warn=told.append))
    own = TokenizedMixture(source, Mixture(((LONG, 1.0),))).examples(100, 0, Progress())
    assert examples[: len(own[0])] == own[0]
    short = positions - own[1]
    assert 0 < short < 300
    assert told == [f"short.txt has {short} tokens to measure, its share would be 300"]


def test_the_stream_never_ends_and_has_the_shares_all_along(bert_folder: Path) -> None:
    source, few = ModelSource.resolve(str(bert_folder)), Text("few.txt", "\n".join(SENTENCES[-12:]))
    one, other = (TokenizedText(source, text) for text in (LONG, few))
    mixed = TokenizedMixture(source, Mixture(((LONG, 1.0), (few, 3.0))))
    passes = [[*other.stream(seed)] for seed in (7, 8)]  # the short one is begun again, in another order
    of_few = [example for own in passes for example in own]
    found = list(itertools.islice(mixed.stream(7), len(of_few)))
    of_long = [*itertools.islice(one.stream(7), len(found))]
    ids = [0, 0]
    for example in found:
        text = 0 if of_long and example == of_long[0] else 1
        assert example == (of_long, of_few)[text].pop(0)
        ids[text] += len(example.input_ids)
    assert ids[1] == pytest.approx(3 * ids[0], rel=0.2)
    nothing = TokenizedMixture(source, Mixture(((LONG, 1.0), (Text("nothing", "\n"), 1.0))))
    assert len([*nothing.stream(7)]) < 2


def test_a_calibration_of_several_texts_says_so_and_is_found_again(bert_folder: Path, files: list[Path]) -> None:
    folder, given = files[0].parent, files[:2]
    for path, text in zip(given, (LONG, LONG), strict=True):
        path.write_text(text.content)
    options = {"text": [given[0], f"{given[1]}=2"], "tokens": 300, "device": "cpu", "out": folder / "runs"}
    made = orientc.calibrate(bert_folder, **options)  # type: ignore[arg-type]
    described = made.calibration.description
    assert described.text == "a.txt + b.txt=2"
    assert described.counted == int(made.calibration.counts.sum().round())
    assert described.measured >= 300
    assert not orientc.calibrate(bert_folder, **options).fresh  # type: ignore[arg-type]
    assert orientc.calibrate(bert_folder, **options | {"text": given}).fresh  # type: ignore[arg-type]


def test_too_little_of_all_texts_is_said_by_their_names(bert_folder: Path, tmp_path: Path) -> None:
    mixture = Mixture(((Text("one.txt", SENTENCES[0]), 1.0), (Text("two.txt", SENTENCES[1]), 1.0)))
    with pytest.raises(CalibrationError, match=r"one\.txt \+ two\.txt has \d+ tokens to measure"):
        orientc.calibrate(bert_folder, text=mixture, tokens=300, device="cpu", out=tmp_path)
