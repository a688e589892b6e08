"""Peak memory of `perplexity` of a large model in bfloat16 on the CPU: its weights once, and logits of a chunk.

    python tests/benchmarks/one_copy.py [--gb 4] [--text FILE] [--limit 64] [--place DIR]

The checkpoint is a Llama of random numbers with the layers of a 7B model, as many as make the size, in shards of one
layer each in a temporary folder; its tokenizer is that of `demo`. The command is a process of its own. Its peak is the
system's count of resident memory, mapped pages of the files included, and is held against 1.1 times the weights plus
logits of a chunk in float32, with the log-probabilities and probabilities beside them. What an interpreter with
transformers takes without any model is shown, and is in the peak. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from orientc.evaluation.side_by_side import CPU_LOGITS
from orientc.models.source import ModelSource

GB = 1e9
CODE = "import torch, orientc; from transformers import LlamaForCausalLM; import orientc.evaluation.perplexity"
TEXT = "The quick brown fox jumps over the lazy dog while everybody else in the village is still asleep. " * 40


def main() -> None:
    """Make the checkpoint, measure, print a line for each figure."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.place) as name:
        folder, text = Path(name) / "large", options.text or Path(name) / "text.txt"
        if options.text is None:
            text.write_text(TEXT)
        weights, vocab = make(folder, options.gb * GB)
        code, _ = peak([sys.executable, "-c", CODE])
        chunk = 3 * 4 * min(CPU_LOGITS, options.limit * vocab)
        bound = 1.1 * weights + chunk
        print(f"weights {weights / GB:.2f} GB; an interpreter with transformers {code / GB:.2f} GB")
        print(
            f"bound {bound / GB:.2f} GB: 1.1 times the weights and {chunk / GB:.2f} GB for logits of a chunk",
            flush=True,
        )
        began = time.perf_counter()
        most, split = peak(
            [
                *(sys.executable, "-m", "orientc", "perplexity", str(folder), "--text", str(text), "--quiet"),
                *("--limit", str(options.limit), "--window", "32", "--dtype", "bfloat16"),
                *("--device", "cpu", "--out", str(Path(name) / "runs")),
            ]
        )
        verdict = "within" if most <= bound else "ABOVE"
        print(
            f"perplexity: peak {most / GB:.2f} GB, {verdict} the bound, {most / weights:.3f} times the weights, "
            f"{time.perf_counter() - began:.0f} s; of its own {split[0] / GB:.2f} GB, of files {split[1] / GB:.2f} GB"
        )


def make(folder: Path, size: float) -> tuple[int, int]:
    """Write a model of about `size` bytes, one layer after the other; return its bytes and its vocabulary."""
    folder.mkdir()
    tokenizer = ModelSource.resolve("demo").tokenizer
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_attention_heads=32, num_hidden_layers=1,
        max_position_embeddings=2048, tie_word_embeddings=False, dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in transformers.LlamaForCausalLM(config).state_dict().items()}
    layer = {name: shape for name, shape in shapes.items() if ".layers.0." in name}
    others = {name: shape for name, shape in shapes.items() if name not in layer}
    each, rest = (2 * sum(shape.numel() for shape in part.values()) for part in (layer, others))
    config.num_hidden_layers = max(1, round((size - rest) / each))
    config.save_pretrained(folder)
    places, total = {}, 0
    for number in range(config.num_hidden_layers + 1):
        own = others if number == config.num_hidden_layers else layer
        tensors = {
            name.replace(".layers.0.", f".layers.{number}."): torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
            for name, shape in own.items()
        }
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total, config.vocab_size


def peak(command: list[str]) -> tuple[int, tuple[int, int]]:
    """The most memory of a process that `command` starts, and how much of that was its own and of mapped files."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most, split = 0, (0, 0)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            values = {
                name: value.split()[0]
                for name, value in (line.split(":", 1) for line in status.splitlines())
                if value.strip()
            }
            most = int(values["VmHWM"]) * 1024
            split = max(split, (int(values["RssAnon"]) * 1024, int(values["RssFile"]) * 1024), key=sum)
        except (OSError, KeyError, IndexError):
            pass
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return most, split


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gb", type=float, default=4.0, help="size of the weights")
    parser.add_argument("--text", type=Path, help="a text to score")
    parser.add_argument("--limit", type=int, default=64, help="tokens scored")
    parser.add_argument("--place", type=Path, help="folder for the checkpoint, which is removed at the end")
    return parser.parse_args()


if __name__ == "__main__":
    main()
