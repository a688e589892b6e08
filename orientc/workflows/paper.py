"""*Direction is what you need* (arXiv 2106.08181) as facts: its study, its claims, and what its code does otherwise.

None of the paper's figures is held here: none could be checked against its tables when this was written. Who has the
paper at hand gives them in a file (`read_published`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orientc.errors import UsageError
from orientc.evaluation.glue.tasks import TASKS
from orientc.storage.records import ORIGINAL
from orientc.utils.files import read_bytes
from orientc.workflows.study import AE, SQUAD, SVD, Study

SOURCE = "arXiv 2106.08181"
MODEL = "bert-base-uncased"
RATIOS = (2.5, 5.0, 10.0)
SEED = 22  # in the configuration files of the authors' code, for GLUE and for SQuAD

# GLUE's and SQuAD's settings are the defaults of their configs, which are the paper's.
STUDY = Study(
    methods=(SVD, AE),
    ratios=RATIOS,
    presets=("paper", "default"),
    perplexity=True,
    task=(*TASKS, SQUAD),
    seeds=(SEED,),
)
QUICK = replace(STUDY, limit=300, limit_train=64, limit_eval=64, finetuning={"epochs": 1})

# What the paper's abstract says, word for word where it matters.
PERPLEXITY_CLAIM = "the autoencoder is ahead of SVD in initial perplexity"
GLUE_CLAIM = "the autoencoder is ahead of SVD in most of the GLUE tasks"
SQUAD_CLAIM = "the autoencoder is ahead of SVD on SQuAD v1.1"
CLAIMED = f"abstract of {SOURCE}"
# What it does not say, and a reader wants to know.
TIED_CLAIM = "the autoencoder is ahead of SVD in perplexity where the head is compressed too"
RECIPE_CLAIM = "the default recipe is ahead of the paper's in initial perplexity"
NOT_CLAIMED = "not in the paper"

# What the published code does, and what is done here.
OTHERWISE = (
    (
        "The best epoch of a fit is picked by perplexity on the test text itself.",
        "The last epoch is taken: nothing is selected on what is then scored.",
    ),
    (
        "In fine-tuning SVD's second factor is a plain tensor that never trains, while the autoencoder's decoder does.",
        "Both methods' decoders train.",
    ),
    (
        "Replacing the input's parameter silently unties the head: perplexities are input-only without saying so.",
        "Both are measured: input-only, as the paper has it, and tied, by which a model gets smaller.",
    ),
    ("There is no attention mask: padding is attended to.", "Attention masks are on."),
    ("The perplexity's loss is a mean of batch means.", "It is the mean over all masked tokens."),
    (
        "SQuAD runs an uncased vocabulary without lower-casing, and its last evaluation reloads a model without the "
        "compressed table.",
        "The tokenizer is the checkpoint's own, and what is scored is the model that was trained.",
    ),
    (
        "SVD is scikit-learn's randomised one, of 29 iterations (9 at ratio 10).",
        "SVD is exact, the best there can be for its rank.",
    ),
    (
        "Fine-tuning on GLUE takes batches of 16 in two steps of accumulation, in float16.",
        "It takes batches of 32, which is the same sum, in float32 unless `precision` says otherwise.",
    ),
)


@dataclass(frozen=True)
class Published:
    """A figure of the paper: its value, and the table it stands in."""

    value: float
    table: str


def read_published(path: str | Path) -> dict[tuple[str, float | None, str], Published]:
    """The paper's figures from a TOML file, by method ("original", "svd", "ae"), ratio and figure.

    The file has a `[[figure]]` for each, with `method`, `ratio` (but for the original), `figure`
    ("perplexity.input-only"; "sst2.accuracy", from 0 to 1; "squad.f1", in percent), `value`, and `table`, which says
    where it stands.

    Raises:
        UsageError: The file can't be read, or an entry lacks something.
    """
    try:
        entries = tomllib.loads(read_bytes(Path(path), 1_000_000).decode()).get("figure", [])
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    found: dict[tuple[str, float | None, str], Published] = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        method, ratio = _has(path, number, entry, "method", str), None
        if method not in (ORIGINAL, SVD, AE):
            raise UsageError(f"{path}: figure {number} has the method {method!r}, not {ORIGINAL}, {SVD} or {AE}")
        if method != ORIGINAL:
            ratio = float(_has(path, number, entry, "ratio", float))
        named = (method, ratio, _has(path, number, entry, "figure", str))
        value = float(_has(path, number, entry, "value", float))
        found[named] = Published(value, _has(path, number, entry, "table", str))
    return found


def _has(path: str | Path, number: int, entry: Any, name: str, kind: type) -> Any:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UsageError(f"{path}: figure {number} needs {name!r}, {'a number' if kind is float else 'a text'}")
    return value
