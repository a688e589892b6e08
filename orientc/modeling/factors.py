"""The numbers of a compressed table and the formulas that turn them back into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from orientc.modeling.decoding import block_of_latents, blocks_of_latents, inverse, places, rows_of_latents
from orientc.modeling.layout import FLOAT, PLAIN, Layout

CHUNK = 2048  # rows decoded at a time where the whole table passes through; a few MB, which caches hold


def decode(latents: Tensor, weight: Tensor | None, bias: Tensor | None, activation: str | None) -> Tensor:
    """Rows of the table, `[..., dim]`, from latents `[..., rank]`: `act(latents · weightᵀ + bias)`.

    Without a weight the latents are the rows. `activation` is None or `"elu"`.
    """
    rows = latents if weight is None else functional.linear(latents, weight, bias)
    return functional.elu(rows) if activation == "elu" else rows


def _frozen(rows: Tensor, where: Tensor | None) -> Tensor:
    """The same rows `[n, …]`; those chosen by `where [n, 1]` pass no gradient on."""
    return rows if where is None or not rows.requires_grad else torch.where(where, rows.detach(), rows)


def _joined(blocks: Iterator[Tensor], count: int, places: Tensor | None) -> Tensor:
    """Blocks `[..., n]` as one tensor `[..., count]`: behind one another, or entry i from `places[i]` there.

    Without gradients each block goes to where it belongs: the whole is there once, and only the block beside it.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        found = list(blocks)
        joined = found[0] if len(found) == 1 else torch.cat(found, dim=-1)
        return joined if places is None else joined.index_select(-1, places)
    ids = None if places is None else inverse(places)
    whole, start = None, 0
    for block in blocks:
        if block.shape[-1] == count and ids is None:
            return block
        if whole is None:
            whole = block.new_empty(*block.shape[:-1], count)
        part = slice(start, start + block.shape[-1])
        if ids is None:
            whole[..., part] = block
        else:
            whole.index_copy_(-1, ids[part], block)
        start = part.stop
    assert whole is not None
    return whole


