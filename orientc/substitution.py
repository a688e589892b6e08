"""Put a compressed table into a transformers model; the head policy lives here.

Every module that looks tokens up in the table gets a stand-in, wherever the architecture keeps it (T5 and BART
hold one table under several names), and under the *tied* policy the output projection too. All stand-ins share
one set of parameters. The model's own book of shared weights is brought up to date, so `tie_weights()` works on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.artifact import Artifact
from orientc.errors import SubstitutionError
from orientc.factors import Factors
from orientc.modules import CompressedEmbedding, CompressedHead, CompressedTable, embedding_scale, shares, table_of
from orientc.sizes import INPUT_ONLY, TIED, UNTIED


def head_policies(model: PreTrainedModel) -> tuple[str, ...]:
    """The head policies that make sense for a model: input-only and tied, or untied."""
    table = table_of(model.get_input_embeddings())
    head = model.get_output_embeddings()
    shared = head is not None and (shares(head, table) or not _projects(head, table))
    return (INPUT_ONLY, TIED) if shared else (UNTIED,)


def substitute(model: PreTrainedModel, compressed: Artifact | Factors, head: str) -> PreTrainedModel:
    """Replace the model's table in place and return the model.

    `head` is "tied" (lookup and output projection run from the factors), "input-only" (the projection keeps the
    original table) or "untied" (the projection never shared it, or there is none). Stand-ins take the table's
    dtype and device. Raises `SubstitutionError` where this can't be done right; the model is unchanged then.
    """
    _apply(model, _plan(model, compressed, head))
    return model


@contextlib.contextmanager
def substituted(model: PreTrainedModel, compressed: Artifact | Factors, head: str) -> Iterator[PreTrainedModel]:
    """`substitute` for the length of a context; on leaving it the model is as it was."""
    plan = _plan(model, compressed, head)
    originals = {name: model.get_submodule(name) for name in plan}
    tied = _apply(model, plan)
    try:
        yield model
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)
        _record_tied(model, tied)


def _plan(model: PreTrainedModel, compressed: Artifact | Factors, head: str) -> dict[str, nn.Module]:
    """A replacement for each module that has to go, by its name; raises before anything is touched."""
    factors = compressed.factors if isinstance(compressed, Artifact) else compressed
    embedding = model.get_input_embeddings()
    table, size = table_of(embedding), (embedding.num_embeddings, embedding.embedding_dim)
    if (factors.vocab, factors.dim) != size:
        raise SubstitutionError(
            f"the compressed table is {factors.vocab} × {factors.dim}, the model's {size[0]} × {size[1]}"
        )
    _check_lookups(model, table)
    _check_head(model, table, head)
    shared = _parameters(factors, table)
    plan: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not shares(module, table):
            continue
        stand_in: CompressedTable
        if isinstance(module, nn.Embedding | CompressedEmbedding):
            _check_forward(module)
            stand_in = CompressedEmbedding(shared, padding_idx=module.padding_idx, embed_scale=embedding_scale(module))
        elif isinstance(module, nn.Linear | CompressedHead):
            if head == INPUT_ONLY:
                continue
            stand_in = CompressedHead(shared, module.bias)
        else:
            raise SubstitutionError(f"{name} ({type(module).__name__}) uses the table in a way orientc does not know")
        plan[name] = stand_in.train(module.training)
    return plan


def _check_lookups(model: PreTrainedModel, table: Tensor) -> None:
    """Refuse models whose encoder or decoder looks tokens up in a table of its own."""
    for part in (model.get_encoder(), model.get_decoder()) if model.config.is_encoder_decoder else ():
        if table_of(part.get_input_embeddings()) is not table:
            raise SubstitutionError(
                f"{type(model).__name__} looks tokens up in several tables: only a shared one can be replaced"
            )


def _check_head(model: PreTrainedModel, table: Tensor, head: str) -> None:
    """Refuse heads that can't be served, and policies that don't fit the model."""
    projection = model.get_output_embeddings()
    if projection is not None and not _projects(projection, table):
        raise SubstitutionError(
            f"the head of {type(model).__name__} reads the table's weight directly (for DeBERTa: legacy=False), "
            f"so {head} can't be done: load the model without its head"
        )
    allowed = head_policies(model)
    if head not in allowed:
        tied = "shares" if TIED in allowed else "does not share"
        raise SubstitutionError(
            f"the head of {type(model).__name__} {tied} the table: "
            f"the head policy can be {' or '.join(allowed)}, not {head}"
        )


def _check_forward(embedding: nn.Embedding | CompressedEmbedding) -> None:
    """Refuse embeddings that do more to a row than scale it, or that rescale rows on lookup."""
    if isinstance(embedding, CompressedEmbedding):
        return
    scaled = hasattr(embedding, "embed_scale")
    if (type(embedding).forward is not nn.Embedding.forward and not scaled) or embedding.max_norm is not None:
        raise SubstitutionError(f"{type(embedding).__name__} does more than look rows up: it can't be replaced")


def _projects(head: nn.Module, table: Tensor) -> bool:
    """Whether the head's own weight is a projection to the vocabulary; if not, it reads the table directly."""
    return isinstance(head, CompressedHead) or head.get_parameter("weight").shape[0] == table.shape[0]


def _parameters(factors: Factors, like: Tensor) -> Factors:
    """The factors as new parameters of the dtype and device of `like`."""
    return factors.map(lambda tensor: nn.Parameter(tensor.detach().to(like, copy=True)))


def _apply(model: PreTrainedModel, plan: dict[str, nn.Module]) -> dict[str, dict[str, str]]:
    """Put the stand-ins in; returns the shared weights of the model and its submodels as they were before."""
    before = {name: module.get_expanded_tied_weights_keys() for name, module in _models(model)}
    for name, stand_in in plan.items():
        model.set_submodule(name, stand_in)
    _record_tied(model, {name: _still_tied(module, before[name]) for name, module in _models(model)})
    return before


def _still_tied(model: PreTrainedModel, before: dict[str, str]) -> dict[str, str]:
    """Shared weights, target to source, after a substitution: what is left of `before`, and the stand-ins'."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = {target: source for target, source in before.items() if {target, source} <= names}
    sources: dict[int, str] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, CompressedTable):
            for name, parameter in module.named_parameters(prefix, recurse=False):
                source = sources.setdefault(id(parameter), name)
                if source != name:
                    tied[name] = source
    return tied


def _record_tied(model: PreTrainedModel, tied: dict[str, dict[str, str]]) -> None:
    """Tell transformers which weights are shared, so that tying again and saving do the right thing."""
    for name, module in _models(model):
        module._tied_weights_keys = tied[name]
    for _, module in _models(model):
        module.all_tied_weights_keys = module.get_expanded_tied_weights_keys(all_submodels=True)


def _models(model: PreTrainedModel) -> list[tuple[str, PreTrainedModel]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
