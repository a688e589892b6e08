"""Swap compressed tables into a transformers model, under a head policy.

Every module that uses a compressed table is replaced, wherever the architecture keeps it (T5 and BART hold one table
under several names); a projection that shares the lookup's under the *tied* policy alone. All new modules of a table
share one set of parameters, and the model's tied weights are updated, so that `tie_weights()` and saving go on working.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import NoTableError, SubstitutionError
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, table_of
from orientc.modeling.resident import Resident
from orientc.modeling.swap import (
    lookups_of_parts,
    module_of,
    replacements,
    set_tied_weights,
    swap_in,
    unresized,
    users_of,
)
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models.tables import table_named, tables_of
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED

_FACTS = {"dtype", "device", "shape"}  # that a compressed head's weight tells without being decoded
Compressions = Artifact | Factors | Sequence[Artifact] | Mapping[str, Factors]  # of one table, or of several


def head_policies(model: PreTrainedModel, tables: Collection[str] = (INPUT,)) -> tuple[str, ...]:
    """The head policies that a model can run compressed tables under; the last one makes it the smallest.

    Args:
        model: The model.
        tables: Names of the compressed tables. A head that shares the lookup's can keep the original ("input-only") or
            run from the compressed one ("tied"). For one with a table of its own the tables decide: "input-only" where
            lookups alone are compressed, "head-only", or "both".
    """
    lookups = {*tables} - {HEAD}
    projects = None not in (module_of(model), module_of(model, HEAD))
    if INPUT in tables and HEAD not in tables and projects and HEAD not in tables_of(model):
        return (INPUT_ONLY, TIED)
    if HEAD not in tables:
        return (INPUT_ONLY,)
    return (BOTH,) if lookups else (HEAD_ONLY,)


def by_table(compressed: Compressions) -> dict[str, Factors]:
    """Compressed tables by the names of the tables they stand for; without a name it is the input's.

    Raises `SubstitutionError` where there are two of one table, or none.
    """
    if isinstance(compressed, Factors):
        return {INPUT: compressed}
    if isinstance(compressed, Mapping):
        return dict(compressed)
    found: dict[str, Factors] = {}
    for artifact in [compressed] if isinstance(compressed, Artifact) else compressed:
        if (name := artifact.description.base.table) in found:
            raise SubstitutionError(f"two artifacts are of one table, {name}: give one for each table")
        found[name] = artifact.factors
    if not found:
        raise SubstitutionError("there is no artifact to put in")
    return found


def substitute(
    model: PreTrainedModel, compressed: Compressions, head: str | None = None, *, resident: str = Resident.name
) -> PreTrainedModel:
    """Replace tables of a model by compressed ones, in place.

    Args:
        model: The model; it is changed.
        compressed: A compressed table, or one for each of several tables: artifacts, or by the tables' names. They are
            copied to the table's device, floats in the table's dtype.
        head: Head policy: "tied" (embedding and output projection use one compressed table), "input-only" (the
            projection keeps the original table, or there is none), "head-only" or "both"; the one that makes the model
            the smallest unless given.
        resident: In which form the projection holds a compressed table while it runs: "codes", as it is stored, the
            least memory; "int8", whole numbers of one byte, for codes that have scales by column; "dense", decoded.
            What is saved is the same.

    Returns:
        The model.

    Raises:
        SubstitutionError: The architecture does something with a table that a compressed one can't serve, or sizes
            or head policy do not fit, or a head can't have the form; the model is unchanged.
    """
    swap_in(model, compressed_modules(model, compressed, head, resident=resident))
    model.resize_token_embeddings = partial(unresized, model)
    return model


@contextlib.contextmanager
def substituted(model: PreTrainedModel, compressed: Compressions, head: str | None = None) -> Iterator[PreTrainedModel]:
    """Within the context the model's tables are replaced as `substitute` does; afterwards it is as it was."""
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
    model: PreTrainedModel, compressed: Compressions, head: str | None = None, *, resident: str = Resident.name
) -> dict[str, nn.Module]:
    """The modules that `substitute` would put in, by the names of those they replace; the model is not changed.

    Args and errors are those of `substitute`.
    """
    tables = by_table(compressed)
    for name, factors in tables.items():
        _check_table(model, name, factors)
    policy = _checked_policy(model, tables, head)
    made: dict[str, nn.Module] = {}
    try:
        for name, factors in tables.items():
            made |= replacements(model, factors, keep_head=policy == INPUT_ONLY, resident=resident, table=name)
    except ValueError as error:
        raise SubstitutionError(str(error)) from None
    return made


