"""Commands on models and texts from a hub: a loopback one, asked by a process of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from support.commands import Client, Ended, without_hint
from support.data import SENTENCES, glue_rows, squad_questions
from support.hub import Hub, write_dataset

BERT = "bert-base-uncased"
BERT_NOW = "google-bert/bert-base-uncased"  # as on the real hub, the short name redirects
WIKITEXT = "Salesforce/wikitext"
GLUE = "nyu-mll/glue"
SQUAD = "rajpurkar/squad"


@pytest.fixture(scope="module")
def single(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one safetensors file and what else lies around on the hub."""
    folder = tmp_path_factory.mktemp("published") / "single"
    shutil.copytree(bert_folder, folder)
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "README.md", "coreml/weights.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"nobody should want this")
    return folder


@pytest.fixture(scope="module")
def sharded(single: Path) -> Path:
    """The same with the weights in shards."""
    folder = single.with_name("sharded")
    shutil.copytree(single, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    transformers.BertForMaskedLM.from_pretrained(single).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) >= 3
    return folder


@pytest.fixture(scope="module")
def wikitext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set's form, with our sentences to score and something else to train on."""
    lines = [row for sentence in SENTENCES[:24] for row in ("", f" {sentence} \n")]
    rows = {"test": [{"text": line} for line in lines], "train": [{"text": " Not to be scored . \n"}]}
    return write_dataset(tmp_path_factory.mktemp("data") / "wikitext", {"wikitext-103-raw-v1": rows})


def complaint(ended: Ended) -> str:
    """The one line of a command that could not do it."""
    assert ended.code == 1
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("orientc: ")
    return line.removeprefix("orientc: ")


