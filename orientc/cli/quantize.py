"""`orientc quantize`"""

from __future__ import annotations

from orientc.cli import options


def quantize(
    model: options.Model,
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
    """Round the rows of a table to a few bits a number; with a calibration, errors are fed back in the model's metric.

    Example: `orientc quantize bert-base-uncased --bits 4`
    """
    from orientc.cli import artifacts
    from orientc.compression.configs import QUANTIZE, Plan

    given = {
        "bits": bits, "group_size": group_size, "head_weight": head_weight,
        "keep_rows": options.count_or_auto(keep_rows), "dtype": dtype,
    }  # fmt: skip
    plan = Plan.from_layers(
        QUANTIZE, *artifacts.layers(like, config, given), calibration_sha256=artifacts.sha256_of(calibration)
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
