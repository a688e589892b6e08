"""`orientc demo`"""

from __future__ import annotations

from orientc.cli import options, output


def demo(
    out: options.RunsFolder = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put the paper's claim to the test on a small packaged model: no network, under two minutes.

    Example: `orientc demo`
    """
    from orientc.cli import sweeping
    from orientc.utils.devices import pick_device
    from orientc.workflows import showcase

    chosen = pick_device(device)
    with output.stages(quiet=quiet) as progress:
        outcome = showcase.run(out=out, device=chosen, progress=progress)
    sweeping.end(outcome, as_json=as_json, quiet=quiet)
