"""Files from strangers: what readers make of files that were good, and then were changed in a few places.

    OMP_NUM_THREADS=1 python tests/benchmarks/fuzz.py [READER …] [--runs 100000] [--seed 1] [--blind]

A reader may return something that can be used, or raise an error of ours in one line. All else is a problem: another
error, more than a second of computing, more memory than four times the file (and what any file costs). Prints a line
per reader, and keeps each problem's file. Where atheris is installed, what its coverage finds new is changed further;
with `--blind`, or without it, only good files are. A new kind of file is one more line of `READERS`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None
GUIDED = bool(atheris) and __name__ == "__main__" and "--blind" not in sys.argv

import torch  # noqa: E402

with atheris.instrument_imports(include=["orientc"]) if GUIDED else contextlib.nullcontext():
    from orientc.errors import OrientcError
    from orientc.methods import per_group
    from orientc.methods.importance import Importance
    from orientc.methods.transform_coding import transform_code
    from orientc.modeling.factors import Factors
    from orientc.storage import artifact as artifacts
    from orientc.storage import calibration, records
    from orientc.storage.artifact import Artifact
    from orientc.storage.description import Description
    from orientc.storage.table_info import TableInfo

LONGEST = 1.0  # seconds of computing
MOST_MEMORY = 4  # times the file
ANY_FILE = 8 << 20  # bytes that reading any file may take: allocators take memory in large pieces

Tree = Any  # what JSON can say


@dataclass(frozen=True)
class Reader:
    """`read` reads a file, and uses what it gets as its callers do; `sample` makes a good one, of a few kinds."""

    name: str
    read: Callable[[Path], object]
    sample: Callable[[Path, int], object]
    safetensors: bool


def _use_artifact(path: Path) -> object:
    artifact = artifacts.load(path)
    wide = artifact.factors.to(torch.float32)  # float16 has no room for every scale's codes
    assert torch.isfinite(wide.latents).all()
    ids = torch.arange(min(4, artifact.description.base.vocab))
    return artifact.factors.rows(ids)


def _use_description(path: Path) -> object:
    return json.dumps(artifacts.read_description(path).as_dict())


def _use_record(path: Path) -> object:
    record = records.read(path)
    return json.dumps([record.as_dict(), record.identity, record.figures, record.file_name, record.table.vocab])


def _table(vocab: int, dim: int) -> TableInfo:
    return TableInfo(
        id="some/model", revision="abc", sha256="0" * 64, vocab=vocab, dim=dim, dtype="float32", nbytes=vocab * dim * 4,
        padding_idx=0, embed_scale=2.5, tied=True, model_parameters=1000, model_bytes=4000,
    )  # fmt: skip


def _sample_artifact(path: Path, kind: int) -> None:
    """Small ones of each type of number and in each coding, with rows kept and norms; and one of a megabyte."""
    vocab, dim, rank = (4000, 64, 60) if kind % 8 == 7 else (300, 6, 6) if kind % 8 == 1 else (11, 6, 3)
    dtype = (torch.float32, torch.float16, torch.bfloat16)[kind % 3]
    bias = torch.ones(dim, dtype=dtype) if kind % 2 else None
    factors = Factors.plain(torch.ones(vocab, rank), torch.ones(dim, rank), bias, "elu" if kind % 5 == 4 else None)
    if kind % 8 == 1:
        table = torch.randn(vocab, dim, generator=torch.Generator().manual_seed(0))
        importance = Importance(torch.eye(dim, dtype=torch.float64), 1 / torch.arange(1, vocab + 1).double())
        found = transform_code(table, 2000, importance, dtype=dtype)
        assert found is not None
        factors = found
    elif kind % 4 == 1:
        row_groups = [torch.arange(start, vocab, 3) for start in range(3)]
        factors = per_group.quantize_per_group(
            factors,
            [[3, 0], [8, 2], [1, 5]],
            group_size=-(-rank // 2),
            importance=torch.eye(rank),
            row_groups=row_groups,
        )
    if kind % 4 == 3:
        factors = factors.with_kept(torch.tensor([2, vocab]), torch.ones(2, dim))
    factors = factors.to(dtype)
    description = Description(
        base=_table(factors.vocab, dim), method="autoencoder", layout=factors.layout,
        settings={"rank": rank, "learning_rate": 0.001, "init": "subspace"}, seed=7,
        distances={"cosine": 0.25, "rmse": 0.5}, dtype=str(dtype).removeprefix("torch."),
    )  # fmt: skip
    artifacts.save(Artifact(description, factors), path)


def _use_calibration(path: Path) -> object:
    made = calibration.load(path)
    return json.dumps([made.description.as_dict(), float(made.counts.sum())])


def _sample_calibration(path: Path, kind: int) -> None:
    """With both metrics, with one, and with counts alone."""
    metrics = {name: torch.eye(6) for name in ("input_importance", "head_importance")[: kind % 3]}
    description = calibration.CalibrationDescription(
        base=_table(11, 6), objective="masked" if metrics else None, text="text", text_sha256="2" * 64, frequency=None,
        counted=99, measured=50 if metrics else 0, metrics=tuple(metrics), settings={"tokens": 50}, seed=7,
    )  # fmt: skip
    calibration.save(
        calibration.Calibration(
            torch.ones(11), description=description, prior=torch.ones(11) if kind % 2 else None, **metrics
        ),
        path,
    )


def _sample_record(path: Path, kind: int) -> None:
    """One of a perplexity, and one of a task."""
    table = _table(11, 6)
    model = {"id": table.id, "revision": "abc", "table_sha256": table.sha256, "fingerprint": "9" * 64}
    artifact = {"path": "a.safetensors", "sha256": "1" * 64, "method": "svd", "rank": 3, "bits_per_weight": 8.0}
    text = {"text": {"name": "text", "sha256": "2" * 64}} if kind % 2 else {"data": {"name": "glue", "task": "sst2"}}
    record = records.Record(
        kind="perplexity" if kind % 2 else "glue", model=model | {"table": vars(table)}, artifact=artifact, head="tied",
        settings={"seed": 0, "dtype": "float32"}, metrics={"perplexity": 9.5, "tokens": 100} if kind % 2 else
        {"accuracy": 0.5}, seconds=1.5, environment={"device": "cpu"}, versions={"torch": "2"}, **text,
    )  # fmt: skip
    path.write_text(json.dumps(record.as_dict()))


READERS = [
    Reader("artifact", _use_artifact, _sample_artifact, safetensors=True),
    Reader("description", _use_description, _sample_artifact, safetensors=True),
    Reader("calibration", _use_calibration, _sample_calibration, safetensors=True),
    Reader("record", _use_record, _sample_record, safetensors=False),
]


# -- changes


def mutated(content: bytes, draw: random.Random, *, safetensors: bool) -> bytes:
    """A file's content with one to four things changed."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        chosen = draw.randrange(10)
        if chosen < 2:
            content = _bytes_changed(content, draw)
        elif safetensors:
            content = _safetensors_changed(content, draw)
        else:
            content = _json_changed(content, draw)
    return content


