"""What `orientc shrink` makes of models, as its README says it: sizes, verdicts, seconds; and verdicts of many splits.

    python tests/benchmarks/shrink.py demo [--splits N] [--runs DIR]
    python tests/benchmarks/shrink.py MODEL [--within 1%] [--text FILE] [--sts DIR] [--measure TASK --data DIR]
                                      [--limit N] [--tokens N] [--runs DIR]

`--splits N` shrinks N times, each with another split of the same text (the demo's own without `--text`), and counts the
verdicts that are within the tolerance: at least nine of ten should be. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import orientc
from orientc import demo
from orientc.cli.shrink import facts
from orientc.evaluation.texts import Text, from_file
from orientc.storage.sizes import MB
from orientc.workflows.tolerance import difference_in_words


def main() -> None:
    """Shrink, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--within")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--sts", type=Path)
    parser.add_argument("--measure")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--splits", type=int, default=0)
    parser.add_argument("--runs", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs = given.runs or Path(place) / "runs"
        if given.splits:
            text = from_file(given.text) if given.text else Text("reference", demo.evaluation_text())
            _many(given.model, text, given.splits, given.within, given.limit, runs, Path(place))
            return
        start = time.perf_counter()
        done = orientc.shrink(
            given.model, Path(place) / "small", within=given.within, text=given.text, sts=given.sts,
            measure=given.measure, data=given.data, limit=given.limit, tokens=given.tokens, out=runs,
            progress=orientc.Progress(warn=_say, done=_say),
        )  # fmt: skip
        for name, value in facts(done):
            print(f"{name:<18}{value}")
        print(f"seconds           {time.perf_counter() - start:.0f}")


def _many(model: str, text: Text, count: int, within: str | None, limit: int | None, runs: Path, place: Path) -> None:
    inside = 0
    for seed in range(count):
        start = time.perf_counter()
        try:
            done = orientc.shrink(
                model, place / f"small-{seed}", within=within, text=text, seed=seed, limit=limit, out=runs
            )
        except orientc.GateError as error:
            _say(f"split {seed}: {error}")
            continue
        assert done.verdict
        assert done.table
        inside += done.inside
        outcome = done.verdict.outcome
        told = difference_in_words(done.verdict.measure, outcome.difference, outcome.error)
        _say(
            f"split {seed}: {done.bits:g} bits, table {done.table / MB:.2f} MB, {told}: "
            f"{'inside' if done.inside else 'OUTSIDE'}; {time.perf_counter() - start:.0f} s"
        )
    print(f"{inside} of {count} verdicts are inside")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
