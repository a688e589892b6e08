"""The ONNX form: one small file that ONNX Runtime runs as torch runs the model, or one line that says why not.

Making a graph takes seconds: a few architectures stand for all, two of them among the fast tests, unless
`--all-graphs` is given.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
import transformers
from support.architectures import ARCHITECTURES, VOCAB, build
from support.coded import filled, made, wide
from support.commands import Ended, files_in, one_line, run_here
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.errors import ExportError, SubstitutionError
from orientc.exporters import onnx as form
from orientc.exporters.onnx_weights import narrowed
from orientc.methods import svd
from orientc.modeling import factors as factors_module
from orientc.modeling.factors import Factors
from orientc.modeling.layout import PER_GROUP, TRELLIS, Layout
from orientc.models import compact
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.storage import artifact as artifacts

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 5
GRAPH = 60_000  # bytes: more than the nodes of any of these models take in a file
SHAPES = ((1, 1), (1, 9), (3, 14), (2, 40))
HEADS = {
    "AutoModel": ["last_hidden_state"],
    "AutoModelForMaskedLM": ["logits"],
    "AutoModelForCausalLM": ["logits"],
    "AutoModelForSequenceClassification": ["logits"],
    "AutoModelForTokenClassification": ["logits"],
    "AutoModelForQuestionAnswering": ["start_logits", "end_logits"],
}
TYPED = ("bert", "roberta", "xlm-roberta", "electra", "albert", "mobilebert", "gpt2")  # they know token types
BEYOND = ("xlnet",)  # what torch can't make a graph of
SOME = (
    ("bert", "AutoModelForMaskedLM", "tied"),
    ("albert", "AutoModelForQuestionAnswering", "input-only"),
    ("roberta", "AutoModelForSequenceClassification", "input-only"),
    ("gpt2", "AutoModelForCausalLM", "tied"),
    ("gemma3", "AutoModelForCausalLM", "input-only"),
)
QUICK = {("bert", "AutoModelForMaskedLM", "tied"), ("gpt2", "AutoModelForCausalLM", "tied")}


def model_of(name: str, auto_name: str) -> PreTrainedModel:
    """A random model of an architecture, with the class an auto class stands for."""
    own = build(name)
    kind: Any = getattr(transformers, auto_name)._model_mapping[type(own.config)]
    config = copy.deepcopy(own.config)
    config.pad_token_id = config.pad_token_id or 0
    config.num_hidden_layers = 2 if name == "albert" else 1  # ALBERT's share their weights
    if hasattr(config, "layer_types"):
        config.layer_types = config.layer_types[:1]
    torch.manual_seed(1)
    model: PreTrainedModel = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def compressed(model: PreTrainedModel, head: str | None = None, activation: str | None = None) -> PreTrainedModel:
    fitted = svd.truncated_svd(model.get_input_embeddings().weight.detach(), RANK, center=True)
    factors = Factors.plain(fitted.latents, fitted.weight, fitted.bias, activation)
    return substitute(model, factors, head or head_policies(model)[-1])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Architecture, auto class and head policy: each that there is, or those of `SOME`, the quick ones first."""
    if "written" in metafunc.fixturenames:
        cases = sorted(
            every_case() if metafunc.config.getoption("--all-graphs") else SOME, key=lambda case: case not in QUICK
        )
        marked = [
            pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id="-".join(case)) for case in cases
        ]
        metafunc.parametrize("written", marked, indirect=True, scope="module")


def every_case() -> list[tuple[str, str, str]]:
    """Architectures, auto classes and head policies that torch can make a graph of."""
    found = []
    for name, (_, config_name, _) in ARCHITECTURES.items():
        if name in BEYOND:
            continue
        for auto_name in HEADS:
            config = getattr(transformers, config_name)
            if config in getattr(transformers, auto_name)._model_mapping and not config().is_encoder_decoder:
                found += [(name, auto_name, head) for head in _policies(name, auto_name)]
    return found


