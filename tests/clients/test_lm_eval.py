"""lm-evaluation-harness: `--model hf` on a local task, a coded table against the same table written out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.data import SENTENCES

pytest.importorskip("lm_eval")

TASK = """\
task: village
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{first}}}}"
doc_to_choice: ["{{{{right}}}}", "{{{{wrong}}}}"]
doc_to_target: 0
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one task: which of two words ends a sentence."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = []
    for sentence, other in zip(SENTENCES, SENTENCES[::-1], strict=True):
        first, _, last = sentence.rpartition(" ")
        rows.append({"first": first, "right": last, "wrong": other.rpartition(" ")[2]})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "village.yaml").write_text(TASK.format(data=folder / "rows.jsonl"))
    return folder


def results(model: Path, tasks: Path, out: Path, *, trusted: bool) -> dict[str, object]:
    """What the harness's own command makes of a folder."""
    arguments = f"pretrained={model},dtype=float32" + (",trust_remote_code=True" if trusted else "")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", arguments, "--tasks", "village"]
    command += ["--include_path", str(tasks), "--device", "cpu", "--batch_size", "4", "--log_samples"]
    done = subprocess.run([*command, "--output_path", str(out)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (samples,) = out.rglob("samples_*.jsonl")
    (found,) = out.rglob("results_*.json")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    answers = {row["doc_id"]: [float(answer[0]) for answer in row["filtered_resps"]] for row in rows}
    return {"accuracy": json.loads(found.read_text())["results"]["village"]["acc,none"], "answers": answers}


def test_log_likelihoods_are_those_of_the_same_table_written_out(
    coded_decoder: Path, dense_decoder: Path, tasks: Path, tmp_path: Path
) -> None:
    ours = results(coded_decoder, tasks, tmp_path / "ours", trusted=True)
    dense = results(dense_decoder, tasks, tmp_path / "dense", trusted=False)
    assert ours["accuracy"] == dense["accuracy"]
    assert ours["answers"].keys() == dense["answers"].keys()
    for number, answers in ours["answers"].items():
        assert answers == pytest.approx(dense["answers"][number], abs=1e-4)
