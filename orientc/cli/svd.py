"""`orientc svd`"""

from __future__ import annotations

from typing import Annotated

import typer

from orientc.cli import options


def svd(
    model: options.Model,
    rank: options.Rank = None,
    ratio: options.Ratio = None,
    center: Annotated[
        bool | None,
        typer.Option("--center", help="Take the mean row off first and keep it as the decoder's bias."),
    ] = None,
    bits: options.Bits = None,
    group_size: options.GroupSize = None,
    calibration: options.Calibrated = None,
    head_weight: options.HeadWeight = None,
    keep_rows: options.KeepRows = None,
    dtype: options.StoredDtype = None,
    config: options.Config = None,
    like: options.Like = None,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a table by exact truncated SVD: the baseline; with a calibration, weighted and in the model's metric.

    Example: `orientc svd bert-base-uncased --ratio 5`
    """
    from orientc.cli import artifacts
    from orientc.compression.configs import SVD, Plan

    given = {
        "rank": rank, "ratio": ratio, "center": center, "dtype": dtype, "bits": bits, "group_size": group_size,
        "head_weight": head_weight, "keep_rows": options.count_or_auto(keep_rows),
    }  # fmt: skip
    plan = Plan.from_layers(
        SVD, *artifacts.layers(like, config, given), calibration_sha256=artifacts.sha256_of(calibration)
    )
    stored = artifacts.fit(
        model,
        plan,
        calibration=calibration,
        out=out,
        overwrite=overwrite,
        device=device,
        quiet=quiet,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    artifacts.show(stored, as_json=as_json)
