"""Reading the token-embedding table out of every kind of checkpoint, and refusing what is not one."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.architectures import ARCHITECTURES, build
from torch import Tensor
from transformers import PreTrainedModel

from orientc.errors import ModelError, NoTableError, TrustError, UsageError
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table, table_info, table_sha256

KEY = "bert.embeddings.word_embeddings.weight"


def read(folder: Path, *, allow_pickle: bool = False) -> Table:
    return read_table(ModelSource.resolve(str(folder), allow_pickle=allow_pickle))


def table_of(model: PreTrainedModel) -> Tensor:
    weight: Tensor = model.get_input_embeddings().weight
    return weight.detach()


def values_sha256(table: Tensor) -> str:
    """The hash DESIGN.md promises, the long way round."""
    rows = (struct.pack(f"<{len(row)}f", *row) for row in table.double().tolist())
    return hashlib.sha256(b"".join(rows)).hexdigest()


def refusal(folder: Path, expected: type[ModelError] = ModelError, *, allow_pickle: bool = False) -> str:
    """The one line that reading this ends with."""
    with pytest.raises(ModelError) as raised:
        read(folder, allow_pickle=allow_pickle)
    assert type(raised.value) is expected
    message = str(raised.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder of a tiny masked language model, to be tampered with."""
    folder = tmp_path / "bert"
    build("bert").save_pretrained(folder)
    return folder


def test_a_model_is_named_by_a_string_a_path_a_source_or_its_table(bert: Path) -> None:
    table = read(bert)
    for model in (str(bert), bert, ModelSource.resolve(bert)):
        found = read_table(model)
        assert torch.equal(found.weight, table.weight)
        assert table_info(model).sha256 == found.info.sha256 == table.info.sha256
    assert read_table(table) is table
    assert table_info(table) is table.info
    assert read_table("demo").info.id == "demo"


def test_options_are_refused_for_what_was_found_or_read_already(bert: Path) -> None:
    into_bin(bert)
    table = read_table(bert, allow_pickle=True)
    for model in (ModelSource.resolve(bert, allow_pickle=True), table):
        with pytest.raises(UsageError, match="`allow_pickle` is for a model that is named"):
            read_table(model, allow_pickle=True)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a checkpoint in one file."""
    path = folder / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in change(load_file(path)).items()}, path, {"format": "pt"})


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def into_bin(folder: Path, **options: bool) -> None:
    """Make a checkpoint a pickled one."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", **options)


# -- what is read


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_table_and_facts_are_the_loaded_models_own(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)

    table = read(tmp_path)

    info = table.info
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert torch.equal(table.weight, embedding.weight)
    assert (info.vocab, info.dim) == tuple(embedding.weight.shape)
    assert (info.dtype, info.nbytes) == ("float32", 4 * embedding.weight.numel())
    assert info.sha256 == values_sha256(embedding.weight)
    assert info.padding_idx == embedding.padding_idx
    assert info.tied == (head is not None and head.weight is embedding.weight)
    looked_up, row = embedding(torch.tensor(3)), embedding.weight[3]
    assert info.embed_scale == pytest.approx((looked_up / row).mean().item(), rel=1e-5)
    assert info.model_parameters == sum(parameter.numel() for parameter in model.parameters())
    persistent = sum(buffer.nbytes for key, buffer in model.named_buffers() if key in model.state_dict())
    assert info.model_bytes == 4 * info.model_parameters + persistent
    assert (info.id, info.revision) == (str(tmp_path), None)


def test_the_cases_cover_what_differs_between_architectures(tmp_path: Path) -> None:
    """What the test above takes from the models is what these are known for."""
    facts = {}
    for name in ("albert", "electra", "gemma3", "bart-scaled", "t5", "llama-untied", "bert", "roberta", "bert-encoder"):
        build(name).save_pretrained(tmp_path / name)
        facts[name] = read(tmp_path / name).info

    assert (facts["albert"].dim, facts["electra"].dim) == (16, 16)
    assert facts["gemma3"].embed_scale == pytest.approx(32**0.5)
    assert facts["bart-scaled"].embed_scale == pytest.approx(32**0.5)
    assert facts["bert"].embed_scale == 1.0
    assert (facts["bert"].padding_idx, facts["roberta"].padding_idx) == (0, 1)
    assert facts["t5"].padding_idx is None
    tied = {name for name, info in facts.items() if info.tied}
    assert tied == {"albert", "electra", "gemma3", "bart-scaled", "t5", "bert", "roberta"}


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("t5", ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")),
        ("bart", ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")),
        ("gpt2", ("transformer.wte", "lm_head")),
    ],
)
def test_a_shared_table_stored_under_several_names_counts_once(
    name: str, aliases: tuple[str, ...], tmp_path: Path
) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)
    before = read(tmp_path).info
    weight = table_of(model)

    rewrite(tmp_path, lambda tensors: tensors | {f"{alias}.weight": weight.clone() for alias in aliases})
    table = read(tmp_path)

    stored = sum(tensor.nbytes for tensor in load_file(tmp_path / "model.safetensors").values())
    assert stored == before.model_bytes + (len(aliases) - 1) * weight.nbytes
    assert table.info == before
    assert torch.equal(table.weight, weight)


