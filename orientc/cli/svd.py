"""`orientc svd`"""

from __future__ import annotations

from typing import Annotated

import typer

from orientc.cli import options


def svd(
    model: options.Model,
    rank: options.Rank = None,
    ratio: options.Ratio = None,
    bits: options.Bits = None,
    group_size: options.GroupSize = None,
    keep_rows: options.KeepRows = None,
    dtype: options.StoredDtype = None,
    center: Annotated[
        bool | None,
        typer.Option(
            "--center",
            help="Subtract the mean row first and keep it as the decoder's bias.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    config: options.Config = None,
    like: options.Like = None,
    table: options.Table = None,
    calibration: options.Calibrated = None,
    head_weight: options.HeadWeight = None,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a table by exact truncated SVD, the baseline; with a calibration, by the model's importance matrices.

    Example: `orientc svd bert-base-uncased --ratio 5 --calibration FILE`

    Example: `orientc svd bert-base-uncased --ratio 5`
    """
    from orientc.cli import artifacts, output
    from orientc.compression import svd as library

    with output.stages(quiet=quiet) as progress:
        compressed = library.svd(
            model,
            rank=rank,
            ratio=ratio,
            bits=bits,
            group_size=group_size,
            keep_rows=options.count_or_auto(keep_rows),
            dtype=dtype,
            center=center,
            config=config,
            like=like,
            table=table,
            calibration=calibration,
            head_weight=head_weight,
            device=device,
            out=out,
            overwrite=overwrite,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    from orientc.compression.alternative import alternative  # torch comes with it

    for each in () if quiet else compressed.all:
        if told := alternative(each, out=out):
            output.note(told)
    artifacts.show(compressed, as_json=as_json, quiet=quiet)
