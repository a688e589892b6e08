from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from support import coded
from support.pairwise import pairwise
from torch import Tensor

from orientc.errors import ArtifactError, ArtifactMismatchError
from orientc.modeling.factors import Factors
from orientc.storage import artifact as artifacts
from orientc.storage import safetensors_file
from orientc.storage.artifact import Artifact
from orientc.storage.description import Description
from orientc.storage.safetensors_file import DamagedError
from orientc.storage.table_info import TableInfo

VOCAB, DIM, RANK = 11, 6, 3
KEYS = [
    "activation", "base_bytes", "base_dtype", "base_id", "base_model_bytes", "base_model_parameters", "base_revision",
    "base_sha256", "base_tied", "codec", "dim", "distances", "embed_scale", "format", "format_version", "method",
    "padding_idx", "rank", "seed", "settings", "version", "vocab",
]  # fmt: skip
DISTANCES = {"cosine": 0.25, "rmse": 0.5, "mae": 0.4, "power_0_1": 0.9, "power_0_6": 0.6}

Header = dict[str, Any]


def made(
    dtype: torch.dtype = torch.float32, *, decoder: bool = True, bias: bool = True, elu: bool = False, **base: Any
) -> Artifact:
    """A small artifact of random numbers; without a decoder the latents are the rows."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    rank = RANK if decoder else DIM
    activation = "elu" if elu else None
    factors = Factors.plain(
        numbers(VOCAB, rank), numbers(DIM, rank) if decoder else None, numbers(DIM) if bias else None, activation
    )
    known: dict[str, Any] = {
        "id": "some/model", "revision": "abc", "sha256": "0" * 64, "vocab": VOCAB, "dim": DIM, "dtype": "float32",
        "nbytes": VOCAB * DIM * 4, "padding_idx": 0, "embed_scale": 6**0.5, "tied": True, "model_parameters": 1000,
        "model_bytes": 4000,
    }  # fmt: skip
    description = Description(
        base=TableInfo(**(known | base)),
        method="autoencoder",
        layout=factors.layout,
        settings={"rank": rank, "learning_rate": 0.001, "init": "subspace"},
        seed=7,
        distances=DISTANCES,
        dtype=str(dtype).removeprefix("torch."),
    )
    return Artifact(description, factors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good artifact, to be damaged."""
    path = tmp_path / "artifact.safetensors"
    artifacts.save(made(), path)
    return path


def header_of(path: Path) -> tuple[Header, bytes]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path: Path, change: Callable[[Header], object]) -> Path:
    """Rewrite a file's header, its tensors' bytes untouched."""
    header, data = header_of(path)
    change(header)
    return with_json(path, json.dumps(header).encode(), data)


