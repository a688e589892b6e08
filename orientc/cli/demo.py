"""`orientc demo`"""

from __future__ import annotations

from orientc.cli import options, terminal


def demo(
    out: options.RunsFolder = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put the paper's claim to the test on a small packaged model: no network, under two minutes.

    Example: `orientc demo`
    """
    from orientc.cli.compare import show
    from orientc.comparison import compare
    from orientc.demo import showcase
    from orientc.devices import pick_device

    chosen = pick_device(device)
    with terminal.bar(2 * len(showcase.RATIOS), quiet=quiet) as bar:
        paths = showcase.artifacts(out, device, lambda what: bar(1, what))
    with terminal.stages(quiet=quiet) as progress:
        records = showcase.evaluate(paths, chosen, progress)
    show(compare([*paths, *records]), as_json=as_json, quiet=quiet)
