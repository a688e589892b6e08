"""Peak memory and time of commands on a large table in a mapped file, and which parts of the file they touched.

    python tests/benchmarks/memory.py [COMMAND …] [--vocab N …] [--dim 1024] [--others-gb 4] [--bound-gb 3] [--rank 128]

The checkpoint is one safetensors file in bfloat16 in a temporary folder: a table of random numbers, whose columns decay
in size, in the middle of other tensors, which are a hole in the file. Each command is a process of its own. Its peak is
the most memory that it had resident at once beyond the pages of the checkpoint's file, sampled every 20 ms; libraries
count. Beside it stands the system's own count, mapped pages included. With several `--vocab` the exponent that each
command's processor time grows by is told too: that of all threads, which other processes hardly change. Before a
command the system forgets the file's pages, after it `mincore` tells which are back: those that were read, and what the
system reads ahead. Calibrated commands go by a calibration of random numbers, with both importance matrices. A table of
262 144 × 8 960, 4.7 GB, in a tiny model:

    python tests/benchmarks/memory.py svd quantize target svd-calibrated quantize-calibrated target-calibrated \
        --vocab 16384 65536 262144 --dim 8960 --rank 256 --others-gb 0

Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
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

from orientc.models.table import table_info
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration, CalibrationDescription

MB, GB = 1e6, 1e9
# A process's peak counts what its parent held when it was started: a small one starts the commands.
LAUNCHER = """
import os, subprocess, sys, time
def resident(pid):
    lines = [line.split() for line in open(f"/proc/{pid}/status")]
    return 1024 * sum(int(words[1]) for words in lines if words[0] in ("RssAnon:", "RssShmem:"))
def libraries(pid, file):
    total, counts = 0, False
    for line in open(f"/proc/{pid}/smaps"):
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            counts = len(words) > 5 and words[5].startswith("/") and words[5] != file
        elif counts and words[0] in ("Rss:", "Anonymous:"):
            total += int(words[1]) * (1 if words[0] == "Rss:" else -1)
    return 1024 * total
file = sys.argv[1]
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
peak = mapped = looked = 0
while True:
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid:
        break
    try:
        if time.monotonic() - looked > 2:
            mapped, looked = max(mapped, libraries(process.pid, file)), time.monotonic()
        peak = max(peak, resident(process.pid))
    except (OSError, IndexError):
        pass
    time.sleep(0.02)
