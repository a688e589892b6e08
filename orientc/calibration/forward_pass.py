"""What a model looks up and projects in a forward pass, for gradients to be taken of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.modeling.modules import embedding_scale
from orientc.modeling.swap import lookups_of_parts, users_of
from orientc.modeling.table_names import HEAD, INPUT


@dataclass(frozen=True)
class Lookup:
    """In which table tokens are looked up, "" where that is neither the input's nor the head's, and the rows' factor.

    Rows reach the hook multiplied by it.
    """

    table: str
    scale: float


@dataclass
class Seen:
    """What hooks see of a forward pass: looked-up rows, to take gradients of, and what enters and leaves the head."""

    rows: list[Tensor] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    states: Tensor = field(init=False)
    projected: Tensor = field(init=False)

    def clear(self) -> None:
        """Forget the rows of the last forward pass."""
        self.rows.clear()
        self.lookups.clear()

    @contextmanager
    def lookup(self, model: PreTrainedModel) -> Iterator[Seen]:
        """Within it `rows` become what forward passes look up, one after the other, in whichever module does that.

        T5's encoder has two that share the table, and asks the one that `get_input_embeddings()` does not name.
        """

        def looked_up(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            self.rows.append(output.detach().requires_grad_())
            self.lookups.append(Lookup(tables[module], embedding_scale(module)))
            return self.rows[-1]

        tables = {module: "" for module in lookups_of_parts(model) if module is not None}
        for table in (HEAD, INPUT):  # of a tied head the lookups are the input's
            users = users_of(model, table).values()
            tables |= {module: table for module in users if isinstance(module, nn.Embedding)}
        handles = [module.register_forward_hook(looked_up) for module in tables]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def head(self, model: PreTrainedModel) -> Iterator[None]:
        """Within it `states` and `projected` are what last went into and came out of the output projection."""

        def passed(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.states, self.projected = inputs[0], output

        handle = model.get_output_embeddings().register_forward_hook(passed)
        try:
            yield
        finally:
            handle.remove()
