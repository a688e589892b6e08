"""`shrink` of a GGUF file into a GGUF file, for llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import llama_cpp, quantized
from support.commands import one_line, run_here
from support.data import SENTENCES
from support.documents import valid
from support.untied import save_untied
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.errors import ExportError, FitError, OutputError, UsageError
from orientc.models.table import GGUF_HEAD, GGUF_TABLE, read_table
from orientc.storage import artifact as artifacts
from orientc.workflows import llama_cpp as runs_there
from orientc.workflows.fresh_process import Loaded

gguf_file = pytest.importorskip("orientc.storage.gguf_file")
pytest.importorskip("gguf")
BITS = 4.5, 5.0, 5.5, 6.0, 8.5  # of the types with blocks of 32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    place = tmp_path_factory.mktemp("base")
    return quantized.gguf_file(quantized.llama(place / "plain", bytes_bpe), place / "base.gguf")


@pytest.fixture
def not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process with llama.cpp is the business of the test that is about it."""
    monkeypatch.setattr(runs_there, "loaded", lambda *_: Loaded(0, None, "of a test"))


def types_in(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf_file.reader(path).tensors}


@pytest.mark.usefixtures("not_run")
def test_the_smallest_block_type_inside_is_found_and_judged_on_the_file(base: Path, text: Path, tmp_path: Path) -> None:
    to = tmp_path / "small.gguf"
    asked = ["shrink", base, "--for", "gguf", "--to", to, "--text", text, "--within", "20%", "--out", tmp_path / "runs"]
    ended = run_here(*asked, "--json")
    assert ended.code == 0, ended
    done = json.loads(ended.out)
    valid(done)
    tried = {entry["bits"]: entry["inside"] for entry in done["tried"]}
    assert set(tried) <= set(BITS)
    inside = min(bits for bits, own in tried.items() if own)
    assert done["bits"] == inside
    assert all(tried[bits] is False for bits in BITS[: BITS.index(inside)][-1:])  # the next smaller one was measured
    assert types_in(to) == types_in(base) | {GGUF_TABLE: done["block"]}
    assert done["verdict"]["outcome"]["here"] != done["verdict"]["outcome"]["original"]
    assert done["folder"] == str(to)
    assert done["load"] == f"llama-cli -m {to}"

    again = run_here(*asked)
    assert "done already" in again.err
    assert done["block"] in again.out
    to.write_bytes(base.read_bytes())  # another file by now
    taken = run_here(*asked)
    assert "is there already" in one_line(taken, 1)


@pytest.mark.usefixtures("not_run")
@pytest.mark.parametrize(
    ("size", "bits"), [({"target_bits": 5.9}, 5.5), ({"target_bits": 4.5}, 4.5), ({"target_ratio": 32 / 6}, 6.0)]
)
def test_a_size_takes_the_largest_block_type_that_fits(
    size: dict[str, float], bits: float, base: Path, text: Path, tmp_path: Path
) -> None:
    [row] = orientc.shrink(base, text=text, runtime="gguf", dry_run=True, out=tmp_path, **size).predicted
    assert row.bits == bits
    info = read_table(base).info
    assert row.table == bits * info.vocab * info.dim / 8


@pytest.mark.usefixtures("not_run")
def test_the_whole_file_is_as_small_as_asked(base: Path, text: Path, tmp_path: Path) -> None:
    wanted = base.stat().st_size * 0.55 / 1e6
    to = tmp_path / "small.gguf"
    done = orientc.shrink(base, to, text=text, runtime="gguf", model_mb=wanted, out=tmp_path / "runs")
    assert to.stat().st_size <= wanted * 1e6
    assert done.tried == ()
    assert done.inside is None
    with pytest.raises(FitError, match=r"the smallest for 32 columns takes 4.5 bits per weight"):
        orientc.shrink(base, tmp_path / "no.gguf", text=text, runtime="gguf", target_bits=4.4, out=tmp_path / "runs")
    with pytest.raises(FitError, match=r"stays as it is: `model_mb` must be more$"):
        orientc.shrink(base, tmp_path / "no.gguf", text=text, runtime="gguf", model_mb=0.01, out=tmp_path / "runs")


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    place = tmp_path_factory.mktemp("untied")
    return quantized.gguf_file(save_untied(place / "plain", bytes_bpe), place / "untied.gguf")