@pytest.mark.parametrize(
    "architecture", ["BertForMaskedLM", "BertModel", "BertForSequenceClassification", "Trainer", "NoSuchModel", None]
)
@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_the_base_models_prefix_may_be_there_or_not(bert: Path, architecture: str | None, prefix: str) -> None:
    reconfigure(bert, architectures=[architecture] if architecture else None)
    rewrite(bert, lambda tensors: {key.replace("bert.", prefix, 1): value for key, value in tensors.items()})

    table = read(bert)

    assert torch.equal(table.weight, table_of(build("bert")))
    assert table.info.tied == (architecture == "BertForMaskedLM")


def test_of_a_sharded_checkpoint_only_the_tables_shard_is_opened(tmp_path: Path) -> None:
    model = build("bert")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) >= 3
    for shard in shards - {index["weight_map"][KEY]}:
        (tmp_path / shard).unlink()

    table = read(tmp_path)

    assert torch.equal(table.weight, table_of(model))
    assert table.info.model_bytes == index["metadata"]["total_size"] == 4 * table.info.model_parameters


def test_only_the_table_is_read(bert: Path) -> None:
    """A damaged tensor elsewhere in the file goes unnoticed, as it would not if the file were loaded."""
    path = bert / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    spans = {key: entry["data_offsets"] for key, entry in json.loads(content[8:start]).items() if key != "__metadata__"}
    keep = bytes(content[start + spans[KEY][0] : start + spans[KEY][1]])
    content[start:] = b"\xff" * (len(content) - start)
    content[start + spans[KEY][0] : start + spans[KEY][1]] = keep
    path.write_bytes(bytes(content))

    assert torch.equal(read(bert).weight, table_of(build("bert")))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_copy_has_the_hash_of_its_values(dtype: torch.dtype, tmp_path: Path) -> None:
    model = build("bert").to(dtype)
    model.save_pretrained(tmp_path / "half")
    model.float().save_pretrained(tmp_path / "single")

    half, single = read(tmp_path / "half"), read(tmp_path / "single")

    assert half.weight.dtype == dtype
    assert half.info.dtype == str(dtype).removeprefix("torch.")
    assert half.info.nbytes * 2 == single.info.nbytes
    assert half.info.model_bytes * 2 == single.info.model_bytes
    assert half.info.sha256 == single.info.sha256 == values_sha256(table_of(model))
    assert half.info.sha256 != values_sha256(table_of(build("bert")))


def test_the_hash_is_over_little_endian_float32_rows() -> None:
    table = torch.randn(3, 20_000).half().t()  # not contiguous, and longer than one block of the hash
    expected = hashlib.sha256(numpy.ascontiguousarray(table.numpy().astype("<f4")).tobytes()).hexdigest()

    assert table_sha256(table) == expected
    assert table_sha256(table.double()) == expected
    assert table_sha256(table.flip(0)) != expected


@pytest.mark.assets
def test_the_shared_minilm(assets: Path) -> None:
    table = read(assets / "minilm-l6-mlm")

    info = table.info
    assert (info.vocab, info.dim, info.dtype, info.padding_idx, info.tied) == (30522, 384, "float16", 0, True)
    assert info.nbytes == 30522 * 384 * 2
    assert 30522 * 384 / info.model_parameters == pytest.approx(0.516, abs=0.005)
    assert info.model_bytes == 2 * info.model_parameters
    values = table.weight.numpy().astype("<f4")
    assert info.sha256 == hashlib.sha256(values.tobytes()).hexdigest()


# -- pickles


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_read_when_allowed(bert: Path, zipped: bool) -> None:
    before = read(bert)
    into_bin(bert, _use_new_zipfile_serialization=zipped)

    assert "`allow_pickle`" in refusal(bert, TrustError)
    table = read(bert, allow_pickle=True)

    assert torch.equal(table.weight, before.weight)
    assert table.info == before.info


