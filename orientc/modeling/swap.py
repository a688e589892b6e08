"""Replace each module that uses one of a model's tables, and update `_tied_weights_keys`.

What may be replaced is checked in `models/substitute.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, CompressedTable, embedding_scale, table_of
from orientc.modeling.resident import Resident, ResidentTable, resident_form
from orientc.modeling.table_names import HEAD, INPUT


def text_tower(model: PreTrainedModel) -> PreTrainedModel | None:
    """The part of a model that reads text, where it stands beside one for pictures, as CLIP's does; else None."""
    tower = getattr(model, "text_model", None)
    return tower if isinstance(tower, PreTrainedModel) else None


def module_of(model: PreTrainedModel, table: str = INPUT) -> nn.Module | None:
    """The module that one of a model's tables goes by; None where the model has none of that name.

    Args:
        model: The model.
        table: "input", what `get_input_embeddings()` gives, or an encoder's where neither that nor the decoder uses it;
            "head", the output projection; else the name of an embedding, or the end of it where no other embedding's
            name ends so.
    """
    if table == INPUT:
        lookup, parts = lookup_of(model), lookups_of_parts(model)
        if not isinstance(lookup, nn.Embedding) or not parts or None in parts:
            return lookup
        return lookup if {*parts} & {*_users(model, lookup).values()} else parts[0]
    if table == HEAD:
        head: nn.Module | None = model.get_output_embeddings()
        return head
    lookups = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | CompressedEmbedding)
    ]
    found = [module for name, module in lookups if f".{name}".endswith(f".{table}")]
    return found[0] if len(found) == 1 else None


def lookup_of(part: nn.Module | None) -> nn.Module | None:
    """What a model, or a part of one, says that it looks tokens up in."""
    try:
        lookup: nn.Module | None = part.get_input_embeddings() if isinstance(part, PreTrainedModel) else None
    except NotImplementedError:
        return None
    return lookup


def lookups_of_parts(model: PreTrainedModel) -> list[nn.Module | None]:
    """What the encoder and the decoder of an encoder-decoder look tokens up in; one for sound is passed over."""
    parts = (model.get_encoder(), model.get_decoder()) if model.config.is_encoder_decoder else ()
    return [lookup for part in parts if not isinstance(lookup := lookup_of(part), nn.Conv1d)]


def users_of(model: PreTrainedModel, table: str = INPUT) -> dict[str, nn.Module]:
    """All modules that hold one of the model's tables as their own parameter, by name; none where it lacks that."""
    anchor = module_of(model, table)
    return {} if anchor is None else _users(model, anchor)


def _users(model: PreTrainedModel, anchor: nn.Module) -> dict[str, nn.Module]:
    """All modules that hold the table of one of them as their own parameter, by name."""
    parameter = table_of(anchor)
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {name for name, module in modules.items() if shares(module, parameter)}
    if hasattr(model, "hf_device_map"):  # spread over devices: where modules are tied each has a tensor of its own
        tensors = model.named_parameters(remove_duplicate=False)
        tied = _tied_to(model, {name for name, own in tensors if own is parameter})
        found |= {name.rpartition(".")[0] for name in tied}
    return {name: module for name, module in modules.items() if name in found}


def _tied_to(model: PreTrainedModel, names: set[str]) -> set[str]:
    """Names of the parameters that are tied to some of the same model, by what it says of its ties."""
    found = set(names)
    pairs = [*model.all_tied_weights_keys.items()]
    for sides in (*pairs, *pairs):  # twice, as a target may come before another of the same source
        if found & {*sides}:
            found |= {*sides}
    return found & {name for name, _ in model.named_parameters(remove_duplicate=False)}


def execution_device(module: nn.Module) -> torch.device | None:
    """Where a module runs that accelerate has spread over devices, by its hook; None of any other."""
    hook = getattr(module, "_hf_hook", None)
    for own in (hook, *getattr(hook, "hooks", ())):
        if (device := getattr(own, "execution_device", None)) is not None:
            return torch.device(device)
    return None


def shares(module: nn.Module, table: Tensor) -> bool:
    """Whether `table` is a parameter of the module itself."""
    return any(parameter is table for parameter in module.parameters(recurse=False))


def replacements(
    model: PreTrainedModel,
    factors: Factors,
    *,
    keep_head: bool = False,
    resident: str = Resident.name,
    table: str = INPUT,
) -> dict[str, nn.Module]:
    """Make a compressed module for each module that uses a table; all share one set of tensors.

    Args:
        model: The model, which has such a table; it is not changed.
        factors: The compressed table. It is copied to where each module runs, floats in the table's dtype.
        keep_head: Leave the output projection as it is.
        resident: In which form a head holds the table while it runs: "codes", "int8" or "dense".
        table: Name of the table.

    Returns:
        The new modules by the names of those they replace.

    Raises:
        ValueError: There is no such form, or a head of this table can't have it.
    """
    form = resident_form(resident, factors.layout)
    users = users_of(model, table)
    parameter = table_of(next(iter(users.values())))
    shared: dict[torch.device, Factors] = {}
    found: dict[str, nn.Module] = {}
    for name, module in users.items():
        replacement: CompressedTable
        placed = execution_device(module)
        device = parameter.device if placed is None else placed
        if device not in shared:
            shared[device] = factors.map(functools.partial(_copied, device=device, dtype=parameter.dtype))
        if isinstance(module, nn.Embedding | CompressedEmbedding):
            replacement = CompressedEmbedding(
                shared[device], padding_idx=module.padding_idx, embed_scale=embedding_scale(module)
            )
        elif keep_head:
            continue
        else:
            replacement = CompressedHead(shared[device], dict(module.named_parameters()).get("bias"), form)
        if placed is not None:
            replacement.register_forward_pre_hook(functools.partial(_moved, placed))
        found[name] = replacement.train(module.training)
    return found


def _moved(device: torch.device, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.to(device) for tensor in inputs)


def _copied(tensor: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy of `tensor` on a device; floats become a parameter of the type."""
    if not tensor.is_floating_point():
        return tensor.to(device, copy=True)
    return nn.Parameter(tensor.detach().to(device, dtype, copy=True))


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
    """Names of tied parameters that tie the weight of the model's output projection, if it has one, to its lookup's."""
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True)

    def source_of(name: str) -> str:
        while name in pairs:
            name = pairs[name]
        return name

    def places(wanted: nn.Module | None) -> set[str]:
        modules = model.named_modules(remove_duplicate=False)
        return {f"{name}.weight" for name, module in modules if module is wanted}

    heads, lookups = places(module_of(model, HEAD)), {source_of(name) for name in places(module_of(model))}
    return [target for target, source in pairs.items() if {target, source} & heads and source_of(target) in lookups]


def set_resident(model: PreTrainedModel, resident: str) -> None:
    """Choose in which form the heads of a model hold its compressed table. Raises `ValueError` as `replacements`."""
    tables = [module for module in model.modules() if isinstance(module, CompressedTable)]
    heads = [module for module in tables if isinstance(module, CompressedHead)]
    forms = [resident_form(resident, module.factors.layout) for module in heads or tables]
    for module, form in zip(heads, forms, strict=False):
        module.resident = ResidentTable(form)


def compressed_keys(model: PreTrainedModel) -> set[str]:
    """Names of all tensors of compressed tables, in all places that use them."""
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, CompressedTable)
        for name in module.tensor_names
    }


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
