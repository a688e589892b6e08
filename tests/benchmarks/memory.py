"""Peak memory of `svd` and `compress` on a large checkpoint, and which parts of its file they touched.

    python tests/benchmarks/memory.py [--vocab 250002] [--dim 1024] [--others-gb 4] [--rank 128] [--epochs N]

The checkpoint is one safetensors file in bfloat16 in a temporary folder: a table of random numbers in the middle of
other tensors, which are a hole in the file. Each command is a process of its own; its peak is the system's count of
resident memory, mapped pages of the file included, and is held against an interpreter with torch plus three times the
table in float32. Before a command the system forgets the file's pages, after it `mincore` tells which are back: those
that were read, and what the system reads ahead. A control reads one of the other tensors on purpose. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

MB, GB = 1e6, 1e9
# A process's peak counts what its parent held when it was started: a small one starts the commands.
LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
MODEL_CODE = "import torch; from transformers import XLMRobertaModel"


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, and where in its weights' file the table lies."""

    folder: Path
    start: int
    end: int

    @property
    def file(self) -> Path:
        return self.folder / "model.safetensors"


def main() -> None:
    """Make the checkpoint, run the commands, print a line for each."""
    options = _options()
    if options.vocab * options.dim * 2 < 4 * 2**20:
        sys.exit("the table is smaller than what the system reads ahead: take a larger one")
    bound_table = 3 * options.vocab * options.dim * 4
    with tempfile.TemporaryDirectory() as name:
        checkpoint = make(Path(name) / "large", options.vocab, options.dim, options.others_gb * GB)
        total = checkpoint.file.stat().st_size
        print(
            f"table {options.vocab} × {options.dim} bfloat16, {(checkpoint.end - checkpoint.start) / MB:.0f} MB; "
            f"other tensors {(total - checkpoint.end + checkpoint.start) / MB:.0f} MB"
        )
        floor = _peak([sys.executable, "-c", "import torch"])
        code = _peak([sys.executable, "-c", MODEL_CODE])
        bound = floor + bound_table
        print(f"interpreter with torch {floor / MB:.0f} MB, with transformers and the model's code {code / MB:.0f} MB")
        print(f"bound {bound / MB:.0f} MB: the interpreter with torch and three times the table in float32\n")
        orientc = [sys.executable, "-m", "orientc"]
        size = ["--rank", str(options.rank), "--quiet", "--device", "cpu", "--out", name]
        epochs = ["--epochs", str(options.epochs)] if options.epochs else []
        commands = {
            "svd": [*orientc, "svd", str(checkpoint.folder), *size],
            "compress": [*orientc, "compress", str(checkpoint.folder), *size, *epochs],
            "inspect": [*orientc, "inspect", str(checkpoint.folder)],
        }
        for command in options.commands or commands:
            forget(checkpoint.file)
            began = time.perf_counter()
            peak = _peak(commands[command])
            table, others = touched(checkpoint)
            verdict = "within" if peak <= bound else "ABOVE"
            print(
                f"{command:9s} peak {peak / MB:5.0f} MB, {verdict} the bound ({(peak - floor) / bound_table * 3:.2f} "
                f"tables above torch), {time.perf_counter() - began:.0f} s; in memory of the file: "
                f"{table / MB:.0f} MB of the table, {others / MB:.1f} MB of the others",
                flush=True,
            )
        forget(checkpoint.file)
        with checkpoint.file.open("rb") as file:
            file.seek(checkpoint.end)
            read = len(file.read(2**26))
        others = touched(checkpoint)[1]
        print(f"control   {read / MB:.0f} MB of the others read on purpose: {others / MB:.1f} MB of them in memory")


def make(folder: Path, vocab: int, dim: int, others: float) -> Checkpoint:
    """A model of the XLM-R architecture whose tensors beside the table weigh about `others` bytes."""
    wide = 32 * dim
    layers = max(1, round(others / 2 / (2 * dim * wide + 4 * dim * dim)))
    config = transformers.XLMRobertaConfig(
        vocab_size=vocab,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=max(1, dim // 64),
        intermediate_size=wide,
        architectures=["XLMRobertaForMaskedLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = transformers.XLMRobertaForMaskedLM(config)
    shapes = {key: list(parameter.shape) for key, parameter in model.named_parameters()}
    (table,) = (key for key, entry in model.named_parameters() if entry is model.get_input_embeddings().weight)
    names = sorted(shapes.keys() - {table})
    names.insert(len(names) // 2, table)
    header, offset, where = {}, 0, (0, 0)
    for key in names:
        end = offset + 2 * torch.Size(shapes[key]).numel()
        header[key] = {"dtype": "BF16", "shape": shapes[key], "data_offsets": [offset, end]}
        where = (offset, end) if key == table else where
        offset = end
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    begin = 8 + len(packed)
    made = Checkpoint(folder, begin + where[0], begin + where[1])
    torch.manual_seed(0)
    with made.file.open("wb") as file:
        file.write(len(packed).to_bytes(8, "little") + packed)
        file.seek(made.start)
        for _ in range(0, vocab, 4096):
            rows = min(4096, vocab - (file.tell() - made.start) // (2 * dim))
            file.write(torch.randn(rows, dim).to(torch.bfloat16).view(torch.int16).numpy().tobytes())
        file.truncate(begin + offset)
    return made


def forget(file: Path) -> None:
    """Have the system drop the file's pages from memory."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touched(checkpoint: Checkpoint) -> tuple[int, int]:
    """Bytes of the table and of the other tensors that the system holds in memory."""
    size, page = checkpoint.file.stat().st_size, mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    with checkpoint.file.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        pages = (ctypes.c_ubyte * -(-size // page))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages):
            raise OSError(ctypes.get_errno(), "mincore")
        resident = bytes(entry & 1 for entry in pages)
    table = resident[checkpoint.start // page : -(-checkpoint.end // page)].count(1)
    return table * page, (resident.count(1) - table) * page


def _peak(command: list[str]) -> int:
    """The most bytes of memory that a command had resident at once. Ends this process where the command fails."""
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    return 1024 * int(done.stdout.splitlines()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="svd, compress, inspect [default: all]")
    parser.add_argument("--vocab", type=int, default=250_002)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--others-gb", type=float, default=4)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--epochs", type=int, help="of compress [default: its own]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