def _policies(name: str, auto_name: str) -> tuple[str, ...]:
    """The head policies under which a table can be put in."""
    try:
        compressed(model_of(name, auto_name))
    except SubstitutionError:
        return ()
    return head_policies(model_of(name, auto_name))


@dataclass(frozen=True)
class Written:
    """A model and the folder it was written into."""

    name: str
    auto_name: str
    head: str
    model: PreTrainedModel
    folder: Path

    @property
    def graph(self) -> onnx.GraphProto:
        return onnx.load(self.folder / "onnx/model.onnx").graph


@pytest.fixture(scope="module")
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, typed: PreTrainedTokenizerFast
) -> Written:
    name, auto_name, head = request.param
    model = compressed(model_of(name, auto_name), head, "elu" if name == "gpt2" else None)
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factors_module, "CHUNK", 40)  # the table in several blocks, as those of real models
        form.save(model, typed, folder)
    return Written(name, auto_name, head, model, folder)


@pytest.fixture(scope="module")
def typed(wordpiece: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer as BERT's: it tells first and second sentences apart."""
    tokenizer = copy.deepcopy(wordpiece)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


@pytest.fixture
def bert() -> PreTrainedModel:
    """The smallest model there is to write."""
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    torch.nn.init.constant_(model.encoder.layer[-1].output.LayerNorm.weight, 1e4)  # float32 alone is 1e-3 off there
    return compressed(model)


def batch(names: list[str], size: int, length: int) -> dict[str, Tensor]:
    """Random inputs; where there is room the first row is padded at its end and the last at its start."""
    ids, mask = torch.randint(3, VOCAB, (size, length)), torch.ones(size, length, dtype=torch.long)
    if length > 3:
        mask[0, -3:] = 0
        mask[-1, :2] = 0
    values = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.randint(2, (size, length))}
    return {name: value for name, value in values.items() if name in names}


def session_of(folder: Path, name: str = "model") -> Any:
    return onnxruntime.InferenceSession(folder / f"onnx/{name}.onnx", providers=["CPUExecutionProvider"])


def fed(session: Any, given: dict[str, Tensor]) -> dict[str, Any]:
    """What a session is given: of a language model positions as torch counts them by itself, and an empty cache."""
    size, length = given["input_ids"].shape
    values = {name: value.numpy() for name, value in given.items()}
    for entry in session.get_inputs():
        if entry.name == "position_ids":
            values[entry.name] = torch.arange(length).expand(size, length).numpy()
        elif entry.name.startswith("past_key_values."):
            values[entry.name] = torch.zeros(size, entry.shape[1], 0, entry.shape[3]).numpy()
    return values


def numbers(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


# -- what is in the file


def test_onnx_runtime_computes_what_torch_does_for_any_batch_and_length(written: Written) -> None:
    session = session_of(written.folder)
    torch.manual_seed(3)
    for shape in SHAPES:
        given = batch([entry.name for entry in session.get_inputs()], *shape)
        with torch.no_grad():
            expected = written.model(**given)
        found = session.run(HEADS[written.auto_name], fed(session, given))
        for name, actual in zip(HEADS[written.auto_name], map(torch.from_numpy, found), strict=True):
            wanted, kept = expected[name], given["attention_mask"] == 1
            assert actual.shape == wanted.shape
            if actual.shape[:2] == kept.shape:
                actual, wanted = actual[kept], wanted[kept]
            torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=0)


