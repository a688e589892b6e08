"""What fits hold in memory beside a table in a mapped file, measured in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import ElectraConfig, ElectraForMaskedLM

from orientc.models.table import table_info
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration, CalibrationDescription

VOCAB, DIM = 200_000, 256
TABLE = 2 * VOCAB * DIM  # bytes, in bfloat16
FITS = {
    "svd": "orientc.svd({model}, rank=8{more})",
    "svd with the heaviest rows kept": "orientc.svd({model}, rank=8, keep_rows=1000, calibration={calibration}{more})",
    "quantize": "orientc.quantize({model}, bits=4{more})",
    "quantize with feedback": "orientc.quantize({model}, bits=4, calibration={calibration}{more})",
    "quantize in blocks": "orientc.quantize({model}, block='Q4_0'{more})",
    "target": "orientc.compress({model}, target_bits=2{more})",
}
# The most anonymous memory of a process, sampled every few milliseconds, above what it has before it fits a large table
# and after it has fitted a small one: what is imported on the way is there then.
PROGRAM = """
import sys, threading, time
import orientc
def resident():
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.003)
{small}
peak = before = resident()
threading.Thread(target=watch, daemon=True).start()
made = {large}
print(peak - before, made.description.nbytes)
"""


def checkpoint(folder: Path, vocab: int) -> Path:
    """A tiny model with a table of so many rows, in bfloat16."""
    config = ElectraConfig(
        vocab_size=vocab, embedding_size=DIM, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    ElectraForMaskedLM(config).bfloat16().save_pretrained(folder)
    return folder


def calibration(model: Path, file: Path) -> Path:
    """A calibration of random numbers for a model."""
    base, root = table_info(model), torch.randn(DIM, DIM)
    description = CalibrationDescription(
        base=base, objective="masked", text="x", text_sha256="1" * 64, frequency=None, counted=5, measured=5,
        metrics=("input_importance",), settings={}, seed=1,
    )  # fmt: skip
    counts = 1000 / torch.arange(1, base.vocab + 1)
    calibrations.save(Calibration(counts, root @ root.T, description=description), file)
    return file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A model with a small table and one with a large one, each with a calibration."""
    scratch = tmp_path_factory.mktemp("memory")
    found = {}
    for name, vocab in {"small": 2000, "large": VOCAB}.items():
        model = checkpoint(scratch / name, vocab)
        found[name] = model, calibration(model, scratch / f"{name}.safetensors")
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what is resident")
@pytest.mark.parametrize("fit", FITS)
def test_a_fit_holds_the_artifact_and_a_few_blocks_of_the_table(
    fit: str, models: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """A copy of the table in float32 would take twice the table's bytes, one in its own type as many.

    The blocks take some 40 MB at this width, however many rows there are.
    """
    calls = {}
    for name, (model, calibrated) in models.items():
        more = f", device='cpu', out={json.dumps(str(tmp_path / f'{name}.safetensors'))}"
        words = {"model": json.dumps(str(model)), "calibration": json.dumps(str(calibrated)), "more": more}
        calls[name] = FITS[fit].format(**words)
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(**calls)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, nbytes = map(int, done.stdout.split())
    assert peak - nbytes < 3 * TABLE // 4