@pytest.mark.usefixtures("not_run")
def test_both_tables_of_an_untied_file_share_the_tolerance(untied: Path, text: Path, tmp_path: Path) -> None:
    """Of all pairs of types that are as large those that lose the least by prediction are measured, both together."""
    options: dict[str, Any] = {"text": text, "runtime": "gguf", "tokens": 500, "device": "cpu", "limit": 600}
    to, runs = tmp_path / "small.gguf", tmp_path / "runs"
    done = orientc.shrink(untied, to, within="3%", out=runs, **options)
    valid(json.loads(json.dumps(done.as_dict())))
    assert (done.head, done.inside) == ("both", True)
    means = {(one + other) / 2 for one in BITS for other in BITS}
    assert {entry.bits for entry in done.tried} <= means
    assert len(done.tried) <= 4  # of 13 sizes
    assert done.bits == min(entry.bits for entry in done.tried if entry.inside)
    assert done.block
    own = dict(zip((GGUF_TABLE, GGUF_HEAD), done.block.split(", "), strict=True))
    assert types_in(to) == types_in(untied) | own
    described = [artifacts.read_description(path) for path in done.artifacts]
    assert [about.base.table for about in described] == ["input", "head"]
    assert done.table == sum(about.nbytes for about in described)

    [row] = orientc.shrink(untied, dry_run=True, target_bits=5.3, out=runs, **options).predicted
    assert row.bits == 5.25  # 5.5 and 5, or 6 and 4.5, whichever loses less
    alone = orientc.shrink(untied, tmp_path / "head.gguf", target_bits=5.3, table="head", out=runs, **options)
    assert (alone.head, alone.bits) == ("head-only", 5.0)
    assert alone.folder
    assert types_in(alone.folder) == types_in(untied) | {GGUF_HEAD: alone.block}
    small = orientc.shrink(untied, tmp_path / "mb.gguf", model_mb=untied.stat().st_size * 0.7e-6, out=runs, **options)
    assert small.folder
    assert small.folder.stat().st_size <= 0.7 * untied.stat().st_size
    with pytest.raises(FitError, match=r"makes the tables as small as .*: the smallest for 32 columns takes 4.5 bits"):
        orientc.shrink(untied, tmp_path / "no.gguf", target_bits=4.4, out=runs, **options)


def test_what_is_not_for_a_gguf_file_is_refused_at_once(base: Path, bert_folder: Path, tmp_path: Path) -> None:
    wrong: dict[str, dict[str, object]] = {
        "body": {"body": "int8"}, "dtype": {"dtype": "float16"}, "name": {"name": "Mine"}, "push": {"push": "me/mine"}
    }  # fmt: skip
    for name, given in wrong.items():
        with pytest.raises(UsageError, match=f"^`{name}` is not for a GGUF file"):
            orientc.shrink(base, tmp_path / "small.gguf", runtime="gguf", **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`runtime` must be gguf"):
        orientc.shrink(base, tmp_path / "small.gguf", runtime="onnx")
    with pytest.raises(ExportError, match="is no GGUF file"):
        orientc.shrink(bert_folder, tmp_path / "small.gguf", runtime="gguf")
    with pytest.raises(OutputError, match="whose table is to be exchanged"):
        orientc.shrink(base, base, runtime="gguf", overwrite=True)


def test_where_llama_cpp_is_missing_that_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_there.importlib.util, "find_spec", lambda _: None)
    assert runs_there.loaded(base, ["a"]).why_not == "llama.cpp (xllamacpp) is not installed here"


@pytest.mark.clients
@pytest.mark.skipif(not llama_cpp.is_there(), reason="needs xllamacpp (extra clients)")
def test_llama_cpp_runs_the_file_in_a_new_process(base: Path, text: Path, tmp_path: Path) -> None:
    asked = ["--target-bits", 6, "--text", text, "--to", tmp_path / "small.gguf", "--out", tmp_path / "runs"]
    ended = run_here("shrink", base, "--for", "gguf", *asked)
    assert ended.code == 0, ended
    assert "orientc, in llama.cpp; 64 sentences went through it" in ended.out
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(base.read_bytes()[:-5000])
    with pytest.raises(ExportError, match=r"broken.gguf is written, but does not run in llama.cpp"):
        runs_there.loaded(broken, SENTENCES[:3])
