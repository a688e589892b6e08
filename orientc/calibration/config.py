"""The options of `calibrate` that decide what a calibration holds."""

from __future__ import annotations

from dataclasses import dataclass

from orientc.errors import UsageError
from orientc.evaluation.pairs import languages_of
from orientc.modeling.table_names import HEAD, INPUT

FEWEST = 256  # measured tokens; fewer say little of an importance matrix of some hundred dimensions
PER_DIMENSION = 8  # positions; with fewer a fit at some bits costs over a sixth more than with plenty
TABLES = (INPUT, HEAD, ALL := "all")
FREQUENCIES = ("zipf", "wordfreq:LANGUAGE")


@dataclass(frozen=True)
class CalibrationConfig:
    """Options of `calibrate`, field by field.

    Attributes:
        tokens: measure on at least so many tokens of the text, where it has as many; 256 or more. The last line or
            window taken is measured whole. All of the text is counted whatever this is.
        frequency: take token counts from here rather than from the text: "zipf" (the order of the token ids) or
            "wordfreq:LANGUAGE" (a word list, such as "wordfreq:en"). None for the text's own counts.
        seed: draws the lines or windows that are measured, masks and labels; from 0 to 2³² − 1.
        table: whose importance is measured: "all", or "input" to leave out a head with a table of its own; "head" is
            as "all", for a model that has such a head. Token counts and the lookup's matrix there are always.
        languages: of pairs, what source and target are called, as "en,de" (encoder-decoders only).
    """

    tokens: int = 16384
    frequency: str | None = None
    seed: int = 0
    table: str = ALL
    languages: str | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value out of range."""
        if not FEWEST <= self.tokens < 2**31:
            raise UsageError(f"`tokens` must be at least {FEWEST} (and below 2³¹), not {self.tokens}")
        languages_of(self.languages)
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"`seed` must be from 0 to 2³² − 1, not {self.seed}")
        if self.table not in TABLES:
            raise UsageError(f"`table` must be one of {', '.join(TABLES)}, not {self.table!r}: no other is measured")
        if self.frequency is not None:
            kind, _, language = self.frequency.partition(":")
            if not (self.frequency == "zipf" or (kind == "wordfreq" and language)):
                raise UsageError(f"`frequency` must be {' or '.join(FREQUENCIES)}, not {self.frequency!r}")
