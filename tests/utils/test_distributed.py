"""One process and two: the same figures, written and shown once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import Ended, files_in, run_here

import orientc.cli
from orientc.cli import main
from orientc.errors import DeviceError
from orientc.storage.artifact import load
from orientc.utils import distributed
from orientc.utils.devices import pick_device

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
QUICK = ["--max-length", "64", "--device", "cpu", "--save-steps", "100"]

# Each of the two goes through the commands in its first argument and leaves in the second what came of them.
BOTH = """
import contextlib, io, json, pathlib, sys
from orientc import cli
from orientc.utils import distributed
cli._MAIN_FIRST = 0
commands, out = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
order = out / "order"
with distributed.main_first():
    with order.open("a") as stream:
        stream.write(f"{distributed.index()}")
report = {
    "count": distributed.count(),
    "main": distributed.is_main(),
    "gathered": distributed.gather([distributed.index(), "x" * distributed.index()]),
    "uneven": distributed.gather([7] * distributed.index()),
    "from_main": distributed.from_main(lambda: {"index": distributed.index()}),
    "ended": [],
}
for command in commands:
    sys.argv = ["orientc", *command]
    out_text, err_text = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out_text), contextlib.redirect_stderr(err_text):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    distributed.wait()
    report["ended"].append([code, out_text.getvalue(), err_text.getvalue()])
(out / f"{distributed.index()}.json").write_text(json.dumps(report))
"""


def launched(*arguments: object, cwd: Path) -> Ended:
    """Run with two processes. The launcher's own words are on stderr too."""
    done = subprocess.run(
        [*LAUNCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(orientc.cli.__file__).parents[2])},
        timeout=300,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


# -- one process


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ORIENTC_RUNS"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_the_main_one_and_keeps_what_it_has() -> None:
    assert (distributed.count(), distributed.index(), distributed.is_main()) == (1, 0, True)
    values = [1, "a", None]
    assert distributed.gather(values) == [1, "a", None]
    assert distributed.from_main(lambda: values) is values
    with distributed.main_first():
        distributed.wait()


def test_an_error_of_the_main_process_is_not_kept_back() -> None:
    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        distributed.from_main(fail)
    with pytest.raises(OSError, match="full"), distributed.main_first():
        fail()


def test_the_launchers_variables_say_where_a_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert (distributed.count(), distributed.index(), distributed.is_main()) == (4, 2, False)
    monkeypatch.setenv("WORLD_SIZE", "")
    monkeypatch.setenv("RANK", "")
    assert (distributed.count(), distributed.index(), distributed.is_main()) == (1, 0, True)


