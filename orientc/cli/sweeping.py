"""How a sweep ends: the comparison of what it made, and an error for what it could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orientc.cli import output
from orientc.cli.compare import Format, report, show

if TYPE_CHECKING:
    from orientc.workflows.sweep import Outcome


def end(outcome: Outcome, *, as_json: bool, quiet: bool) -> None:
    """Show the comparison; then raise `SweepError` where cells failed, after naming them."""
    from orientc.comparison.compare import compare
    from orientc.errors import SweepError

    if outcome.paths:
        findings = compare(outcome.paths)
        report(findings, outcome.paths, quiet=quiet)
        show(findings.comparisons, Format.json if as_json else Format.table)
    for line in outcome.failed:
        output.note(f"failed: {line}")
    if outcome.failed:
        cells = "1 cell" if len(outcome.failed) == 1 else f"{len(outcome.failed)} cells"
        raise SweepError(f"{cells} failed, the others are done: start again to try just those")
