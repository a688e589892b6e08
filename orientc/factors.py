"""The numbers of a compressed table and the one formula that turns them back into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 2048  # rows decoded at a time where the whole table passes through; a few MB, which caches hold


def decode(latents: Tensor, weight: Tensor | None, bias: Tensor | None, activation: str | None) -> Tensor:
    """Rows of the table, `[..., dim]`, from latents `[..., rank]`: `act(latents · weightᵀ + bias)`.

    Without a weight the latents are the rows. `activation` is None or `"elu"`.
    """
    rows = latents if weight is None else functional.linear(latents, weight, bias)
    return functional.elu(rows) if activation == "elu" else rows


@dataclass(frozen=True)
class Factors:
    """Latents `[vocab, rank]` with the decoder's weight `[dim, rank]`, bias `[dim]` and activation, as present."""

    latents: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    activation: str | None = None

    @property
    def vocab(self) -> int:
        """Number of rows."""
        return self.latents.shape[0]

    @property
    def rank(self) -> int:
        """Width of the latents."""
        return self.latents.shape[1]

    @property
    def dim(self) -> int:
        """Width of the decoded rows."""
        return self.rank if self.weight is None else self.weight.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors under their names in an artifact."""
        named = {"latents": self.latents, "decoder.weight": self.weight, "decoder.bias": self.bias}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Factors:
        """Factors of the same kind from tensors under their names in an artifact."""
        return Factors(tensors["latents"], tensors.get("decoder.weight"), tensors.get("decoder.bias"), self.activation)

    @property
    def numbers(self) -> int:
        """Stored numbers, decoder and bias counted."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Stored bytes, headers not counted."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to(self, dtype: torch.dtype) -> Factors:
        """The same factors on the CPU in another float type, contiguous."""
        return self.map(lambda tensor: tensor.detach().to("cpu", dtype).contiguous())

    def map(self, change: Callable[[Tensor], Tensor]) -> Factors:
        """The factors with `change` applied to each tensor that is there."""
        return replace(
            self,
            latents=change(self.latents),
            weight=None if self.weight is None else change(self.weight),
            bias=None if self.bias is None else change(self.bias),
        )

    def chunks(self, rows: int = CHUNK) -> Iterator[Tensor]:
        """The table as float32 blocks of at most `rows` rows, in order; the whole is never in memory."""
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        for block in self.latents.split(rows):
            yield decode(block.float(), weight, bias, self.activation)

    def dense(self) -> Tensor:
        """The whole reconstructed table, float32 `[vocab, dim]`."""
        return torch.cat(list(self.chunks()))
