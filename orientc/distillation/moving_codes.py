"""Trellis codes in training: the decoder's whole numbers, scales and offsets move, and the codes of rows with evidence.

The student computes with plain latents, so that each latent has a gradient. Codes can't take small steps: beside the
stream that a row has, the nearest others are as far away as its error is large, and what moves a latent by less is
rounded away (Malinovskii et al. 2024, "PV-Tuning", arXiv 2405.14852, which moves few codes far, and not all a little).
So gradients are summed up, and of a row with evidence a *target* is taken, at most as far from what it decodes to as
that is from the original row, against the mean gradient; then all its bits are chosen anew for the target, as when it
was first coded. Rows that a text has rarely stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from orientc.distillation.evidence import Evidence, Moves
from orientc.distillation.trainable import Trainable, pass_gradients, rounded
from orientc.methods.table_rows import TableRows
from orientc.methods.trellis import nearest_codes
from orientc.modeling.decoding import level_blocks
from orientc.modeling.factors import CHUNK, Factors
from orientc.modeling.layout import Layout

_EVIDENCE = 0.5  # share of a mean gradient's square that must be no noise
_BLOCK = 4096  # rows coded together
_COLUMNS = "scales", "offsets"  # of each row group's columns


class TrellisTrainable(Trainable):
    """A table in trellis codes in training.

    Args:
        factors: The table as the artifact stores it.
        device: Where the student holds it.
        table: The original table `[vocab, dim]`.
    """

    def __init__(self, factors: Factors, device: torch.device, table: TableRows) -> None:
        super().__init__(factors, device)
        layout, tensors = self._factors.layout, self._factors.tensors
        row_groups = range(len(layout.row_group_sizes))
        numbers = tensors.get("latents.row_groups", torch.zeros(layout.rows, dtype=torch.uint8, device=device))
        self._ids = [(numbers == number).nonzero().squeeze(1) for number in row_groups]  # among those with latents
        levels = [[torch.empty(0, layout.rank, dtype=torch.int8, device=device)] for _ in row_groups]
        for number, block in level_blocks(layout, tensors, torch.int8, CHUNK):
            levels[number].append(block)
        self._levels = [torch.cat(blocks).contiguous() for blocks in levels]
        own = [tensors["latents.codes"][part.start : part.end].view(part.rows, part.size) for part in layout.streams]
        self._streams = [part.clone() for part in own]
        self._rows = torch.ones(layout.vocab, dtype=torch.bool)
        if layout.kept:
            self._rows[tensors["kept.ids"].long().cpu()] = False
        self._table = table
        self._take_units()
        self._evidence = Evidence(layout.rows, layout.rank, device)

    @property
    def student(self) -> Factors:
        """The same table with plain latents and a decoder in floats."""
        layout = self._factors.layout
        plain = Layout(
            layout.vocab, layout.dim, layout.rank, layout.decoder, layout.bias, layout.activation, layout.kept
        )
        with torch.no_grad():
            tensors = self._with_decoder()
            latents = torch.empty(layout.rows, layout.rank, device=self._factors.device)
            for number, ids in enumerate(self._ids):
                latents[ids] = self.latents(number)
        if layout.kept:
            tensors["kept.ids"] = self._factors.tensors["kept.ids"]
        return Factors(plain, {"latents": latents, **tensors})

    @torch.no_grad()
    def write(self, parameters: Mapping[str, Tensor]) -> None:
        """Give the student's parameters the numbers that would be stored."""
        for name, tensor in self._with_decoder().items():
            parameters[name].copy_(tensor)
        for number, ids in enumerate(self._ids):
            parameters["latents"][ids] = self.latents(number)

    def pass_on(self, parameters: Mapping[str, Tensor]) -> None:
        """Add the gradients of the student's parameters to those of the shadows, and to the evidence; clear them."""
        gradient = parameters["latents"].grad
        if gradient is not None:
            self._evidence.add(gradient)
            for number, ids in enumerate(self._ids):
                self.latents(number).backward(gradient[ids])
            parameters["latents"].grad = None
        pass_gradients(self._with_decoder(), parameters)

    @torch.no_grad()
    def move_codes(self) -> int:
        """Choose the codes of rows with evidence anew; how many rows have others now."""
        means = self._evidence.means()
        shares, caution, encoder = self._evidence.shares(means), self._evidence.learn(means), self._encoder()
        moves = []
        for number, ids in enumerate(self._ids):
            for part in (shares[ids] > _EVIDENCE).nonzero().squeeze(1).split(_BLOCK):
                rows = ids[part]
                now, mean = self.latents(number, part), means[rows]
                error = (now - self._original(rows, encoder)).norm(dim=1)
                suggested = mean.norm(dim=1) / error.clamp_min(1e-38)
                target = now - (shares[rows] / (caution * suggested)).unsqueeze(1) * mean
                self._streams[number][part], self._levels[number][part] = self.nearest(number, target)
                change = self.latents(number, part) - now
                other = change.any(1)
                moves.append(Moves(rows[other], change[other], mean[other], suggested[other]))
        together = Moves.together(moves, means.shape[1], means.device)
        self._evidence.moved(together)
        return len(together.rows)

    @torch.no_grad()
    def nearest(self, row_group: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The streams, uint8 `[n, bytes]`, and levels, int8 `[n, rank]`, nearest to latents `[n, rank]`."""
        scales, offsets = (rounded(self._exact(f"latents.{name}")[row_group], torch.float16) for name in _COLUMNS)
        bits = self._factors.layout.bits[row_group]
        return nearest_codes(latents, bits, scales, offsets, self._factors.tensors["latents.levels"])

    @torch.no_grad()
    def stored(self) -> dict[str, Tensor]:
        """Everything that trains, and the codes, as the artifact would store them; on the CPU."""
        return super().stored() | {"latents.codes": torch.cat([part.flatten() for part in self._streams]).cpu()}

    def state(self) -> dict[str, Tensor]:
        """Codes and evidence."""
        codes = {f"streams.{number}": part.cpu() for number, part in enumerate(self._streams)}
        levels = {f"levels.{number}": part.cpu() for number, part in enumerate(self._levels)}
        return codes | levels | {name: tensor.cpu() for name, tensor in self._evidence.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state."""
        for number in range(len(self._ids)):
            self._streams[number].copy_(state[f"streams.{number}"])
            self._levels[number].copy_(state[f"levels.{number}"])
        self._evidence.restore(state)

    def _trains(self, name: str) -> bool:
        return super()._trains(name) or name == "decoder.weight"

    @torch.no_grad()
    def _take_units(self) -> None:
        """Choose what steps are relative to, such that they cost about the same in all that trains.

        That is the error which the codes of a row group have in a column: offsets move by it, scales as far that
        latents do, kept rows in latents by that of the finest row group. The decoder W becomes `W + W · M`, which
        changes latents as well, to `z + M · z`.
        """
        encoder = self._encoder()
        groups = range(len(self._ids))
        errors, sizes, spreads = [], [], []
        for number in groups:
            now = self.latents(number)
            error = now - self._original(self._ids[number], encoder)
            errors.append(_root_mean_square(error))
            sizes.append(_root_mean_square(self._levels[number].float()))
            spreads.append(_root_mean_square(now))
        error, spread = torch.stack(errors), torch.stack(spreads)
        self._units["latents.offsets"] = error
        self._units["latents.scales"] = error / torch.stack(sizes).clamp_min(1)
        counts = torch.tensor(self._factors.layout.row_group_sizes, device=error.device)
        heavy = (counts / error.square().mean(1).clamp_min(1e-38)).unsqueeze(1)  # as bits were shared out
        mean, wide = ((part.square() * heavy).sum(0).div(heavy.sum()).sqrt() for part in (error, spread))
        if "decoder.weight" in self.shadows:
            self._units["decoder.weight"] = torch.outer(mean, 1 / wide.clamp_min(1e-38)) / len(mean) ** 0.5
            self.shadows["decoder.weight"] = nn.Parameter(torch.zeros(len(mean), len(mean), device=mean.device))
            self.shadows.pop("decoder.scales", None)
        if "kept.rows" in self.shadows:
            self._units["kept.rows"] = error.amin(0)
            self.shadows["kept.rows"] = nn.Parameter(
                torch.zeros(self._factors.layout.kept, len(mean), device=mean.device)
            )

    def _exact(self, name: str) -> Tensor:
        if name not in self.shadows:
            return self._start[name]
        moved = self._units[name] * self.shadows[name]
        weight = self._start.get("decoder.weight")
        scales = self._start.get("decoder.scales", torch.ones((), device=moved.device))
        if name == "decoder.weight":
            moved = (self._start[name] * scales) @ moved / scales
        elif name == "kept.rows" and weight is not None:
            moved = moved @ (weight * scales).T
        return self._start[name] + moved

    def latents(self, row_group: int, rows: Tensor | slice = slice(None)) -> Tensor:
        """The latents of some of a row group's rows, as stored; they pass gradients on to scales and offsets."""
        scales, offsets = (rounded(self._exact(f"latents.{name}")[row_group], torch.float16) for name in _COLUMNS)
        return torch.addcmul(offsets, self._levels[row_group][rows].float(), scales)

    def _with_decoder(self) -> dict[str, Tensor]:
        """What the student has beside the latents, by its names for them."""
        straight = {
            name: rounded(self._exact(name), dtype)
            for name, dtype in self._dtypes.items()
            if not name.startswith("latents.")
        }
        scales = straight.pop("decoder.scales", None)
        if scales is not None:
            straight["decoder.weight"] = straight["decoder.weight"] * scales
        return straight

    def _encoder(self) -> Tensor | None:
        """What makes latents of rows, `[dim, rank]`."""
        decoder = self._with_decoder().get("decoder.weight")
        return None if decoder is None else torch.linalg.pinv(decoder.double()).T.float()

    def _original(self, rows: Tensor, encoder: Tensor | None) -> Tensor:
        """The latents of rows of the original table, by their numbers among those that are not kept."""
        ids = self._rows.nonzero().squeeze(1)[rows.cpu()]
        own = self._table[ids].float().to(rows.device)
        bias = self._straight().get("decoder.bias")
        own = own if bias is None else own - bias
        return own if encoder is None else own @ encoder


def _root_mean_square(rows: Tensor) -> Tensor:
    """Of each column; 0 without rows."""
    return (rows.square().sum(0) / max(1, len(rows))).sqrt()