def test_inputs_and_outputs_have_the_names_and_axes_that_runtimes_look_for(written: Written) -> None:
    graph = written.graph
    axes = {
        entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.output)
    }
    generates = written.auto_name == "AutoModelForCausalLM"
    typed = written.name.startswith(TYPED) and not generates
    expected = ["input_ids", "attention_mask", "token_type_ids"][: 3 if typed else 2]
    past = [f"past_key_values.0.{kind}" for kind in ("key", "value")] if generates else []
    present = [name.replace("past_key_values", "present") for name in past]
    assert [entry.name for entry in graph.input] == expected + ["position_ids"] * generates + past
    assert [entry.name for entry in graph.output] == HEADS[written.auto_name] + present
    for names, length in ((past, "past_sequence_length"), (present, "total_sequence_length")):
        assert all((axes[name][0], axes[name][2]) == ("batch_size", length) for name in names)
    if generates:
        assert axes.pop("attention_mask") == ["batch_size", "total_sequence_length"]
        expected = ["input_ids", "position_ids"]
    assert all(axes[name] == ["batch_size", "sequence_length"] for name in expected)
    per_token = written.auto_name != "AutoModelForSequenceClassification"
    for name in HEADS[written.auto_name]:
        assert axes[name][: 1 + per_token] == ["batch_size", "sequence_length"][: 1 + per_token]


def test_every_number_is_stored_once(written: Written) -> None:
    assert files_in(written.folder)[:1] == ["config.json"]
    assert [name for name in files_in(written.folder) if "onnx" in name] == [
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",  # the same, on the disk too
    ]
    assert (written.folder / "onnx/model.onnx").samefile(written.folder / "onnx/model_quantized.onnx")
    stored = sum(len(tensor.raw_data) for tensor in written.graph.initializer)
    parameters = sum(parameter.nbytes for parameter in written.model.parameters())
    assert stored < parameters + 5_000  # positions and the like
    assert (written.folder / "onnx/model.onnx").stat().st_size < stored + GRAPH


def test_no_table_is_left_where_the_factors_serve(written: Written) -> None:
    held = compact.compressed_tables(written.model)["input"]
    table = held.num_embeddings * held.embedding_dim
    own_head = written.head == "input-only" or written.name.endswith("untied")
    sizes = [numbers(tensor) for tensor in written.graph.initializer if VOCAB in tensor.dims]
    assert sizes.count(table) == (1 if own_head and "LM" in written.auto_name else 0)
    assert sizes.count(held.latents.numel()) == 1


def test_nothing_in_the_file_tells_of_this_machine(written: Written) -> None:
    content = (written.folder / "onnx/model.onnx").read_bytes()
    for folder in {Path(module.__file__).parent for module in (artifacts, torch, transformers, onnx)} | {Path.home()}:
        assert str(folder).encode() not in content
    assert b".py" not in content
    assert not written.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in written.graph.node)


def test_the_configuration_is_the_architectures_own(written: Written) -> None:
    config = transformers.AutoConfig.from_pretrained(written.folder)
    assert type(config) is type(written.model.config)
    assert config.architectures == [type(written.model).__name__]
    assert config.id2label == written.model.config.id2label
    assert {"orientc", "auto_map"}.isdisjoint(json.loads((written.folder / "config.json").read_text()))
    assert (written.folder / "generation_config.json").exists() == written.model.can_generate()


# -- the other ways a model comes


@dataclass(frozen=True)
class Commanded:
    """A model with a compressed table, how the command ended that was given its folder, and what that wrote."""

    model: PreTrainedModel
    ended: Ended
    folder: Path


