"""`orientc export` from the outside: what it writes and says, and how it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from support.architectures import inputs_of
from support.commands import Ended, files_in, one_line, run_here
from support.compact_models import assert_equal, outputs_of, own_modules_cache
from support.words import facts
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from orientc.models.compact_code import FILE
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.storage import artifact as artifacts
from orientc.utils.folders import LIST

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]

TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
DENSE = ["README.md", "config.json", "model.safetensors", LIST, *TOKENIZER]
COMPACT = sorted([*DENSE, FILE])
QUICK = ("--batch-size", "8", "--max-length", "64", "--device", "cpu", "--save-steps", "100", "--epochs", "1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    with own_modules_cache(tmp_path.with_name(f"{tmp_path.name}-modules")):
        yield


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """Of the small masked language model, rank 4; for reading only."""
    path = tmp_path_factory.mktemp("runs") / "svd-r4.safetensors"
    assert run_here("svd", bert_folder, "--rank", 4, "--out", path, "-q").code == 0
    return path


@pytest.fixture(scope="module")
def tuned(one_thread: None, tmp_path_factory: pytest.TempPathFactory, artifact: Path, glue_folder: Path) -> Path:
    """The folder that a short `orientc glue` leaves; for reading only."""
    path = shutil.copy(artifact, tmp_path_factory.mktemp("tuned") / artifact.name)
    asked = ["glue", "--task", "mrpc", "--embeddings", path, "--data", glue_folder, *QUICK, "--json", "-q"]
    ended = run_here(*asked)
    assert (ended.code, ended.err) == (0, "")
    return Path(ended.document["runs"][0]["model"])


def exported(orientc: Orientc, *arguments: object, to: str = "out") -> tuple[dict[str, Any], Path]:
    """What a run that works says with --json, and the folder it wrote."""
    ended = orientc("export", *arguments, "--to", to, "--json")
    assert (ended.code, ended.err) == (0, ""), ended
    return ended.document, Path(to)


def substituted(bert_folder: Path, artifact: Path, head: str = "tied") -> Any:
    model = ModelSource.resolve(str(bert_folder)).load(None, dtype=torch.float32)
    return substitute(model, artifacts.load(artifact), head)


# -- what is written


def test_an_artifact_becomes_a_folder_that_loads(
    orientc: Orientc, artifact: Path, bert_folder: Path, tmp_path: Path
) -> None:
    ended = orientc("export", artifact, "--to", "deep/er/out")
    assert (ended.code, ended.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in ended.out.replace("all weights", "weights").splitlines()[:4])
    assert shown["folder"].startswith("deep/er/out, 0.1")
    assert shown["form"] == "compact, head tied, float32"
    assert shown["table"].endswith("was 0.02 MB")
    last = facts(ended.out)[-1]
    assert last.endswith('AutoModelForMaskedLM.from_pretrained("deep/er/out", trust_remote_code=True)')

    assert files_in(tmp_path) == [f"deep/er/out/{name}" for name in COMPACT]
    model = AutoModelForMaskedLM.from_pretrained("deep/er/out", trust_remote_code=True)
    assert_equal(outputs_of(model), outputs_of(substituted(bert_folder, artifact)))
    tokenizer = AutoTokenizer.from_pretrained("deep/er/out")
    assert (
        tokenizer("the quick fox")["input_ids"]
        == AutoTokenizer.from_pretrained(bert_folder)("the quick fox")["input_ids"]
    )


def test_the_dense_form_loads_without_any_code(
    orientc: Orientc, artifact: Path, bert_folder: Path, tmp_path: Path
) -> None:
    facts, folder = exported(orientc, artifact, "--form", "dense")
    assert files_in(folder) == DENSE
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=False)
    expected = outputs_of(substituted(bert_folder, artifact))
    torch.testing.assert_close(outputs_of(model), expected, atol=1e-5, rtol=1e-5)
    original, now = ((path / "model.safetensors").stat().st_size for path in (bert_folder, folder))
    assert abs(original - now) < 1024
    assert facts["table"] == facts["base_table"] == 120 * 32 * 4
    shown = orientc("export", artifact, "--to", "again", "--form", "dense").out
    assert 'AutoModelForMaskedLM.from_pretrained("again")\n' in shown


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_a_fine_tuned_folder_is_exported_as_it_is(orientc: Orientc, tuned: Path, form: str) -> None:
    facts, folder = exported(orientc, tuned, "--form", form)
    assert (facts["auto_class"], facts["head"], facts["method"], facts["rank"]) == (
        "AutoModelForSequenceClassification", "input-only", None, 4,
    )  # fmt: skip
    expected = ModelSource.resolve(str(tuned)).load(AutoModelForSequenceClassification, dtype=torch.float32)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=form == "compact")
    logits = [one(**inputs_of(one)).logits for one in (model, expected)]
    torch.testing.assert_close(*logits, atol=1e-6 if form == "compact" else 1e-5, rtol=0)
    assert files_in(folder) == (COMPACT if form == "compact" else DENSE)
    text = (folder / "README.md").read_text()
    assert "## What was measured" in text
    assert "| mrpc.accuracy | 0." in text
    if form == "compact":
        weights = [(path / "model.safetensors").read_bytes() for path in (tuned, folder)]
        assert weights[0] == weights[1]


@pytest.mark.parametrize("change", ["weights", "config", "record"])
def test_figures_of_a_folder_that_was_edited_are_left_off(orientc: Orientc, tuned: Path, change: str) -> None:
    folder = shutil.copytree(tuned, Path("runs") / tuned.name)
    record = shutil.copy(tuned.with_name(f"{tuned.name}.json"), folder.with_name(f"{folder.name}.json"))
    exported(orientc, folder, to="before")  # a copy is the same model
    assert "| mrpc.accuracy | 0." in Path("before/README.md").read_text()
    if change == "weights":
        state = load_file(folder / "model.safetensors")
        state["classifier.bias"] = state["classifier.bias"] + 1
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif change == "config":
        values = json.loads((folder / "config.json").read_text()) | {"hidden_act": "relu"}
        (folder / "config.json").write_text(json.dumps(values))
    else:  # by a version that did not say which model was scored
        values = json.loads(Path(record).read_text())
        del values["finetuned"]
        Path(record).write_text(json.dumps(values))

    ended = orientc("export", folder, "--to", "out")

    said = f"orientc: {folder} is not known to be as it was when it was scored: its card has no figures\n"
    assert (ended.code, ended.err) == (0, said)
    text = Path("out/README.md").read_text()
    assert "mrpc.accuracy" not in text
    assert "fine-tuned" not in text
    assert "What was measured" not in text


BASES = [
    ("org/model", "a" * 40, "[org/model](https://huggingface.co/org/model)", "org/model"),
    ("some/where/model", None, "model", None),
    ("/home/me/a[x](y)|z", None, r"a\[x](y)\|z", None),
    ("org/model", None, "model", None),  # a folder
    ("x](https://evil.example)[y", "a" * 40, r"evil.example)\[y", None),
]


@pytest.mark.parametrize(("id", "revision", "shown", "linked"), BASES)
def test_the_card_of_a_fine_tuned_folder_names_its_base(
    orientc: Orientc, tuned: Path, id: str, revision: str | None, shown: str, linked: str | None
) -> None:
    folder = shutil.copytree(tuned, Path("runs") / tuned.name)
    values = json.loads(tuned.with_name(f"{tuned.name}.json").read_text())
    values["model"] |= {"id": id, "revision": revision}
    folder.with_name(f"{folder.name}.json").write_text(json.dumps(values))
    exported(orientc, folder)
    card = ModelCard.load("out/README.md")
    assert card.data.base_model == linked
    (line,) = [line for line in card.content.splitlines() if line.startswith("It was fine-tuned on mrpc from ")]
    assert shown in line
    assert "/home" not in card.content
    links = re.findall(r"(?<!\\)\[(?:[^\[\]\\]|\\.)*\]\((.*?)\)", line)
    assert links == ([f"https://huggingface.co/{id}"] if linked else [])


def test_json_says_it_all(orientc: Orientc, artifact: Path, bert_folder: Path) -> None:
    facts, folder = exported(orientc, artifact)
    files = {path: path.stat().st_size for path in folder.iterdir()}
    assert facts == {
        "format": "orientc-export",
        "version": 1,
        "folder": "out",
        "base": str(bert_folder),
        "form": "compact",
        "head": "tied",
        "dtype": "float32",
        "auto_class": "AutoModelForMaskedLM",
        "library": "transformers",
        "code": "orientc",
        "tokenizer_code": None,
        "method": "svd",
        "rank": 4,
        "table": (120 * 4 + 32 * 4) * 4,
        "base_table": 120 * 32 * 4,
        "base_weights": facts["base_weights"],
        "vocab": 120,
        "dim": 32,
        "tables": [
            {
                "table": "input", "vocab": 120, "dim": 32, "method": "svd", "rank": 4,
                "nbytes": (120 * 4 + 32 * 4) * 4, "base_nbytes": 120 * 32 * 4,
            },
        ],
        "processor": False,
        "body": None,
        "needs": [],
        "resident": [],
        "weights": files[folder / "model.safetensors"],
        "nbytes": sum(files.values()),
        "halved": facts["halved"],
        "url": None,
    }  # fmt: skip
    size = (bert_folder / "model.safetensors").stat().st_size
    assert size - 4096 < facts["base_weights"] < size
    assert facts["base_weights"] - facts["weights"] == pytest.approx(facts["base_table"] - facts["table"], abs=4096)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["compact", "dense"])
def test_all_weights_are_stored_in_the_type_asked_for(
    orientc: Orientc, artifact: Path, bert_folder: Path, form: str, dtype: str
) -> None:
    facts, folder = exported(orientc, artifact, "--form", form, "--dtype", dtype)
    stored = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert stored == {getattr(torch, dtype)}
    assert (facts["dtype"], json.loads((folder / "config.json").read_text())["dtype"]) == (dtype, dtype)
    size = 4 if dtype == "float32" else 2
    assert facts["table"] == size * (120 * 32 if form == "dense" else 120 * 4 + 32 * 4)
    assert f"| stored as | | {dtype} |" in (folder / "README.md").read_text()
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=form == "compact", dtype=torch.float32)
    close = 1e-5 if size == 4 else 5e-2
    torch.testing.assert_close(
        outputs_of(model), outputs_of(substituted(bert_folder, artifact)), atol=close, rtol=close
    )


def test_the_base_checkpoints_type_is_kept_unless_another_is_asked_for(
    orientc: Orientc, bert_folder: Path, tmp_path: Path
) -> None:
    model = AutoModelForMaskedLM.from_pretrained(bert_folder).to(torch.float16)
    model.save_pretrained("half")
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained("half")
    artifact = orientc("svd", "half", "--rank", 4, "--json").document["artifact"]
    facts, folder = exported(orientc, artifact)
    assert facts["dtype"] == "float16"
    assert facts["table"] == (120 * 4 + 32 * 4) * 2
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize("head", ["tied", "input-only"])
def test_the_head_is_as_asked(orientc: Orientc, artifact: Path, bert_folder: Path, head: str) -> None:
    facts, folder = exported(orientc, artifact, "--head", head)
    assert facts["head"] == head
    assert json.loads((folder / "config.json").read_text())["orientc"]["head"] == head
    keys = load_file(folder / "model.safetensors").keys()
    assert ("cls.predictions.decoder.weight" in keys) == (head == "input-only")
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
    assert_equal(outputs_of(model), outputs_of(substituted(bert_folder, artifact, head)))


def test_a_model_without_a_tokenizer_is_exported_with_a_warning(
    orientc: Orientc, artifact: Path, bert_folder: Path
) -> None:
    bare = Path("bare")
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert_folder / name, bare)
    ended = orientc("export", artifact, "--model", bare, "--to", "out")
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("orientc: bare has no tokenizer that can be used: ")
    assert line.endswith("; exported without one")
    assert files_in(Path("out")) == sorted({*COMPACT} - {*TOKENIZER})
    AutoModelForMaskedLM.from_pretrained("out", trust_remote_code=True)
    assert orientc("export", artifact, "--model", bare, "--to", "quiet", "-q").err == ""


# -- the card


def test_the_card_holds_the_sizes_and_no_figures_that_nobody_measured(
    orientc: Orientc, artifact: Path, bert_folder: Path
) -> None:
    _, folder = exported(orientc, artifact)
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict() == {"library_name": "transformers", "tags": ["orientc", "embedding-compression"]}
    assert f"# {bert_folder.name}, token table at 5.07 bits" in card.content
    assert "(120 × 32) compressed by svd to rank 4" in card.content
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    assert f" | {megabytes:.2f} |" in card.content
    assert "What it cost" not in card.content
    assert "What was measured" not in card.content
    assert "method svd, rank 4" in card.content
    assert str(bert_folder.parent) not in card.content


def test_the_card_holds_the_figures_of_the_records_beside_the_artifact(
    orientc: Orientc, artifact: Path, bert_folder: Path, text_file: Path
) -> None:
    mine = Path(shutil.copy(artifact, "svd-r4.safetensors")).absolute()
    measured = orientc("perplexity", mine, "--text", text_file, "--limit", 8, "--device", "cpu", "--json", "-q")
    assert measured.code == 0
    _, folder = exported(orientc, mine)
    card = ModelCard.load(folder / "README.md").content
    assert "## What it cost" in card
    header = next(line for line in card.splitlines() if "ppl tied" in line)
    assert "ppl input-only" in header
    assert str(bert_folder.parent) not in card
    assert str(mine.parent) not in card


# -- orientc reads what it wrote


def test_the_folder_is_a_model_to_orientcs_commands(
    orientc: Orientc, artifact: Path, bert_folder: Path, text_file: Path
) -> None:
    asked = ("--text", text_file, "--limit", "8", "--device", "cpu", "--json", "-q")
    mine = Path(shutil.copy(artifact, "svd-r4.safetensors"))
    records = orientc("perplexity", mine, *asked).document["records"]
    expected = {record["head"]: record["metrics"]["loss"] for record in records if record["artifact"]}
    for head in ("tied", "input-only"):
        _, folder = exported(orientc, mine, "--head", head, to=head)
        (found,) = orientc("perplexity", folder, *asked).document["records"]
        assert found["metrics"]["loss"] == pytest.approx(expected[head], abs=1e-6)
        table = orientc("inspect", folder, "--json").document["table"]
        assert (table["vocab"], table["dim"], table["tied"]) == (120, 32, head == "tied")
    assert expected["tied"] != expected["input-only"]


# -- what is refused


def test_a_place_that_is_taken_is_left_alone(orientc: Orientc, artifact: Path, tmp_path: Path) -> None:
    exported(orientc, artifact, "--head", "input-only")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("out").iterdir()}
    said = one_line(orientc("export", artifact, "--to", "out"), 1)
    assert said.endswith("out is there already: name another place, or replace a folder with --overwrite")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("out").iterdir()} == before
    Path("file").write_text("mine")
    for overwrite in ([], ["--overwrite"]):
        assert "file is there already" in one_line(orientc("export", artifact, "--to", "file", *overwrite), 1)
    assert Path("file").read_text() == "mine"

    facts, folder = exported(orientc, artifact, "--form", "dense", "--overwrite")
    assert (facts["form"], files_in(folder)) == ("dense", DENSE)
    Path("empty").mkdir()
    exported(orientc, artifact, to="empty")


def test_overwriting_deletes_no_other_things(orientc: Orientc, artifact: Path, bert_folder: Path) -> None:
    """Neither a folder with something else, nor one with what is to be exported."""
    for folder, *names in (["thesis", "chapter.txt"], ["application", "config.json", "src/app.py"]):
        for name in names:
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_text("mine")
        said = one_line(orientc("export", artifact, "--to", folder, "--overwrite"), 1)
        assert f"{folder} holds {names[0]}, which orientc did not write: --overwrite would lose it" in said
        assert files_in(Path(folder)) == names

    model = shutil.copytree(bert_folder, "model")
    inside = shutil.copy(artifact, model)
    before = files_in(Path("model"))
    for argument in ((inside,), (artifact, "--model", "model"), (inside, "--model", "model/../model")):
        said = one_line(orientc("export", *argument, "--to", "model", "--overwrite"), 1)
        assert "model holds config.json, which orientc did not write" in said
    assert files_in(Path("model")) == before

    _, made = exported(orientc, artifact)
    before = files_in(made)
    for place in ("out", "out/../out"):
        said = one_line(orientc("export", made, "--to", place, "--overwrite"), 1)
        assert "which is to be exported: name another place" in said
    assert files_in(made) == before


def test_what_appears_while_an_export_is_under_way_is_not_lost(
    orientc: Orientc, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orientc.exporters import model_card

    write = model_card.write

    def slow(*inputs: Any, **options: Any) -> None:
        write(*inputs, **options)
        Path("out").mkdir(exist_ok=True)
        Path("out", "notes.txt").write_text("mine")

    with monkeypatch.context() as patch:
        patch.setattr(model_card, "write", slow)
        assert "out is there already" in one_line(orientc("export", artifact, "--to", "out"), 1)
        Path("out", "notes.txt").unlink()
    exported(orientc, artifact)
    before = files_in(Path("out"))
    with monkeypatch.context() as patch:
        patch.setattr(model_card, "write", slow)
        said = one_line(orientc("export", artifact, "--to", "out", "--overwrite"), 1)
    assert "out holds notes.txt, which orientc did not write" in said
    assert files_in(Path("out")) == sorted([*before, "notes.txt"])


def test_a_place_that_cant_be_written_is_told_first(orientc: Orientc, artifact: Path, tmp_path: Path) -> None:
    Path("file").write_text("mine")
    said = one_line(orientc("export", artifact, "--to", "file/deeper/out"), 1)
    assert said.startswith("orientc: can't write in")
    if os.geteuid():  # to root all places can be written
        Path("locked").mkdir(mode=0o500)
        assert "can't write in" in one_line(orientc("export", artifact, "--to", "locked/out"), 1)
    assert files_in(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--form", "dense", "--head", "input-only"], 1, "input-only has two tables, the dense form of this"),
        (["--model", "gone"], 1, "gone"),
        (["--revision", "v1"], 2, "--revision is for models on the hub"),
        (["--form", "onnx", "--dtype", "bfloat16"], 2, "the onnx form is written in float32 or float16, not in bf"),
    ],
)
def test_what_cant_be_done_is_one_line_and_leaves_nothing(
    orientc: Orientc, artifact: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    assert said in one_line(orientc("export", artifact, "--to", "deep/out", *arguments), code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--form", "small"], ["--dtype", "int8"], ["--head", "untied"], ["--form"]])
def test_what_is_no_choice_is_a_usage_error(orientc: Orientc, artifact: Path, arguments: list[str]) -> None:
    ended = orientc("export", artifact, "--to", "out", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert not Path("out").exists()


def test_a_failure_while_writing_leaves_nothing(
    orientc: Orientc, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(orientc, artifact)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orientc.exporters.model_card.write", full)
    for arguments in (["--overwrite"], ["--overwrite", "--form", "dense"]):
        said = one_line(orientc("export", artifact, "--to", "out", *arguments), 1)
        assert said.endswith("can't write out: No space left on device")
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_artifact_of_another_model_needs_force(
    orientc: Orientc, artifact: Path, bert_folder: Path, tmp_path: Path
) -> None:
    other = AutoModelForMaskedLM.from_pretrained(bert_folder)
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1)
    other.save_pretrained("other")
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained("other")
    assert "another" in one_line(orientc("export", artifact, "--model", "other", "--to", "out"), 1)
    assert not Path("out").exists()
    ended = orientc("export", artifact, "--model", "other", "--to", "out", "--force")
    assert ended.code == 0
    assert ended.err == "orientc: --force: going on with an artifact of another table\n"
    assert_equal(
        outputs_of(AutoModelForMaskedLM.from_pretrained("out", trust_remote_code=True)),
        outputs_of(substituted(Path("other"), artifact)),
    )


def test_an_artifact_whose_base_is_gone_asks_where_it_is(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, "moved")
    artifact = orientc("svd", tmp_path / "moved", "--rank", 4, "--json").document["artifact"]
    Path("moved").rename("here")
    said = one_line(orientc("export", artifact, "--to", "out"), 1)
    assert said.endswith("say where it is with --model")
    facts, _ = exported(orientc, artifact, "--model", "here")
    assert facts["base"] == "here"


def test_a_folder_without_a_compressed_table_is_refused(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    said = one_line(orientc("export", bert_folder, "--to", "out"), 1)
    assert said.endswith("holds no compressed table: name an artifact, or a folder glue or squad saved")
    Path("nothing").mkdir()
    assert "it is not a transformers model" in one_line(orientc("export", "nothing", "--to", "out"), 1)
    assert "there is no folder" in one_line(orientc("export", "./gone", "--to", "out"), 1)
    assert "gone.safetensors" in one_line(orientc("export", "gone.safetensors", "--to", "out"), 1)
    assert not Path("out").exists()


def test_a_folders_head_stays_as_it_was_saved(orientc: Orientc, tuned: Path) -> None:
    said = one_line(orientc("export", tuned, "--to", "out", "--head", "tied"), 1)
    assert said.endswith("was saved with its head input-only: that can't be changed any more")
    said = one_line(orientc("export", tuned, "--to", "out", "--model", "other"), 2)
    assert "--model names the base model of an artifact" in said


def test_a_damaged_artifact_is_one_line(orientc: Orientc, artifact: Path, tmp_path: Path) -> None:
    Path("bad.safetensors").write_bytes(artifact.read_bytes()[:-9])
    one_line(orientc("export", "bad.safetensors", "--to", "out"), 1)
    assert files_in(tmp_path) == ["bad.safetensors"]


def test_a_causal_model_takes_its_generation_settings_along(
    orientc: Orientc, gpt2_folder: Path, tmp_path: Path
) -> None:
    artifact = orientc("svd", gpt2_folder, "--rank", 6, "--json").document["artifact"]
    facts, folder = exported(orientc, artifact)
    assert facts["auto_class"] == "AutoModelForCausalLM"
    assert files_in(folder) == sorted([*COMPACT, "generation_config.json"])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    expected = ModelSource.resolve(str(gpt2_folder)).load(None, dtype=torch.float32)
    substitute(expected, artifacts.load(Path(artifact)), "tied")
    prompt = {"input_ids": torch.tensor([[5, 6, 7]]), "max_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(**prompt), expected.generate(**prompt))


def test_under_a_launcher_it_is_refused_before_any_work(
    orientc: Orientc, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "export runs in one process" in one_line(orientc("export", artifact, "--to", "out"), 2)
    assert files_in(tmp_path) == []
