"""The command line. Torch and transformers are imported inside the commands, so that help comes at once."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
import time
from types import FrameType

import typer

from orientc.errors import GateError, OrientcError, UsageError
from orientc.utils import distributed

_CODES = {UsageError: 2, GateError: 3}  # every other error of ours: 1
_MAIN_FIRST = 10  # seconds
_COLLECT_EVERY = 20_000  # new objects; importing torch and transformers makes a million that all stay


def main() -> None:
    """Run the command line and leave with its exit code: 0, 1, 2, 130 after Ctrl-C, 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(_COLLECT_EVERY)
    atexit.register(gc.freeze)  # nor is there any point in a last search among them: it took most of a second
    if not distributed.is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack our signs: × ∞ –
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run() -> int:
    try:
        from orientc.cli.app import app

        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except OrientcError as error:
        return _fail(str(error), next((code for kind, code in _CODES.items() if isinstance(error, kind)), 1))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except (OSError, MemoryError) as error:
        return _fail(f"{type(error).__name__}: {error}", 1)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _fail(message: str, code: int) -> int:
    if not distributed.is_main():  # as a rule the main one fails of the same, says so, and the launcher ends them all
        time.sleep(_MAIN_FIRST)
    if message:  # none where the help was shown instead
        from orientc.cli.output import plain

        print(f"orientc: {plain(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    return code
