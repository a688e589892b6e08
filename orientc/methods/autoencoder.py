"""The paper's autoencoder, fitted on the table itself (arXiv 2106.08181).

`latents = act(E·Aᵀ + a)` and `E ≈ act(latents·Wᵀ + w)`; minimises the loss of `losses.py` by the settings of
`recipe.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from orientc.errors import FitError, UsageError
from orientc.methods import losses
from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import gram, map_rows, norms, principal_directions
from orientc.methods.recipe import Recipe
from orientc.modeling.factors import CHUNK, Factors
from orientc.utils import distributed


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch of a fit.

    Attributes:
        epoch: Number of the epoch, from 1.
        objective: The loss over all rows at α = 0.1, after the epoch.
        distances: Distances over all rows, after the epoch.
        learning_rate: Learning rate of the epoch's last step.
        alpha: Exponent α of the power term in the epoch.
    """

    epoch: int
    objective: float
    distances: losses.Distances
    learning_rate: float
    alpha: float

    def as_dict(self) -> dict[str, Any]:
        """The figures as a flat dictionary, for JSON and trackers."""
        values = asdict(self)
        distances: dict[str, Any] = values.pop("distances")
        return {"epoch": values.pop("epoch")} | distances | values


class Autoencoder(nn.Module):
    """A linear encoder and a linear decoder, each optionally followed by an ELU.

    Args:
        dim: Width of the table.
        rank: Width of the latents.
        nonlinear: After which of them an ELU follows: "none", "encoder", "decoder" or "both".
    """

    def __init__(self, dim: int, rank: int, nonlinear: str = "none") -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, rank)
        self.decoder = nn.Linear(rank, dim)
        self.encoder_elu = nonlinear in ("encoder", "both")
        self.decoder_elu = nonlinear in ("decoder", "both")

    def encode(self, rows: Tensor) -> Tensor:
        """Encode rows `[rows, dim]` to latents `[rows, rank]`."""
        latents = self.encoder(rows)
        return functional.elu(latents) if self.encoder_elu else latents

    def forward(self, rows: Tensor) -> Tensor:
        """Reconstruct rows `[rows, dim]` from their own latents."""
        decoded = self.decoder(self.encode(rows))
        return functional.elu(decoded) if self.decoder_elu else decoded

    def factors(self, table: Tensor) -> Factors:
        """Compress a table `[vocab, dim]`: encode every row, and take the decoder."""
        latents = map_rows(table, self.encoder.out_features, lambda rows: self.encode(rows.float()))
        activation = "elu" if self.decoder_elu else None
        return Factors.plain(latents, self.decoder.weight.detach(), self.decoder.bias.detach(), activation)

    @torch.no_grad()
    def start_from_subspace(self, table: Tensor, weights: Tensor | None = None) -> None:
        """Initialise with the projection onto the principal subspace of the row-normalised table.

        That subspace maximises the mean squared cosine of the rows and their projections.

        Args:
            table: `[vocab, dim]`.
            weights: Weights of the rows, float64 `[vocab]`; all 1 unless given.
        """
        inverse_squares = norms(table).double().clamp_min(1e-12).pow(-2)
        weights = inverse_squares if weights is None else weights * inverse_squares
        directions, _ = principal_directions(gram(table, weights=weights))
        kept = directions[:, : self.encoder.out_features].float()
        self.encoder.weight.copy_(kept.T)
        self.decoder.weight.copy_(kept)
        self.encoder.bias.zero_()
        self.decoder.bias.zero_()

    @torch.no_grad()
    def start_from_factors(self, table: Tensor, factors: Factors) -> None:
        """Initialise from a compressed table: its decoder, and the least-squares encoder to its latents.

        Raises:
            FitError: Its rank or size is another one.
        """
        if factors.rank != self.encoder.out_features or factors.weight is None:
            raise FitError(f"the artifact to start from has rank {factors.rank}, not {self.encoder.out_features}")
        if (factors.layout.rows, factors.dim) != table.shape:
            raise FitError(
                f"the artifact to start from has latents of {factors.layout.rows} rows of width {factors.dim}, "
                f"not of {len(table)} of width {table.shape[1]}"
            )
        latents, dim = factors.latents.to(table.device), table.shape[1]
        normal = torch.zeros(dim + 1, dim + 1, dtype=torch.float64, device=table.device)
        wanted = normal.new_zeros(dim + 1, factors.rank)
        for start in range(0, len(table), CHUNK):
            rows = functional.pad(table[start : start + CHUNK].double(), (0, 1), value=1.0)
            normal.addmm_(rows.T, rows)
            wanted.addmm_(rows.T, latents[start : start + CHUNK].double())
        solution = torch.linalg.lstsq(normal, wanted).solution.float()
        self.encoder.weight.copy_(solution[:-1].T)
        self.encoder.bias.copy_(solution[-1])
        self.decoder.weight.copy_(factors.weight)
        if factors.bias is None:
            self.decoder.bias.zero_()
        else:
            self.decoder.bias.copy_(factors.bias)


