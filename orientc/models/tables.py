"""The tables of a model: what they are called, and which parameters and modules are theirs.

A table is a matrix with a row for each token. "input" is the one that tokens are looked up in, "head" that of an output
projection which does not share it. A decoder's, where it shares neither, and other large embeddings, such as Gemma 3n's
for each layer, go by their modules' names. Small embeddings, of positions, types and the like, are none; nor is one
that a model keeps, but nothing in it uses, as BART's shared one where encoder and decoder have their own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from orientc.errors import NoTableError
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, table_of
from orientc.modeling.swap import lookup_of, lookups_of_parts, module_of, users_of
from orientc.modeling.table_names import HEAD, INPUT

LEAST_ROWS = 10_000  # of an embedding that is a table beside the model's own
ALL = "all"
# in the names of embeddings of positions and types, which are no tables, however large
_OTHERS = ("position", "pos_emb", "wpe", "token_type", "type_emb", "segment")


@dataclass(frozen=True)
class ModelTable:
    """One table of a model.

    Attributes:
        name: "input", "head", or the name of its module.
        vocab: Rows.
        dim: Width.
        parameters: Names of the parameters that are this table; of a compressed one those of its tensors.
        modules: Names of the modules that use it.
    """

    name: str
    vocab: int
    dim: int
    parameters: tuple[str, ...]
    modules: tuple[str, ...]

    @property
    def numbers(self) -> int:
        """Numbers in the table."""
        return self.vocab * self.dim


def tables_of(model: PreTrainedModel) -> dict[str, ModelTable]:
    """The tables of a model by name: the input's, an untied head's, a decoder's own, then others by size."""
    lookup, head, parts = module_of(model), module_of(model, HEAD), lookups_of_parts(model)
    names = [INPUT] if isinstance(lookup, nn.Embedding | CompressedEmbedding) else []
    if head is not None and _is_table(model, head) and not (names and head in users_of(model).values()):
        names.append(HEAD)
    taken = {id(_parameter(module_of(model, name))) for name in names}
    if lookup is not (unused := lookup_of(model)):
        taken.add(id(_parameter(unused)))
    others: dict[str, int] = {}
    for place, module in model.named_modules():
        if not isinstance(module, nn.Embedding | CompressedEmbedding) or id(_parameter(module)) in taken:
            continue
        large = module.num_embeddings >= LEAST_ROWS or isinstance(module, CompressedEmbedding) or module in parts
        if large and not any(word in place.rpartition(".")[2] for word in _OTHERS):
            taken.add(id(_parameter(module)))
            others[_short(model, place)] = module.num_embeddings * module.embedding_dim
    names += sorted(others, key=lambda name: (-others[name], name))
    return {name: _described(model, name) for name in names}


def table_named(model: PreTrainedModel, name: str, id: str) -> ModelTable:
    """The table of a name. Raises `NoTableError` where the model, called `id`, has none."""
    found = tables_of(model)
    if name not in found:
        if name == INPUT:
            raise NoTableError(f"{id} ({model.config.model_type}) has no token-embedding table")
        shared = name == HEAD and INPUT in found and model.get_output_embeddings() is not None
        why = "its head shares the input's" if shared else "it has no such table"
        raise NoTableError(f"{id} has no table {name}: {why}; there {_are(found)}")
    return found[name]


def chosen(model: PreTrainedModel, name: str, id: str) -> tuple[str, ...]:
    """The names of the tables that "input", "head", "all" or another name stands for. Raises `NoTableError`."""
    return tuple(tables_of(model)) if name == ALL else (table_named(model, name, id).name,)


def _is_table(model: PreTrainedModel, head: nn.Module) -> bool:
    """Whether an output projection has a row for each token, as a lookup has, or one that shares its weight.

    DeBERTa's (legacy=False) is a layer before the product, which reads the lookup's weight.
    """
    if not isinstance(head, nn.Linear | CompressedHead):
        return False
    rows = {getattr(lookup, "num_embeddings", None) for lookup in (module_of(model), *lookups_of_parts(model))}
    if isinstance(head, CompressedHead) or len(_parameter(head)) in rows:
        return True
    return any(isinstance(user, nn.Embedding) for user in users_of(model, HEAD).values())


def _parameter(module: nn.Module | None) -> nn.Parameter:
    assert module is not None
    return table_of(module)


def _short(model: PreTrainedModel, place: str) -> str:
    """The last part of a module's name, or as many as it takes to name it alone.

    Classes of one architecture differ in what comes before that.
    """
    parts = place.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
    return next(end for end in ends if end not in (INPUT, HEAD, ALL) and module_of(model, end) is not None)


def _described(model: PreTrainedModel, name: str) -> ModelTable:
    anchor, users = module_of(model, name), users_of(model, name)
    assert anchor is not None
    if isinstance(anchor, CompressedEmbedding | CompressedHead):
        vocab, dim = anchor.num_embeddings, anchor.embedding_dim
        parameters = tuple(f"{place}.{tensor}" for place in users for tensor in anchor.tensor_names)
    else:
        vocab, dim = _parameter(anchor).shape
        parameters = tuple(f"{place}.weight" for place in users)
    return ModelTable(name, vocab, dim, parameters, tuple(users))


def _are(found: Collection[str]) -> str:
    return f"{'is' if len(found) == 1 else 'are'} {', '.join(found) or 'none'}"
