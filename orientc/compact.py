"""The compact form of a model with a compressed table: a model folder that holds the stand-in's tensors.

`config.json` is the architecture's own with two changes: `model_type` is "orientc_<its own>", so that a loader that
does not know the form stops instead of drawing a new table at random; and `orientc` says how the table is held:
`format_version`, `model_type`, `rank`, `decoder`, `bias`, `activation` and the head policy, `head`. In the weights
the table's entry is replaced by `<embedding>.latents`, `.decoder_weight` and `.decoder_bias`, as present.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from orientc.artifact import ACTIVATIONS
from orientc.errors import ModelError
from orientc.factors import Factors
from orientc.modules import CompressedTable
from orientc.quiet import quietly
from orientc.sizes import INPUT_ONLY, TIED, UNTIED
from orientc.substitution import head_policies, substitute

FORMAT_VERSION = 1
CONFIG = "config.json"
KEY = "orientc"
STAND_IN = ("latents", "decoder_weight", "decoder_bias")  # parameters only a stand-in has
_PREFIX = "orientc_"


@dataclass(frozen=True)
class Compact:
    """How a model holds its table: all that is needed to build the stand-ins before their numbers are there."""

    model_type: str
    rank: int
    decoder: bool
    bias: bool
    activation: str | None
    head: str

    @classmethod
    def of(cls, model: PreTrainedModel, head: str) -> Compact:
        """What a model with stand-ins is like; `head` is the policy they were put in under."""
        factors = stand_in(model).factors
        decoder, bias = factors.weight is not None, factors.bias is not None
        return cls(model.config.model_type, factors.rank, decoder, bias, factors.activation, head)

    def build(self, architecture: type[PreTrainedModel]) -> type[PreTrainedModel]:
        """A class like `architecture` whose models come with empty stand-ins; `from_pretrained` fills them."""
        compact = self

        def __init__(self: PreTrainedModel, config: Any, *inputs: Any, **options: Any) -> None:
            architecture.__init__(self, config, *inputs, **options)
            _tie(self)
            policies = head_policies(self)
            head = compact.head if compact.head in policies else policies[0]
            substitute(self, compact._empty(*self.get_input_embeddings().weight.shape), head)

        # under the architecture's own name, which is what saving writes into the configuration
        return type(architecture.__name__, (architecture,), {"__init__": __init__, "__module__": __name__})

    def _empty(self, vocab: int, dim: int) -> Factors:
        def empty(*shape: int) -> torch.Tensor:
            return torch.empty(shape, device="meta")

        return Factors(
            empty(vocab, self.rank),
            empty(dim, self.rank) if self.decoder else None,
            empty(dim) if self.bias else None,
            self.activation,
        )


def _tie(model: PreTrainedModel) -> None:
    """Share what the architecture shares: from_pretrained puts that off, but the head policies depend on it."""
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        parent, _, name = target.rpartition(".")
        setattr(model.get_submodule(parent), name, model.get_parameter_or_buffer(source))


def stand_in(model: PreTrainedModel) -> CompressedTable:
    """The stand-in that looks tokens up. Raises `TypeError` where the model has none."""
    found = model.get_input_embeddings()
    if not isinstance(found, CompressedTable):
        raise TypeError(f"{type(model).__name__} has no compressed table")
    return found


def save(model: PreTrainedModel, folder: Path, head: str) -> None:
    """Write a model's configuration and weights into `folder`; with a compressed table in the compact form."""
    with quietly():
        model.save_pretrained(folder)
    if not isinstance(model.get_input_embeddings(), CompressedTable):
        return
    compact = asdict(Compact.of(model, head))
    path = folder / CONFIG
    values = json.loads(path.read_text(encoding="utf-8"))
    values |= {"model_type": _PREFIX + compact["model_type"], KEY: {"format_version": FORMAT_VERSION} | compact}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(config: Path) -> tuple[Compact, dict[str, Any]] | None:
    """What a `config.json` says of a compact model, and the architecture's own configuration; None for any other.

    Raises `ModelError` where the file is damaged or of a newer version.
    """
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{config} can't be read as a model's configuration: {error}") from None
    if not isinstance(values, dict) or not str(values.get("model_type", "")).startswith(_PREFIX):
        return None
    try:
        entries = dict(values.pop(KEY))
        if (version := entries.pop("format_version")) > FORMAT_VERSION:
            raise ModelError(f"{config} has compact format {version}, newer than {FORMAT_VERSION}: update orientc")
        compact = Compact(**entries)
        valid = {
            "model_type": values["model_type"] == f"{_PREFIX}{compact.model_type}",
            "rank": type(compact.rank) is int and compact.rank > 0,
            "decoder": isinstance(compact.decoder, bool),
            "bias": isinstance(compact.bias, bool),
            "activation": compact.activation in ACTIVATIONS.values(),
            "head": compact.head in (INPUT_ONLY, TIED, UNTIED),
        }
        if wrong := [name for name, fits in valid.items() if not fits]:
            raise ValueError(f"{wrong[0]} is {getattr(compact, wrong[0])!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{config} is damaged where it describes the compressed table: {error}") from None
    return compact, values | {"model_type": compact.model_type}


def check_left_over(id: str, keys: Iterable[str]) -> None:
    """Raise `ModelError` where part of a compressed table is among a checkpoint's tensors that a model has no use for.

    transformers would go on, with a table of its own in its place.
    """
    if parts := sorted(key for key in keys if key.rpartition(".")[2] in STAND_IN):
        raise ModelError(
            f"{id} holds {parts[0]}, part of a compressed table, but its {CONFIG} does not say so: "
            "it was saved by something other than orientc"
        )