@pytest.fixture(scope="module")
def commanded(
    gpt2_folder: Path, bytes_bpe: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Commanded:
    folder = tmp_path_factory.mktemp("commanded")
    model = compressed(ModelSource.resolve(str(gpt2_folder)).load(None, dtype=torch.float32))
    compact.save(model, folder / "compact", "tied")
    bytes_bpe.save_pretrained(folder / "compact")
    ended = run_here("export", folder / "compact", "--to", folder / "onnx", "--form", "onnx")
    return Commanded(model, ended, folder / "onnx")


def test_the_command_writes_a_folder_that_runs_from_text(commanded: Commanded) -> None:
    assert (commanded.ended.code, commanded.ended.err) == (0, "")
    tokenizer = transformers.AutoTokenizer.from_pretrained(commanded.folder)
    tokenizer.pad_token = tokenizer.eos_token
    given = tokenizer(["The quick fox", "A tiny philosopher meanders"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = commanded.model(**given).logits
    session = session_of(commanded.folder)
    found = session.run(["logits"], fed(session, given))[0]
    kept = given["attention_mask"] == 1
    torch.testing.assert_close(torch.from_numpy(found)[kept], expected[kept], atol=1e-5, rtol=0)
    assert transformers.GenerationConfig.from_pretrained(commanded.folder).eos_token_id == 0


def test_onnx_runtime_generates_what_torch_does(commanded: Commanded) -> None:
    """Prompts of different lengths, padded at their start: one run for them, and one for each token after them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(commanded.folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    given = tokenizer(["The quick fox", "A tiny philosopher meanders"], padding=True, return_tensors="pt")
    assert given["attention_mask"].min() == 0
    expected = commanded.model.generate(**given, max_new_tokens=12, do_sample=False, eos_token_id=[VOCAB + 10_000])

    session = session_of(commanded.folder)
    feeds = fed(session, given)
    ids, mask = given["input_ids"], given["attention_mask"]
    for _ in range(12):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -feeds["input_ids"].shape[1] :]
        outputs = session.run(None, feeds | {"attention_mask": mask.numpy(), "position_ids": positions.numpy()})
        named = dict(zip([entry.name for entry in session.get_outputs()], outputs, strict=True))
        token = torch.from_numpy(named["logits"])[:, -1:].argmax(-1)
        ids, mask = torch.cat([ids, token], 1), torch.cat([mask, torch.ones_like(token)], 1)
        past = {name.replace("present", "past_key_values"): value for name, value in named.items() if "." in name}
        feeds = past | {"input_ids": token.numpy()}
    assert ids.tolist() == expected.tolist()


def test_the_same_model_makes_the_same_bytes_in_whatever_form_it_came(
    commanded: Commanded, bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    form.save(commanded.model, bytes_bpe, tmp_path)
    for name in files_in(tmp_path):
        assert (tmp_path / name).read_bytes() == (commanded.folder / name).read_bytes()


def test_weights_above_the_formats_limit_lie_in_a_second_file(
    bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "LIMIT", 10_000)
    form.save(bert, wordpiece, tmp_path)

    assert files_in(tmp_path) == [
        "config.json",
        *(f"onnx/{name}" for kind in ("model", "model_quantized") for name in (f"{kind}.onnx", f"{kind}.onnx_data")),
    ]
    assert json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]["use_external_data_format"]
    used = sum(parameter.nbytes for name, parameter in bert.named_parameters() if not name.startswith("pooler"))
    assert (tmp_path / "onnx/model.onnx_data").stat().st_size > 0.9 * used
    assert (tmp_path / "onnx/model.onnx").stat().st_size < GRAPH
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("model_quantized.onnx", "model_quantized.onnx_data"):
        (tmp_path / "onnx" / name).rename(moved / name)
    session = onnxruntime.InferenceSession(moved / "model_quantized.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask"]  # as the tokenizer has it


# -- tables in codes


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["one row group", "row groups", "trellis"])
def test_a_graph_of_a_table_in_codes_holds_the_codes(
    coding: str, bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """What it computes is checked as it is written."""
    factors = made(coding, "bias", vocab=VOCAB, dim=16, kept=4)
    model = substitute(transformers.BertForMaskedLM(bert.config).eval(), factors, "tied")
    form.save(model, wordpiece, tmp_path)
    graph = onnx.load(tmp_path / "onnx/model_quantized.onnx").graph  # the other one arranges tiny tables in wide blocks
    held = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}.values()
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for kinds, dtype in (((onnx.TensorProto.UINT8,), torch.uint8), (floats, torch.float32)):
        sizes = [numbers(tensor) for tensor in graph.initializer if tensor.data_type in kinds]
        expected = sum(parameter.numel() for parameter in held if parameter.dtype == dtype)
        assert sum(sizes) < expected + VOCAB * 16 / 4, dtype  # constants of the graph's own, and no table


@pytest.mark.slow
def test_codes_of_any_width_come_out_as_they_are(
    bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Eight codes of 7 bits are more than a float64 holds, and runtimes add whole numbers up as such."""
    layout = Layout(
        VOCAB,
        16,
        16,
        False,
        codec=PER_GROUP,
        group_size=8,
        bits=((8, 7), (6, 5), (4, 3), (2, 1)),
        row_group_sizes=(40, 17, 20, 20),
    )
    model = substitute(transformers.BertModel(bert.config).eval(), filled(layout).map(wide), "input-only")
    form.save(model, wordpiece, tmp_path)
    assert (tmp_path / "onnx/model.onnx").exists()


# -- bodies


def bits_of(graph: onnx.GraphProto) -> list[int]:
    """Bits of the matrices that are multiplied as codes, in the order of the products."""
    nodes = [node for node in graph.node if node.op_type == "MatMulNBits"]
    return [attribute.i for node in nodes for attribute in node.attribute if attribute.name == "bits"]


@pytest.mark.slow
@pytest.mark.parametrize("body", ["int8", "int4"])
def test_a_body_in_few_bits_leaves_table_and_head_as_they_are(
    body: str, bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rows, width = len(bytes_bpe), 32
    config = transformers.GPT2Config(vocab_size=rows, n_embd=width, n_layer=1, n_head=2, n_positions=64)
    model = transformers.GPT2LMHeadModel(config).eval()
    layout = Layout(rows, width, width, False, codec=PER_GROUP, group_size=16, bits=((4, 4),), row_group_sizes=(rows,))
    model = substitute(model, filled(layout).map(wide), "tied")
    form.save(model, bytes_bpe, tmp_path, body=body)

    own = {"int8": "model_quantized.onnx", "int4": "model_q4.onnx"}[body]
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"model.onnx", "model_quantized.onnx", own}
    multiplied, browsers = (onnx.load(tmp_path / f"onnx/{name}.onnx").graph for name in ("model", "model_quantized"))
    assert sorted(bits_of(multiplied)) == [4] + 4 * [{"int8": 8, "int4": 4}[body]]  # the head's codes, and four layers
    assert bits_of(browsers) == ([] if body == "int8" else 4 * [4])  # a browser's runtime makes floats of the others
    codes = [tensor for tensor in browsers.initializer if tensor.name.endswith("latents_0_codes")]
    assert [list(tensor.dims) for tensor in codes] == [[rows, width // 2]]
    floats = [tensor for tensor in browsers.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max(map(numbers, floats)) <= 64 * width  # positions; no matrix

    ids = torch.arange(20).unsqueeze(0) + 30
    with torch.no_grad():
        expected = model(ids).logits
    for name in ("model", "model_quantized"):
        session = session_of(tmp_path, name)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        found = torch.from_numpy(session.run(["logits"], fed(session, given))[0])
        assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).min() > 0.99


@pytest.mark.slow
def test_float16_halves_the_file_and_computes_the_same(
    bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for parameter in bert.parameters():
        parameter.data = parameter.data.half().float()
    for dtype in form.DTYPES:
        (tmp_path / dtype).mkdir()
        form.save(bert, wordpiece, tmp_path / dtype, dtype=dtype)
    whole, half = (tmp_path / dtype / "onnx/model.onnx" for dtype in form.DTYPES)
    stored = sum(parameter.nbytes for name, parameter in bert.named_parameters() if not name.startswith("pooler"))
    assert whole.stat().st_size - half.stat().st_size > 0.35 * stored
    assert half.samefile(half.with_name("model_fp16.onnx"))
    given = batch(["input_ids", "attention_mask"], 2, 9)
    found = [session_of(tmp_path / dtype).run(None, fed(session_of(tmp_path / dtype), given)) for dtype in form.DTYPES]
    assert (found[0][0] == found[1][0]).all()


def tiny_llama() -> PreTrainedModel:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=96,
            tie_word_embeddings=True,
            max_position_embeddings=64,
        )
    )


def tiny_bert() -> PreTrainedModel:
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=VOCAB, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=96
        ),
        add_pooling_layer=False,
    )


@pytest.mark.parametrize(
    ("build_tiny", "layers", "body"),
    [
        pytest.param(tiny_bert, 6, "int8", id="bert-int8"),
        pytest.param(tiny_bert, 6, "int4", id="bert-int4", marks=pytest.mark.slow),
        pytest.param(tiny_llama, 7, "int8", id="llama-int8", marks=pytest.mark.slow),
        pytest.param(tiny_llama, 7, "int4", id="llama-int4", marks=pytest.mark.slow),
    ],
)
def test_a_body_in_few_bits_is_that_beside_floats_in_16(
    build_tiny: Callable[[], PreTrainedModel],
    layers: int,
    body: str,
    wordpiece: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = compressed(build_tiny().eval()).half().float()
    sizes = {}
    for kind, dtype in ((body, "float16"), ("none", "float16")):
        folder = tmp_path / f"{kind}-{dtype}"
        folder.mkdir()
        form.save(model, wordpiece, folder, body=kind, dtype=dtype)
        sizes[kind, dtype] = form.nbytes(folder)
    folder = tmp_path / f"{body}-float16"
    graph = onnx.load(folder / "onnx/model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulInteger" if (build_tiny, body) == (tiny_bert, "int8") else "MatMulNBits") == layers
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    stored = 2 * sum(numbers.numel() for numbers in model.parameters())
    assert sizes["none", "float16"] - sizes[body, "float16"] > 0.1 * stored, (sizes, stored)

    given = batch(["input_ids", "attention_mask"], 1, 9)
    with torch.no_grad():
        expected = model(**given)[0]
    session = session_of(folder)
    found = torch.from_numpy(session.run(None, fed(session, given))[0])
    kept = given["attention_mask"] == 1
    assert torch.nn.functional.cosine_similarity(found, expected, dim=-1)[kept].min() > 0.98


@pytest.mark.parametrize(
    ("tied", "head", "body"),
    [
        pytest.param(False, "input-only", "int8"),
        pytest.param(False, "input-only", "int4", marks=pytest.mark.slow),
        pytest.param(True, "input-only", "int8", marks=pytest.mark.slow),
        pytest.param(True, "input-only", "int4", marks=pytest.mark.slow),
    ],
)
def test_a_dense_head_stays_in_floats_beside_a_body_in_few_bits(
    tied: bool, head: str, body: str, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = tiny_llama().config
    config.tie_word_embeddings = tied
    model = compressed(transformers.LlamaForCausalLM(config).eval(), head)
    form.save(model, wordpiece, tmp_path, body=body)
    matrix = model.lm_head.weight.detach()
    for name in ("model", "model_quantized"):
        graph = onnx.load(tmp_path / f"onnx/{name}.onnx").graph
        stored = [
            onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if numbers(tensor) == matrix.numel()
        ]
        assert [(tensor == matrix.T.numpy()).all() for tensor in stored] == [True]
        wide = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
        expected = (7 * [4], 0) if body == "int4" else (7 * [8], 0) if name == "model" else ([], 7)
        assert (bits_of(graph), len(wide)) == expected


def test_a_body_of_which_nothing_is_quantized_is_refused(
    bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parameter in bert.parameters():
        parameter.data = parameter.data.half().float()
    # matrices that the graph widens are none that a quantizer sees
    monkeypatch.setattr(form, "as_products", lambda model, outside: narrowed(model))
    refused = r"^BertModel has no linear layers that ONNX Runtime can quantize to int8: export it without `body`$"
    with pytest.raises(ExportError, match=refused):
        form.save(bert, wordpiece, tmp_path, body="int8", dtype="float16")


# -- heads


CODED: dict[str, dict[str, Any]] = {
    "as they are stored": {"rank": 32, "group_size": 16, "bits": ((4, 4),)},
    "of many widths": {"rank": 40, "group_size": 16, "bits": ((8, 3, 5), (2, 0, 4)), "kept": 7},
    "in streams": {
        "codec": TRELLIS, "window": 10, "rank": 70, "group_size": 1, "bits": ((3, 4) * 35, (0, 1) * 35), "kept": 7,
        "decoder": True, "rounded": True, "bias": True,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("codes", CODED)
def test_a_head_multiplies_codes_of_every_kind(codes: str, bytes_bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """What it computes is checked as it is written; a browser's runtime unpacks them as it starts."""
    own = {"codec": PER_GROUP, "decoder": False, "bias": False, "kept": 0} | CODED[codes]
    rows = len(bytes_bpe)
    others = rows - own["kept"]
    sizes = (others,) if len(own["bits"]) == 1 else (100, others - 100)
    layout = Layout(vocab=rows, dim=own["rank"] if not own["decoder"] else 96, row_group_sizes=sizes, **own)
    config = transformers.GPT2Config(vocab_size=rows, n_embd=layout.dim, n_layer=1, n_head=2, n_positions=64)
    model = substitute(transformers.GPT2LMHeadModel(config).eval(), filled(layout).map(wide), "tied")
    form.save(model, bytes_bpe, tmp_path)
    counts = {
        name: [node.op_type for node in onnx.load(tmp_path / f"onnx/{name}.onnx").graph.node].count("MatMulNBits")
        for name in ("model", "model_quantized")
    }
    assert counts["model"] == {"as they are stored": 1, "of many widths": 3, "in streams": 4}[codes]
    assert counts["model_quantized"] == 0


# -- what is refused


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_is_refused_before_any_work(
    name: str, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="has an encoder and a decoder") as raised:
        form.save(compressed(build(name)), wordpiece, tmp_path)
    assert "\n" not in str(raised.value)
    assert files_in(tmp_path) == []
    with torch.device("meta"), pytest.raises(ExportError):
        form.check(build(name))


def test_a_model_that_torch_cant_export_is_one_line_and_no_chatter(
    wordpiece: PreTrainedTokenizerFast, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rotary positions that are scaled to the longest row: the code branches on numbers."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    )
    model = compressed(transformers.LlamaForCausalLM(config).eval())
    capfd.readouterr()
    with pytest.raises(ExportError, match=r"LlamaForCausalLM can't be made a graph: .*data-dependent") as raised:
        form.save(model, wordpiece, tmp_path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


class Counting(transformers.BertModel):
    """What it computes depends on how often it was asked: nothing a graph can hold."""

    asked = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        found = super().forward(input_ids, attention_mask, **options)
        self.asked += 1
        found.last_hidden_state = found.last_hidden_state + 0.01 * self.asked
        return found


def test_a_graph_that_computes_something_else_is_refused(
    bert: PreTrainedModel, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = compressed(Counting(bert.config).eval())
    with pytest.raises(ExportError, match=r"Counting does not compute .* it is \d\.\de-0\d off, 0.0001 is allowed"):
        form.save(model, wordpiece, tmp_path)
    assert "config.json" not in files_in(tmp_path)


def test_without_the_extra_the_command_says_what_to_install(
    gpt2_folder: Path, orientc: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    ended = orientc("export", gpt2_folder, "--to", tmp_path / "out", "--form", "onnx")
    assert one_line(ended, 1).endswith("pip install 'orientc[onnx]'")
