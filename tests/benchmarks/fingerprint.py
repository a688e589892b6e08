"""How long a fingerprint takes, against reading the same files once; and the second time, when it is remembered.

    python tests/benchmarks/fingerprint.py [--gb 4] [--shards 4] [--folder DIR]

Files are dropped from the system's cache before each pass where the system allows it, as after a download long ago.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GB = 10**9
BLOCK = 1 << 24


def checkpoint(folder: Path, size: int, shards: int) -> list[Path]:
    """A model folder whose weights are noise."""
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    paths = [folder / f"model-{number}.safetensors" for number in range(shards)]
    names = {str(number): path.name for number, path in enumerate(paths)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    block = os.urandom(BLOCK)
    for path in paths:
        with path.open("wb") as stream:
            for _ in range(size // shards // BLOCK):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
    return paths


def dropped(paths: list[Path]) -> None:
    for path in paths:
        if hasattr(os, "posix_fadvise"):
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read(paths: list[Path]) -> None:
    buffer = bytearray(BLOCK)
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=4.0)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        os.environ["ORIENTC_CACHE"] = f"{name}/cache"
        from orientc.models.fingerprint import fingerprint
        from orientc.models.source import ModelSource

        folder = Path(name, "model")
        folder.mkdir()
        paths = checkpoint(folder, int(asked.gb * GB), asked.shards)
        source = ModelSource.resolve(folder)
        time.sleep(3)  # files that changed just now are not remembered
        dropped(paths)
        reading = seconds(lambda: read(paths))
        dropped(paths)
        taking = seconds(lambda: fingerprint(source))
        again = seconds(lambda: fingerprint(source))
        cached = seconds(lambda: read(paths)), seconds(lambda: read(paths))
    print(f"{asked.gb:g} GB in {asked.shards} files: read in {reading:.2f} s, from memory in {cached[1]:.2f} s")
    print(f"fingerprint: {taking:.2f} s, {taking / reading:.2f} of reading; again: {again * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