def test_asking_costs_no_import() -> None:
    code = (
        "import sys; from orientc.utils import distributed;"
        "distributed.gather([1]); distributed.from_main(dict); distributed.wait();"
        "print(sorted({'torch', 'accelerate', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_another_process_lets_the_main_one_say_first_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The launcher ends all of them as soon as one has failed: the main one would be cut off."""
    waited: list[tuple[float, str]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(orientc.cli.time, "sleep", lambda seconds: waited.append((seconds, capsys.readouterr().err)))
    monkeypatch.setattr(sys, "argv", ["orientc", "svd", "m", "--rnk", "4"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    for index, pause in (("0", []), ("1", [(orientc.cli._MAIN_FIRST, "")])):
        monkeypatch.setenv("RANK", index)
        waited.clear()
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert waited == pause
        assert "--rnk" in capsys.readouterr().err


# -- two processes


@dataclass(frozen=True)
class Two:
    """What two processes made of some commands, and one process of the same."""

    alone: dict[str, dict[str, Any]]
    reports: list[dict[str, Any]]
    order: str
    folder: Path

    def ended(self, name: str, index: int = 0) -> Ended:
        return Ended(*self.reports[index]["ended"][NAMES.index(name)])


NAMES = ("glue", "squad", "perplexity", "fit", "training", "indivisible", "divergence")


@pytest.fixture(scope="module")
def tuned(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, glue_folder: Path, squad_folder: Path
) -> dict[str, tuple[list[object], dict[str, Any]]]:
    """Models for two tasks, with the arguments that tell their data."""
    out = tmp_path_factory.mktemp("tuned")
    found = {}
    for name, data in (("glue", ["--task", "mrpc", "--data", glue_folder]), ("squad", ["--data", squad_folder])):
        learning = ["--epochs", "4", "--learning-rate", "0.01", "--batch-size", "4", "--out", out]
        ended = run_here(name, "--model", bert_folder, *data, *QUICK, *learning, "--json", "-q")
        assert (ended.code, ended.err) == (0, "")
        (run,) = ended.document["runs"]
        found[name] = ([name, "--model", run["model"], *data, *QUICK, "--epochs", "0", "--json"], run["record"])
    return found


@pytest.fixture(scope="module")
def two(
    tuned: dict[str, tuple[list[object], dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
    bert_folder: Path,
    glue_folder: Path,
    text_file: Path,
) -> Two:
    folder = tmp_path_factory.mktemp("two")
    artifact = folder / "tuning" / "svd.safetensors"
    assert run_here("svd", bert_folder, "--rank", "4", "--out", artifact).code == 0
    measured = {name: arguments for name, (arguments, _) in tuned.items()}
    measured["perplexity"] = ["perplexity", bert_folder, "--text", text_file, "--batch-size", "4", "--json"]
    measured["fit"] = ["compress", bert_folder, "--rank", "4", "--batch-size", "33", "--device", "cpu", "--json"]
    alone = {name: run_here(*arguments, "--out", folder / "alone") for name, arguments in measured.items()}
    assert [ended.code for ended in alone.values()] == [0, 0, 0, 0]
    commands = [[*arguments, "--out", folder / "both"] for arguments in measured.values()]
    training = ["glue", "--task", "rte", "--data", glue_folder, *QUICK, "--epochs", "2"]
    commands.append([*training, "--embeddings", artifact, "--batch-size", "8", "--json"])
    commands.append([*training, "--model", bert_folder, "--batch-size", "7", "--out", folder / "none"])
    (folder / "both.py").write_text(BOTH)
    held = folder / "held" / "svd.safetensors"
    assert run_here("svd", bert_folder, "--rank", "4", "--out", held).code == 0
    commands.append(["perplexity", held, "--text", text_file, "--batch-size", "4", "--json"])
    alone["divergence"] = run_here(*commands[-1])
    listed = json.dumps([[str(part) for part in command] for command in commands])
    ended = launched(folder / "both.py", listed, folder, cwd=folder)
    assert ended.code == 0, ended.err
    return Two(
        {name: one.document for name, one in alone.items()},
        [json.loads((folder / f"{index}.json").read_text()) for index in range(2)],
        (folder / "order").read_text(),
        folder,
    )


@pytest.mark.slow
def test_there_are_two_and_each_gets_the_whole(two: Two) -> None:
    assert [report["count"] for report in two.reports] == [2, 2]
    assert [report["main"] for report in two.reports] == [True, False]
    for report in two.reports:
        assert report["gathered"] == [0, "", 1, "x"]
        assert report["uneven"] == [7]
        assert report["from_main"] == {"index": 0}
    assert two.order == "01"


@pytest.mark.parametrize("name", ["glue", "squad"])
@pytest.mark.slow
def test_two_processes_score_exactly_as_one(two: Two, name: str) -> None:
    ended = two.ended(name)
    assert ended.code == 0
    (alone,), (both,) = (document["runs"] for document in (two.alone[name], ended.document))
    assert both["fresh"]
    assert both["record"]["metrics"] == alone["record"]["metrics"]
    apart: dict[str, Any] = {"seconds": 0, "environment": {}}
    assert both["record"] | apart == alone["record"] | apart
    assert [found["record"]["environment"]["processes"] for found in (alone, both)] == [1, 2]
    assert json.loads(Path(both["path"]).read_text()) == both["record"]


@pytest.mark.slow
def test_those_scores_are_those_of_the_training_run(
    two: Two, tuned: dict[str, tuple[list[object], dict[str, Any]]]
) -> None:
    for name, (_, record) in tuned.items():
        assert two.ended(name).document["runs"][0]["record"]["metrics"] == record["metrics"]


@pytest.mark.slow
def test_two_processes_give_the_perplexity_of_one(two: Two) -> None:
    (alone,), (both,) = (
        document["records"] for document in (two.alone["perplexity"], two.ended("perplexity").document)
    )
    assert both["metrics"] == alone["metrics"]
    assert both["metrics"]["tokens"] > 100


@pytest.mark.slow
def test_two_processes_give_the_divergences_of_one(two: Two) -> None:
    alone, both = (document["records"] for document in (two.alone["divergence"], two.ended("divergence").document))
    assert [record["environment"]["processes"] for record in both] == [2, 2, 2]
    for one, other in zip(alone, both, strict=True):
        assert other["metrics"] == one["metrics"]
        assert other["blocks"] == one["blocks"]
    assert both[2]["metrics"]["kl"] > 0


@pytest.mark.slow
def test_two_processes_fit_as_one_does_and_leave_one_artifact(two: Two) -> None:
    both, alone = two.ended("fit").document, two.alone["fit"]
    assert both["fresh"]
    assert both["settings"] == alone["settings"]
    for name, distance in alone["distances"].items():
        assert both["distances"][name] == pytest.approx(distance, rel=1e-4)
    assert load(Path(both["artifact"])).description.distances == both["distances"]


@pytest.mark.slow
def test_two_processes_train_and_leave_one_model(two: Two) -> None:
    ended = two.ended("training")
    assert ended.code == 0
    (run,) = ended.document["runs"]
    model = Path(run["model"])
    assert run["fresh"]
    assert 0 <= run["record"]["metrics"]["accuracy"] <= 1
    log = json.loads((model / "training.json").read_text())["log"]
    assert log[-1]["step"] == 4  # 16 examples, 8 at a time over both, twice
    files = ["config.json", "model.safetensors", "modeling_orientc.py", "tokenizer.json", "tokenizer_config.json"]
    files += ["orientc_files.json", "training.json"]
    expected = [f"{model.name}/{name}" for name in files] + [Path(run["path"]).name]
    assert files_in(model.parent) == sorted(["svd.history.json", "svd.safetensors", *expected])


@pytest.mark.slow
def test_only_the_main_process_writes_and_shows(two: Two) -> None:
    for name in set(NAMES) - {"indivisible"}:
        assert two.ended(name).out
        assert two.ended(name, 1) == Ended(0, "", "")
    assert files_in(two.folder / "both") == files_in(two.folder / "alone")


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(two: Two) -> None:
    ended = two.ended("indivisible")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "orientc: a batch of 7 can't be divided among 2 processes\n"
    assert files_in(two.folder / "none") == []


@pytest.mark.skipif(torch.accelerator.is_available(), reason="without --device each process takes a GPU of its own")
@pytest.mark.slow
def test_on_a_machine_without_gpus_the_processes_find_each_other_by_themselves(
    two: Two, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    asked = ["perplexity", bert_folder, "--text", text_file, "--batch-size", "4", "--json", "--out", tmp_path / "runs"]
    ended = launched("-m", "orientc", *asked, cwd=tmp_path)
    assert ended.code == 0, ended.err
    (alone,), (both,) = (document["records"] for document in (two.alone["perplexity"], ended.document))
    assert both["metrics"] == alone["metrics"]
    assert len(files_in(tmp_path / "runs")) == 1
    assert "orientc: " not in ended.err


def test_processes_that_do_not_find_each_other_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would score its share and take that for the whole."""
    distributed.joined()  # this one alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    for ask in (lambda: distributed.gather([1]), lambda: distributed.from_main(dict), distributed.wait, pick_device):
        with pytest.raises(DeviceError, match="2 processes were started, accelerate joins 1"):
            ask()


@pytest.mark.slow
def test_a_bad_request_of_two_processes_is_one_line(bert_folder: Path, tmp_path: Path) -> None:
    ended = launched(
        "-m", "orientc", "glue", "--task", "rte", "--model", bert_folder, "--data", "nowhere", *QUICK, cwd=tmp_path
    )
    assert ended.code == 1
    assert ended.out == ""
    (line,) = [line for line in ended.err.splitlines() if line.startswith("orientc: ")]
    assert "can't read nowhere" in line
    assert files_in(tmp_path) == []
