"""One table of how fast orientc is, each figure beside what it is held against, measured in turns in one run.

    ORIENTC_ASSETS=… python tests/benchmarks/speed.py [fit] [svd] [perplexity] [modules] [growth] [startup]

All sections without a name. Times are medians. On a busy machine `--clock cpu` counts this process's own time
instead of the wall's. MODEL and the text are minilm-l6-mlm and wiki.test.raw in ORIENTC_ASSETS unless named.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read on import: the profiler's own words
import torch

from orientc.utils.devices import pick_device

SECTIONS = ("fit", "svd", "perplexity", "modules", "growth", "startup")


def main() -> None:
    """Run the sections; rows go to stderr as they come, the table to stdout."""
    options = _options()
    torch.set_num_threads(options.threads)
    from sections.measuring import markdown

    found = []
    for name in options.sections or SECTIONS:
        start = time.perf_counter()
        for row in importlib.import_module(f"sections.{name}").rows(options):
            print("  ".join(filter(None, vars(row).values())), file=sys.stderr, flush=True)
            found.append(row)
        print(f"({name}: {time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    processor = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {os.cpu_count()} cores"
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.model}; {processor}, {options.threads} thread(s), {options.clock} clock, load {load}")
    print(f"torch {torch.__version__}; medians of {options.repeats}, of {options.fit_repeats} where one takes long\n")
    print(markdown(found))


def _options() -> argparse.Namespace:
    assets = Path(os.environ.get("ORIENTC_ASSETS", "."))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--model", default=str(assets / "minilm-l6-mlm"))
    parser.add_argument("--text", type=Path, default=assets / "wikitext" / "wiki.test.raw")
    parser.add_argument("--device", default=str(pick_device()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fit-repeats", type=int, default=1, help="of fits and perplexities, which take long")
    parser.add_argument("--rank", type=int, action="append", help="fit, svd [default: 75]")
    parser.add_argument("--lines", type=int, default=200, help="perplexity")
    parser.add_argument("--bf16", action="store_true", help="perplexity in bfloat16 too")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 256, 2048], help="modules: batch sizes")
    parser.add_argument("--largest-vocab", type=int, default=262_144, help="growth")
    parser.add_argument("--growth-repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="growth: draw it (extra plot)")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"there is no section {sorted(unknown)[0]}: choose from {', '.join(SECTIONS)}")
    options.rank = options.rank or [75]
    return options


if __name__ == "__main__":
    main()