def _check_table(model: PreTrainedModel, name: str, factors: Factors) -> None:
    """Raise `SubstitutionError` where a model has no such table, one of another size, or does more with it."""
    anchor = module_of(model, name)
    if name != HEAD and anchor is not None and not isinstance(anchor, nn.Embedding | CompressedEmbedding):
        raise SubstitutionError(f"{type(anchor).__name__} does more than look rows up: it can't be replaced")
    try:
        table = table_named(model, name, type(model).__name__)
    except NoTableError as error:
        raise SubstitutionError(str(error)) from None
    if (factors.vocab, factors.dim) != (table.vocab, table.dim):
        raise SubstitutionError(
            f"the compressed table is {factors.vocab} × {factors.dim}, the model's {table.vocab} × {table.dim}"
        )
    if name in (INPUT, HEAD):
        _check_lookups(model)
    for place, module in users_of(model, name).items():
        _check_user(place, module)


def _check_lookups(model: PreTrainedModel) -> None:
    """Raise `SubstitutionError` where encoder or decoder look tokens up in what is no table."""
    known = {id(module) for name in tables_of(model) for module in users_of(model, name).values()}
    if any(id(lookup) not in known for lookup in lookups_of_parts(model)):
        raise SubstitutionError(f"{type(model).__name__} looks tokens up in what is no table: none can be replaced")


def _checked_policy(model: PreTrainedModel, tables: Collection[str], head: str | None) -> str:
    """The head policy. Raises `SubstitutionError` for heads that can't be replaced, and policies that don't fit."""
    allowed = head_policies(model, tables)
    policy = head or allowed[-1]
    table, projection = HEAD if HEAD in tables else INPUT, model.get_output_embeddings()
    if projection is not None and (HEAD in tables or TIED in allowed):
        parameter = table_of(projection) if table == HEAD else table_of(model.get_input_embeddings())
        if not (_projects(projection, parameter) and _called(model, projection, table)):
            raise SubstitutionError(
                f"the head of {type(model).__name__} reads the table's weight directly (for DeBERTa: legacy=False), "
                f"so {policy} can't be done: load the model without its head"
            )
    if policy not in allowed:
        shared = "shares" if TIED in allowed else "does not share"
        which = "" if [*tables] == [INPUT] else f" with {' and '.join(tables)} compressed"
        raise SubstitutionError(
            f"the head of {type(model).__name__} {shared} the table: "
            f"the head policy{which} can be {' or '.join(allowed)}, not {policy}"
        )
    return policy


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


def _called(model: PreTrainedModel, head: nn.Module, table: str) -> bool:
    """Whether the module that holds a head calls it, where the head uses the table.

    MobileBERT's multiplies by the head's weight itself; Mamba's calls it, and asks for nothing but its type.
    """
    shared = head in users_of(model, table).values()
    for name, module in model.named_modules():
        if module is head and shared:
            holder, _, attribute = name.rpartition(".")
            code = inspect.unwrap(type(model.get_submodule(holder)).forward)
            read = [instruction.argval for instruction in dis.get_instructions(code)]
            weights = [place for place, name in enumerate(read) if name == "weight"]
            asks = all(read[place - 1] == attribute and read[place + 1] in _FACTS for place in weights)
            return attribute not in read or asks
    return True
