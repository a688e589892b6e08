"""Take every module that uses a model's table and put a stand-in in its place, and keep the model's books.

The checks of what may be replaced are `substitution`'s. This module imports nothing but torch, transformers,
`factors` and `modules`: it is part of the code that goes along with an exported model.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, CompressedTable, embedding_scale, table_of


def users_of(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every module that holds the model's table as a parameter of its own, by its name."""
    table = table_of(model.get_input_embeddings())
    modules = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in modules if shares(module, table)}


def shares(module: nn.Module, table: Tensor) -> bool:
    """Whether a parameter of the module's own is `table`."""
    return any(parameter is table for parameter in module.parameters(recurse=False))


def replacements(model: PreTrainedModel, factors: Factors, *, keep_head: bool) -> dict[str, nn.Module]:
    """A stand-in for each module that uses the table, by its name; all share one set of parameters.

    The parameters are `factors` on the table's device, their floats in its dtype. With `keep_head` the output
    projection stays as it is.
    """
    table = table_of(model.get_input_embeddings())
    shared = factors.map(lambda tensor: _placed(tensor, table))
    found: dict[str, nn.Module] = {}
    for name, module in users_of(model).items():
        stand_in: CompressedTable
        if isinstance(module, nn.Embedding | CompressedEmbedding):
            stand_in = CompressedEmbedding(shared, padding_idx=module.padding_idx, embed_scale=embedding_scale(module))
        elif keep_head:
            continue
        else:
            stand_in = CompressedHead(shared, dict(module.named_parameters()).get("bias"))
        found[name] = stand_in.train(module.training)
    return found


def _placed(tensor: Tensor, table: Tensor) -> nn.Parameter:
    floating = tensor.is_floating_point()
    dtype = table.dtype if floating else tensor.dtype
    return nn.Parameter(tensor.detach().to(table.device, dtype, copy=True), requires_grad=floating)


def put_in(model: PreTrainedModel, modules: dict[str, nn.Module]) -> dict[str, dict[str, str]]:
    """Put modules in by name; returns the shared weights of the model and its submodels as they were before."""
    before = {name: module.get_expanded_tied_weights_keys() for name, module in _models(model)}
    for name, module in modules.items():
        model.set_submodule(name, module)
    record_tied(model, {name: _still_tied(module, before[name]) for name, module in _models(model)})
    return before


def record_tied(model: PreTrainedModel, tied: dict[str, dict[str, str]]) -> None:
    """Tell transformers which weights are shared, so that tying again and saving do the right thing."""
    for name, module in _models(model):
        module._tied_weights_keys = tied[name]
    for _, module in _models(model):
        module.all_tied_weights_keys = module.get_expanded_tied_weights_keys(all_submodels=True)


def _still_tied(model: PreTrainedModel, before: dict[str, str]) -> dict[str, str]:
    """Shared weights, target to source, after a replacement: what is left of `before`, and the stand-ins'."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = {target: source for target, source in before.items() if {target, source} <= names}
    sources: dict[int, str] = {}
    modules = model.named_modules(remove_duplicate=False)
    stand_ins = [(prefix, module) for prefix, module in modules if isinstance(module, CompressedTable)]
    # a lookup's name is the same in all of an architecture's classes; most of them have no head
    for prefix, module in sorted(stand_ins, key=lambda entry: isinstance(entry[1], CompressedHead)):
        for name, parameter in module.named_parameters(prefix, recurse=False):
            source = sources.setdefault(id(parameter), name)
            if source != name:
                tied[name] = source
    return tied


def _models(model: PreTrainedModel) -> list[tuple[str, PreTrainedModel]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
