"""A head's times by the form in which it holds its table, beside a dense one's, measured in turns in one run.

    ORIENTC_ASSETS=… python tests/benchmarks/heads.py [MODEL …] [--generate SMOLLM2.gguf]

Models are folders or GGUF files; unless named, minilm-l6-mlm and what smollm2/ holds of GGUF files in ORIENTC_ASSETS.
Tables are in codes of 6 to 1 bits, 3.5 in the mean, with scales by column, in the basis of their principal directions.
`codes, groups` has 4 bits and scales by groups of 64 columns of a row. Times are in ms, the least of the repeats: on a
busy machine `--clock cpu` counts this process's own time instead of the wall's. A number in brackets is a multiple of
the dense float32 head's time for as many tokens. `--generate` gives tokens a second of `generate`, how far logits of
the forms are from those of the codes in float32, and their KL divergence in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from sections.modules import in_codes, wide
from torch import Tensor, nn

from orientc.methods.importance import Importance
from orientc.methods.transform_coding import transform_code
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedHead
from orientc.modeling.resident import resident_form
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.models.table import read_table

TOKENS = (1, 16, 256)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@torch.inference_mode()
def main() -> None:
    """Print a table for each model."""
    options = _options()
    torch.set_num_threads(options.threads)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.clock} clock, load {load}\n")
    for model in options.models:
        _heads(model, options)
    if options.generate:
        _generation(options)


def _heads(model: str, options: argparse.Namespace) -> None:
    table = read_table(model).weight.float()
    rows = [("head", *(f"{dtype}".removeprefix("torch.") for dtype in DTYPES))]
    print(f"{Path(model).name}: {' × '.join(map(str, table.shape))}\n")
    makers = dict(_makers(table))
    for tokens in TOKENS:
        states = torch.randn(tokens, table.shape[1], generator=torch.Generator().manual_seed(0))
        calls = {
            (name, dtype): partial(make(dtype), states.to(dtype)) for name, make in makers.items() for dtype in DTYPES
        }
        taken = _least(calls, options)
        unit = taken["dense", torch.float32]
        for name in makers:
            cells = (f"{1e3 * taken[name, dtype]:.1f} ({taken[name, dtype] / unit:.2f})" for dtype in DTYPES)
            rows.append((f"{name}, {tokens} tokens", *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)))
    print()


def _makers(table: Tensor) -> Iterator[tuple[str, Callable[[torch.dtype], nn.Module]]]:
    """For each kind of head by its name what makes one of a type."""
    vocab, dim = table.shape

    def dense(dtype: torch.dtype) -> nn.Module:
        found = nn.Linear(dim, vocab, bias=False, dtype=dtype)
        found.weight = nn.Parameter(table.to(dtype))
        return found

    def compressed(factors: Factors, form: str, dtype: torch.dtype) -> nn.Module:
        own = factors.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
        return CompressedHead(own, form=resident_form(form, factors.layout))

    factors = by_column(table)
    yield "dense", dense
    yield "codes", partial(compressed, factors, "codes")
    yield "int8", partial(compressed, factors, "int8")
    yield "codes, groups", partial(compressed, in_codes(table, dim, 4), "codes")


def by_column(table: Tensor) -> Factors:
    """Trellis codes of 3.5 bits on average, the more the further rows spread in a direction."""
    coded = transform_code(table, int(3.5 * table.numel() / 8), Importance.plain(table), dtype=torch.float16)
    assert coded is not None
    return coded.map(wide)


def _generation(options: argparse.Namespace) -> None:
    model: Any = ModelSource.resolve(options.generate).load(transformers.AutoModelForCausalLM, dtype=torch.float32)
    factors = by_column(model.get_input_embeddings().weight.float())
    ids = torch.arange(100, 100 + options.prompt).unsqueeze(0)
    settings = {"max_new_tokens": options.new, "min_new_tokens": options.new, "do_sample": False}
    text = torch.randint(1000, 20_000, (1, 256), generator=torch.Generator().manual_seed(0))
    logits: dict[str, Tensor] = {}
    for form in ("dense, original", "codes", "int8", "dense"):
        if "," not in form:
            substitute(model, factors, "tied", resident=form)
        call = partial(model.generate, ids, **settings)
        seconds = _least({form: call}, options)[form]
        print(f"generate, {form}: {options.new / seconds:.1f} tokens a second")
        logits[form] = model(text).logits[0]
    states = model.base_model(text).last_hidden_state[0]
    table = factors.map(lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor)
    predictions = {
        form: CompressedHead(table, form=resident_form(form, table.layout))(states.bfloat16()).double().log_softmax(-1)
        for form in ("codes", "int8", "dense")
    }
    for form in ("int8", "dense"):
        apart = (logits[form] - logits["codes"]).abs().max() / logits["codes"].abs().max()
        kl = (predictions["codes"].exp() * (predictions["codes"] - predictions[form])).sum(-1).mean()
        print(f"{form} against codes: float32 {float(apart):.1e} relative, bfloat16 KL {float(kl):.1e}")


def _least(calls: dict[Any, Callable[[], Any]], options: argparse.Namespace) -> dict[Any, float]:
    """The least seconds of each call; they take turns, so that a neighbour's load meets all of them."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(options.repeats + 1):  # the first one makes what is kept
        for name, call in calls.items():
            start = clock()
            call()
            found[name] = min(found[name], clock() - start)
    return found


def _options() -> argparse.Namespace:
    assets = Path(os.environ.get("ORIENTC_ASSETS", "."))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = [assets / "minilm-l6-mlm", *sorted(assets.glob("smollm2/*.gguf"))]
    parser.add_argument("models", nargs="*", metavar="MODEL", default=[str(path) for path in named])
    parser.add_argument("--generate", metavar="SMOLLM2.gguf")
    parser.add_argument("--prompt", type=int, default=16, help="tokens that are there before")
    parser.add_argument("--new", type=int, default=64, help="tokens that are generated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
