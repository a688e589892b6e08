"""Log a fit or a fine-tuning to TensorBoard, Weights & Biases and others, through accelerate's trackers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orientc.errors import UsageError


def check(names: Iterable[str]) -> None:
    """Raise `UsageError` for a tracker that is unknown or not installed."""
    for name in names:
        from accelerate.tracking import get_available_trackers
        from accelerate.utils import LoggerType

        if name not in {str(each) for each in get_available_trackers()}:
            known = ", ".join(sorted(str(entry.value) for entry in LoggerType if entry.value != "all"))
            raise UsageError(f"tracker {name!r} is not installed or unknown; accelerate knows {known}")


@contextlib.contextmanager
def trackers(
    names: list[str], folder: Path, settings: Mapping[str, Any]
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield a function of epoch or step and figures that logs to trackers.

    Args:
        names: accelerate's names of the trackers; with none the function does nothing.
        folder: Where trackers write files.
        settings: Settings of the run, logged once.

    Raises:
        UsageError: A tracker is unknown or not installed.
    """
    if not names:
        yield lambda _epoch, _values: None
        return
    check(names)
    from accelerate import Accelerator

    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(log_with=names, project_dir=folder)
    accelerator.init_trackers("orientc", config=dict(settings))
    try:
        yield lambda epoch, values: accelerator.log(dict(values), step=epoch)
    finally:
        accelerator.end_training()
