"""Small real models and ways to run the command line, shared by all tests."""

from __future__ import annotations

from support.environment import settle

settle()  # before anything reads it on import

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.commands import Client, Commands, Ended
from support.data import GLUE, PAIRS, SENTENCES, glue_rows, squad_questions
from support.hub import Hub

if TYPE_CHECKING:  # what starts the workers needs no torch
    from transformers import PreTrainedTokenizerFast

LONG = ("test_readme.py", "test_demo.py", "test_hub.py", "test_hub_faults.py", "test_distributed.py", "test_kill.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a person may ask of the tests."""
    parser.addoption("--refresh-readmes", action="store_true", help="write what commands print into the READMEs")
    parser.addoption("--all-graphs", action="store_true", help="export every architecture to ONNX")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: with them at the end one worker would wait for the other."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def orientc(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run a command in this process (fast); `orientc("svd", "demo", ...)`."""
    from orientc.cli import main

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["orientc", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def orientc_process(tmp_path: Path) -> Callable[..., Ended]:
    """Run a command as a process of its own, as a shell would, in the test's folder."""

    def run(*arguments: object, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "orientc", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=300,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def _shared_hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(scope="session")
def _client(_shared_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("huggingface")
    environment = _shared_hub.environment(home)
    online, offline = Commands(**environment), Commands(**environment | {"HF_HUB_OFFLINE": "1"})
    yield Client(online, offline, home)
    online.close()
    offline.close()


@pytest.fixture
def hub(_shared_hub: Hub, _client: Client) -> Hub:
    """A loopback hub that has nothing yet, and whose clients have kept nothing."""
    _shared_hub.clear()
    for name in ("hub", "datasets"):
        shutil.rmtree(_client.folder / name, ignore_errors=True)
    return _shared_hub


@pytest.fixture
def huggingface(hub: Hub, _client: Client) -> Path:
    """Where the clients of `hub` keep what they have downloaded."""
    return _client.folder


@pytest.fixture
def online(hub: Hub, _client: Client, tmp_path: Path) -> Client:
    """Runs commands in the test's folder, in a process that knows `hub`, or knew it and is `offline`."""
    return replace(_client, folder=tmp_path)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in the order a launcher's processes add them up; and on a busy machine small models are faster so."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The shared models and data."""
    folder = Path(os.environ.get("ORIENTC_ASSETS", ""))
    if not os.environ.get("ORIENTC_ASSETS") or not folder.is_dir():
        pytest.skip("ORIENTC_ASSETS names no folder with the shared models and data")
    return folder


@pytest.fixture(scope="session")
def wordpiece() -> PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer in BERT's form."""
    from support import models

    return models.wordpiece()


@pytest.fixture(scope="session")
def bytes_bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in GPT-2's form."""
    from support import models

    return models.bytes_bpe()


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A tied masked language model of a few thousand parameters, saved with its tokenizer."""
    from support import models

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    models.save_bert(folder, wordpiece)
    return folder


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    """A tied causal language model of a few thousand parameters, saved with its tokenizer."""
    from support import models

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    models.save_gpt2(folder, bytes_bpe)
    return folder


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A tied encoder-decoder of a few thousand parameters, saved with its tokenizer."""
    from support import models

    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    models.save_t5(folder, wordpiece)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few dozen pairs of source and target, as TSV."""
    path = tmp_path_factory.mktemp("texts") / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few dozen lines of text."""
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text("\n\n".join(SENTENCES) + "\n")
    return path


@pytest.fixture(scope="session")
def glue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GLUE's own download with a few rows in each of its files."""
    folder = tmp_path_factory.mktemp("data") / "glue"
    for task in GLUE:
        parts = ("matched", "mismatched") if task == "MNLI" else ("",)
        for split in ("train", *(f"{kind}_{part}".rstrip("_") for kind in ("dev", "test") for part in parts)):
            rows = glue_rows(task, split)
            lines = ["\t".join(rows[0]).replace("_ID", " ID").replace("_String", " String")]
            lines = lines if task != "CoLA" or split == "test" else []
            lines += ["\t".join(map(str, row.values())) for row in rows]
            (folder / task).mkdir(parents=True, exist_ok=True)
            (folder / task / f"{split}.tsv").write_text("\n".join([*lines, ""]))
    (folder / "diagnostic").mkdir()
    (folder / "diagnostic" / "diagnostic.tsv").write_text(
        f"index\tsentence1\tsentence2\n0\t{SENTENCES[0]}\t{SENTENCES[1]}\n1\t{SENTENCES[2]}\t{SENTENCES[0]}\n"
    )
    return folder


@pytest.fixture(scope="session")
def squad_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQuAD's two official files with a few questions each."""
    folder = tmp_path_factory.mktemp("data") / "squad"
    folder.mkdir()
    for split, name in (("train", "train-v1.1.json"), ("validation", "dev-v1.1.json")):
        paragraphs = []
        for entry in squad_questions(split):
            (text,), (start,) = entry["answers"]["text"], entry["answers"]["answer_start"]
            asked = {
                "id": entry["id"],
                "question": entry["question"],
                "answers": [{"text": text, "answer_start": start}],
            }
            paragraphs.append({"context": entry["context"], "qas": [asked]})
        document = {"version": "1.1", "data": [{"title": "Village", "paragraphs": paragraphs}]}
        (folder / name).write_text(json.dumps(document))
    return folder
