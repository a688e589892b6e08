"""Small models of every architecture and task class, and what two of them must have in common to be the same."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from orientc.methods import svd
from orientc.modeling.factors import Factors
from orientc.models import compact
from orientc.models.substitute import substitute
from support.architectures import ARCHITECTURES, build, inputs_of

RANK = 5
PLAIN_PARAMETERS = (
    "latents",
    "decoder_weight",
    "decoder_bias",
)  # parameters of one that has no codes and keeps no rows
LANGUAGE = ("AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForCausalLM", "AutoModel")
TASKS = ("AutoModelForSequenceClassification", "AutoModelForQuestionAnswering")
_ALIKE = {f"{family}-untied" for family in ("qwen2", "qwen3", "gemma3")} | {"qwen3"}  # to llama and gemma2


def class_of(name: str, auto_name: str) -> type[PreTrainedModel] | None:
    """The class an auto class stands for in an architecture, if there is one."""
    config_class = getattr(transformers, ARCHITECTURES[name][1])
    try:
        found: type[PreTrainedModel] = getattr(transformers, auto_name)._model_mapping[config_class]
    except KeyError:
        return None
    return found


def cases() -> list[tuple[str, str]]:
    """Each architecture's own class and one of its task classes, by name and auto class; each configuration once.

    A task class adds a head to what the other one has too: the two take turns.
    """
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for number, (name, (own, config, arguments)) in enumerate(ARCHITECTURES.items()):
        for auto_name in (*LANGUAGE, *TASKS) if name not in _ALIKE else ():
            kind = class_of(name, auto_name)
            if kind and (kind.__name__ == own or auto_name == TASKS[number % 2]):
                found.setdefault((kind.__name__, config, str(arguments)), (name, auto_name))
    return sorted(found.values())


def dense(name: str, auto_name: str) -> PreTrainedModel:
    """A random model of an architecture, with the class an auto class stands for."""
    kind = class_of(name, auto_name)
    assert kind is not None
    config = copy.deepcopy(build(name).config)
    config.pad_token_id = config.pad_token_id or 0
    config.eos_token_id = 2
    config.decoder_start_token_id = getattr(config, "decoder_start_token_id", None) or 0
    torch.manual_seed(1)
    return kind(config).eval()


def factors_of(model: PreTrainedModel, activation: str | None = None) -> Factors:
    fitted = svd.truncated_svd(model.get_input_embeddings().weight.detach(), RANK, center=True)
    return Factors.plain(fitted.latents, fitted.weight, fitted.bias, activation)


def trained(model: PreTrainedModel) -> PreTrainedModel:
    """The model as training would leave it: every parameter that trains a little off."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in filter(lambda entry: entry.requires_grad, model.parameters()):
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def outputs_of(model: PreTrainedModel) -> list[Tensor]:
    """All the model computes; from a copy, since tensors that lie elsewhere in memory may round another way."""
    inputs = inputs_of(model)
    if type(model).__name__.endswith(("SequenceClassification", "QuestionAnswering")):
        inputs.pop("decoder_input_ids", None)
        inputs["input_ids"][:, -1] = model.config.eos_token_id
    with torch.no_grad():
        return [value for value in copy.deepcopy(model)(**inputs).values() if isinstance(value, Tensor)]


def assert_equal(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def saved(folder: Path, auto_name: str = TASKS[0], head: str = "input-only", name: str = "bert") -> PreTrainedModel:
    """A trained model with a compressed table, saved into `folder`."""
    model = dense(name, auto_name)
    trained(substitute(model, factors_of(model), head))
    compact.save(model, folder, head)
    return model


@contextlib.contextmanager
def own_modules_cache(folder: Path) -> Iterator[None]:
    """Within it transformers copies models' code to `folder`, and nobody is asked whether to trust it."""

    def asked(*_: object) -> str:
        raise EOFError

    def taken_out() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]
        return {name: sys.modules.pop(name) for name in names}

    before = taken_out()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
        patch.setattr("builtins.input", asked)
        patch.setattr(sys, "path", [path for path in sys.path if not Path(path, "transformers_modules").exists()])
        yield
    taken_out()
    sys.modules.update(before)
