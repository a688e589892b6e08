"""Replace each module that shares the token table, and update `_tied_weights_keys`.

What may be replaced is checked in `models/substitute.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, CompressedTable, embedding_scale, table_of
from orientc.modeling.resident import Resident, ResidentTable, resident_form


def users_of(model: PreTrainedModel) -> dict[str, nn.Module]:
    """All modules that hold the model's token table as their own parameter, by name."""
    table = table_of(model.get_input_embeddings())
    modules = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in modules if shares(module, table)}


def shares(module: nn.Module, table: Tensor) -> bool:
    """Whether `table` is a parameter of the module itself."""
    return any(parameter is table for parameter in module.parameters(recurse=False))


def replacements(
    model: PreTrainedModel, factors: Factors, *, keep_head: bool, resident: str = Resident.name
) -> dict[str, nn.Module]:
    """Make a compressed module for each module that uses the token table; all share one set of tensors.

    Args:
        model: The model; it is not changed.
        factors: The compressed table. It is copied to the table's device, floats in the table's dtype.
        keep_head: Leave the output projection as it is.
        resident: In which form a head holds the table while it runs: "codes", "int8" or "dense".

    Returns:
        The new modules by the names of those they replace.

    Raises:
        ValueError: There is no such form, or a head of this table can't have it.
    """
    form = resident_form(resident, factors.layout)
    table = table_of(model.get_input_embeddings())
    shared = factors.map(lambda tensor: _copied(tensor, table))
    found: dict[str, nn.Module] = {}
    for name, module in users_of(model).items():
        replacement: CompressedTable
        if isinstance(module, nn.Embedding | CompressedEmbedding):
            replacement = CompressedEmbedding(
                shared, padding_idx=module.padding_idx, embed_scale=embedding_scale(module)
            )
        elif keep_head:
            continue
        else:
            replacement = CompressedHead(shared, dict(module.named_parameters()).get("bias"), form)
        found[name] = replacement.train(module.training)
    return found


def _copied(tensor: Tensor, table: Tensor) -> Tensor:
    """A copy of `tensor` on the table's device; floats become a parameter in the table's dtype."""
    if not tensor.is_floating_point():
        return tensor.to(table.device, copy=True)
    return nn.Parameter(tensor.detach().to(table.device, table.dtype, copy=True))


def swap_in(model: PreTrainedModel, modules: dict[str, nn.Module]) -> dict[str, dict[str, str]]:
    """Replace modules of a model by name, and update its tied weights.

    Returns:
        The tied weights of the model and its submodels as they were, for `set_tied_weights`.
    """
    before = {name: module.get_expanded_tied_weights_keys() for name, module in _models(model)}
    for name, module in modules.items():
        model.set_submodule(name, module)
    set_tied_weights(model, {name: _tied_after_swap(module, before[name]) for name, module in _models(model)})
    return before


def set_tied_weights(model: PreTrainedModel, tied: dict[str, dict[str, str]]) -> None:
    """Set `_tied_weights_keys` of a model and its submodels, which `tie_weights` and `save_pretrained` go by.

    Args:
        model: The model.
        tied: For each submodel by name (the model itself is ""), the name of each tied weight to that of its source.
    """
    for name, module in _models(model):
        module._tied_weights_keys = tied[name]
    for _, module in _models(model):
        module.all_tied_weights_keys = module.get_expanded_tied_weights_keys(all_submodels=True)


def keep_apart(model: PreTrainedModel, targets: Collection[str]) -> None:
    """Tie some parameters of a model no longer: they have numbers of their own.

    Args:
        model: The model.
        targets: Names of tied parameters, as in `all_tied_weights_keys`.
    """
    if not targets:
        return
    tied = {name: part.get_expanded_tied_weights_keys() for name, part in _models(model)}
    for name, pairs in tied.items():
        for target, source in list(pairs.items()):
            full, shared = (f"{name}.{key}".removeprefix(".") for key in (target, source))
            if full not in targets:
                continue
            pairs.pop(target)
            parameter = model.get_parameter(full)
            if parameter is model.get_parameter(shared):
                holder, _, attribute = full.rpartition(".")
                own = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
                setattr(model.get_submodule(holder), attribute, own)
    set_tied_weights(model, tied)


def head_ties(model: PreTrainedModel) -> list[str]:
    """Names of tied parameters that tie the weight of the model's output projection, if it has one."""
    head = model.get_output_embeddings()
    places = {f"{name}.weight" for name, module in model.named_modules(remove_duplicate=False) if module is head}
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True).items()
    return [target for target, source in pairs if {target, source} & places]


def set_resident(model: PreTrainedModel, resident: str) -> None:
    """Choose in which form the heads of a model hold its compressed table. Raises `ValueError` as `replacements`."""
    form = resident_form(resident, model.get_input_embeddings().factors.layout)
    for module in model.modules():
        if isinstance(module, CompressedHead):
            module.resident = ResidentTable(form)


def unresized(
    model: PreTrainedModel, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, *_: Any, **__: Any
) -> nn.Module:
    """What `resize_token_embeddings` gives for a model with a compressed table: its embedding.

    Args:
        model: The model.
        new_num_tokens: Number of rows.
        pad_to_multiple_of: What the number of rows is to be a multiple of.

    Raises:
        NotImplementedError: Another size is asked for than the table has.
    """
    lookup: nn.Module = model.get_input_embeddings()
    vocab: int = lookup.num_embeddings  # type: ignore[assignment]
    if new_num_tokens not in (None, vocab) or vocab % (pad_to_multiple_of or 1):
        raise NotImplementedError("a compressed table can't be resized: resize the original, then compress that")
    return lookup


def _tied_after_swap(model: PreTrainedModel, before: dict[str, str]) -> dict[str, str]:
    """Tied weights, target to source, after a module swap: what is left of `before`, and the compressed modules'."""
    names = {name for name, _ in named_tensors(model)}
    tied = {target: source for target, source in before.items() if {target, source} <= names}
    sources: dict[int, str] = {}
    modules = model.named_modules(remove_duplicate=False)
    compressed = [(prefix, module) for prefix, module in modules if isinstance(module, CompressedTable)]
    # lookups are the sources: their names are the same in all of an architecture's classes, most of which lack a head
    for prefix, module in sorted(compressed, key=lambda entry: isinstance(entry[1], CompressedHead)):
        for name, tensor in named_tensors(module, prefix):
            source = sources.setdefault(id(tensor), name)
            if source != name:
                tied[name] = source
    return tied


def named_tensors(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and buffers by name, shared ones under each of theirs."""
    yield from module.named_parameters(prefix, remove_duplicate=False)
    yield from module.named_buffers(prefix, remove_duplicate=False)


def _models(model: PreTrainedModel) -> list[tuple[str, PreTrainedModel]]:
    """The model and the transformers models within it, by name."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