def fit_autoencoder(
    table: Tensor,
    rank: int,
    recipe: Recipe,
    *,
    seed: int = 0,
    start: Factors | None = None,
    importance: Importance | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Factors:
    """Fit an autoencoder on a table, on the device the table is on; several processes share each batch.

    Under an importance matrix A the autoencoder is fitted on the rows `E·A^½`, scaled to E's mean squared norm, its
    decoder must be linear, and an epoch draws as many rows as there are by weight.

    Args:
        table: E, `[vocab, dim]` of any float type.
        rank: Width of the latents.
        recipe: How to fit.
        seed: Seed of the initialisation and of the batches.
        start: The compressed table to start from, for `recipe.init == "artifact"`.
        importance: What a change of a row costs; the same for all rows and directions unless given.
        on_epoch: Called with the figures of each epoch, which under an importance matrix are those of `E·A^½`.

    Returns:
        Factors in float32, of E in any case.

    Raises:
        FitError: The loss overflowed, or `start` is of another size.
    """
    if importance is not None:
        return _fit_in_importance(table, rank, recipe, importance, seed=seed, start=start, on_epoch=on_epoch)
    return _fit(table, rank, recipe, seed=seed, start=start, weights=None, on_epoch=on_epoch)


def _fit_in_importance(
    table: Tensor,
    rank: int,
    recipe: Recipe,
    importance: Importance,
    *,
    seed: int,
    start: Factors | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Factors:
    root, inverse = importance.roots()
    moments = gram(table, weights=importance.weights / importance.weights.sum())
    squares, turned = float(moments.trace()), float((moments * importance.matrix).sum())  # mean ‖e‖², mean eᵀAe
    scale = math.sqrt(squares / turned) if turned else 1.0
    into, back = (root * scale).float(), (inverse / scale).float()
    if start is not None and start.weight is not None:
        bias = None if start.bias is None else start.bias.float().to(table.device) @ into
        start = Factors.plain(start.latents, into @ start.weight.float().to(table.device), bias)
    rows = map_rows(table, table.shape[1], lambda block: block.float() @ into)
    fitted = _fit(rows, rank, recipe, seed=seed, start=start, weights=importance.weights, on_epoch=on_epoch)
    assert fitted.weight is not None
    assert fitted.bias is not None
    return Factors.plain(fitted.latents, back @ fitted.weight, fitted.bias @ back)


def _fit(
    rows: Tensor,
    rank: int,
    recipe: Recipe,
    *,
    seed: int,
    start: Factors | None,
    weights: Tensor | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Factors:
    torch.manual_seed(seed)
    model = Autoencoder(rows.shape[1], rank, recipe.nonlinear).to(rows.device)
    if recipe.init == "subspace":
        model.start_from_subspace(rows, weights)
    elif recipe.init == "artifact":
        if start is None:
            raise UsageError("`init` 'artifact' needs the artifact to start from")
        model.start_from_factors(rows, start)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(rows) / recipe.batch_size)
    for epoch in range(recipe.epochs):
        alpha = recipe.alpha(epoch)
        for step, batch in enumerate(_shuffled(rows, recipe.batch_size, generator, weights)):
            progress = (epoch * steps + step) / (recipe.epochs * steps)
            optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch, progress)
            optimizer.zero_grad()
            mine = batch[distributed.index() :: distributed.count()]
            if len(mine):
                losses.loss(model(mine), mine, alpha, recipe.weights).backward()
            if distributed.count() > 1:
                _average_gradients(model, len(mine) / len(batch))
            optimizer.step()
        if on_epoch is None and epoch < recipe.epochs - 1:
            continue  # a loss that is not finite stays so, and is found in the last epoch
        report = _report(model, rows, recipe, epoch, optimizer.param_groups[0]["lr"])
        if not math.isfinite(report.objective):
            raise FitError("the loss left the range of a float: try a lower `learning_rate`")
        if on_epoch:
            on_epoch(report)
    return model.factors(rows)


def _average_gradients(model: nn.Module, share: float) -> None:
    """Set the gradients of all processes to their mean; `share` is this one's part of the batch."""
    parameters = list(model.parameters())
    own = [torch.zeros_like(entry) if entry.grad is None else entry.grad * share for entry in parameters]
    whole = distributed.add_up(torch.cat([gradient.flatten() for gradient in own]))
    sizes = [entry.numel() for entry in parameters]
    for entry, gradient in zip(parameters, whole.split(sizes), strict=True):
        entry.grad = gradient.view_as(entry)


def _shuffled(rows: Tensor, batch_size: int, generator: torch.Generator, weights: Tensor | None) -> Iterator[Tensor]:
    """Batches of an epoch in float32: all rows in random order, or with `weights` as many rows drawn by weight."""
    if weights is None:
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
    else:
        bounds = weights.cpu().cumsum(0)
        drawn = torch.rand(len(rows), generator=generator, dtype=torch.float64) * bounds[-1]
        order = torch.searchsorted(bounds, drawn).clamp(max=len(rows) - 1).to(rows.device)
    for indices in order.split(batch_size):
        yield rows[indices].float()


@torch.no_grad()
def _report(model: Autoencoder, rows: Tensor, recipe: Recipe, epoch: int, learning_rate: float) -> Epoch:
    distances = losses.measure((model(block), block) for block in map(torch.Tensor.float, rows.split(CHUNK)))
    return Epoch(
        epoch=epoch + 1,
        objective=distances.objective(recipe.weights),
        distances=distances,
        learning_rate=learning_rate,
        alpha=recipe.alpha(epoch),
    )
