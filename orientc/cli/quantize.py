"""`orientc quantize`"""

from __future__ import annotations

from typing import Annotated

import typer

from orientc.cli import options


def quantize(
    model: options.Model,
    bits: Annotated[
        int | None,
        typer.Option(metavar="8|4|3|2", help="Bits per number.", show_default=False, rich_help_panel=options.SIZE),
    ] = None,
    block: options.Block = None,
    group_size: options.GroupSize = None,
    keep_rows: options.KeepRows = None,
    dtype: options.StoredDtype = None,
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
    """Round the numbers of a table to a few bits; with a calibration, so that the model's predictions change least.

    Example: `orientc quantize bert-base-uncased --bits 4 --calibration FILE`

    Example: `orientc quantize bert-base-uncased --bits 4`

    Example: `orientc quantize model.gguf --block IQ4_NL --calibration FILE`
    """
    from orientc.cli import artifacts, output
    from orientc.compression import quantize as library

    with output.stages(quiet=quiet) as progress:
        compressed = library.quantize(
            model,
            bits=bits,
            block=block,
            group_size=group_size,
            keep_rows=options.count_or_auto(keep_rows),
            dtype=dtype,
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
    artifacts.show(compressed, as_json=as_json, quiet=quiet)