print(peak + mapped, 1024 * usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
sys.exit(os.waitstatus_to_exitcode(status))
"""
COMMANDS = {
    "svd": ["svd", "--rank", "RANK"],
    "quantize": ["quantize", "--bits", "4"],
    "target": ["compress", "--target-bits", "BITS"],
    "svd-calibrated": ["svd", "--rank", "RANK", "--calibration", "FILE"],
    "quantize-calibrated": ["quantize", "--bits", "4", "--calibration", "FILE"],
    "target-calibrated": ["compress", "--target-bits", "BITS", "--calibration", "FILE"],
    "compress": ["compress", "--rank", "RANK"],
    "inspect": ["inspect"],
}


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
    """Make the checkpoints, run the commands, print a line for each."""
    options = _options()
    if min(options.vocab) * options.dim * 2 < 4 * 2**20:
        sys.exit("the table is smaller than what the system reads ahead: take a larger one")
    taken: dict[str, list[tuple[int, float]]] = {}
    for vocab in options.vocab:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            for command, seconds in measured(Path(name), vocab, options).items():
                taken.setdefault(command, []).append((vocab, seconds))
    for command, points in taken.items() if len(options.vocab) > 1 else ():
        (few, short), (many, long) = points[-2:]
        exponent = math.log(long / short) / math.log(many / few)
        print(f"{command:20s} processor time over rows, {few} to {many}: exponent {exponent:.2f}")


def measured(scratch: Path, vocab: int, options: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of each command on a table of so many rows; a line for each is printed."""
    checkpoint = make(scratch / "large", vocab, options.dim, options.others_gb * GB)
    total, bound = checkpoint.file.stat().st_size, options.bound_gb * GB
    print(
        f"table {vocab} × {options.dim} bfloat16, {(checkpoint.end - checkpoint.start) / MB:.0f} MB; "
        f"other tensors {(total - checkpoint.end + checkpoint.start) / MB:.0f} MB",
        flush=True,
    )
    floor = _used([sys.executable, "-c", "import torch, transformers"], checkpoint.file)[0]
    print(f"interpreter with torch and transformers {floor / MB:.0f} MB; bound beyond the file {bound / MB:.0f} MB")
    calibration = scratch / "calibration.safetensors"
    names = options.commands or [*COMMANDS]
    if any(name.endswith("calibrated") for name in names):
        calibrations.save(calibrated(checkpoint.folder), calibration)
    seconds = {}
    for command in names:
        forget(checkpoint.file)
        began = time.perf_counter()
        line = _line(command, checkpoint.folder, calibration, scratch, options)
        peak, whole, seconds[command] = _used(line, checkpoint.file)
        passed = time.perf_counter() - began
        table, others = touched(checkpoint)
        print(
            f"{command:20s} {peak / MB:5.0f} MB beyond the file, {'within' if peak <= bound else 'ABOVE'} the bound "
            f"(with its pages {whole / MB:.0f} MB), {passed:.0f} s, {seconds[command]:.0f} s of processors; in memory "
            f"of the file: {table / MB:.0f} MB of the table, {others / MB:.1f} MB of the others",
            flush=True,
        )
    if options.others_gb:
        forget(checkpoint.file)
        with checkpoint.file.open("rb") as file:
            file.seek(checkpoint.end)
            read = len(file.read(2**26))
        others = touched(checkpoint)[1]
        print(f"control: {read / MB:.0f} MB of the others read on purpose, {others / MB:.1f} MB of them in memory")
    return seconds


def _line(command: str, model: Path, calibration: Path, scratch: Path, options: argparse.Namespace) -> list[str]:
    """The command line of a command."""
    name, *arguments = COMMANDS[command]
    words = {"RANK": str(options.rank), "BITS": f"{options.target_bits:g}", "FILE": str(calibration)}
    line = [sys.executable, "-m", "orientc", name, str(model), *(words.get(word, word) for word in arguments)]
    if command == "inspect":
        return line
    epochs = ["--epochs", str(options.epochs)] if options.epochs and command == "compress" else []
    return [*line, *epochs, "--quiet", "--device", "cpu", "--out", str(scratch / command / "made.safetensors")]


def make(folder: Path, vocab: int, dim: int, others: float) -> Checkpoint:
    """A model of the ELECTRA architecture, whose body may be as narrow as one likes.

    Its tensors beside the table weigh about `others` bytes, but for what leads from the table into the body.
    """
    hidden = 1024 if others else 64
    layers = max(1, round(others / 2 / (2 * hidden * 32 * hidden + 4 * hidden * hidden)))
    config = transformers.ElectraConfig(
        vocab_size=vocab,
        embedding_size=dim,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=32 * hidden,
        architectures=["ElectraForMaskedLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = transformers.ElectraForMaskedLM(config)
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
    decay = torch.logspace(0, -1, dim)
    with made.file.open("wb") as file:
        file.write(len(packed).to_bytes(8, "little") + packed)
        file.seek(made.start)
        for _ in range(0, vocab, 4096):
            rows = min(4096, vocab - (file.tell() - made.start) // (2 * dim))
            file.write((torch.randn(rows, dim) * decay).to(torch.bfloat16).view(torch.int16).numpy().tobytes())
        file.truncate(begin + offset)
    return made


def calibrated(model: Path) -> Calibration:
    """A calibration of random numbers: frequencies as of words, and two importance matrices."""
    base = table_info(model)
    torch.manual_seed(1)

    def importance() -> torch.Tensor:
        root = torch.randn(base.dim, max(1, base.dim // 16)) * torch.logspace(0, -1, base.dim).unsqueeze(1)
        return root @ root.T / root.shape[1]

    description = CalibrationDescription(
        base=base, objective="masked", text="random", text_sha256="0" * 64, frequency=None, counted=10**6,
        measured=1000, metrics=calibrations.MATRICES, settings={}, seed=1,
    )  # fmt: skip
    counts = (1e6 / torch.arange(1, base.vocab + 1))[torch.randperm(base.vocab)]
    share = torch.tensor(0.05)
    return Calibration(counts, importance(), importance(), None, share, share, description=description)


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


def _used(command: list[str], file: Path) -> tuple[int, int, float]:
    """The most bytes that a command had resident at once, beyond a file's pages and with them; its processor seconds.

    Ends this process where the command fails.
    """
    line = [sys.executable, "-S", "-c", LAUNCHER, str(file.resolve()), *command]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    beyond, whole, seconds = done.stdout.splitlines()[-1].split()
    return int(beyond), int(whole), float(seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{', '.join(COMMANDS)} [default: all]")
    parser.add_argument("--vocab", type=int, nargs="+", default=[250_002])
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--others-gb", type=float, default=4)
    parser.add_argument("--bound-gb", type=float, default=3)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--target-bits", type=float, default=2)
    parser.add_argument("--epochs", type=int, help="of compress --rank [default: its own]")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made [default: the system's]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
