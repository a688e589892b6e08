"""The READMEs' commands and code, run as they stand: what they print is what is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.coded import CODINGS, KEPT, SHAPES, filled, layout, stored
from support.commands import Client, Ended
from support.data import SENTENCES
from support.documents import valid
from support.hub import Hub, write_dataset
from support.pairwise import pairwise
from support.readme import READMES, ROOT, differences, plain, refreshed, setup, steps
from support.words import unexplained
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.storage import artifact as artifacts

LONG = ("workflows", "exporters", "comparison", "distillation", "calibration", "evaluation", "compression", "utils")


def name_of(readme: Path) -> str:
    return readme.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where `orientc` is the code under test, and Python and torch are those that run it."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in {"orientc": "-m orientc", "torchrun": "-m torch.distributed.run", "python": ""}.items():
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        command.chmod(0o755)
    paths = {"PATH": [folder, os.environ["PATH"]], "PYTHONPATH": [ROOT, os.environ.get("PYTHONPATH")]}
    return {name: os.pathsep.join(str(path) for path in found if path) for name, found in paths.items()}


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast, bytes_bpe: PreTrainedTokenizerFast
) -> dict[tuple[str, str], Path]:
    """What stands for the hub's models and data sets: tiny ones, by kind and name."""
    root = tmp_path_factory.mktemp("published")
    size = {"hidden_size": 160, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    masked = transformers.BertConfig(vocab_size=len(wordpiece), **size)
    causal = transformers.LlamaConfig(
        vocab_size=len(bytes_bpe), bos_token_id=0, eos_token_id=0, tie_word_embeddings=True, **size
    )
    torch.manual_seed(0)
    models: dict[str, tuple[PreTrainedModel, PreTrainedTokenizerFast]] = {
        "google-bert/bert-base-uncased": (transformers.BertForMaskedLM(masked), wordpiece),
        "sentence-transformers/all-MiniLM-L6-v2": (transformers.BertModel(masked), wordpiece),
        "HuggingFaceTB/SmolLM2-135M": (transformers.LlamaForCausalLM(causal), bytes_bpe),
    }
    for id, (model, tokenizer) in models.items():
        model.save_pretrained(root / id)
        tokenizer.save_pretrained(root / id)
    sentences = [{"sentence": line, "label": number % 2, "idx": number} for number, line in enumerate(SENTENCES)]
    questions = [
        {
            "id": str(number),
            "title": "Village",
            "question": "Who was asleep?",
            "context": line,
            "answers": {"text": ["everybody else"], "answer_start": [line.index("everybody else")]},
        }
        for number, line in enumerate(SENTENCES)
    ]
    lines = [{"text": f" {line} \n"} for line in SENTENCES]
    data: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {
        "nyu-mll/glue": {"sst2": {"train": sentences, "validation": sentences[:9]}},
        "rajpurkar/squad": {"plain_text": {"train": questions, "validation": questions[:9]}},
        "Salesforce/wikitext": {"wikitext-103-raw-v1": {"train": lines, "validation": lines, "test": lines[:24]}},
    }
    for id, rows in data.items():
        write_dataset(root / id, rows)
    return {("models", id): root / id for id in models} | {("datasets", id): root / id for id in data}


class Reader:
    """Runs what a page shows, as someone would who reads it; files of their own are `sentences.txt` alone."""

    def __init__(self, online: Client, environment: dict[str, str]) -> None:
        self._online = online
        self._environment = environment
        self._code = 0

    def run(self, command: str) -> Ended:
        """How a command ended."""
        if command == "echo $?":
            return Ended(0, f"{self._code}\n", "")
        found = plain(command.replace("\\\n", " "))
        if found and found[0][0] == "orientc":
            ended = self._online(*found[0][1:])
            if found[1]:
                (self._online.folder / found[1]).write_text(ended.out)
                if found[1].endswith(".json"):
                    valid(json.loads(ended.out))
                ended = Ended(ended.code, "", ended.err)
        else:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=self._online.folder,
                env=os.environ | self._environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            ended = Ended(done.returncode, done.stdout, done.stderr)
        self._code = ended.code
        return ended


def check(readme: Path, reader: Reader, online: Client, refresh: bool) -> None:
    """Run a page's commands and code in order; what differs from what it shows, or fails unannounced, is an error."""
    todo, printed, wrong = steps(readme), {}, []
    (online.folder / "sentences.txt").write_text("\n".join(SENTENCES[:20]))
    for step, following in zip(todo, [*todo[1:], None], strict=True):
        ended = online.python(step.text) if step.language else reader.run(step.text)
        announced = following is not None and following.text == "echo $?"
        assert announced or ended.code == 0, f"{step.text}\n{ended.err}"
        assert "Traceback" not in ended.err, f"{step.text}\n{ended.err}"
        if step.text.startswith("orientc ") and not ended.out.startswith("{"):
            assert unexplained(ended.out) == [], step.text
        printed[step.text] = ((ended.out + ended.err) if announced else ended.out).rstrip("\n").splitlines()
        if step.shown and not refresh and (found := differences(step.shown, printed[step.text])):
            wrong.append("\n".join([f"$ {step.text}", *found]))
    if refresh:
        readme.write_text(refreshed(readme, printed), encoding="utf-8")
    assert not wrong, "\n\n".join(wrong)


@pytest.fixture
def world(hub: Hub, published: dict[tuple[str, str], Path]) -> Hub:
    """A hub with all that pages name."""
    for (kind, id), folder in published.items():
        hub.publish(id, folder, kind=kind, alias=id.partition("/")[2])
    return hub


@pytest.mark.parametrize(
    "readme",
    [
        pytest.param(readme, marks=[pytest.mark.slow] if readme.parent.name in LONG else [], id=name_of(readme))
        for readme in READMES
    ],
)
def test_what_a_page_shows_is_what_is_printed(
    readme: Path, world: Hub, online: Client, huggingface: Path, shell: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """In one folder, one after the other."""
    reader = Reader(online, shell | world.environment(huggingface))
    check(readme, reader, online, request.config.getoption("--refresh-readmes"))


def test_the_setup_commands_are_run_by_ci() -> None:
    """`.ci/run` takes them from the README; here, that they are what it looks for and end in what they promise."""
    commands = [step.text for step in setup(ROOT / "README.md")]
    assert [command.rsplit("/", 1)[1] for command in commands] == ["orientc demo", "python -m pytest"]
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install") for command in commands)
    assert "grep '^\\$ python3 -m venv' README.md" in (ROOT / ".ci" / "run").read_text()


# -- whether a difference would be seen

SHOWN = """\
demo; masked perplexity on a text (seed 0; e2edbd9a)
table                perplexity   ratio    loss  tokens  seconds
────────────────────────────────────────────────────────────────
original                  22.80  1.000×  3.1267   11287      2.9
svd r37, tied             135.1  5.926×  4.9060   11287     12.2

artifact         svd-r37-b4837d37.safetensors
fit              0.05 s"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.9", "3.7"),
        ("     12.2", "    105.2"),
        ("0.05 s", "1.3 s"),
        ("e2edbd9a", "00000000"),
        ("b4837d37", "12345678"),
        ("135.1", "135.9"),
        ("22.80  ", "22.9  "),
    ],
)
def test_times_hashes_and_what_rounding_does_to_figures_may_differ(old: str, new: str) -> None:
    assert differences(SHOWN.splitlines(), SHOWN.replace(old, new).splitlines()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("135.1", "139.1"),
        ("22.80", "–"),
        ("11287 ", "12287 "),
        ("5.926×", "5.926"),
        ("r37, tied", "r36, tied"),
        ("tied", "input-only"),
        ("ratio ", "Ratio "),
        ("0.05 s", "None s"),
        ("svd-r37", "svd-r38"),
        ("\nfit", "\nanother\nfit"),
        ("\nfit              0.05 s", ""),
        ("fit ", r"\nfit "),
    ],
)
def test_other_words_figures_and_lines_may_not(old: str, new: str) -> None:
    assert differences(SHOWN.splitlines(), SHOWN.replace(old, new).splitlines())


def test_a_page_is_refreshed_where_it_shows_something(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    text = "A\n```console\n$ a \\\n    --b\n{}\n$ c\n$ d\n{}\n```\nB\n"
    page.write_text(text.format("old\n\nlines", "…"))
    assert [step.text for step in steps(page)] == ["a \\\n    --b", "c", "d"]
    page.write_text(refreshed(page, {"a \\\n    --b": ["new"], "c": ["unseen"], "d": ["1", "", "2"]}))
    assert page.read_text() == text.format("new", "1\n\n2")


def test_what_takes_a_shell_is_left_to_one() -> None:
    assert plain("orientc compare 'a <= 2' > x.json") == (["orientc", "compare", "a <= 2"], "x.json")
    assert plain("orientc compare 'a > 2' 'b > 3'") == (["orientc", "compare", "a > 2", "b > 3"], None)
    for command in ("A=$(orientc demo)", "orientc demo | jq", "orientc compare runs/*.json", "a; b", "a && b"):
        assert plain(command) is None


# -- the format as NumPy reads it


@pytest.mark.parametrize(
    ("coding", "shape", "kept", "dtype"),
    pairwise(
        [coding for coding in CODINGS if coding != "plain"],
        [shape for shape in SHAPES if shape != "elu"],
        (0, KEPT),
        (torch.float32, torch.float16),
    ),
)
def test_numpy_reads_a_table_in_codes_as_the_reader_says(
    coding: str, shape: str, kept: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    (block,) = (step.text for readme in READMES for step in steps(readme) if "def table_in_codes" in step.text)
    found: dict[str, Any] = {}
    exec(block, found)
    artifact = stored(filled(layout(coding, shape, kept=kept)).to(dtype))
    artifacts.save(artifact, tmp_path / "x.safetensors")
    read = torch.from_numpy(found["table_in_codes"](tmp_path / "x.safetensors"))
    torch.testing.assert_close(read, artifact.factors.dense(), atol=1e-4, rtol=1e-5)
