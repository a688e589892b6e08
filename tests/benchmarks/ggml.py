"""SmolLM2's table in ggml's blocks, run by unmodified llama.cpp: plain, importance-weighted, and with feedback.

    ORIENTC_ASSETS=… PYTHONPATH=.:tests python tests/benchmarks/ggml.py SMOLLM2.gguf [--calibration FILE] [--threads 2]

"plain" and "importance" are ggml's own rounding, without and with the diagonal of H as importance; "feedback" is
`orientc quantize --block … --calibration …`. All are written into copies of the file, whose body stays as it is. KL is
that of llama.cpp's predictions with the copy to those with the original, over windows of 1 024 tokens behind a BOS; its
standard error is that of blocks of 128 tokens. On the first window, llama.cpp and orientc's modules are compared, with
the original table and with each that was fitted: llama.cpp rounds states to 8 bits. Without `--calibration` one is
measured on SQuAD's train contexts. Fits are timed on one thread: of two, the one that waits counts as a processor's
time, beside other processes up to twenty times that of the work.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gguf
import torch
from support import llama_cpp
from torch import Tensor

import orientc
from orientc.methods.ggml_fit import code_in_blocks
from orientc.methods.ggml_packing import as_blocks
from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.models.source import ModelSource
from orientc.models.substitute import substituted
from orientc.models.table import GGUF_TABLE, Table, read_table
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration
from orientc.storage.gguf_file import NewTensor, copy_with

ASKED = {"Q4_0": 0.034, "IQ4_NL": 0.025, "Q5_0": 0.011}  # KL at most, and one standard error
BLOCK, CONTEXTS = 128, 3000


def main() -> None:
    """Run, and print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    assets = Path(os.environ["ORIENTC_ASSETS"])
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        calibration = calibrations.load(options.calibration or _calibrated(options.model, assets, folder))
        print(f"calibrated on {calibration.description.measured} positions", flush=True)
        files, fitted = _files(options, read_table(options.model), calibration, folder)
        _times(options, files)
        windows = _windows(options, assets)
        _agree(options, files, fitted, windows[0])
        _compare(options, files, windows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="SMOLLM2.gguf", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--blocks", default=",".join(ASKED))
    parser.add_argument("--tokens", type=int, default=4_096)
    parser.add_argument("--window", type=int, default=1_024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path)
    return parser.parse_args()


def _calibrated(model: Path, assets: Path, folder: Path) -> Path:
    articles = json.loads((assets / "squad" / "train-v1.1.json").read_text())["data"]
    contexts = dict.fromkeys(part["context"] for article in articles for part in article["paragraphs"])
    text = folder / "squad.txt"
    text.write_text("\n".join([*contexts][:CONTEXTS]))
    return orientc.calibrate(model, text=text, out=folder / "calibration.safetensors").path


def _files(
    options: argparse.Namespace, table: Table, calibration: Calibration, folder: Path
) -> tuple[dict[str, Path], dict[str, Factors]]:
    """Copies of the file, by what was done, and the tables that were fitted."""
    fitted: dict[str, Factors] = {}
    importance = Importance.of(calibration, table.weight)
    assert calibration.head_importance is not None
    head = calibration.head_importance.diagonal()
    found = {"original": options.model}
    for block in options.blocks.split(","):
        torch.set_num_threads(1)
        start, cpu = time.perf_counter(), time.process_time()
        factors = code_in_blocks(table.weight, block, importance.given)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        torch.set_num_threads(options.threads)
        cost = importance.cost(factors, table.weight)
        print(f"{block}: fitted in {wall:.1f} s, of a processor {cpu:.1f} s; predicted loss {cost:.4f}", flush=True)
        coded = as_blocks(BLOCK_TYPES[block], factors.tensors["latents.codes"], factors.tensors["latents.scales"])
        fitted[f"{block} feedback"] = factors
        contents = {
            "plain": llama_cpp.rounded(block, table.weight),
            "importance": llama_cpp.rounded(block, table.weight, head),
            "feedback": coded.numpy(),
        }
        for name, content in contents.items():
            path = found[f"{block} {name}"] = folder / f"{block}-{name}.gguf"
            new = NewTensor(int(gguf.GGMLQuantizationType[block]), content.tobytes())
            copy_with(options.model, path, {GGUF_TABLE: new}, {"table.type": block})
    return found, fitted


def _times(options: argparse.Namespace, files: dict[str, Path]) -> None:
    """A step of one token, files in turns."""
    least: dict[str, float] = defaultdict(lambda: torch.inf)
    shown = {name: path for name, path in files.items() if name == "original" or name.endswith("feedback")}
    models = {name: llama_cpp.Model(path, options.threads) for name, path in shown.items()}
    for _ in range(3):
        for name, model in models.items():
            least[name] = min(least[name], model.seconds_per_token(range(300, 340)))
    for name, seconds in least.items():
        print(f"{name}: {seconds * 1e3:.2f} ms a token, {shown[name].stat().st_size / 1e6:.1f} MB", flush=True)
        models[name].close()


def _windows(options: argparse.Namespace, assets: Path) -> list[tuple[list[int], Tensor]]:
    """What each window gives the model, and what it is to predict, `[tokens, 1]`."""
    tokenizer = ModelSource.resolve(options.model).tokenizer
    text = (assets / "wikitext" / "wiki.test.raw").read_text()
    ids = tokenizer(text[: 10 * options.tokens], add_special_tokens=False, verbose=False)["input_ids"]
    own = [ids[start : start + options.window] for start in range(0, options.tokens, options.window)]
    return [([tokenizer.bos_token_id, *part[:-1]], torch.tensor(part).unsqueeze(1)) for part in own]


@torch.no_grad()
def _agree(
    options: argparse.Namespace, files: dict[str, Path], fitted: dict[str, Factors], window: tuple[list[int], Tensor]
) -> None:
    """llama.cpp and orientc's modules on one window."""
    given, targets = window
    model: Any = ModelSource.resolve(options.model).load(None, dtype=torch.float32)
    for name in ("original", *fitted):
        with substituted(model, fitted[name], "tied") if name in fitted else nullcontext():
            here = model(input_ids=torch.tensor([given])).logits[0].log_softmax(-1)
        client = llama_cpp.Model(files[name], options.threads)
        there = client.logits(given).log_softmax(-1)
        client.close()
        ratio = float((here.gather(1, targets) - there.gather(1, targets)).double().mean().exp())
        apart = torch.cat([_kl(*parts) for parts in zip(here.split(64), there.split(64), strict=True)]).mean()
        print(f"{name}: llama.cpp's perplexity is {ratio:.4f} of that of the modules, KL {apart:.4f}", flush=True)


def _compare(options: argparse.Namespace, files: dict[str, Path], windows: list[tuple[list[int], Tensor]]) -> None:
    models = {name: llama_cpp.Model(path, options.threads) for name, path in files.items()}
    kl: dict[str, list[Tensor]] = defaultdict(list)
    loss: dict[str, list[Tensor]] = defaultdict(list)
    same: dict[str, list[Tensor]] = defaultdict(list)
    for number, (given, targets) in enumerate(windows):
        original = models["original"].logits(given).log_softmax(-1)
        for name, model in models.items():
            here = model.logits(given).log_softmax(-1) if name != "original" else original
            kl[name].append(torch.cat([_kl(*parts) for parts in zip(original.split(64), here.split(64), strict=True)]))
            loss[name].append(-here.gather(1, targets).double())
            same[name].append((here.argmax(-1) == original.argmax(-1)).double())
        print(f"window {number + 1} of {len(windows)}", flush=True)
    before = torch.cat(loss["original"]).mean()
    print(f"original: perplexity {before.exp():.3f}")
    print("| table | KL ± s.e. | perplexity ratio | same top | asked |\n|---|---|---|---|---|")
    for name in list(models)[1:]:
        values = torch.cat(kl[name])
        pieces = torch.stack([part.mean() for part in values.split(BLOCK)])
        error = float(pieces.std() / len(pieces) ** 0.5)
        mean, ratio = float(values.mean()), float((torch.cat(loss[name]).mean() - before).exp())
        asked = ""
        if name.endswith("feedback"):
            most = ASKED.get(name.split()[0], torch.nan)
            asked = f"{most}: {'met' if mean <= most + error else 'NOT MET'}"
        top = float(torch.cat(same[name]).mean())
        print(f"| {name} | {mean:.4f} ± {error:.4f} | {ratio:.3f} | {100 * top:.1f} % | {asked} |", flush=True)


def _kl(original: Tensor, here: Tensor) -> Tensor:
    return (original.double().exp() * (original.double() - here.double())).sum(-1)


if __name__ == "__main__":
    main()