def test_pickled_shards_are_read_when_allowed(bert: Path) -> None:
    before = read(bert)
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    torch.save({KEY: tensors[KEY]}, bert / "pytorch_model-00001-of-00002.bin")
    index = {key: f"pytorch_model-0000{1 if key == KEY else 2}-of-00002.bin" for key in tensors}
    total = sum(tensor.nbytes for tensor in tensors.values())
    (bert / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index})
    )

    assert "`allow_pickle`" in refusal(bert, TrustError)
    assert read(bert, allow_pickle=True).info == before.info


def test_safetensors_are_preferred_to_pickles(bert: Path) -> None:
    torch.save({KEY: torch.zeros(97, 32)}, bert / "pytorch_model.bin")

    assert torch.equal(read(bert, allow_pickle=True).weight, table_of(build("bert")))


def test_a_malicious_pickle_is_never_executed(bert: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    tensors: dict[str, Any] = dict(load_file(bert / "model.safetensors"))
    torch.save(tensors | {"bomb": Bomb(trace)}, bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()

    refusal(bert, TrustError)
    message = refusal(bert, allow_pickle=True)

    assert "more than tensors" in message
    assert not trace.exists()
    torch.load(bert / "pytorch_model.bin", weights_only=False)
    assert trace.exists()  # it would have gone off


def test_a_safetensors_index_cant_smuggle_a_pickle_in(bert: Path, tmp_path: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    torch.save(tensors, bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(tensors, "pytorch_model.bin")}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))

    assert "pytorch_model.bin is damaged" in refusal(bert)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x02]q\x00."])
def test_a_damaged_pickle_is_one_line(bert: Path, content: bytes) -> None:
    into_bin(bert)
    (bert / "pytorch_model.bin").write_bytes(content)

    assert "pytorch_model.bin is damaged" in refusal(bert, allow_pickle=True)


@pytest.mark.parametrize("saved", [[1, 2], {"state_dict": {}}, {1: torch.zeros(2)}])
def test_a_pickle_of_something_else_is_one_line(bert: Path, saved: Any) -> None:
    into_bin(bert)
    torch.save(saved, bert / "pytorch_model.bin")

    refusal(bert, allow_pickle=True)


# -- GGUF


