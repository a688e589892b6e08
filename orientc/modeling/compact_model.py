"""What turns a model class into one whose models hold a compressed table from the start.

This module imports nothing but torch, transformers and what goes along with it in the code of an exported model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.layout import CODES, IDS, Layout
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.swap import put_in, replacements


class CompactModel:
    """Mixed into a model class, in front of it: the table is there as factors, for `from_pretrained` to fill.

    `config.orientc` says how they are laid out, `layout`, and the head policy, `head`.
    """

    def __init__(self, config: Any, *inputs: Any, **options: Any) -> None:
        model: Any = self
        with _plain(config, model):
            super().__init__(config, *inputs, **options)  # type: ignore[call-arg]  # the model class's, which is next
        put_off = _share(model)
        put_in(model, replacements(model, _fresh(model), keep_head=config.orientc["head"] == "input-only"))
        if put_off:
            _part(model)

    @classmethod
    def from_pretrained(cls, *inputs: Any, output_loading_info: bool = False, **options: Any) -> Any:
        """As of any model class, but a table is never drawn at random: raises `ValueError` where it is not there."""
        model, info = super().from_pretrained(*inputs, output_loading_info=True, **options)  # type: ignore[misc]
        lacking = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
        own = {name for name, _ in model.get_input_embeddings().named_parameters()}
        lacking -= {*model.all_tied_weights_keys}
        if parts := sorted(key for key in lacking if key.rpartition(".")[2] in own):
            raise ValueError(
                f"{cls.__name__} can't be loaded from this model: {parts[0]}, part of the compressed table, is not "
                "among its weights by that name and shape: load it with the class it was saved with, or its base model"
            )
        return (model, info) if output_loading_info else model

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, *_: Any, **__: Any
    ) -> nn.Module:
        """The lookup, where its size is the one asked for; a compressed table can't grow or shrink."""
        lookup: nn.Module = self.get_input_embeddings()  # type: ignore[attr-defined]
        vocab: int = lookup.num_embeddings  # type: ignore[assignment]
        if new_num_tokens not in (None, vocab) or vocab % (pad_to_multiple_of or 1):
            raise NotImplementedError("a compressed table can't be resized: resize the original, then compress that")
        return lookup

    def _init_weights(self, module: nn.Module) -> None:
        """As the architecture does; the bias that a new head adds to its logits starts at zero, as a projection's."""
        bias = getattr(module, "bias", None)
        if not isinstance(module, CompressedTable):
            super()._init_weights(module)  # type: ignore[misc]
        elif bias is not None and not getattr(bias, "_is_hf_initialized", False):
            nn.init.zeros_(bias)


@contextlib.contextmanager
def _plain(config: Any, model: PreTrainedModel) -> Iterator[None]:
    """Within it the configuration is one of the architecture's own, and so are the parts that a model makes by it.

    A part made by `AutoModel` would else have a compressed table of its own, or ask whether to trust its code.
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


def _share(model: PreTrainedModel) -> bool:
    """Share what the architecture shares: the table's users are found by it. Whether that had been put off.

    `from_pretrained` does so, until after the weights are there.
    """
    put_off = False
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        holder, _, name = target.rpartition(".")
        module, shared = model.get_submodule(holder), model.get_parameter_or_buffer(source)
        put_off |= getattr(module, name) is not shared
        setattr(module, name, shared)
    return put_off


def _part(model: PreTrainedModel) -> None:
    """A parameter of its own under each name, as `from_pretrained` counts on where it is to share them."""
    for target in model.all_tied_weights_keys:
        holder, _, name = target.rpartition(".")
        module = model.get_submodule(holder)
        if isinstance(parameter := getattr(module, name), nn.Parameter):
            setattr(module, name, nn.Parameter(torch.empty_like(parameter), requires_grad=parameter.requires_grad))


def _fresh(model: PreTrainedModel) -> Factors:
    """Factors laid out as the configuration says, floats drawn at random as the architecture draws a new table."""
    layout, table = Layout.from_dict(model.config.orientc["layout"]), table_of(model.get_input_embeddings())
    deviation = getattr(model.config, "initializer_range", None) or 0.02
    whole = {CODES: torch.uint8, IDS: torch.int32}

    def draw(kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind in whole:
            return torch.zeros(shape, device=table.device, dtype=whole[kind])
        return torch.empty(shape, device=table.device, dtype=table.dtype).normal_(std=deviation)

    return Factors(layout, {name: draw(*entry) for name, entry in layout.shapes.items()})
