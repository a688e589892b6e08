"""The torch modules that run from an artifact's tensors: a lookup, and an output projection that shares them.

Both are differentiable, and their floats trainable. With a linear decoder neither ever builds the dense table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orientc.modeling.factors import Factors


def embedding_scale(embedding: nn.Module) -> float:
    """What a transformers embedding multiplies looked-up rows by: √dim in Gemma, optional in BART, else 1."""
    scale = getattr(embedding, "scalar_embed_scale", getattr(embedding, "embed_scale", None))
    return 1.0 if scale is None else float(scale)


def table_of(embedding: nn.Module) -> nn.Parameter:
    """The parameter that a table's users share: an embedding's weight, the first float one of a stand-in."""
    if not isinstance(embedding, CompressedTable):
        return embedding.get_parameter("weight")
    return next(parameter for parameter in embedding.parameters() if parameter.is_floating_point())


class CompressedTable(nn.Module):
    """The tensors of a compressed table as parameters, named as in an artifact with "_" for ".".

    Given tensors become parameters; given parameters are kept, so that several modules can share them. Codes and ids
    are parameters that don't train.
    """

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        for name in ("latents", "decoder.weight", "decoder.bias"):
            self.register_parameter(_attribute(name), None)
        for name, tensor in factors.tensors.items():
            setattr(self, _attribute(name), _parameter(tensor))
        self._like = factors.map(lambda tensor: torch.empty_like(tensor, device="meta"))
        self.num_embeddings, self.embedding_dim = factors.vocab, factors.dim

    @property
    def factors(self) -> Factors:
        """The parameters themselves, not copies: what another module takes to share them."""
        return self._like.map_named(lambda name, _: self.get_parameter(_attribute(name)))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        layout = self._like.layout
        coded = "" if layout.codec == "plain" else f", {layout.codec}"
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={layout.rank}{coded}"


class CompressedEmbedding(CompressedTable):
    """Stands in for an `nn.Embedding` of `vocab` rows of width `dim`.

    As there, the latents of `padding_idx` get no gradient. `embed_scale` multiplies the looked-up rows; it is
    rounded to their dtype first, as Gemma does.
    """

    def __init__(self, factors: Factors, *, padding_idx: int | None = None, embed_scale: float = 1.0) -> None:
        super().__init__(factors)
        self.padding_idx = padding_idx
        self.embed_scale = embed_scale

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows `[..., dim]` for integer ids `[...]`; of latents in codes only those looked up are read."""
        rows = self.factors.rows(input_ids, self.padding_idx)
        if self.embed_scale == 1.0:
            return rows
        return rows * torch.tensor(self.embed_scale, dtype=rows.dtype, device=rows.device)


class CompressedHead(CompressedTable):
    """Stands in for the `nn.Linear` that a language model ties to its table.

    Made from the factors of a `CompressedEmbedding`; `bias [vocab]` is the original projection's own.
    """

    def __init__(self, factors: Factors, bias: nn.Parameter | None = None) -> None:
        super().__init__(factors)
        self.bias = bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits `[..., vocab]` for states `[..., dim]`."""
        logits = self.factors.products(hidden)
        return logits if self.bias is None else logits.add_(self.bias)  # they are large, and nobody else's


def _attribute(name: str) -> str:
    return name.replace(".", "_")


def _parameter(tensor: Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