@pytest.mark.slow
def test_the_table_alone_is_downloaded_and_all_works_from_the_cache_afterwards(
    hub: Hub,
    sharded: Path,
    wikitext: Path,
    online: Client,
) -> None:
    commit = hub.publish(BERT_NOW, sharded, alias=BERT)
    hub.publish(WIKITEXT, wikitext, kind="datasets")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())

    made = online("svd", BERT, "--rank", 4, "--json")

    assert (made.code, without_hint(made.err)) == (0, "")
    artifact = made.document["artifact"]
    base = made.document["base"]
    assert (base["id"], base["revision"]) == (BERT, commit)
    assert base["model_bytes"] == index["metadata"]["total_size"]
    shard = index["weight_map"]["bert.embeddings.word_embeddings.weight"]
    assert hub.downloads(BERT_NOW) == {"config.json", "model.safetensors.index.json", shard}

    scored = online("perplexity", artifact, "--json")

    assert (scored.code, without_hint(scored.err)) == (0, "")
    records = scored.document["records"]
    assert [record["head"] for record in records] == ["tied", "input-only", "tied"]
    assert {record["model"]["revision"] for record in records} == {commit}
    text = "".join(row for sentence in SENTENCES[:24] for row in ("", f" {sentence} \n"))
    assert records[0]["text"] == {
        "name": f"{WIKITEXT}/wikitext-103-raw-v1/test",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    assert all(1 < record["metrics"]["perplexity"] < 1e4 for record in records)
    used = {"config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"}
    assert hub.downloads(BERT_NOW) == used | set(index["weight_map"].values())
    assert hub.downloads(WIKITEXT, "datasets") == {"wikitext-103-raw-v1/test-00000-of-00001.parquet"}

    asked = len(hub.log)
    again = online("perplexity", artifact, "--overwrite", "--json", offline=True)

    assert again.code == 0
    assert [record["metrics"] for record in again.document["records"]] == [record["metrics"] for record in records]
    assert len(hub.log) == asked


def test_a_model_in_one_file_is_compressed_and_is_there_offline(hub: Hub, single: Path, online: Client) -> None:
    commit = hub.publish(BERT_NOW, single, alias=BERT)

    made = online("compress", BERT, "--rank", 4, "--epochs", 2, "--json")

    assert (made.code, without_hint(made.err)) == (0, "")
    assert made.document["method"] == "autoencoder"
    assert made.document["base"]["revision"] == commit
    assert hub.downloads(BERT_NOW) == {"config.json", "model.safetensors"}

    offline = online("svd", BERT, "--rank", 4, "--json", offline=True)

    assert (offline.code, without_hint(offline.err)) == (0, "")
    assert offline.document["base"] == made.document["base"]


def test_a_revision_is_found_or_refused(hub: Hub, single: Path, tmp_path: Path, online: Client) -> None:
    other = tmp_path / "other"
    shutil.copytree(single, other)
    torch.manual_seed(1)
    config = transformers.BertConfig.from_pretrained(single)
    model = transformers.BertForMaskedLM(config)
    model.save_pretrained(other)
    main = hub.publish(BERT_NOW, single, alias=BERT)
    commit = hub.publish(BERT_NOW, other, revision="refs/pr/1")
    assert main != commit

    found = online("svd", BERT, "--rank", 4, "--revision", "refs/pr/1", "--json")

    assert (found.code, without_hint(found.err)) == (0, "")
    base = found.document["base"]
    table = model.get_input_embeddings().weight.detach().numpy()
    assert (base["revision"], base["sha256"]) == (commit, hashlib.sha256(table.tobytes()).hexdigest())

    refused = online("svd", BERT, "--rank", 4, "--revision", "v9")

    assert complaint(refused) == f"{BERT} has no revision v9"


def test_a_gated_model_asks_for_a_token(hub: Hub, single: Path, online: Client) -> None:
    commit = hub.publish("meta/closed", single, gated=True)

    refused = online("inspect", "meta/closed")

    assert "meta/closed is gated" in complaint(refused)
    assert "HF_TOKEN" in refused.err
    assert hub.downloads("meta/closed") == set()

    allowed = online("inspect", "meta/closed", "--json", HF_TOKEN=hub.token)

    assert (allowed.code, without_hint(allowed.err)) == (0, "")
    assert allowed.document["table"]["revision"] == commit


def test_pickled_weights_are_not_even_downloaded_unasked(
    hub: Hub, single: Path, tmp_path: Path, online: Client
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(single, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    hub.publish("someone/old", folder)

    refused = online("svd", "someone/old", "--rank", 4)

    assert complaint(refused) == "someone/old has no safetensors weights: allow .bin files with --allow-pickle"
    assert hub.downloads("someone/old") == {"config.json"}


def test_an_unknown_model_is_one_line(hub: Hub, online: Client) -> None:
    ended = online("compress", "no/such-model", "--rank", 4)

    assert complaint(ended).startswith("there is no model no/such-model: neither a folder here nor one on the hub")
    assert {exchange.status for exchange in hub.log} == {401}


@pytest.mark.slow
def test_an_unreachable_hub_is_one_line(tmp_path: Path, orientc_process: Callable[..., Ended]) -> None:
    with Hub() as hub:
        environment = hub.environment(tmp_path / "huggingface")

    ended = orientc_process("svd", BERT, "--rank", 4, **environment)

    assert complaint(ended).startswith(f"{BERT} is not on this machine and can't be had from {hub.endpoint} (")
    assert "check the network" in ended.err


TUNING = ("--epochs", 1, "--batch-size", 8, "--max-length", 64, "--save-steps", 100, "--json")


@pytest.mark.slow
def test_model_and_task_come_from_the_hub_and_are_there_offline(
    hub: Hub, single: Path, tmp_path: Path, online: Client
) -> None:
    commit = hub.publish(BERT_NOW, single, alias=BERT)
    splits = {
        name: [
            {"sentence": row["sentence"], "label": row["label"], "idx": number}
            for number, row in enumerate(glue_rows("SST-2", file))
        ]
        for name, file in (("train", "train"), ("validation", "dev"))
    }
    splits["test"] = [row | {"label": -1} for row in splits["validation"][:3]]
    published = write_dataset(tmp_path / "glue", {"sst2": splits, "rte": splits})
    hub.publish(GLUE, published, kind="datasets")

    # bert-base-uncased is what a task takes where no model is named
    tuned = online("glue", "--task", "sst2", *TUNING, "--predict")

    assert (tuned.code, tuned.err.count("\n")) == (0, 0), tuned.err
    document = tuned.document
    (run,) = document["runs"]
    record = run["record"]
    assert (record["model"]["id"], record["model"]["revision"]) == (BERT, commit)
    assert (record["data"]["name"], record["data"]["task"]) == (GLUE, "sst2")
    assert Path(run["path"]).parent == Path("runs", BERT)
    (submission,) = document["submissions"]
    assert len((tmp_path / submission / "SST-2.tsv").read_text().splitlines()) == 4
    assert hub.downloads(BERT_NOW) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not any(file.startswith("rte/") for file in hub.downloads(GLUE, "datasets"))

    asked = len(hub.log)
    again = online("glue", "--task", "sst2", *TUNING, "--overwrite", offline=True)

    assert (again.code, without_hint(again.err)) == (0, "")
    assert again.document["runs"][0]["record"]["metrics"] == record["metrics"]
    assert len(hub.log) == asked


def test_questions_come_from_the_hub(hub: Hub, single: Path, tmp_path: Path, online: Client) -> None:
    hub.publish(BERT_NOW, single, alias=BERT)
    rows = {split: squad_questions(split) for split in ("train", "validation")}
    hub.publish(SQUAD, write_dataset(tmp_path / "squad", {"plain_text": rows}), kind="datasets")

    tuned = online("squad", "--model", BERT, *TUNING)

    assert (tuned.code, without_hint(tuned.err)) == (0, "")
    document = tuned.document
    (run,) = document["runs"]
    assert run["record"]["data"]["name"] == SQUAD
    (predictions,) = document["predictions"]

    scored = online("squad", "--score", predictions, "--json", offline=True)

    assert (scored.code, without_hint(scored.err)) == (0, "")
    counts = {"questions": 5, "missing": 0, "extra": 0}
    found = run["record"]["metrics"] | counts | {"errors": run["record"]["errors"]}
    assert scored.document.items() >= found.items()
