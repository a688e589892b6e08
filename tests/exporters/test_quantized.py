"""Models whose bodies are quantized: which form takes them, and what is said of those that are dequantized."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from support import quantized
from support.architectures import build
from support.compact_models import factors_of, own_modules_cache
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import ExportError
from orientc.evaluation.perplexity import perplexity
from orientc.exporters import dense
from orientc.exporters.export import Exported, export
from orientc.models.substitute import substitute
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


@pytest.fixture
def plain(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return quantized.llama(tmp_path / "plain", bytes_bpe)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(SENTENCES[:12]))
    return path


def artifact_of(model: Path) -> Path:
    path = model.with_name(f"{model.name}.safetensors")
    artifacts.save(fit_table(read_table(model), SvdConfig(rank=8)), path)
    return path


def exported(model: Path, form: str, dtype: str | None = None) -> tuple[Exported, list[str]]:
    """An export of a model with a compressed table, and the warnings that came with it."""
    said: list[str] = []
    folder = model.with_name(f"{model.name}-{form}-{dtype}")
    made = export(artifact_of(model), folder, form=form, dtype=dtype, progress=Progress(warn=said.append))
    return made, said


def measured(model: Path, text: Path, out: Path) -> tuple[float, list[str]]:
    """The perplexity of a model, or of an artifact with a tied head, and the warnings that came with it."""
    said: list[str] = []
    place = {} if model.suffix == ".safetensors" else {"out": out}
    found = perplexity(model, text=text, device="cpu", progress=Progress(warn=said.append), **place)
    return found.records[-1].perplexity, [line for line in said if "quantized" in line]


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("stored", ["fp8", "Q8_0"])
def test_a_body_that_is_dequantized_is_said_with_its_sizes(
    stored: str, form: str, plain: Path, text: Path, tmp_path: Path
) -> None:
    if stored == "fp8":
        model, written, dtype = quantized.fp8(plain), "bfloat16", 2
    else:
        pytest.importorskip("gguf")
        model, written, dtype = quantized.gguf_file(plain, tmp_path / "model.gguf"), "float32", 4
    made, said = exported(model, form)
    info = read_table(model).info
    before = (info.model_bytes - info.nbytes) / 1e6
    after = (info.model_parameters - info.vocab * info.dim) * dtype / 1e6
    helps = f"; `dtype` float16 gives {after / 2:.2f}" if written == "float32" else ""
    assert said == [
        f"the body of {model} is written out as {written}, {after:.2f} MB instead of {before:.2f}; it was quantized "
        f"({stored}), and is dequantized{helps}"
    ]
    # the same model as the one that was measured, but for what the written type rounds
    expected, told = measured(artifact_of(model), text, tmp_path)
    assert told == [f"{model} is quantized ({stored}): its body is dequantized to run"]
    found, told = measured(made.folder, text, tmp_path)
    assert found == pytest.approx(expected, rel=1e-2)
    assert told == []
    _, info = transformers.AutoModelForCausalLM.from_pretrained(
        made.folder, trust_remote_code=form == "compact", output_loading_info=True
    )
    assert not any(info.values()), info


@pytest.mark.slow
def test_a_body_that_is_kept_stays_as_it_is_in_the_compact_form_alone(plain: Path, text: Path, tmp_path: Path) -> None:
    model = quantized.bitnet(plain)
    made, said = exported(model, "compact")
    assert said == []
    expected, told = measured(artifact_of(model), text, tmp_path)
    found, _ = measured(made.folder, text, tmp_path)
    assert (found, told) == (pytest.approx(expected, rel=1e-2), [])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(made.folder, trust_remote_code=True)
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8

    for form in ("dense", "onnx"):
        if form == "onnx":
            pytest.importorskip("onnxscript")
        with pytest.raises(ExportError, match=r"quantized \(bitnet\), which only the compact form keeps"):
            exported(model, form)
        assert not model.with_name(f"{model.name}-{form}-None").exists()


def test_a_body_that_grows_by_its_type_is_said(plain: Path) -> None:
    assert exported(plain, "compact")[1] == []
    (line,) = exported(plain, "compact", "float32")[1]
    assert line == f"the body of {plain} is written out as float32, 0.04 MB instead of 0.02"


# -- keys of the dense form


def test_a_model_that_cant_be_rebuilt_is_an_error_and_no_folder(tmp_path: Path) -> None:
    model = build("llama")
    substitute(model, factors_of(model), "tied")
    model.model.layers[0].mlp.up_proj.register_buffer("weight_scale", torch.ones(1))
    with pytest.raises(
        ExportError, match=r"can't be rebuilt as a plain model: model.layers.0.mlp.up_proj.weight_scale"
    ):
        dense.save(model, tmp_path / "dense")
    assert not (tmp_path / "dense").exists()


@pytest.mark.parametrize("change", ["lost", "more"])
def test_a_folder_that_loads_with_other_weights_is_an_error(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama")
    substitute(model, factors_of(model), "tied")
    save = transformers.PreTrainedModel.save_pretrained

    def changed(self: transformers.PreTrainedModel, folder: Path, **_: object) -> None:
        state = self.state_dict()
        name = "model.layers.0.mlp.up_proj.weight"
        state[f"{name}_scale"] = state[name][:1].clone()
        if change == "lost":
            del state[name], state[f"{name}_scale"]
        save(self, folder, state_dict=state)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", changed)
    with pytest.raises(ExportError, match=r"up_proj.weight(_scale)? would be lost on loading"):
        dense.save(model, tmp_path / "dense")
