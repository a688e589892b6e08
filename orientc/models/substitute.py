"""Swap a compressed table into a transformers model, under a head policy.

Every module that looks tokens up in the table is replaced, wherever the architecture keeps it (T5 and BART hold one
table under several names), and under the *tied* policy the output projection too. All new modules share one set of
parameters, and the model's tied weights are updated, so that `tie_weights()` and saving go on working.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import SubstitutionError
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, table_of
from orientc.modeling.resident import Resident
from orientc.modeling.swap import replacements, set_tied_weights, shares, swap_in, unresized, users_of
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import INPUT_ONLY, TIED, UNTIED


def head_policies(model: PreTrainedModel) -> tuple[str, ...]:
    """The head policies that a model allows: "input-only" and "tied", or "untied"."""
    table = table_of(model.get_input_embeddings())
    head = model.get_output_embeddings()
    shared = head is not None and (shares(head, table) or not _projects(head, table))
    return (INPUT_ONLY, TIED) if shared else (UNTIED,)


def substitute(
    model: PreTrainedModel, compressed: Artifact | Factors, head: str, *, resident: str = Resident.name
) -> PreTrainedModel:
    """Replace the model's table by a compressed one, in place.

    Args:
        model: The model; it is changed.
        compressed: The compressed table; it is copied to the table's device, floats in the table's dtype.
        head: Head policy: "tied" (embedding and output projection use the compressed table), "input-only" (the
            projection keeps the original table) or "untied" (the projection never shared it, or there is none).
        resident: In which form the projection holds the compressed table while it runs: "codes", as it is stored, the
            least memory; "int8", whole numbers of one byte, for codes that have scales by column; "dense", decoded.
            What is saved is the same.

    Returns:
        The model.

    Raises:
        SubstitutionError: The architecture does something with the table that a compressed one can't serve, or sizes
            or head policy do not fit, or a head can't have the form; the model is unchanged.
    """
    swap_in(model, compressed_modules(model, compressed, head, resident=resident))
    model.resize_token_embeddings = partial(unresized, model)
    return model


@contextlib.contextmanager
def substituted(model: PreTrainedModel, compressed: Artifact | Factors, head: str) -> Iterator[PreTrainedModel]:
    """Within the context the model's table is replaced as `substitute` does; afterwards it is as it was."""
    plan = compressed_modules(model, compressed, head)
    originals = {name: model.get_submodule(name) for name in plan}
    tied = swap_in(model, plan)
    try:
        yield model
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)
        set_tied_weights(model, tied)


@contextlib.contextmanager
def swapped(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within the context modules of a model are replaced by name; afterwards it is as it was.

    Tied weights are left as they are, so that this costs next to nothing: within it the model is for running, and
    neither for tying nor for saving.
    """
    originals = {name: model.get_submodule(name) for name in modules}
    try:
        for name, module in modules.items():
            model.set_submodule(name, module)
        yield
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)


def compressed_modules(
    model: PreTrainedModel, compressed: Artifact | Factors, head: str, *, resident: str = Resident.name
) -> dict[str, nn.Module]:
    """The modules that `substitute` would put in, by the names of those they replace; the model is not changed.

    Args and errors are those of `substitute`.
    """
    factors = compressed.factors if isinstance(compressed, Artifact) else compressed
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding | CompressedEmbedding):
        raise SubstitutionError(f"{type(embedding).__name__} does more than look rows up: it can't be replaced")
    table, size = table_of(embedding), (embedding.num_embeddings, embedding.embedding_dim)
    if (factors.vocab, factors.dim) != size:
        raise SubstitutionError(
            f"the compressed table is {factors.vocab} × {factors.dim}, the model's {size[0]} × {size[1]}"
        )
    _check_lookups(model, table)
    _check_head(model, table, head)
    for name, module in users_of(model).items():
        _check_user(name, module)
    try:
        return replacements(model, factors, keep_head=head == INPUT_ONLY, resident=resident)
    except ValueError as error:
        raise SubstitutionError(str(error)) from None


def _check_lookups(model: PreTrainedModel, table: Tensor) -> None:
    """Raise `SubstitutionError` where encoder or decoder have a token table of their own; one for sound has none."""
    for part in (model.get_encoder(), model.get_decoder()) if model.config.is_encoder_decoder else ():
        lookup = part.get_input_embeddings() if isinstance(part, PreTrainedModel) else None
        if isinstance(lookup, nn.Conv1d):
            continue
        if lookup is None or table_of(lookup) is not table:
            raise SubstitutionError(
                f"{type(model).__name__} looks tokens up in several tables: only a shared one can be replaced"
            )


def _check_head(model: PreTrainedModel, table: Tensor, head: str) -> None:
    """Raise `SubstitutionError` for heads that can't be replaced, and policies that the model does not allow."""
    projection = model.get_output_embeddings()
    if projection is not None and not (_projects(projection, table) and _called(model, projection, table)):
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


def _check_user(name: str, module: nn.Module) -> None:
    """Raise `SubstitutionError` for a module that does more than look rows up, scale them, or project to tokens."""
    if isinstance(module, CompressedEmbedding | CompressedHead | nn.Linear):
        return
    if not isinstance(module, nn.Embedding):
        raise SubstitutionError(f"{name} ({type(module).__name__}) uses the table in a way orientc does not know")
    scaled = hasattr(module, "embed_scale")
    if (type(module).forward is not nn.Embedding.forward and not scaled) or module.max_norm is not None:
        raise SubstitutionError(f"{type(module).__name__} does more than look rows up: it can't be replaced")


def _projects(head: nn.Module, table: Tensor) -> bool:
    """Whether the head's own weight projects to the vocabulary; otherwise it reads the table's weight directly."""
    return isinstance(head, CompressedHead) or head.get_parameter("weight").shape[0] == table.shape[0]


def _called(model: PreTrainedModel, head: nn.Module, table: Tensor) -> bool:
    """Whether the module that holds a head calls it, where the head shares the table.

    MobileBERT's multiplies by the head's weight itself; Mamba's calls it and asks for its dtype.
    """
    for name, module in model.named_modules():
        if module is head and shares(head, table):
            holder, _, attribute = name.rpartition(".")
            names = type(model.get_submodule(holder)).forward.__code__.co_names
            return not {attribute, "weight"} <= set(names)
    return True
