"""The function behind `orientc svd`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orientc.compression.configs import SvdConfig
from orientc.compression.settings import read_config

if TYPE_CHECKING:
    from orientc.compression.fit_and_store import Compressed
    from orientc.models.source import ModelSource
    from orientc.models.table import Table
    from orientc.storage.artifact import Artifact
    from orientc.storage.calibration import Calibration
    from orientc.utils.progress import Progress


def svd(
    model: str | Path | ModelSource | Table,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    keep_rows: int | str | None = None,
    dtype: str | None = None,
    center: bool | None = None,
    config: SvdConfig | str | Path | None = None,
    like: str | Path | Artifact | None = None,
    table: str | None = None,
    calibration: str | Path | Calibration | None = None,
    head_weight: float | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a table by exact truncated SVD and store the artifact.

    The settings `rank`, `ratio`, `bits`, `group_size`, `keep_rows`, `dtype`, `center` and `head_weight` are the fields
    of `SvdConfig`; None leaves one to `config`, `like` or its default. The other arguments, the result and the errors
    are those of `fit_and_store`.

    Args:
        model: Hub id, local folder, GGUF file or "demo"; or a model or table that was read already.
        config: A complete `SvdConfig`, or a TOML or JSON file of settings.
        like: An artifact whose settings are repeated where nothing else is said.
    """
    given = {
        "rank": rank, "ratio": ratio, "bits": bits, "group_size": group_size, "keep_rows": keep_rows,
        "dtype": dtype, "center": center, "head_weight": head_weight,
    }  # fmt: skip
    settled = read_config((SvdConfig,), given, config=config, like=like, calibrated=calibration is not None)
    from orientc.compression.fit_and_store import fit_and_store  # torch comes with it: wrong settings don't wait for it

    return fit_and_store(
        model,
        settled,
        table=table,
        calibration=calibration,
        device=device,
        out=out,
        overwrite=overwrite,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
