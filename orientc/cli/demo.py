"""`orientc demo`"""

from __future__ import annotations

from orientc.cli import options, output, sweep


def demo(
    device: options.Device = None,
    out: options.RunsFolder = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put the paper's claim to the test on a small packaged model: no network, under two minutes.

    Example: `orientc demo`
    """
    from orientc.workflows.showcase import showcase

    with output.stages(quiet=quiet) as progress:
        done = showcase(device=device, out=out, progress=progress)
    sweep.show(done, as_json=as_json, quiet=quiet)