@dataclass(frozen=True)
class Factors:
    """A compressed table's tensors by their names in an artifact, and how they are laid out."""

    layout: Layout
    tensors: Mapping[str, Tensor]

    @classmethod
    def plain(
        cls,
        latents: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        activation: str | None = None,
    ) -> Factors:
        """Latents `[vocab, rank]` as they are, with the decoder's weight `[dim, rank]`, bias `[dim]` and activation."""
        (vocab, rank), dim = latents.shape, latents.shape[1] if weight is None else weight.shape[0]
        layout = Layout(vocab, dim, rank, weight is not None, bias is not None, activation)
        named = {"latents": latents, "decoder.weight": weight, "decoder.bias": bias}
        return cls(layout, {name: tensor for name, tensor in named.items() if tensor is not None})

    def with_kept(self, ids: Tensor, rows: Tensor) -> Factors:
        """The same table where rows `ids [k]`, in ascending order, are stored as they are, `rows [k, dim]`.

        The latents must be those of the other rows, in the order of their ids.
        """
        layout = replace(self.layout, vocab=self.layout.rows + len(ids), kept=len(ids))
        return Factors(layout, {**self.tensors, "kept.ids": ids.to(torch.int32), "kept.rows": rows})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Factors:
        """Factors of the same layout from other tensors."""
        return replace(self, tensors=tensors)

    @property
    def vocab(self) -> int:
        """Number of rows."""
        return self.layout.vocab

    @property
    def rank(self) -> int:
        """Width of the latents."""
        return self.layout.rank

    @property
    def dim(self) -> int:
        """Width of the decoded rows."""
        return self.layout.dim

    @property
    def activation(self) -> str | None:
        """What follows the decoder's linear map."""
        return self.layout.activation

    @property
    def latents(self) -> Tensor:
        """Latents `[rows, rank]` of the rows that are not kept, in the order of their ids."""
        if self.layout.codec == PLAIN:
            return self.tensors["latents"]
        return rows_of_latents(self.layout, self.tensors, torch.arange(self.layout.rows, device=self.device))

    @property
    def weight(self) -> Tensor | None:
        """The decoder's weight `[dim, rank]`."""
        return self.tensors.get("decoder.weight")

    @property
    def bias(self) -> Tensor | None:
        """The decoder's bias `[dim]`."""
        return self.tensors.get("decoder.bias")

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    @property
    def numbers(self) -> int:
        """Stored numbers, decoder and bias counted."""
        return self.layout.numbers

    @property
    def nbytes(self) -> int:
        """Stored bytes, headers not counted."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to(self, dtype: torch.dtype) -> Factors:
        """The same factors on the CPU, contiguous, in another float type; scales, codes and ids keep theirs."""
        kinds = self.layout.shapes
        return self.map_named(
            lambda name, tensor: (
                tensor.detach().to("cpu", dtype if kinds[name][0] == FLOAT else tensor.dtype).contiguous()
            )
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Factors:
        """The factors with `change` applied to each tensor that is there."""
        return self.map_named(lambda _, tensor: change(tensor))

    def map_named(self, change: Callable[[str, Tensor], Tensor]) -> Factors:
        """As `map`, with the tensor's name."""
        return self.with_tensors({name: change(name, tensor) for name, tensor in self.tensors.items()})

    def rows(self, ids: Tensor, padding_idx: int | None = None) -> Tensor:
        """Rows `[..., dim]` of the table for integer ids `[...]`; what is stored of `padding_idx` gets no gradient."""
        flat = ids.flatten()
        others, kept, place = flat, None, flat
        padding = None if padding_idx is None else (flat == padding_idx).unsqueeze(1)
        if self.layout.kept:
            stored = self.tensors["kept.ids"]
            place = torch.searchsorted(stored, flat.to(stored.dtype))
            kept = stored[place.clamp(max=len(stored) - 1)] == flat
            others = torch.where(kept, 0, flat - place)
        if self.layout.kept == self.layout.vocab:
            rows = _frozen(functional.embedding(flat, self.tensors["kept.rows"]), padding)
        else:
            rows = self._decoded(_frozen(rows_of_latents(self.layout, self.tensors, others), padding))
            if kept is not None:
                whole = functional.embedding(torch.where(kept, place, 0), self.tensors["kept.rows"])
                rows = torch.where(kept.unsqueeze(1), _frozen(whole, padding), rows)
        return rows.reshape(*ids.shape, self.dim) if ids.dim() != 1 else rows

    def products(self, states: Tensor) -> Tensor:
        """Products `[..., vocab]` of states `[..., dim]` with every row; the table is never there as a whole.

        With a linear decoder `(h·W)·Zᵀ + h·b`; latents in codes, and through an activation rows, block by block.
        """
        return _joined(self._products_by_blocks(states), self.vocab, places(self.layout, self.tensors))

    def _products_by_blocks(self, states: Tensor) -> Iterator[Tensor]:
        """Those with the blocks of `blocks_of_latents`, then with kept rows."""
        layout, weight, bias = self.layout, self.weight, self.bias
        narrow = states if weight is None or layout.activation else states @ weight
        whole = layout.codec == PLAIN and not layout.activation
        size = layout.rows if whole else CHUNK
        for row_group, start in blocks_of_latents(layout, size) if layout.rows else ():
            block = block_of_latents(layout, self.tensors, row_group, start, size)
            if layout.activation:
                block = self._decoded(block)
            products = functional.linear(narrow, block)
            if bias is not None and not layout.activation:
                products.add_((states @ bias).unsqueeze(-1))  # in place: they are large, and no gradient needs them
            yield products
        if layout.kept:
            yield functional.linear(states, self.tensors["kept.rows"])

    def chunks(self, rows: int = CHUNK) -> Iterator[Tensor]:
        """The table as float32 blocks of at most `rows` rows, in order; the whole is never in memory."""
        wide = self.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
        for ids in torch.arange(self.vocab, device=self.device).split(rows):
            yield wide.rows(ids)

    def dense(self) -> Tensor:
        """The whole reconstructed table, float32 `[vocab, dim]`."""
        return torch.cat(list(self.chunks()))

    def _decoded(self, latents: Tensor) -> Tensor:
        return decode(latents, self.weight, self.bias, self.layout.activation)
