"""The ONNX form in its clients, given the folder's path and nothing else.

transformers.js comes from npm, or lies in the folder that `ORIENTC_NODE_MODULES` names.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import transformers_js
from support.coded import filled
from support.commands import run_here
from tokenizers import decoders
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.modeling.layout import PER_GROUP, Layout
from orientc.models import compact
from orientc.models.substitute import head_policies, substitute

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("one_thread")]

BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GENERATORS = {
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, {"num_key_value_heads": 2}),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, {"num_key_value_heads": 2}),
    "gemma3_text": (
        transformers.Gemma3ForCausalLM,
        transformers.Gemma3TextConfig,
        {
            "num_key_value_heads": 1,
            "head_dim": 8,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, {}),
}
PROMPT = "The quick fox"
TEXTS = ["The quick fox", "A tiny philosopher meanders"]


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformers_js.modules(tmp_path_factory.mktemp("npm"))


@pytest.fixture(scope="module")
def whole_bpe(bytes_bpe: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that puts texts together again."""
    tokenizer = copy.deepcopy(bytes_bpe)
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def exported(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, scratch: Path, *options: str) -> Path:
    """The ONNX form of a model, its table put in codes of 4 bits first."""
    table = model.get_input_embeddings()
    rows, width = table.num_embeddings, table.embedding_dim
    layout = Layout(rows, width, width, False, codec=PER_GROUP, group_size=16, bits=((4, 4),), row_group_sizes=(rows,))
    head = head_policies(model)[-1]
    substitute(model, filled(layout), head)
    compact.save(model, scratch / "compact", head)
    tokenizer.save_pretrained(scratch / "compact")
    ended = run_here("export", scratch / "compact", "--to", scratch / "exported", "--form", "onnx", *options)
    assert ended.code == 0, ended.err
    return scratch / "exported"


def generator(kind: str, vocab: int) -> PreTrainedModel:
    model_class, config_class, own = GENERATORS[kind]
    torch.manual_seed(3)
    config = config_class(
        vocab_size=vocab, bos_token_id=0, eos_token_id=0, pad_token_id=0, tie_word_embeddings=True, **BODY | own
    )
    model: Any = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def encoder(
    wordpiece: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedModel, Path]:
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(wordpiece), **BODY)).eval()
    return model, exported(model, wordpiece, tmp_path_factory.mktemp("encoder"))


def vectors(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**given).last_hidden_state
    mask = given["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))


def test_sentences_have_torchs_vectors_in_node(
    encoder: tuple[PreTrainedModel, Path], wordpiece: PreTrainedTokenizerFast, modules: Path
) -> None:
    model, folder = encoder
    found = transformers_js.in_node(modules, "feature-extraction", folder, TEXTS, pooling="mean", normalize=True)
    torch.testing.assert_close(torch.tensor(found), vectors(model, wordpiece, TEXTS), atol=1e-5, rtol=0)


def test_sentences_have_torchs_vectors_in_a_browser(
    encoder: tuple[PreTrainedModel, Path], wordpiece: PreTrainedTokenizerFast, modules: Path, tmp_path: Path
) -> None:
    model, folder = encoder
    found = transformers_js.in_browser(
        modules, tmp_path, "feature-extraction", folder, TEXTS, pooling="mean", normalize=True
    )
    torch.testing.assert_close(torch.tensor(found), vectors(model, wordpiece, TEXTS), atol=1e-5, rtol=0)


def test_sentence_transformers_runs_the_graph(
    encoder: tuple[PreTrainedModel, Path], wordpiece: PreTrainedTokenizerFast
) -> None:
    pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx is not installed: it wants an older transformers")
    from sentence_transformers import SentenceTransformer

    model, folder = encoder
    found = SentenceTransformer(str(folder), backend="onnx").encode(TEXTS, normalize_embeddings=True)
    torch.testing.assert_close(torch.from_numpy(found), vectors(model, wordpiece, TEXTS), atol=1e-5, rtol=0)


def test_a_masked_word_is_guessed_as_in_torch(
    wordpiece: PreTrainedTokenizerFast, modules: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(wordpiece), **BODY)).eval()
    folder = exported(model, wordpiece, tmp_path)
    text = "the [MASK] fox"
    found = transformers_js.in_node(modules, "fill-mask", folder, text)
    given = wordpiece(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**given).logits[0, given["input_ids"][0].tolist().index(wordpiece.mask_token_id)]
    best = logits.softmax(-1).topk(5)
    assert [entry["token"] for entry in found] == best.indices.tolist()
    assert [entry["score"] for entry in found] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize(("kind", "options"), [*((kind, ()) for kind in GENERATORS), ("llama", ("--body", "int8"))])
def test_text_is_torchs_in_node_and_in_a_browser(
    kind: str, options: tuple[str, ...], whole_bpe: PreTrainedTokenizerFast, modules: Path, tmp_path: Path
) -> None:
    """With a body in 8 bits too, which differ by less than the best token from the next."""
    model = generator(kind, len(whole_bpe))
    folder = exported(model, whole_bpe, tmp_path, *options)
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    given = whole_bpe(PROMPT, return_tensors="pt")
    ids = model.generate(
        input_ids=given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=16, do_sample=False
    )
    expected = whole_bpe.decode(ids[0], skip_special_tokens=True)
    assert len(ids[0]) > len(given["input_ids"][0]) + 8
    asked: dict[str, Any] = {"max_new_tokens": 16, "do_sample": False}
    assert transformers_js.in_node(modules, "text-generation", folder, PROMPT, **asked) == [
        {"generated_text": expected}
    ]
    if kind == "llama":
        assert transformers_js.in_browser(
            modules, tmp_path / "browser", "text-generation", folder, PROMPT, **asked
        ) == [{"generated_text": expected}]
