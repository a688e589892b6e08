"""Which tables a model has, what they are called, and that compressed ones take their places one by one or together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from support.architectures import ARCHITECTURES, VOCAB, WIDTH, build
from support.untied import DECODER_ROWS, OWN_HEAD, ROWS, SPECIAL, THREE, UNTIED, lossless, outputs, several
from torch import nn

from orientc.errors import NoTableError, SubstitutionError, UsageError
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead
from orientc.modeling.swap import module_of
from orientc.models import compact
from orientc.models.inspect import TableInspection, inspect
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute, substituted
from orientc.models.table import read_table, table_info
from orientc.models.tables import LEAST_ROWS, tables_of

# -- what there is


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_head_is_a_table_where_it_shares_none(name: str) -> None:
    model = build(name)
    head = model.get_output_embeddings()
    own = head is not None and head.weight is not model.get_input_embeddings().weight
    assert list(tables_of(model)) == (["input", "head"] if own else ["input"])


def test_marians_decoder_looks_up_what_its_head_projects_to() -> None:
    found = tables_of(several("marian-two-tables"))
    assert {name: (table.vocab, table.dim) for name, table in found.items()} == {
        "input": (VOCAB, WIDTH), "head": (DECODER_ROWS, WIDTH),
    }  # fmt: skip
    assert found["input"].modules == ("model.encoder.embed_tokens",)
    assert set(found["head"].modules) == {"model.decoder.embed_tokens", "lm_head"}


@pytest.mark.parametrize("name", [*THREE, "marian-three-tables"])
def test_a_decoder_that_shares_no_table_has_one_by_its_name(name: str) -> None:
    """However few rows it has; one that these models keep for both, and nothing uses, is none."""
    model = several(name)
    found = tables_of(model)
    assert {table: entry.modules for table, entry in found.items()} == {
        "input": ("model.encoder.embed_tokens",),
        "head": ("lm_head",),
        "decoder.embed_tokens": ("model.decoder.embed_tokens",),
    }
    if not name.startswith("marian"):  # of which the encoder's is named
        model.model.shared = nn.Embedding(LEAST_ROWS, 4)
        assert [*tables_of(model)] == [*found]


def test_large_embeddings_of_other_names_are_tables() -> None:
    found = tables_of(several("gemma3n"))
    assert list(found) == ["input", "embed_tokens_per_layer"]
    assert (found["embed_tokens_per_layer"].vocab, found["embed_tokens_per_layer"].dim) == (ROWS, 8)
    assert found["embed_tokens_per_layer"].parameters == ("model.embed_tokens_per_layer.weight",)


def test_positions_types_and_small_embeddings_are_none() -> None:
    model = build("bert")
    embeddings = model.bert.embeddings
    embeddings.position_embeddings = nn.Embedding(LEAST_ROWS, 4)
    embeddings.token_type_embeddings = nn.Embedding(LEAST_ROWS, 4)
    embeddings.word_types = nn.Embedding(LEAST_ROWS - 1, 4)
    assert list(tables_of(model)) == ["input"]
    embeddings.words_by_layer = nn.Embedding(LEAST_ROWS, 4)
    assert list(tables_of(model)) == ["input", "words_by_layer"]


def test_names_that_end_alike_are_told_apart() -> None:
    model = build("bert")
    for part in (model.bert.embeddings, model.bert.encoder):
        part.extra = nn.Embedding(LEAST_ROWS, 4)
    assert list(tables_of(model)) == ["input", "embeddings.extra", "encoder.extra"]


def test_inspect_lists_all_and_measures_one(tmp_path: Path) -> None:
    several("gemma3n").save_pretrained(tmp_path / "gemma3n")
    found = inspect(tmp_path / "gemma3n", table="embed_tokens_per_layer")
    assert isinstance(found, TableInspection)
    assert [(table.name, table.nbytes) for table in found.tables] == [
        ("input", VOCAB * WIDTH * 4), ("embed_tokens_per_layer", ROWS * 8 * 4),
    ]  # fmt: skip
    assert found.table.table == "embed_tokens_per_layer"
    assert found.table.embed_scale == 2.0  # √4, as its module multiplies
    assert found.share == found.tables[1].share == ROWS * 8 / found.table.model_parameters
    listed = inspect(tmp_path / "gemma3n")
    assert isinstance(listed, TableInspection)
    assert (listed.table.table, listed.tables) == ("input", found.tables)
    with pytest.raises(NoTableError, match="its head shares the input's; there are input, embed_tokens_per_layer"):
        inspect(tmp_path / "gemma3n", table="head")


@pytest.mark.parametrize("name", ["llama-untied", "rembert-untied", *SPECIAL[:2]])
def test_a_head_is_read_alone_with_facts_of_its_own(name: str, tmp_path: Path) -> None:
    model = several(name)
    model.save_pretrained(tmp_path)
    head = model.get_output_embeddings().weight
    table = read_table(tmp_path, table="head")
    assert torch.equal(table.weight, head)
    assert table.info == table_info(tmp_path, "head")
    assert (table.info.vocab, table.info.dim, table.info.table) == (*head.shape, "head")
    assert not table.info.tied
    both = [table_info(tmp_path), table.info]
    assert both[0].sha256 != both[1].sha256
    assert both[0].model_bytes == both[1].model_bytes
    with pytest.raises(UsageError, match="its head table already"):
        read_table(table, table="input")


# -- compressed tables in their places


@pytest.mark.parametrize("name", [*OWN_HEAD, *UNTIED, *SPECIAL])
def test_lossless_tables_leave_a_model_as_it_is(name: str, tmp_path: Path) -> None:
    """One by one and all together, in memory, and in a compact folder; other numbers make a difference each time."""
    model, expected = several(name), outputs(several(name))
    tables = lossless(model)
    assert len(tables) > 1
    for chosen in [[each] for each in tables] + [list(tables)]:
        with substituted(model, {each: tables[each] for each in chosen}):
            torch.testing.assert_close(outputs(model), expected, atol=1e-4, rtol=1e-4)
            assert all(isinstance(module_of(model, each), CompressedEmbedding | CompressedHead) for each in chosen)
        torch.testing.assert_close(outputs(model), expected, atol=0, rtol=0)
        spoiled = {each: Factors.plain(tables[each].latents.flip(0)) for each in chosen}
        with substituted(model, spoiled):
            assert (outputs(model) - expected).abs().max() > 1e-4
    policy = head_policies(model, tables)[-1]
    compact.save(substitute(model, tables), tmp_path, policy)
    source = ModelSource.resolve(str(tmp_path))
    assert source.compact is not None
    assert (source.compact.head, source.compact.tables.keys()) == (policy, tables.keys())
    torch.testing.assert_close(outputs(source.load(None, dtype=torch.float32)), expected, atol=1e-4, rtol=1e-4)
    for each in tables:
        assert torch.equal(read_table(source, table=each).weight, tables[each].dense())


def test_what_is_compressed_decides_the_policy_of_a_head_of_its_own() -> None:
    model = several("llama-untied")
    found = {tables: head_policies(model, tables) for tables in [("input",), ("head",), ("input", "head")]}
    assert [*found.values()] == [("input-only",), ("head-only",), ("both",)]
    with pytest.raises(SubstitutionError, match="with head compressed can be head-only, not both"):
        substitute(model, {"head": lossless(model)["head"]}, "both")
    assert head_policies(build("gpt2"), ["input"]) == ("input-only", "tied")


@pytest.mark.parametrize("name", ["mamba2-untied", "falcon-mamba"])
def test_a_head_that_is_asked_for_its_type_at_each_step_is_not_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "falcon-mamba":
        sizes = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 1, "state_size": 4}
        model = transformers.FalconMambaForCausalLM(transformers.FalconMambaConfig(**sizes))
    else:
        model = build(name)
    expected = outputs(model)
    substitute(model, lossless(model))
    found = outputs(model)
    monkeypatch.setattr(Factors, "table", lambda *_: pytest.fail("the table was decoded"))
    assert torch.equal(outputs(model), found)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_table_that_a_model_lacks_is_refused() -> None:
    tied, table = build("gpt2"), Factors.plain(torch.zeros(VOCAB, WIDTH))
    with pytest.raises(SubstitutionError, match="no table head: its head shares the input's; there is input"):
        substitute(tied, {"head": table})
    with pytest.raises(SubstitutionError, match="no table words: it has no such table"):
        substitute(tied, {"words": table})


def test_a_tied_model_with_embeddings_for_each_layer_still_has_both_policies() -> None:
    assert head_policies(several("gemma3n"), ["input", "embed_tokens_per_layer"]) == ("input-only", "tied")
    assert head_policies(several("gemma3n"), ["embed_tokens_per_layer"]) == ("input-only",)


def test_a_folder_of_one_table_written_before_there_were_several_reads_as_before(tmp_path: Path) -> None:
    """Its configuration has one layout, and says untied where the head shares no table."""
    for name, head, before in [("llama-untied", "input-only", "untied"), ("gpt2", "input-only", "input-only")]:
        folder, model = tmp_path / name, build(name)
        table = Factors.plain(model.get_input_embeddings().weight.detach().flip(0))
        expected = outputs(substitute(model, table, head))
        compact.save(model, folder, head)
        config = json.loads((folder / "config.json").read_text())
        ours = config["orientc"]
        layout, own_head = ours.pop("tables")["input"], before == "untied"
        config["orientc"] = ours | {"format_version": 1, "layout": layout, "head": before, "own_head": own_head}
        (folder / "config.json").write_text(json.dumps(config))
        source = ModelSource.resolve(str(folder))
        assert source.compact is not None
        assert source.compact.head == "input-only"
        torch.testing.assert_close(outputs(source.load(None, dtype=torch.float32)), expected, atol=0, rtol=0)
