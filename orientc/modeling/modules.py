"""The torch modules of a compressed table: an embedding, and an output projection; both may share their parameters.

Both are differentiable and their floats trainable. With a linear decoder neither builds the dense table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from orientc.modeling.factors import Factors
from orientc.modeling.resident import Resident, ResidentTable
from orientc.modeling.undecoded import Undecoded


def embedding_scale(embedding: nn.Module) -> float:
    """The factor a transformers embedding multiplies looked-up rows by: √dim in Gemma, optional in BART, else 1."""
    scale = getattr(embedding, "scalar_embed_scale", getattr(embedding, "embed_scale", None))
    return 1.0 if scale is None else float(scale)


def table_of(embedding: nn.Module) -> nn.Parameter:
    """The parameter by which modules that share a token table are found.

    An embedding's weight, or the first parameter of a compressed module.
    """
    if not isinstance(embedding, CompressedTable):
        return embedding.get_parameter("weight")
    return next(embedding.parameters())


class CompressedTable(nn.Module):
    """A module that holds the tensors of a compressed table, named as in an artifact with "_" for ".".

    Floats become parameters, codes and ids persistent buffers, which do not train and are never cast. What is a
    parameter already is kept, and so are codes and ids, so that several modules can share them.
    """

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        for name in ("latents", "decoder.weight", "decoder.bias"):
            if name not in factors.tensors or factors.tensors[name].is_floating_point():
                self.register_parameter(_attribute(name), None)
        for name, tensor in factors.tensors.items():
            if tensor.is_floating_point():
                parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
                self.register_parameter(_attribute(name), parameter)
            else:
                self.register_buffer(_attribute(name), tensor)
        self._like = factors.map(lambda tensor: torch.empty_like(tensor, device="meta"))
        self.num_embeddings, self.embedding_dim = factors.vocab, factors.dim

    @property
    def factors(self) -> Factors:
        """The compressed table of this module's own tensors, not copies; another module made of it shares them."""
        return self._like.map_named(lambda name, _: getattr(self, _attribute(name)))

    @property
    def tensor_names(self) -> list[str]:
        """The attributes that hold the table's tensors; a head's own bias is none of them."""
        return [_attribute(name) for name in self._like.tensors]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply a function to all tensors, as `to` does; buffers stay the same objects, as torch has parameters do.

        Otherwise an embedding and a head would have codes of their own after a move to another device.
        """
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and torch._has_compatible_shallow_copy_type(buffer, moved):
                buffer.data = moved
                self._buffers[name] = buffer
        return self

    @property
    def weight(self) -> Tensor:
        """The whole table `[vocab, dim]`, decoded each time it is asked for, in the type of the module's floats.

        This is for programs that read the weight of an embedding or a head. It takes the time and the memory of the
        dense table; a gradient goes on to what trains. It can't be assigned, and nothing is kept.
        """
        factors, like = self.factors, table_of(self)
        if any(tensor.is_meta for tensor in factors.tensors.values()):  # all, or some while a model is loaded
            return torch.empty(factors.vocab, factors.dim, dtype=like.dtype, device="meta")
        return factors.table()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "weight":
            raise AttributeError("the weight of a compressed table is decoded when it is read, and can't be assigned")
        super().__setattr__(name, value)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """What `print(model)` shows in the brackets."""
        layout = self._like.layout
        coded = "" if layout.codec == "plain" else f", {layout.codec}"
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={layout.rank}{coded}"


class CompressedEmbedding(CompressedTable):
    """An embedding that looks rows up in a compressed table; replaces `nn.Embedding(vocab, dim)`.

    Args:
        factors: The compressed table.
        padding_idx: A row whose stored numbers get no gradient, as in `nn.Embedding`.
        embed_scale: Multiplies the looked-up rows; rounded to their dtype first, as Gemma does.
    """

    def __init__(self, factors: Factors, *, padding_idx: int | None = None, embed_scale: float = 1.0) -> None:
        super().__init__(factors)
        self.padding_idx = padding_idx
        self.embed_scale = embed_scale

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up rows `[..., dim]` for integer ids `[...]`; only the codes of these rows are decoded."""
        rows = self.factors.rows(input_ids, self.padding_idx)
        if self.embed_scale == 1.0:
            return rows
        return rows * torch.tensor(self.embed_scale, dtype=rows.dtype, device=rows.device)


class CompressedHead(CompressedTable):
    """An output projection with the rows of a compressed table; replaces the `nn.Linear` tied to the token table.

    Args:
        factors: The compressed table, as a rule `CompressedEmbedding.factors`, so that parameters are shared.
        bias: The original projection's own bias `[vocab]`, if it has one.
        form: The form in which the table is held while the head runs.
    """

    def __init__(self, factors: Factors, bias: nn.Parameter | None = None, form: type[Resident] = Resident) -> None:
        super().__init__(factors)
        self.bias = bias
        self.resident = ResidentTable(form)

    @property
    def weight(self) -> Tensor:
        """The whole table `[vocab, dim]`; where nothing of it trains it is decoded when its numbers are first needed.

        Some models ask for the type of their head's weight in each step, and never for a number of it.
        """
        tensors = self.factors.tensors.values()
        # a function of autograd's that is given an undecoded table passes no gradient on, and says nothing
        trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if trains or torch.compiler.is_compiling() or any(tensor.is_meta for tensor in tensors):
            return super().weight
        return Undecoded(self.factors, table_of(self))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.resident.drop()
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Self:
        """Set the mode as any module does; what changes in training is read anew."""
        self.resident.drop()
        return super().train(mode)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits `[..., vocab]` from states `[..., dim]`."""
        logits = self.resident.products(self.factors, hidden)
        return logits if self.bias is None else logits.add_(self.bias)  # they are large, and nobody else's


def _attribute(name: str) -> str:
    return name.replace(".", "_")
