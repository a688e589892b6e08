"""The forms in which a head may hold its table while it runs, and the products it computes from them.

A form is never stored: it is made of the table's tensors at the first product, and again where these have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from orientc.modeling.decoding import block_positions, level_blocks
from orientc.modeling.factors import CHUNK, Factors, concatenated, products_by_levels
from orientc.modeling.layout import PLAIN, TRELLIS, Layout


class Resident:
    """The table as it is stored: nothing more is held, and codes are decoded for each product."""

    name: ClassVar[str] = "codes"

    def __init__(self, factors: Factors) -> None:
        """Make the form of a table; no gradient is recorded meanwhile."""

    @staticmethod
    def obstacle(layout: Layout) -> str | None:
        """Why tables of a layout can't have this form; None where they can."""
        return None

    @staticmethod
    def sources(factors: Factors) -> Collection[Tensor]:
        """The tensors that the form is made of: what is in memory is stale once one of them has changed."""
        return ()

    def products(self, factors: Factors, states: Tensor) -> Tensor:
        """Multiply states `[..., dim]` with every row of the table: `[..., vocab]`."""
        return factors.products(states)


class Int8(Resident):
    """Levels as whole numbers, one byte each; see `products_by_levels`.

    What trains is read anew for each product, and gets its gradient.
    """

    name = "int8"

    def __init__(self, factors: Factors) -> None:
        layout, tensors = factors.layout, factors.tensors
        blocks = level_blocks(layout, tensors, torch.int8, CHUNK)
        self._levels = [(row_group, levels.contiguous()) for row_group, levels in blocks]
        self._positions = block_positions(layout, tensors)

    @staticmethod
    def obstacle(layout: Layout) -> str | None:
        """Only scales that are the same for all rows can be folded into a state."""
        if layout.codec == PLAIN:
            return "the latents are no codes"
        if layout.codec != TRELLIS:
            return f"the codes ({layout.codec}) have no scales by column"
        return "an activation follows the decoder" if layout.activation else None

    @staticmethod
    def sources(factors: Factors) -> Collection[Tensor]:
        """Codes and ids."""
        return [tensor for tensor in factors.tensors.values() if not tensor.is_floating_point()]

    def products(self, factors: Factors, states: Tensor) -> Tensor:
        """Multiply states with every row."""
        return concatenated(products_by_levels(factors, states, self._levels), factors.vocab, self._positions)


class Dense(Resident):
    """The table decoded, in the type of the model's floats: as large as before compression.

    Where the table trains, products are those of the codes, so that it gets its gradients.
    """

    name = "dense"

    def __init__(self, factors: Factors) -> None:
        self._table = factors.table()

    @staticmethod
    def sources(factors: Factors) -> Collection[Tensor]:
        """All tensors."""
        return factors.tensors.values()

    def products(self, factors: Factors, states: Tensor) -> Tensor:
        """Multiply states with the decoded table, unless the stored one is to get gradients."""
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in factors.tensors.values()):
            return factors.products(states)
        return functional.linear(states, self._table)


SAMPLE = 64  # numbers of a tensor that are looked at before each product
FORMS: dict[str, type[Resident]] = {form.name: form for form in (Resident, Int8, Dense)}


def resident_form(name: str, layout: Layout) -> type[Resident]:
    """The form of a name.

    Raises:
        ValueError: There is none of this name, or tables of this layout can't have it.
    """
    form = FORMS.get(name) if isinstance(name, str) else None
    if form is None:
        raise ValueError(f"a head can be resident as {', '.join(FORMS)}, not as {name!r:.40}")
    if obstacle := form.obstacle(layout):
        raise ValueError(f"this head can't be resident as {name}: {obstacle}; choose codes or dense")
    return form


class ResidentTable:
    """One form of a table, made when it is first wanted; copies and pickles leave it out.

    Args:
        form: The form.
    """

    def __init__(self, form: type[Resident]) -> None:
        self.form = form
        self._held: _Held | None = None

    def __reduce__(self) -> tuple[Callable[..., ResidentTable], tuple[type[Resident]]]:
        return ResidentTable, (self.form,)

    def products(self, factors: Factors, states: Tensor) -> Tensor:
        """Multiply states `[..., dim]` with every row of the table: `[..., vocab]`."""
        if torch.compiler.is_compiling():  # a graph has the stored tensors alone
            return factors.products(states)
        return self.table(factors).products(factors, states)

    def drop(self) -> None:
        """Forget what is held."""
        self._held = None

    def table(self, factors: Factors) -> Resident:
        """The table in this form, as it was made before where none of its tensors has changed since."""
        sources, held = self.form.sources(factors), self._held  # read once: replicas in threads share this object
        if held is None or not held.is_of(sources):
            with torch.inference_mode(False), torch.no_grad():
                held = _Held(self.form(factors), tuple(sources), tuple(map(_state, sources)))
            self._held = held
        return held.table


@dataclass(frozen=True)
class _Held:
    """A table in some form, and the tensors it was made of with their state then."""

    table: Resident
    sources: tuple[Tensor, ...]
    states: tuple[tuple[float, ...], ...]

    def is_of(self, sources: Collection[Tensor]) -> bool:
        """Whether the table is what these tensors would make now."""
        if len(sources) != len(self.sources) or tuple(map(_state, sources)) != self.states:
            return False
        return all(one is other for one, other in zip(sources, self.sources, strict=True))


def _state(tensor: Tensor) -> tuple[float, ...]:
    """What differs once a tensor has other numbers: where they lie, how often they were changed in place, some of them.

    What is changed through `.data`, as averages of weights are, is not counted: it shows in a sample of the numbers.
    """
    changed = 0 if tensor.is_inference() else tensor._version
    if not tensor.is_floating_point():
        return tensor.data_ptr(), changed
    sample = tensor.detach().reshape(-1)[:: max(1, tensor.numel() // SAMPLE)]
    return tensor.data_ptr(), changed, float(sample.double().sum())