def _bytes_changed(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 1, 2, 4, 8, 64, 1000)))
    return draw.choice(
        (
            content[:start],
            content[:start] + content[end:],
            content[:start] + content[start:end] * 2 + content[end:],
            content[:start] + draw.randbytes(end - start) + content[end:],
            content[:start] + bytes(byte ^ 1 << draw.randrange(8) for byte in content[start:end]) + content[end:],
            content + draw.randbytes(draw.choice((1, 8, 100))),
        )
    )


def _safetensors_changed(content: bytes, draw: random.Random) -> bytes:
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    header, data = content[8 : 8 + length], content[8 + length :]
    chosen = draw.randrange(8)
    if chosen == 0:
        edges = (0, 1, 7, 8, length - 1, length + 1, len(content), len(content) - 8, 1 << 20, 1 << 31, 1 << 63)
        return struct.pack("<Q", (draw.choice(edges) + draw.choice((0, 0, -1, 1))) % (1 << 64)) + content[8:]
    if chosen == 1:
        kinds = (
            b"\x00\x00\xc0\x7f",
            b"\x00\x00\x80\xff",
            b"\xff\xff\xff\xff",
            b"\x00\x7c",
            b"\x80\x7f",
            b"\x01\x00\x00\x00",
        )
        piece = draw.choice(kinds)
        place = draw.randrange(len(data) + 1)
        data = data[:place] + piece + data[place + len(piece) :]
    else:
        header = _json_changed(header, draw)
        header += b" " * (draw.choice((0, -len(header) % 8, 1)))
    return struct.pack("<Q", len(header)) + header + data


