"""A compressed table in memory: its tensors, and the formulas that make rows and logits of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from orientc.modeling.decoding import (
    block_positions,
    float_type,
    inverse_permutation,
    latent_block,
    latent_blocks,
    latents_of_rows,
    level_blocks,
)
from orientc.modeling.layout import FLOAT, PLAIN, TRELLIS, Layout

CHUNK = 2048  # rows at a time where a whole table is worked on: a few MB, which caches hold
_BLOCK = 1 << 22  # numbers of a block of a wide table's rows
_DECODED = 1 << 18  # numbers of a block that is decoded in steps: each finds it in a core's own cache
FEW = 16  # states at a time, as in generating text


def rows_at_once(width: int) -> int:
    """Rows at a time where a table of this width is worked on: `CHUNK`, and fewer of a wide one."""
    return max(1, min(CHUNK, _BLOCK // width))


def rows_decoded(layout: Layout, device: torch.device) -> int:
    """Rows of codes that are decoded at a time; `CHUNK` where each step has a cost of its own: on a GPU, in a graph."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return CHUNK
    return min(CHUNK, max(64, _DECODED // layout.rank // 64 * 64))


def decode(latents: Tensor, weight: Tensor | None, bias: Tensor | None, activation: str | None) -> Tensor:
    """Decode latents to rows: `activation(latents · weightᵀ + bias)`.

    Args:
        latents: `[..., rank]`.
        weight: The decoder's weight `[dim, rank]`; None where the latents are the rows.
        bias: The decoder's bias `[dim]`, if it has one.
        activation: None or "elu".

    Returns:
        `[..., dim]`.
    """
    rows = latents if weight is None else functional.linear(latents, weight, bias)
    return functional.elu(rows) if activation == "elu" else rows


def _without_gradient(rows: Tensor, where: Tensor | None) -> Tensor:
    """The same rows `[n, …]`; those chosen by `where`, bool `[n, 1]`, pass no gradient on."""
    return rows if where is None or not rows.requires_grad else torch.where(where, rows.detach(), rows)


def widened(tensor: Tensor) -> Tensor:
    """Floats in float32; other tensors as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def is_half_on_cpu(states: Tensor) -> bool:
    """Whether states are float16 or bfloat16, on a CPU."""
    return states.device.type == "cpu" and states.dtype.itemsize < 4


def product_type(states: Tensor) -> torch.dtype:
    """The type in which rows that were codes are multiplied with states.

    On a CPU float16 takes thirty times as long where rows are not contiguous, and bfloat16 gains with many states
    alone: else float32 is as fast, and more exact.
    """
    if not is_half_on_cpu(states):
        return states.dtype
    many = states.numel() > FEW * states.shape[-1]
    return states.dtype if many and states.dtype == torch.bfloat16 else torch.float32


def narrowed(factors: Factors, states: Tensor) -> tuple[Tensor, Tensor | None]:
    """Take states through a linear decoder backwards: products with a row are then products with its latents.

    Args:
        factors: A compressed table whose decoder has no activation.
        states: `[..., dim]`.

    Returns:
        `[..., rank]` in the states' type, and what the decoder's bias adds to each product, `[...]`, if it has one.
    """
    weight, bias = factors.tensors.get("decoder.weight"), factors.bias
    if weight is None:
        return states, None
    wide = states.float() if is_half_on_cpu(states) else states
    narrow = wide @ weight.to(wide.dtype)
    if factors.layout.rounded:  # scales behind the product are not rounded into the weight
        narrow = narrow * factors.tensors["decoder.scales"].to(wide.dtype)
    narrow = narrow.to(states.dtype)
    return narrow, None if bias is None else (wide @ bias.to(wide.dtype)).to(states.dtype)


def _product(states: Tensor, levels: Tensor) -> Tensor:
    return functional.linear(states, levels.to(states.dtype))


def products_by_levels(
    factors: Factors,
    states: Tensor,
    blocks: Iterable[tuple[int, Tensor]],
    product: Callable[[Tensor, Tensor], Tensor] = _product,
) -> Iterator[Tensor]:
    """Multiply states with rows by their levels; scales, offsets and the decoder are folded into the states.

    With levels c, scales s and offsets o a product is `Σ h·(c·s + o) = Σ (h·s)·c + Σ h·o`: of the table's numbers none
    is rounded, and none is scaled for each product.

    Args:
        factors: A compressed table of streams, whose decoder has no activation.
        states: `[..., dim]`.
        blocks: The row group and the levels `[n, rank]`, of any type, of rows as they are stored.
        product: How states `[..., rank]` are multiplied with levels.

    Yields:
        Products `[..., n]` with each block, then with kept rows.
    """
    dtype, wide = product_type(states), states.float() if is_half_on_cpu(states) else states
    narrow, shift = narrowed(factors, wide)
    scales, offsets = (factors.tensors[f"latents.{name}"].to(narrow.dtype) for name in ("scales", "offsets"))
    known = None
    for row_group, levels in blocks:
        if row_group != known:
            known, folded, offset = row_group, (narrow * scales[row_group]).to(dtype), narrow @ offsets[row_group]
            whole = (offset if shift is None else offset + shift).unsqueeze(-1)
        # in place: products are large, and no gradient needs them
        yield _as_wanted(product(folded, levels).add_(whole), dtype, states.dtype)
    yield from _products_with_kept(factors, wide, dtype, states.dtype)


def _products_with_kept(factors: Factors, states: Tensor, dtype: torch.dtype, wanted: torch.dtype) -> Iterator[Tensor]:
    """Products `[..., kept]` with kept rows, if there are any, computed in one type and wanted in another."""
    if factors.layout.kept:
        yield _as_wanted(functional.linear(states.to(dtype), factors.tensors["kept.rows"].to(dtype)), dtype, wanted)


def _as_wanted(products: Tensor, dtype: torch.dtype, wanted: torch.dtype) -> Tensor:
    """Products computed in one type in another one; what autocast has chosen a type for keeps it."""
    return products if dtype == wanted else products.to(wanted)


def concatenated(blocks: Iterator[Tensor], count: int, positions: Tensor | None) -> Tensor:
    """Concatenate blocks `[..., n]` along the last dimension and reorder the entries.

    Where no gradients are wanted each block is written to its place as it comes, so that memory holds the result and
    one block.

    Args:
        blocks: The blocks in order.
        count: Entries of all blocks.
        positions: For each entry of the result its place in the concatenation, `[count]`; None: no reordering.

    Returns:
        `[..., count]`.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        found = list(blocks)
        joined = found[0] if len(found) == 1 else torch.cat(found, dim=-1)
        return joined if positions is None else joined.index_select(-1, positions)
    ids = None if positions is None else inverse_permutation(positions)
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
    """A compressed table: its tensors by name, as an artifact stores them, and their layout.

    Attributes:
        layout: Which tensors there are, of what shape.
        tensors: The tensors: "latents" `[rows, rank]` or its codes, scales and offsets; as present "decoder.weight"
            `[dim, rank]`, "decoder.scales" `[rank]`, "decoder.bias" `[dim]`, "kept.ids" and "kept.rows" `[kept, dim]`.
    """

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
        """A table whose latents `[vocab, rank]` are stored as numbers; weight, bias and activation as in `decode`."""
        (vocab, rank), dim = latents.shape, latents.shape[1] if weight is None else weight.shape[0]
        layout = Layout(vocab, dim, rank, weight is not None, bias is not None, activation)
        named = {"latents": latents, "decoder.weight": weight, "decoder.bias": bias}
        return cls(layout, {name: tensor for name, tensor in named.items() if tensor is not None})

    def with_kept(self, ids: Tensor, rows: Tensor) -> Factors:
        """Add kept rows to a table that so far holds the others alone.

        Args:
            ids: Ids of the kept rows in the whole table, `[k]`, ascending.
            rows: The rows as they are, `[k, dim]`.
        """
        layout = replace(self.layout, vocab=self.layout.rows + len(ids), kept=len(ids))
        return Factors(layout, {**self.tensors, "kept.ids": ids.to(torch.int32), "kept.rows": rows})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Factors:
        """Other tensors in the same layout."""
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
        """What follows the decoder's linear map: None or "elu"."""
        return self.layout.activation

    @property
    def latents(self) -> Tensor:
        """Latents `[rows, rank]` of the rows that are not kept, in the order of their ids; decoded if in codes."""
        if self.layout.codec == PLAIN:
            return self.tensors["latents"]
        return latents_of_rows(self.layout, self.tensors, torch.arange(self.layout.rows, device=self.device))

    @property
    def weight(self) -> Tensor | None:
        """The decoder's weight `[dim, rank]`, if there is a decoder; times its scales where it is whole numbers."""
        weight = self.tensors.get("decoder.weight")
        if weight is None or not self.layout.rounded:
            return weight
        scales = self.tensors["decoder.scales"]
        dtype = float_type(self.tensors, scales)
        return weight.to(dtype).mul_(scales.to(dtype))  # in place: a fresh copy already

    @property
    def bias(self) -> Tensor | None:
        """The decoder's bias `[dim]`, if it has one."""
        return self.tensors.get("decoder.bias")

    @property
    def device(self) -> torch.device:
        """The tensors' device."""
        return next(iter(self.tensors.values())).device

    @property
    def numbers(self) -> int:
        """Count of stored numbers, decoder and bias included."""
        return self.layout.numbers

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to(self, dtype: torch.dtype) -> Factors:
        """Copy to the CPU, contiguous, in another float type; scales, codes and ids keep theirs."""
        kinds = self.layout.shapes
        return self.map_named(
            lambda name, tensor: (
                tensor.detach().to("cpu", dtype if kinds[name][0] == FLOAT else tensor.dtype).contiguous()
            )
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Factors:
        """Apply a function to each tensor."""
        return self.map_named(lambda _, tensor: change(tensor))

    def map_named(self, change: Callable[[str, Tensor], Tensor]) -> Factors:
        """Apply a function of name and tensor to each tensor."""
        return self.with_tensors({name: change(name, tensor) for name, tensor in self.tensors.items()})

    def rows(self, ids: Tensor, padding_idx: int | None = None) -> Tensor:
        """Look up rows of the table.

        Args:
            ids: Integers `[...]`.
            padding_idx: A row whose stored numbers get no gradient, as in `nn.Embedding`.

        Returns:
            `[..., dim]`.
        """
        flat = ids.flatten()
        others, kept, position = flat, None, flat
        padding = None if padding_idx is None else (flat == padding_idx).unsqueeze(1)
        if self.layout.kept:
            stored = self.tensors["kept.ids"]
            position = torch.searchsorted(stored, flat.to(stored.dtype))
            kept = stored[position.clamp(max=len(stored) - 1)] == flat
            others = torch.where(kept, 0, flat - position)
        if self.layout.kept == self.layout.vocab:
            rows = _without_gradient(functional.embedding(flat, self.tensors["kept.rows"]), padding)
        else:
            rows = self._decoded(_without_gradient(latents_of_rows(self.layout, self.tensors, others), padding))
            if kept is not None:
                whole = functional.embedding(torch.where(kept, position, 0), self.tensors["kept.rows"])
                rows = torch.where(kept.unsqueeze(1), _without_gradient(whole, padding), rows)
        return rows.reshape(*ids.shape, self.dim) if ids.dim() != 1 else rows

    def products(self, states: Tensor) -> Tensor:
        """Multiply states with every row of the table, without building the table.

        With latents Z and a linear decoder W, b that is `(h·W)·Zᵀ + h·b`. Codes, and rows behind an activation, are
        decoded block by block; of streams no more than the levels.

        Args:
            states: `[..., dim]`.

        Returns:
            `[..., vocab]`.
        """
        if self.layout.codec == TRELLIS and not self.layout.activation:
            size = rows_decoded(self.layout, states.device)
            levels = level_blocks(self.layout, self.tensors, product_type(states), size)
            blocks = products_by_levels(self, states, levels)
        else:
            blocks = self._products_by_block(states)
        return concatenated(blocks, self.vocab, block_positions(self.layout, self.tensors))

    def _products_by_block(self, states: Tensor) -> Iterator[Tensor]:
        """Products with the rows of each block of `latent_blocks`, then with kept rows."""
        layout, source, wide, dtype = self.layout, self, states, states.dtype
        if layout.codec != PLAIN and is_half_on_cpu(states):
            source, wide = self.map(widened), states.float()  # codes become numbers twice as fast in float32
            dtype = product_type(states)
        narrow, shift = (wide, None) if layout.activation else narrowed(source, wide)
        narrow = narrow.to(dtype)
        if layout.codec == PLAIN:
            size = CHUNK if layout.activation else layout.rows
        else:
            size = rows_decoded(layout, states.device)
        for row_group, start in latent_blocks(layout, size) if layout.rows else ():
            block = latent_block(layout, source.tensors, row_group, start, size)
            if layout.activation:
                block = source._decoded(block)
            products = functional.linear(narrow, block.to(dtype))
            if shift is not None:
                products.add_(shift.unsqueeze(-1))  # in place: they are large, and no gradient needs them
            yield _as_wanted(products, dtype, states.dtype)
        yield from _products_with_kept(source, wide, dtype, states.dtype)

    def chunks(self, rows: int | None = None) -> Iterator[Tensor]:
        """The reconstructed table in float32 blocks of at most `rows` rows, some MB unless given, in order."""
        # beside a decoder, in whose type all is computed, what is as long as the table is widened block by block
        long = ("latents", "kept.rows") if self.layout.decoder else ()
        wide = self.map_named(lambda name, tensor: tensor if name in long else widened(tensor))
        for ids in torch.arange(self.vocab, device=self.device).split(rows or rows_at_once(self.dim)):
            yield wide.rows(ids).float()

    def dense(self) -> Tensor:
        """The whole reconstructed table, float32 `[vocab, dim]`."""
        return torch.cat(list(self.chunks()))

    def table(self) -> Tensor:
        """The whole reconstructed table `[vocab, dim]` in the tensors' own float type; what trains gets gradients."""
        layout = self.layout
        blocks = [
            self._decoded(latent_block(layout, self.tensors, row_group, start, CHUNK))
            for row_group, start in (latent_blocks(layout, CHUNK) if layout.rows else ())
        ]
        rows = torch.cat([*blocks, self.tensors["kept.rows"]] if layout.kept else blocks)
        positions = block_positions(layout, self.tensors)
        return rows if positions is None else rows.index_select(0, positions)

    def _decoded(self, latents: Tensor) -> Tensor:
        weight = self.weight
        wide = latents if weight is None else latents.to(weight.dtype)
        return decode(wide, weight, self.bias, self.layout.activation)
