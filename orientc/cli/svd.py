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
    group: options.Group = None,
    codebook: options.Codebook = None,
    calibration: options.Calibrated = None,
    head_weight: options.HeadWeight = None,
    keep_rows: options.KeepRows = None,
    keep_norms: options.KeepNorms = None,
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
    from orientc.cli import fitting
    from orientc.plans import SVD, Plan

    given = {
        "rank": rank, "ratio": ratio, "center": center, "dtype": dtype, "bits": bits, "group": group,
        "codebook": codebook, "head_weight": head_weight, "keep_rows": options.count_or_auto(keep_rows),
        "keep_norms": keep_norms,
    }  # fmt: skip
    plan = Plan.from_layers(
        SVD, *fitting.layers(like, config, given), calibration_sha256=fitting.sha256_of(calibration)
    )
    stored = fitting.fit(
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
    fitting.show(stored, as_json=as_json)