def _json_changed(text: bytes, draw: random.Random) -> bytes:
    """JSON with something in it changed, also JSON within its strings; what is no JSON (any more) as bytes."""
    try:
        tree = json.loads(text)
        tree = _tree_changed(tree, draw)
        changed = json.dumps(tree, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, OverflowError, RecursionError):  # also from changing a number that is very large already
        return _bytes_changed(text, draw)
    chosen = draw.randrange(8)
    if chosen == 0:  # a key twice, the later one with another value
        keys = re.findall(rb'"[a-z_.0-9]+": ', changed)
        if keys:
            key = draw.choice(keys)
            return changed.replace(key, key + _text(draw).encode("utf-8", "surrogatepass") + b", " + key, 1)
    if chosen == 1:  # a value that no dump would write
        values = [*re.finditer(rb": ([^,{}\[\]]+)", changed)]
        if values:
            found = draw.choice(values)
            return changed[: found.start(1)] + _text(draw).encode("utf-8", "surrogatepass") + changed[found.end(1) :]
    return changed


def _text(draw: random.Random) -> str:
    """A value as text."""
    deep = draw.choice((3, 100, 2_000, 100_000))
    return draw.choice(
        ("NaN", "-Infinity", "1e999", "-0", "1" * 4000, "1" * 5000, "0.1e-400", "[" * deep + "]" * deep, "[" * deep,
         '{"a":' * deep + "1" + "}" * deep, '"\\ud800"', '"\x1b[31m"', "nul", "", "tru e", '"' + "x" * 70_000 + '"')
    )  # fmt: skip


def _tree_changed(tree: Tree, draw: random.Random) -> Tree:
    """The same with one node replaced, moved, renamed or gone."""
    places = [*_places(tree)]
    if not places:
        return _value(draw)
    holder, key = draw.choice(places)
    old = holder[key]
    chosen = draw.randrange(12)
    if chosen == 0:
        del holder[key]
    elif chosen == 1:
        other, place = draw.choice(places)
        holder[key], other[place] = other[place], old
    elif chosen == 2 and isinstance(holder, dict):
        holder[str(_value(draw, strings=True))] = holder.pop(key)
    elif chosen == 3:
        holder[key] = draw.choice(([old], {"a": old}, [old, old], str(old)))
    elif chosen < 8 and isinstance(old, str) and old.startswith("{"):
        holder[key] = _json_changed(old.encode("utf-8", "surrogatepass"), draw).decode("utf-8", "replace")
    elif chosen < 8 and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = draw.choice((old + 1, old - 1, -old, old * 2, old * 1.0, old / 2, str(old)))
    elif chosen < 8 and isinstance(old, str):
        number = re.fullmatch(r"-?\d+", old)
        changed = (old + "\n", old[:-1], old * 2, old.upper(), f" {old}", old.replace("1", "١"), f"{old}_0", f"+{old}")
        holder[key] = str(int(old) + draw.choice((-1, 1, 2**31, 2**63))) if number else draw.choice(changed)
    else:
        holder[key] = _value(draw)
    return tree


