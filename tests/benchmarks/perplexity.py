"""Base perplexities of the shared models by both protocols: the figures everything else is measured against.

    ORIENTC_ASSETS=… python tests/benchmarks/perplexity.py [SMOLLM2.gguf]

Causal: SmolLM2-135M, the first 20 480 tokens of wiki.test.raw, windows of 512 with BOS in front; 3.366 nats are
expected. Masked: minilm-l6-mlm, the first 400 kept lines.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import orientc


def main() -> None:
    """Run and print one line per model."""
    assets = Path(os.environ["ORIENTC_ASSETS"])
    text = assets / "wikitext" / "wiki.test.raw"
    cases = {str(assets / "minilm-l6-mlm"): {"limit": 400}}
    if len(sys.argv) > 1:
        cases[sys.argv[1]] = {"limit": 20_480, "window": 512}
    for model, options in cases.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            (record,) = orientc.perplexity(model, text=text, out=folder, **options).records
        metrics = record.metrics
        print(
            f"{Path(model).name}: loss {metrics['loss']:.4f} nats, perplexity {metrics['perplexity']:.2f}, "
            f"{metrics['tokens']} tokens, {time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