def with_json(path: Path, encoded: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


def refused(path: Path, read: Callable[[Path], object] = artifacts.load) -> str:
    """The line a file is refused with."""
    with pytest.raises(ArtifactError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert len(line) < len(str(path)) + 300
    return line


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [{}, {"bias": False}, {"elu": True}, {"decoder": False, "bias": False}])
def test_an_artifact_comes_back_as_it_was(tmp_path: Path, dtype: torch.dtype, shape: dict[str, bool]) -> None:
    artifact = made(dtype, **shape)
    path = tmp_path / "artifact.safetensors"
    artifacts.save(artifact, path)
    read = artifacts.load(path)
    assert read.description == artifact.description
    assert artifacts.read_description(path) == artifact.description
    assert read.factors.activation == artifact.factors.activation
    assert read.factors.tensors.keys() == artifact.factors.tensors.keys()
    for name, tensor in artifact.factors.tensors.items():
        assert read.factors.tensors[name].dtype == dtype
        assert torch.equal(read.factors.tensors[name], tensor)


def test_what_is_not_known_of_the_base_comes_back_as_none(tmp_path: Path) -> None:
    artifact = made(revision=None, padding_idx=None, tied=False)
    artifacts.save(artifact, tmp_path / "x.safetensors")
    base = artifacts.load(tmp_path / "x.safetensors").description.base
    assert (base.revision, base.padding_idx, base.tied) == (None, None, False)


def test_the_embedding_scale_comes_back_to_the_last_bit(path: Path) -> None:
    assert artifacts.load(path).description.base.embed_scale == 6**0.5


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = set()
    for number in range(5):
        artifacts.save(made(), tmp_path / f"{number}.safetensors")
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(contents) == 1


def test_the_order_of_settings_does_not_change_the_bytes(tmp_path: Path) -> None:
    artifact = made()
    description = artifact.description
    settings = dict(reversed(description.settings.items()))
    other = Artifact(Description(**(vars(description) | {"settings": settings})), artifact.factors)
    artifacts.save(artifact, tmp_path / "a.safetensors")
    artifacts.save(other, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_safetensors_alone_reads_the_file(path: Path) -> None:
    tensors = load_file(path)
    assert sorted(tensors) == ["decoder.bias", "decoder.weight", "latents"]
    assert tensors["latents"].shape == (VOCAB, RANK)
    assert tensors["decoder.weight"].shape == (DIM, RANK)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "orientc"
    assert metadata["format_version"] == "1"
    assert metadata["codec"] == "plain"
    assert metadata["rank"] == str(RANK)
    assert json.loads(metadata["distances"]) == DISTANCES


def test_metadata_is_strings_under_sorted_keys(path: Path) -> None:
    header, _ = header_of(path)
    metadata = header["__metadata__"]
    assert list(metadata) == KEYS
    assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize(("coding", "shape", "options"), coded.CASES)
def test_every_tensor_is_aligned_whatever_order_they_come_in(
    tmp_path: Path, coding: str, shape: str, options: dict[str, Any]
) -> None:
    artifact = coded.stored(coded.filled(coded.layout(coding, shape, **options)))
    tensors = artifact.factors.tensors
    written, again = tmp_path / "written.safetensors", tmp_path / "again.safetensors"
    artifacts.save(artifact, written)
    header, data = header_of(written)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    start = written.stat().st_size - len(data)
    for name, entry in entries.items():
        assert (start + entry["data_offsets"][0]) % tensors[name].itemsize == 0, name
    assert list(entries) == sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    backwards = artifact.factors.with_tensors(dict(reversed(tensors.items())))
    artifacts.save(Artifact(artifact.description, backwards), again)
    assert again.read_bytes() == written.read_bytes()


def test_sizes_follow_what_is_stored() -> None:
    wide, narrow = made().description, made(torch.float16).description
    numbers = VOCAB * RANK + DIM * RANK + DIM
    assert (wide.nbytes, narrow.nbytes) == (4 * numbers, 2 * numbers)
    assert wide.parameter_ratio == narrow.parameter_ratio == VOCAB * DIM / numbers
    assert narrow.byte_ratio == 2 * wide.byte_ratio == 2 * VOCAB * DIM / numbers
    assert narrow.bits_per_weight == 16 * numbers / (VOCAB * DIM)
    assert json.loads(json.dumps(wide.as_dict()))["bits_per_weight"] == wide.bits_per_weight


def test_a_description_is_read_without_torch(path: Path) -> None:
    code = (
        "import sys, pathlib; from orientc.storage.artifact import read_description;"
        f"print(read_description(pathlib.Path({str(path)!r})).rank, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(RANK), "False"]


def test_the_dense_table_is_the_decoded_rows() -> None:
    artifact = made(torch.float16)
    tensors = {name: tensor.float() for name, tensor in artifact.factors.tensors.items()}
    expected = tensors["latents"] @ tensors["decoder.weight"].T + tensors["decoder.bias"]
    assert artifact.dense().dtype == torch.float32
    torch.testing.assert_close(artifact.dense(), expected)


def test_an_artifact_knows_its_base_table_by_its_hash() -> None:
    made().check_base("0" * 64)
    with pytest.raises(ArtifactMismatchError, match="some/model"):
        made().check_base("1" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.safetensors")


def test_a_folder_is_not_an_artifact(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in [*range(0, 40), *range(40, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path)


def test_bytes_behind_the_tensors_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(struct.pack("<Q", 2**64 - 1) + b"{}", id="a header of 16 exabytes"),
        pytest.param(struct.pack("<Q", 2**40) + b"{}", id="a header of a terabyte"),
        pytest.param(struct.pack("<Q", 2 << 20) + b" " * (2 << 20), id="a header of 2 MB"),
        pytest.param(struct.pack("<Q", 900_000) + b"[" * 900_000, id="a deeply nested list"),
        pytest.param(struct.pack("<Q", 900_000) + b'{"a":' * 180_000, id="a deeply nested object"),
        pytest.param(struct.pack("<Q", 8) + b"not JSON", id="no JSON"),
        pytest.param(struct.pack("<Q", 8) + b"\xff" * 8, id="no UTF-8"),
        pytest.param(struct.pack("<Q", 2) + b"[]", id="a JSON list"),
        pytest.param(struct.pack("<Q", 4) + b"null", id="null"),
        pytest.param(struct.pack("<Q", 2) + b"{}", id="nothing"),
        pytest.param(struct.pack("<Q", 19) + b'{"__metadata__": 3}', id="a number for metadata"),
        pytest.param(b"GGUF" + b"\0" * 100, id="another format"),
        pytest.param(b"", id="an empty file"),
    ],
)
def test_a_foreign_or_hostile_header_is_refused_without_much_memory(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(content) + (8 << 20)


def test_a_models_own_weights_are_not_an_artifact(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"embed.weight": torch.zeros(4, 3)}, path, {"format": "pt"})
    assert "not an orientc artifact" in refused(path)


@pytest.mark.parametrize("key", KEYS)
def test_no_entry_of_the_metadata_may_be_missing(path: Path, key: str) -> None:
    line = refused(with_header(path, lambda header: header["__metadata__"].pop(key)), artifacts.read_description)
    assert key in line or key == "format"


@pytest.mark.parametrize(
    ("key", "value"), list(zip(KEYS, cycle([3, None, 1e400, ["x"], {"a": "b"}, True]), strict=False))
)
def test_metadata_that_is_no_string_is_refused(path: Path, key: str, value: Any) -> None:
    refused(with_header(path, lambda header: header["__metadata__"].update({key: value})), artifacts.read_description)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", "2"),
        ("format_version", "9" * 5000),
        ("format_version", "0"),
        ("format_version", "one"),
        ("codec", "pq8"),
        ("codec", "x" * 10_000),
        ("codec", "a\nb"),
        ("activation", "relu"),
        ("activation", "a\nb" * 1000),
        ("vocab", "0"),
        ("vocab", "-11"),
        ("vocab", "12"),
        ("vocab", "9" * 5000),
        ("dim", "7"),
        ("rank", "1e3"),
        ("rank", ""),
        ("base_bytes", "1" + "0" * 400),
        ("base_model_bytes", "0"),
        ("embed_scale", "nan"),
        ("embed_scale", "inf"),
        ("embed_scale", "big"),
        ("padding_idx", "first"),
        ("seed", "x"),
        ("settings", "[]"),
        ("settings", "{"),
        ("settings", "[" * 100_000),
        ("settings", '{"a":' * 500 + "1" + "}" * 500),
        ("distances", "[]"),
        ("distances", "{}"),
        ("distances", '{"cosine": 0.1}'),
        ("distances", '{"rmse": 0.1}'),
        ("distances", '{"cosine": NaN, "rmse": 0.1}'),
        ("distances", '{"cosine": 0.1, "rmse": 0.1, "mae": Infinity}'),
        ("distances", '{"cosine": "0.1", "rmse": 0.1}'),
        ("distances", '{"cosine": null, "rmse": 0.1}'),
        ("distances", '{"cosine": 1' + "0" * 400 + ', "rmse": 0.1}'),
        ("distances", '{"cosine": [0.1], "rmse": 0.1}'),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(path: Path, key: str, value: str) -> None:
    refused(with_header(path, lambda header: header["__metadata__"].update({key: value})), artifacts.read_description)


def test_a_newer_format_and_an_unknown_codec_say_what_to_do(path: Path) -> None:
    original = path.read_bytes()
    with_header(path, lambda header: header["__metadata__"].update(format_version="2"))
    assert "newer" in refused(path)
    path.write_bytes(original)
    with_header(path, lambda header: header["__metadata__"].update(codec="pq8"))
    assert "'pq8'" in refused(path)
    assert "update orientc" in refused(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [VOCAB, RANK + 1]},
        {"shape": [VOCAB * RANK]},
        {"shape": [VOCAB, -RANK]},
        {"shape": [-VOCAB, -RANK]},
        {"shape": [2**62, 2**62]},
        {"shape": [10**300, 1]},
        {"shape": ["a\nb", 3]},
        {"shape": [VOCAB + 0.5, RANK]},
        {"shape": []},
        {"shape": None},
        {"shape": list(range(100_000))},
        {"dtype": "I64"},
        {"dtype": "F64"},
        {"dtype": "F16"},
        {"dtype": "F8_E4M3"},
        {"dtype": "two\nlines"},
        {"dtype": ["F32"]},
        {"dtype": None},
        {"data_offsets": [0, 10**18]},
        {"data_offsets": [-132, 0]},
        {"data_offsets": [-(2**63), -(2**63) + 132]},
        {"data_offsets": [0, 132]},
        {"data_offsets": [100, 232]},
        {"data_offsets": ["0", "132"]},
        {"data_offsets": [0]},
        {"data_offsets": 132},
        {"data_offsets": [float("nan"), float("inf")]},
    ],
)
def test_an_entry_that_does_not_describe_its_tensor_is_refused(path: Path, entry: dict[str, Any]) -> None:
    header, _ = header_of(path)
    assert header["latents"]["data_offsets"] != entry.get("data_offsets")
    with_header(path, lambda header: header["latents"].update(entry))
    refused(path)
    refused(path, artifacts.read_description)


@pytest.mark.parametrize("entry", [None, 3, [], "F32", {}, {"dtype": "F32"}])
def test_an_entry_that_is_none_is_refused(path: Path, entry: Any) -> None:
    refused(with_header(path, lambda header: header.update(latents=entry)), artifacts.read_description)


def test_tensors_that_share_or_skip_bytes_are_refused(path: Path) -> None:
    header, data = header_of(path)
    bias = header["decoder.bias"]["data_offsets"]
    assert bias[0] == 0
    header["decoder.bias"]["data_offsets"] = [4, bias[1] + 4]
    refused(with_json(path, json.dumps(header).encode(), data), artifacts.read_description)
    for entry in header.values():
        if "data_offsets" in entry:
            entry["data_offsets"] = [offset + 4 for offset in entry["data_offsets"]]
    header["decoder.bias"]["data_offsets"] = [4, bias[1] + 4]
    refused(with_json(path, json.dumps(header).encode(), b"\0" * 4 + data), artifacts.read_description)


def saved(path: Path, tensors: dict[str, Tensor], like: Path | None = None, **metadata: str) -> Path:
    """A file as somebody else's program would write it."""
    header, _ = header_of(like or path)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, header["__metadata__"] | metadata)
    return path


def test_what_safetensors_writes_is_read(path: Path) -> None:
    artifact = artifacts.load(path)
    again = artifacts.load(saved(path, artifact.factors.tensors))
    assert again.description == artifact.description
    assert torch.equal(again.factors.dense(), artifact.factors.dense())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tensors: tensors.update(extra=torch.zeros(2)), id="one too many"),
        pytest.param(lambda tensors: tensors.pop("latents"), id="no latents"),
        pytest.param(lambda tensors: tensors.pop("decoder.weight"), id="no decoder, a bias"),
        pytest.param(lambda tensors: (tensors.pop("decoder.weight"), tensors.pop("decoder.bias")), id="rank below dim"),
        pytest.param(lambda tensors: tensors.clear(), id="none"),
        pytest.param(lambda tensors: tensors.update(latents=tensors["latents"].half()), id="several types"),
        pytest.param(lambda tensors: tensors.update(latents=tensors["latents"].T), id="transposed"),
        pytest.param(
            lambda tensors: tensors.update({name: tensor.long() for name, tensor in tensors.items()}),
            id="whole numbers",
        ),
    ],
)
def test_tensors_other_than_expected_are_refused(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    refused(saved(path, tensors), artifacts.read_description)


@pytest.mark.parametrize("name", ["latents", "decoder.weight", "decoder.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(path: Path, name: str, value: float) -> None:
    tensors = load_file(path)
    tensors[name].view(-1)[-1] = value
    assert name in refused(saved(path, tensors))


def test_any_change_to_the_header_is_read_or_refused_in_one_line(path: Path) -> None:
    """Single bits flipped, bytes cut out and put in: never anything but an `ArtifactError`."""
    content = path.read_bytes()
    length = 8 + struct.unpack("<Q", content[:8])[0]
    draw = random.Random(0)
    lines: list[str] = []
    for position in range(length):
        flipped = bytes([content[position] ^ 1 << draw.randrange(8)])
        middle = draw.choice([flipped, flipped, b"", content[position : position + 1] + draw.randbytes(1)])
        path.write_bytes(content[:position] + middle + content[position + 1 :])
        try:
            json.dumps(artifacts.load(path).description.as_dict())
        except ArtifactError as error:
            lines.append(str(error))
    assert 0 < len(lines) < length
    assert not any("\n" in line for line in lines)


# -- tables in codes, with rows kept


@pytest.mark.parametrize(
    ("coding", "shape", "kept", "dtype"),
    pairwise(coded.CODINGS, coded.SHAPES, (0, coded.KEPT), (torch.float32, torch.bfloat16)),
)
def test_every_form_comes_back_as_it_was(
    tmp_path: Path, coding: str, shape: str, kept: int, dtype: torch.dtype
) -> None:
    artifact = coded.stored(coded.filled(coded.layout(coding, shape, kept=kept)).to(dtype))
    for name in ("a", "b"):
        artifacts.save(artifact, tmp_path / f"{name}.safetensors")
    read = artifacts.load(tmp_path / "a.safetensors")
    assert read.description == artifact.description
    assert read.factors.layout == artifact.factors.layout
    assert read.factors.tensors.keys() == artifact.factors.tensors.keys()
    assert all(torch.equal(tensor, artifact.factors.tensors[name]) for name, tensor in read.factors.tensors.items())
    assert read.description.nbytes == read.factors.nbytes
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    json.dumps(read.description.as_dict())


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A good artifact of several row groups with rows kept, to be damaged."""
    path = tmp_path / "grouped.safetensors"
    artifacts.save(coded.stored(coded.filled(coded.layout("row groups", "bias", kept=5))), path)
    return path


def recoded(path: Path, **changes: Any) -> Path:
    def change(header: Header) -> None:
        coding = json.loads(header["__metadata__"]["coding"]) | changes
        header["__metadata__"]["coding"] = json.dumps(coding)

    return with_header(path, change)


@pytest.mark.parametrize(
    "coding",
    [
        "", "{", "null", "3", "[]", '"groups"', "{}", "[" * 100_000, '{"group_size": 4}', '{"bits": [[5, 1]]}',
        '{"group_size": 4, "bits": [[5, 1]], "row_group_sizes": [24], "rank": 7}',
        '{"group_size": 4, "bits": 5, "row_group_sizes": [24]}',
        '{"group_size": 4, "bits": [5, 1], "row_group_sizes": [24]}',
        '{"group_size": 4, "bits": [[5, 1]], "row_group_sizes": 24}',
        '{"group_size": 1e400, "bits": [[5, 1]], "row_group_sizes": [24]}',
        '{"group_size": ' + "9" * 5000 + ', "bits": [[5, 1]], "row_group_sizes": [24]}',
        '{"vocab": 3}', '{"codec": "plain"}', "x\ny" * 1000,
    ],
)  # fmt: skip
def test_a_coding_that_makes_no_sense_is_refused(grouped: Path, coding: str) -> None:
    refused(
        with_header(grouped, lambda header: header["__metadata__"].update(coding=coding)), artifacts.read_description
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"group_size": 0}, {"group_size": -4}, {"group_size": 2}, {"group_size": 3}, {"group_size": 7},
        {"group_size": 1 << 16}, {"group_size": 1 << 17}, {"group_size": 1 << 62}, {"group_size": True},
        {"group_size": 4.0}, {"group_size": "4"}, {"group_size": None},
        {"bits": [[5, 1], [7, 0]]}, {"bits": [[5, 1], [7, 0], [0, 0]]}, {"bits": [[5, 1], [7, 0], [0, 9]]},
        {"bits": [[5, 1], [7, 0], [0, -1]]}, {"bits": [[5, 1], [7, 0], [0, 6, 0]]}, {"bits": [[5, 1], [7, 0], [0, 5]]},
        {"bits": [[5, 3], [7, 0], [0, 6]]}, {"bits": [[0, 6], [7, 0], [5, 1]]}, {"bits": [[5, 1]] * 65},
        {"bits": [[5.0, 1], [7, 0], [0, 6]]}, {"bits": {"a": 1}}, {"bits": ["51", "70", "06"]}, {"bits": [[]] * 3},
        {"row_group_sizes": [12, 6, 5]}, {"row_group_sizes": [12, 6, 7]}, {"row_group_sizes": [6, 12, 6]},
        {"row_group_sizes": [24]},
        {"row_group_sizes": [18, 6, 0]}, {"row_group_sizes": [36, -6, -6]}, {"row_group_sizes": [12, 6, 6, 0]},
        {"row_group_sizes": [12.0, 6, 6]}, {"row_group_sizes": [1 << 62, -(1 << 62), 24]}, {"row_group_sizes": "abc"},
    ],
)  # fmt: skip
def test_a_coding_that_does_not_fit_the_tensors_is_refused_without_much_memory(
    grouped: Path, changes: dict[str, Any]
) -> None:
    recoded(grouped, **changes)
    tracemalloc.start()
    try:
        refused(grouped, artifacts.read_description)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("codec", ["plain", "codebook", "trellis"])
def test_tensors_of_another_codec_are_refused(grouped: Path, codec: str) -> None:
    with_header(grouped, lambda header: header["__metadata__"].update(codec=codec))
    refused(grouped, artifacts.read_description)


def test_a_huge_header_of_groups_is_refused_without_much_memory(grouped: Path) -> None:
    recoded(grouped, group_size=1, bits=[[1] * 4000] * 60, row_group_sizes=[1] * 60)
    with_header(grouped, lambda header: header["__metadata__"].update(rank="4000"))
    tracemalloc.start()
    try:
        refused(grouped, artifacts.read_description)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * grouped.stat().st_size + (4 << 20)


@pytest.mark.parametrize(
    "ids",
    [
        [1, 2, 2, 4, 5],
        [2, 1, 3, 4, 5],
        [-1, 2, 3, 4, 5],
        [1, 2, 3, 4, 29],
        [0, -(2**31), 3, 4, 5],
        [2**31 - 1, -(2**31), -1, 4, 5],
    ],
)
def test_kept_ids_out_of_order_or_range_are_refused(grouped: Path, ids: list[int]) -> None:
    tensors = load_file(grouped) | {"kept.ids": torch.tensor(ids, dtype=torch.int32)}
    assert "kept.ids" in refused(saved(grouped, tensors))


def test_rows_in_row_groups_that_are_not_there_are_refused(grouped: Path) -> None:
    for row, row_group in ((0, 3), (0, 255), (5, None)):
        tensors = load_file(grouped)
        row_groups = tensors["latents.row_groups"]
        row_groups[row] = (row_groups[row] + 1) % 3 if row_group is None else row_group
        assert "latents.row_groups" in refused(
            saved(grouped.with_name(f"{row}-{row_group}.safetensors"), tensors, like=grouped)
        )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("latents.0.codes", torch.int32), ("latents.0.codes", torch.float16), ("latents.row_groups", torch.int32),
        ("latents.1.scales", torch.float32), ("latents.1.offsets", torch.bfloat16), ("kept.ids", torch.int64),
        ("kept.ids", torch.float32), ("kept.rows", torch.float16),
        ("decoder.bias", torch.uint8),
    ],
)  # fmt: skip
def test_tensors_of_another_type_are_refused(grouped: Path, name: str, dtype: torch.dtype) -> None:
    tensors = load_file(grouped)
    tensors[name] = tensors[name].to(dtype)
    refused(saved(grouped, tensors), artifacts.read_description)


def test_each_tensor_is_needed_as_it_is(grouped: Path) -> None:
    tensors = load_file(grouped)
    for name, tensor in tensors.items():
        other = grouped.with_name(f"{name}.safetensors")
        if name != "decoder.bias":  # without one it is another table
            refused(saved(other, {key: tensors[key] for key in tensors if key != name}, like=grouped))
        refused(saved(other, tensors | {name: tensor[:-1]}, like=grouped))
        refused(saved(other, tensors | {name: tensor.unsqueeze(0)}, like=grouped))
        if tensor.is_floating_point():
            refused(saved(other, tensors | {name: torch.full_like(tensor, torch.inf)}, like=grouped))


@pytest.mark.parametrize("entry", [{"dtype": "F32", "shape": [1], "data_offsets": [0, 3]}, {"dtype": "x" * 70_000}])
def test_whatever_a_header_says_it_is_refused_in_one_line_of_some_words(entry: dict[str, Any], tmp_path: Path) -> None:
    header = json.dumps({"a\nb": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(path)
    with pytest.raises(DamagedError) as caught:
        safetensors_file.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 200