def _places(tree: Tree) -> Any:
    """Every (holder, key) in a tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in [*entries]:
        yield tree, key
        yield from _places(value)


def _value(draw: random.Random, *, strings: bool = False) -> Tree:
    """A value that is seldom expected."""
    texts: list[Tree] = [
        "", "0", "-1", "1", "x" * 5000, "a\nb", "\x1b]0;t\x07", "\0", "\ud800", "é", "nan", "inf", "1e400", "٣",
        "1" * 4500, "9" * 19, "none", "plain", "F32", "I64", "../../etc/passwd", "latents", "__metadata__", "format",
        "[]", "{}", "[" * 3000,
    ]  # fmt: skip
    others: list[Tree] = [
        None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**4200, 0.5, -0.0, 1e308, 5e-324,
        float("nan"), float("inf"), [], {}, [[]], [0], [1, 2], [0, 0], [2**40, 2**40], [-1, -1], {"a": {}},
        [None] * 1000,
    ]  # fmt: skip
    return draw.choice(texts if strings else texts + others)


# -- verdicts


class Problem(Exception):
    """What a reader must not do."""


def judge(reader: Reader, path: Path) -> str:
    """What became of a file: "read", or the name of the error. Raises `Problem`."""
    size = path.stat().st_size
    before = _memory()
    start = time.process_time()
    try:
        reader.read(path)
        outcome = "read"
    except OrientcError as error:
        outcome = type(error).__name__
        said = str(error).replace(str(path), "PATH")
        if "\n" in said or len(said) > 500:
            raise Problem(f"an error that is no line: {said[:200]!r} ({len(said)} signs)") from error
    except Exception as error:
        raise Problem(f"{type(error).__name__}: {error!s:.200}") from error
    if (seconds := time.process_time() - start) > LONGEST:
        raise Problem(f"{seconds:.1f} s for {size} bytes")
    if (taken := _memory(peak=True) - before) > MOST_MEMORY * size + ANY_FILE:
        raise Problem(f"{taken} bytes of memory for {size}")
    return outcome


def _memory(*, peak: bool = False) -> int:
    """Bytes this process has in memory; the most it had since the last time this was asked without `peak`.

    What Python's own tracing counts leaves out torch and safetensors. 0 where the system does not tell.
    """
    try:
        if not peak:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


# -- the runs


def main() -> int:
    """Fuzz each reader in a process of its own, so that a crash is seen; 1 where there is any problem."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="*", default=[reader.name for reader in READERS])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    by_name = {reader.name: reader for reader in READERS}
    if given.here:
        return _Run(by_name[given.readers[0]], given.here, given.runs, given.seed).go()
    wrong = 0
    for name in given.readers:
        here = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        options = [name, "--runs", str(given.runs), "--seed", str(given.seed), "--here", str(here)]
        start = time.perf_counter()
        with (here / "output").open("w") as output:
            command = [sys.executable, __file__, *options, *(["--blind"] if given.blind else [])]
            code = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        told = json.loads((here / "told.json").read_text())
        crashed = f", CRASHED ({code}): see {here}" if told["runs"] < given.runs else ""
        found = ", ".join(f"{outcome} {count}" for outcome, count in sorted(told["outcomes"].items()))
        how = f"{'random' if given.blind or not atheris else 'guided by coverage'}, {time.perf_counter() - start:.0f} s"
        print(f"{name}: {told['runs']} inputs ({how}), {len(told['problems'])} problems{crashed}; {found}")
        for problem, kept in told["problems"].items():
            print(f"  {problem}: {kept}")
        sys.stdout.flush()
        wrong += bool(told["problems"]) or bool(crashed)
    return min(wrong, 1)


class _Run:
    """One reader's run: tells how far it is in a file, and keeps the first input of each problem."""

    def __init__(self, reader: Reader, folder: Path, runs: int, seed: int) -> None:
        self.reader, self.folder, self.runs, self.seed = reader, folder, runs, seed
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self.done = 0
        memory = Path("/dev/shm")
        self.path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)) / "input"
        self.samples = []
        for kind in range(8):
            reader.sample(self.path, kind)
            self.samples.append(self.path.read_bytes())
        self._tell()

    def go(self) -> int:
        if GUIDED:
            corpus = self.folder / "corpus"
            corpus.mkdir()
            for number, sample in enumerate(self.samples):
                (corpus / str(number)).write_bytes(sample)
            options = [
                f"-seed={self.seed}",
                "-runs=1000000000",
                "-max_len=2000000",
                "-len_control=0",
                "-rss_limit_mb=0",
            ]
            atheris.Setup([sys.argv[0], *options, str(corpus)], self.one, custom_mutator=self._mutator)
            atheris.Fuzz()
        draw = random.Random(self.seed)
        while True:
            self.one(mutated(draw.choice(self.samples), draw, safetensors=self.reader.safetensors))

    def one(self, content: bytes) -> None:
        self.path.write_bytes(content)
        try:
            self.outcomes[judge(self.reader, self.path)] += 1
        except Problem as problem:
            said = re.sub(r"\d+", "N", str(problem))[:150]
            if said not in self.problems:
                kept = self.folder / f"problem-{len(self.problems)}"
                kept.write_bytes(content)
                self.problems[said] = str(kept)
            self.outcomes["problem"] += 1
        self.done += 1
        if self.done % 1000 == 0 or self.done == self.runs:
            self._tell()
        if self.done == self.runs:  # libFuzzer can't be asked to return
            self.path.unlink()
            self.path.parent.rmdir()
            os._exit(0)

    def _mutator(self, content: bytes, longest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.random() < 0.1:
            return bytes(atheris.Mutate(content, longest))
        content = draw.choice(self.samples) if draw.random() < 0.3 else content
        return mutated(content, draw, safetensors=self.reader.safetensors)[:longest]

    def _tell(self) -> None:
        told = {"runs": self.done, "outcomes": self.outcomes, "problems": self.problems}
        (self.folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
