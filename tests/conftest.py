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

import pytest
import torch
import transformers
from support.commands import Client, Commands, Ended
from support.data import GLUE, SENTENCES, glue_rows, squad_questions
from support.hub import Hub
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
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
    """An uncased WordPiece tokenizer in BERT's form: long words in two pieces, unknown ones in letters.

    Its 120 tokens are put together by hand: the library's trainer orders pieces anew in every process.
    """
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for sentence in SENTENCES for word in sentence.lower().split()})
    letters = sorted(set("".join(words)))
    whole = [word for word in words if 1 < len(word) < 6]
    halves = [
        piece for word in words if len(word) > 5 for piece in (word[: len(word) // 2], f"##{word[len(word) // 2 :]}")
    ]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *whole, *halves]
    pieces += [f"[unused{number}]" for number in range(120 - len(pieces))]
    tokenizer = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@pytest.fixture(scope="session")
def bytes_bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in GPT-2's form, with a BOS token it does not add by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A tied masked language model of a few thousand parameters, saved with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    """A tied causal language model of a few thousand parameters, saved with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(bytes_bpe), n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    bytes_bpe.save_pretrained(folder)
    return folder


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
