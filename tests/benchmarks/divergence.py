"""KL divergence of SmolLM2 with its table in plain 4 bits, against a direct computation, and what it costs in time.

    ORIENTC_ASSETS=… python tests/benchmarks/divergence.py SMOLLM2.gguf [--tokens 4096] [--head tied] [--times]

The direct computation has nothing of ours but the rebuilt table: transformers loads the model and runs it window by
window, all logits made, divergences in float64. They are to agree to 1e-6 relative. `--times` measures without KL too,
the original's record there and not there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import orientc
from orientc.storage import artifact as artifacts

BITS = 4
LARGEST = 1e-6  # relative


def main() -> None:
    """Run, and print figures beside each other."""
    options = _options()
    text = Path(os.environ["ORIENTC_ASSETS"]) / "wikitext" / "wiki.test.raw"
    with tempfile.TemporaryDirectory() as folder:
        path = orientc.quantize(options.model, bits=BITS, device="cpu", out=Path(folder) / "4bit.safetensors").path
        measured = {"text": text, "limit": options.tokens, "window": options.window, "device": "cpu"}
        found = _timed("with KL", path, **measured, head=options.head)
        if options.times:
            _timed("with KL, the original's record there", path, **measured, head=options.head, measured_before=True)
            _timed("without", path, **measured, head=options.head, kl=False)
            _timed(
                "without, the original's record there", path, **measured, head=options.head, kl=False,
                measured_before=True,
            )  # fmt: skip
        rebuilt = artifacts.load(path).factors.dense()
    metrics = found.records[-1].metrics
    direct = _direct(options, text.read_text(), rebuilt)
    print(f"{Path(options.model).name}, {metrics['tokens']} tokens, {BITS} bits, {options.head}")
    for name, expected in direct.items():
        apart = abs(metrics[name] / expected - 1)
        print(f"{name:8}  ours {metrics[name]:.10f}  direct {expected:.10f}  apart {apart:.1e}")
    apart = abs(metrics["kl"] / direct["kl"] - 1)
    print(f"kl: {'agrees' if apart <= LARGEST else 'DOES NOT AGREE'} to {LARGEST}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="SMOLLM2.gguf")
    parser.add_argument("--tokens", type=int, default=4_096)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--head", choices=["tied", "input-only"], default="tied")
    parser.add_argument("--times", action="store_true")
    return parser.parse_args()


def _timed(what: str, path: Path, *, measured_before: bool = False, **options: Any) -> orientc.Perplexities:
    """Measure anew, but for the original's record where that is `measured_before`; print the seconds."""
    if measured_before:
        for record in path.parent.glob(f"{path.stem}.perplexity-*.json"):
            record.unlink()
    start, cpu = time.perf_counter(), time.process_time()
    found = orientc.perplexity(path, overwrite=not measured_before, **options)
    print(f"{what}: {time.perf_counter() - start:.1f} s, of a processor {time.process_time() - cpu:.1f} s", flush=True)
    return found


@torch.no_grad()
def _direct(options: argparse.Namespace, text: str, rebuilt: torch.Tensor) -> dict[str, float]:
    file = Path(options.model)
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: options.tokens]
    windows = [
        torch.tensor([[tokenizer.bos_token_id, *ids[start : start + options.window]]])
        for start in range(0, len(ids), options.window)
    ]

    def log_probabilities(window: torch.Tensor) -> torch.Tensor:
        return model(input_ids=window[:, :-1]).logits[0].double().log_softmax(-1)

    original = model.get_input_embeddings().weight.detach().clone()
    losses: list[float] = []
    divergences: list[float] = []
    same: list[bool] = []
    for window in windows:
        targets = window[0, 1:, None]
        _put(model, original, "tied")
        p = log_probabilities(window)
        _put(model, rebuilt, options.head, original)
        q = log_probabilities(window)
        losses += (-q.gather(1, targets)).flatten().tolist()
        divergences += (p.exp() * (p - q)).sum(-1).tolist()
        same += (p.argmax(-1) == q.argmax(-1)).tolist()
    return {
        "loss": float(np.mean(losses)),
        "kl": float(np.mean(divergences)),
        "kl_p99": float(np.percentile(divergences, 99)),
        "kl_max": max(divergences),
        "same_top": float(np.mean(same)),
    }


def _put(model: Any, table: torch.Tensor, head: str, original: torch.Tensor | None = None) -> None:
    """Give a model another table, and its head the original one where that is to keep it."""
    shared = torch.nn.Parameter(table)
    model.get_input_embeddings().weight = shared
    kept = head == "input-only" and original is not None
    model.get_output_embeddings().weight = torch.nn.Parameter(original) if kept else shared


if __name__ == "__main__":
    main()
