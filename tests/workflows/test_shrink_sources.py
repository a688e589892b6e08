"""`shrink` of a model from the hub and of a GGUF file, and what it uploads; on a loopback hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support import quantized
from support.commands import Client, files_in, run_here
from support.hub import Hub
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


@pytest.mark.slow
def test_a_model_of_the_hub_is_shrunk_and_pushed_with_its_verdict(
    hub: Hub, online: Client, bert_folder: Path, text: Path, tmp_path: Path
) -> None:
    hub.publish("someone/tiny", bert_folder, revision="v1")
    asked = ["shrink", "someone/tiny", "--revision", "v1", "--target-bits", 4, "--text", text, "--to", "small"]
    pushing = [*asked, "--push", "someone/small"]
    ended = online(*pushing, HF_TOKEN=hub.token)
    assert ended.code == 0, ended
    assert ["on", "the", "hub", f"{hub.endpoint}/someone/small"] in [line.split() for line in ended.out.splitlines()]
    assert 'from_pretrained("small"' in ended.out
    repository = hub.repository("someone/small")
    assert repository
    pushed = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert pushed == {name: (tmp_path / "small" / name).read_bytes() for name in files_in(tmp_path / "small")}
    card = ModelCard.load(tmp_path / "small" / "README.md")
    assert card.data.base_model == "someone/tiny"
    assert "perplexity on village.txt/verdict" in card.content

    again = online(*pushing, HF_TOKEN=hub.token)
    assert "done already" in again.err
    assert again.out == ended.out
    assert len(repository.commits) == 2  # the empty one, and one for all files


@pytest.mark.slow
def test_a_gguf_file_is_shrunk_into_a_folder_that_loads(
    tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast, text: Path
) -> None:
    pytest.importorskip("gguf")
    path = quantized.gguf_file(quantized.llama(tmp_path / "plain", bytes_bpe), tmp_path / "model.gguf")
    ended = run_here(
        "shrink", path, "--target-bits", 4, "--text", text, "--to", tmp_path / "small", "--out", tmp_path / "runs"
    )
    assert ended.code == 0, ended
    assert ended.out.startswith("model.gguf ")
    assert "sentences agree" in ended.out
    assert "its body is dequantized to run" in ended.err
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "small", trust_remote_code=True)
    assert model.config.vocab_size == len(bytes_bpe)
