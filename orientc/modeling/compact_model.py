"""A mixin for model classes whose tables are compressed, for `from_pretrained` of compact models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.layout import CODES, IDS, WHOLE, Layout
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.resident import Resident
from orientc.modeling.swap import (
    compressed_keys,
    head_ties,
    keep_apart,
    module_of,
    replacements,
    set_resident,
    swap_in,
    text_tower,
    unresized,
)


class CompactModel:
    """A mixin that goes in front of a model class and gives its models compressed modules for some of their tables.

    `config.orientc` holds the layouts of compressed tables by name, `tables`, the head policy, `head`, and whether the
    model was saved with a head that has a table of its own, `own_head`; a table that a class lacks is passed over. New
    models have random tensors, which `from_pretrained` fills. `config.orientc_resident`, if it is there, says in which
    form a head holds the table while it runs.
    """

    def __init__(self, config: Any, *inputs: Any, **options: Any) -> None:
        model: Any = self
        if config.orientc["head"] == "tied":
            # PEFT's merge takes the weights that it reads, each decoded anew, for two tables, and writes False there
            config.tie_word_embeddings = True
        with _own_config_class(config, model):
            super().__init__(config, *inputs, **options)  # type: ignore[call-arg]  # the model class's, which is next
        if config.orientc.get("own_head"):
            keep_apart(model, head_ties(model))
        deferred = _tie(model)
        resident = getattr(config, "orientc_resident", None) or Resident.name
        modules: dict[str, nn.Module] = {}
        for table, values in config.orientc["tables"].items():
            if module := module_of(model, table):
                factors = _random_factors(model, Layout.from_dict(values), table_of(module))
                modules |= replacements(model, factors, resident=resident, table=table)
        swap_in(model, modules)
        if deferred:
            _untie(model)

    @classmethod
    def from_pretrained(
        cls, *inputs: Any, output_loading_info: bool = False, orientc_resident: str | None = None, **options: Any
    ) -> Any:
        """Load as any model class does, but never with a random table.

        Args:
            inputs: As for any model class.
            output_loading_info: Return what was missing and what was left over, too.
            orientc_resident: In which form a head holds the table while it runs: "codes", as it is stored, the least
                memory; "int8", whole numbers of one byte; "dense", decoded. Unless given it is the configuration's.
            options: As for any model class.

        Raises:
            ValueError: A tensor of the compressed table is not among the weights, or of another shape; a head of this
                table can't have the form.
        """
        model, info = super().from_pretrained(*inputs, output_loading_info=True, **options)  # type: ignore[misc]
        lacking = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
        lacking -= {*model.all_tied_weights_keys}
        if parts := sorted(lacking & compressed_keys(model)):
            raise ValueError(
                f"{cls.__name__} can't be loaded from this model: {parts[0]}, part of the compressed table, is not "
                "among its weights by that name and shape: load it with the class it was saved with, or its base model"
            )
        if orientc_resident is not None:
            set_resident(model, orientc_resident)
            model.config.orientc_resident = orientc_resident
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The table's embedding; where the model class knows of none, that of its text tower."""
        try:
            found: nn.Module = super().get_input_embeddings()  # type: ignore[misc]
        except NotImplementedError:
            if (tower := text_tower(self)) is None:
                raise
            found = tower.get_input_embeddings()
        return found

    def get_parameter(self, target: str) -> Any:
        """The parameter of a name, or the buffer.

        While transformers loads a model it looks up what is tied by this method; codes are tied, and buffers.
        """
        holder, _, name = target.rpartition(".")
        buffer = self.get_submodule(holder)._buffers.get(name)
        return super().get_parameter(target) if buffer is None else buffer  # type: ignore[misc]

    def get_submodule(self, target: str) -> nn.Module:
        """The submodule of a name; the table's embedding is also "embeddings.word_embeddings".

        PEFT looks for it there first, and then for a parameter as long as the vocabulary, which a compressed one lacks.
        """
        try:
            return super().get_submodule(target)  # type: ignore[misc, no-any-return]
        except AttributeError:
            if target != "embeddings.word_embeddings":
                raise
            return self.get_input_embeddings()

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, *_: Any, **__: Any
    ) -> nn.Module:
        """Return the embedding where the size asked for is its own; see `unresized`."""
        model: Any = self
        return unresized(model, new_num_tokens, pad_to_multiple_of)

    def _adjust_bias(self, output_embeddings: nn.Module, input_embeddings: Any) -> None:
        """Pad the bias of a head as transformers does when it ties; a compressed head's fits, and isn't decoded."""
        if not isinstance(output_embeddings, CompressedTable):
            super()._adjust_bias(output_embeddings, input_embeddings)  # type: ignore[misc]

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as the architecture does; a new head's own bias starts at zero, as a projection's does."""
        bias = getattr(module, "bias", None)
        if not isinstance(module, CompressedTable):
            super()._init_weights(module)  # type: ignore[misc]
        elif bias is not None and not getattr(bias, "_is_hf_initialized", False):
            nn.init.zeros_(bias)


@contextlib.contextmanager
def _own_config_class(config: Any, model: PreTrainedModel) -> Iterator[None]:
    """Within the context `config` is of the architecture's own class and has no `auto_map`.

    A submodel that is made by `AutoModel.from_config` would otherwise get a compressed table of its own, or ask whether
    to trust the folder's code. Afterwards `config` and the submodels' copies of it have their class back.
    """
    kind, auto_map = type(config), vars(config).pop("auto_map", None)
    own = next(base for base in kind.__mro__ if base.__module__.startswith("transformers."))
    config.__class__ = own
    try:
        yield
    finally:
        config.__class__ = kind
        if auto_map is not None:
            config.auto_map = auto_map
    for part in model.modules():
        if type(getattr(part, "config", None)) is own:  # a copy
            part.config.__class__ = kind


def _tie(model: PreTrainedModel) -> bool:
    """Tie weights; return whether `from_pretrained` had deferred it.

    The modules to replace are found by the parameter they share; `from_pretrained` ties after loading.
    """
    deferred = False
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        holder, _, name = target.rpartition(".")
        module, shared = model.get_submodule(holder), model.get_parameter_or_buffer(source)
        deferred |= getattr(module, name) is not shared
        setattr(module, name, shared)
    return deferred


def _untie(model: PreTrainedModel) -> None:
    """Give each tied name a tensor of its own again, as `from_pretrained` expects where it ties later."""
    for target in model.all_tied_weights_keys:
        holder, _, name = target.rpartition(".")
        module = model.get_submodule(holder)
        tensor = torch.empty_like(shared := getattr(module, name))
        own = nn.Parameter(tensor, requires_grad=shared.requires_grad) if isinstance(shared, nn.Parameter) else tensor
        setattr(module, name, own)


def _random_factors(model: PreTrainedModel, layout: Layout, table: Tensor) -> Factors:
    """A compressed table in the place of `table`: floats from the architecture's initialiser, codes and ids 0."""
    deviation = getattr(model.config, "initializer_range", None) or 0.02
    whole = {CODES: torch.uint8, WHOLE: torch.int8, IDS: torch.int32}

    def draw(kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind in whole:
            return torch.zeros(shape, device=table.device, dtype=whole[kind])
        return torch.empty(shape, device=table.device, dtype=table.dtype).normal_(std=deviation)

    return Factors(layout, {name: draw(*entry) for name, entry in layout.shapes.items()})
