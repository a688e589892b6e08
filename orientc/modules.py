"""The torch modules that run from an artifact's tensors: a lookup, and an output projection that shares them.

Both are differentiable and trainable. With a linear decoder neither ever builds the dense table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from orientc.factors import CHUNK, Factors, decode


def embedding_scale(embedding: nn.Module) -> float:
    """What a transformers embedding multiplies looked-up rows by: √dim in Gemma, optional in BART, else 1."""
    scale = getattr(embedding, "scalar_embed_scale", getattr(embedding, "embed_scale", None))
    return 1.0 if scale is None else float(scale)


def table_of(embedding: nn.Module) -> nn.Parameter:
    """The parameter that has a row for each token: an embedding's weight, a stand-in's latents."""
    return embedding.get_parameter("latents" if isinstance(embedding, CompressedTable) else "weight")


class CompressedTable(nn.Module):
    """The parameters of a compressed table: `latents`, `decoder_weight`, `decoder_bias`, the latter two as present.

    Given tensors become parameters; given parameters are kept, so that several modules can share them.
    """

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        self.latents = _parameter(factors.latents)
        self.decoder_weight = None if factors.weight is None else _parameter(factors.weight)
        self.decoder_bias = None if factors.bias is None else _parameter(factors.bias)
        self.activation = factors.activation
        self.num_embeddings, self.embedding_dim = factors.vocab, factors.dim

    @property
    def factors(self) -> Factors:
        """The parameters themselves, not copies: what another module takes to share them."""
        return Factors(self.latents, self.decoder_weight, self.decoder_bias, self.activation)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={self.latents.shape[1]}"


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
        """Rows `[..., dim]` for integer ids `[...]`."""
        latents = functional.embedding(input_ids, self.latents, self.padding_idx)
        rows = decode(latents, self.decoder_weight, self.decoder_bias, self.activation)
        if self.embed_scale == 1.0:
            return rows
        return rows * torch.tensor(self.embed_scale, dtype=rows.dtype, device=rows.device)


class CompressedHead(CompressedTable):
    """Stands in for the `nn.Linear` that a language model ties to its table.

    Made from the factors of a `CompressedEmbedding`; `bias [vocab]` is the original projection's own. With a
    linear decoder `logits = (h·W)·Zᵀ + h·b + bias`; through an activation the table is decoded block by block.
    """

    def __init__(self, factors: Factors, bias: nn.Parameter | None = None) -> None:
        super().__init__(factors)
        self.bias = bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits `[..., vocab]` for states `[..., dim]`."""
        if self.decoder_weight is None:
            return functional.linear(hidden, self.latents, self.bias)
        if self.activation is not None:
            blocks = self.latents.split(CHUNK)
            rows = (decode(block, self.decoder_weight, self.decoder_bias, self.activation) for block in blocks)
            logits = torch.cat([functional.linear(hidden, block) for block in rows], dim=-1)
            return logits if self.bias is None else logits + self.bias
        logits = functional.linear(hidden @ self.decoder_weight, self.latents, self.bias)
        if self.decoder_bias is not None:
            logits = logits + (hidden @ self.decoder_bias).unsqueeze(-1)
        return logits


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