def write_gguf(
    path: Path, table: Tensor, kind: str = "F32", *, name: str = "token_embd.weight", tied: bool = True
) -> int:
    """A llama of one layer as llama.cpp's converter would write it, less its layer; the bytes of its tensors."""
    gguf = pytest.importorskip("gguf")
    vocab, dim = table.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(dim)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{number}" for number in range(vocab)])
    quantization = gguf.GGMLQuantizationType[kind]
    quantized = table.numpy() if kind == "I8" else gguf.quantize(table.numpy(), quantization)
    writer.add_tensor(name, quantized, raw_dtype=quantization)
    others = {"output_norm.weight": (dim,)} | ({} if tied else {"output.weight": (vocab, dim)})
    for other, shape in others.items():
        writer.add_tensor(other, numpy.ones(shape, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return int(quantized.nbytes) + 4 * sum(math.prod(shape) for shape in others.values())


@pytest.mark.parametrize(("kind", "bits"), [("F32", 32), ("F16", 16), ("Q8_0", 8.5)])
def test_a_gguf_table_is_read_and_dequantized(kind: str, bits: float, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    table = torch.randn(120, 64, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "tiny.gguf"
    total = write_gguf(path, table, kind)

    found = read(path)

    quantization = gguf.GGMLQuantizationType[kind]
    expected = gguf.dequantize(gguf.quantize(table.numpy(), quantization), quantization)
    assert found.weight.dtype == torch.float32
    assert numpy.array_equal(found.weight.numpy(), expected)
    assert (found.weight - table).abs().max() <= (0 if kind == "F32" else 0.02)
    info = found.info
    assert (info.vocab, info.dim, info.dtype, info.tied) == (120, 64, kind, True)
    assert info.nbytes == 120 * 64 * bits / 8
    assert info.model_bytes == total
    assert info.sha256 == values_sha256(torch.from_numpy(expected))


def test_a_gguf_copy_in_float32_has_the_hash_of_its_checkpoint(tmp_path: Path) -> None:
    model = build("llama")
    model.save_pretrained(tmp_path / "llama")
    write_gguf(tmp_path / "llama.gguf", table_of(model))

    assert read(tmp_path / "llama.gguf").info.sha256 == read(tmp_path / "llama").info.sha256


def test_a_gguf_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    total = write_gguf(tmp_path / "tiny.gguf", torch.randn(120, 64), tied=False)

    info = read(tmp_path / "tiny.gguf").info
    assert (info.tied, info.model_bytes) == (False, total)


def test_a_gguf_table_of_integers_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", torch.ones(120, 64, dtype=torch.int8), "I8")

    assert "I8" in refusal(tmp_path / "tiny.gguf")


def test_a_gguf_file_without_a_table_has_none(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", torch.randn(120, 64), name="something.weight")

    assert "token_embd.weight" in refusal(tmp_path / "tiny.gguf", NoTableError)


@pytest.mark.parametrize("kept", [0, 3, 100, 2000, 20_000])
def test_a_damaged_gguf_file_is_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, torch.randn(120, 64))
    assert path.stat().st_size > kept
    path.write_bytes(path.read_bytes()[:kept])

    refusal(path)


def test_a_foreign_file_named_gguf_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "tiny.gguf").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 40)

    refusal(tmp_path / "tiny.gguf")


# -- what is refused


def test_a_model_without_tokens_has_no_table(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)

    assert "(vit) has no token-embedding table" in refusal(tmp_path, NoTableError)


def test_a_table_of_another_shape_than_configured_is_refused(bert: Path) -> None:
    reconfigure(bert, vocab_size=100)

    assert "stores a table of 97 × 32, its configuration says 100 × 32" in refusal(bert)


def test_a_checkpoint_without_its_table_is_refused(bert: Path) -> None:
    rewrite(bert, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != KEY})

    assert f"lacks its token-embedding table: no {KEY}" in refusal(bert)


def test_a_table_of_integers_is_refused(bert: Path) -> None:
    rewrite(bert, lambda tensors: tensors | {KEY: tensors[KEY].to(torch.int8)})

    assert "stores its table as torch.int8" in refusal(bert)


def test_a_folder_without_weights_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").unlink()

    for allow_pickle in (False, True):
        message = refusal(bert, allow_pickle=allow_pickle)
        assert "has no weights that can be read: no model.safetensors and no pytorch_model.bin" in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:1000],
        lambda content: content[:-1],
        lambda content: struct.pack("<Q", 2**62) + content[8:],
        lambda content: content[:8] + b"}" + content[9:],
        lambda content: b"<html>Not found</html>" * 40,
    ],
    ids=["empty", "cut in the length", "cut in the header", "cut at the end", "huge header", "no JSON", "a web page"],
)
def test_a_damaged_checkpoint_is_one_line(bert: Path, damage: Callable[[bytes], bytes]) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))

    assert f"{path} is damaged" in refusal(bert)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "{",
        "[1, 2]",
        "{}",
        '{"weight_map": [1]}',
        '{"weight_map": {}, "metadata": {"total_size": "much"}}',
        "[" * 10**5,
    ],
    ids=["empty", "cut", "list", "no map", "map of no names", "size in words", "deep"],
)
def test_a_damaged_index_is_one_line(bert: Path, index: str) -> None:
    (bert / "model.safetensors").rename(bert / "model-00001-of-00001.safetensors")
    (bert / "model.safetensors.index.json").write_text(index)

    assert "is not an index" in refusal(bert)


@pytest.mark.parametrize("absolute", [False, True])
def test_an_index_does_not_lead_out_of_the_folder(bert: Path, tmp_path: Path, absolute: bool) -> None:
    elsewhere = tmp_path / "elsewhere.safetensors"
    (bert / "model.safetensors").rename(elsewhere)
    name = str(elsewhere) if absolute else os.path.relpath(elsewhere, bert)
    index = {"weight_map": dict.fromkeys(load_file(elsewhere), name)}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))

    assert f"names {name}, which is not a file beside it" in refusal(bert)
    with pytest.raises(ModelError, match="not a file beside it"):  # transformers would read it
        ModelSource.resolve(str(bert)).load(None, dtype=torch.float32)


def test_an_index_that_names_what_is_not_there_is_one_line(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    index = {"metadata": None, "weight_map": {KEY: "model-00001-of-00001.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))

    assert "lacks the file model-00001-of-00001.safetensors that its index names" in refusal(bert)

    del tensors[KEY]
    save_file(tensors, bert / "model-00001-of-00001.safetensors")
    assert KEY in refusal(bert)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"model_type": "no-such-model"}',
        '{"model_type": "bert", "hidden_size": -1}',
        '{"model_type": "bert", "num_attention_heads": 0}',
        '{"model_type": "bert", "vocab_size": "many"}',
        '{"model_type": "bert", "hidden_size": 33}',
    ],
)
def test_a_useless_configuration_is_one_line(bert: Path, config: str) -> None:
    (bert / "config.json").write_text(config)

    refusal(bert)
