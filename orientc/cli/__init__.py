"""The command line. Torch and transformers are imported inside the commands, so that help comes at once."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from types import FrameType

import typer

from orientc.cli import messages
from orientc.errors import BUG, GateError, OrientcError, UsageError
from orientc.utils import distributed

_CODES = {UsageError: 2, GateError: 3}  # every other error of ours: 1
_DEBUG = "--debug"
_MAIN_FIRST = 10  # seconds
# where these are installed transformers imports them, and they tell of kernels for other devices that are not there
_SILENT = ("torchao", "torch.utils._pytree", "bitsandbytes")
_COLLECT_EVERY = 20_000  # new objects; importing torch and transformers makes a million that all stay


def main() -> None:
    """Run the command line and leave with its exit code; `orientc.errors` lists the codes."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(_COLLECT_EVERY)
    atexit.register(gc.freeze)  # nor is there any point in a last search among them: it took most of a second
    atexit.register(distributed.leave)
    for package in _SILENT:
        logging.getLogger(package).setLevel(logging.ERROR)
    _open_closed_streams()
    if not distributed.is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack our signs: × ∞ –
    try:
        code = _run([argument for argument in sys.argv[1:] if argument != _DEBUG], debug=_DEBUG in sys.argv)
        sys.stdout.flush()
    except OSError as error:  # whoever read our output has enough, or there is no room for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where a last attempt at the end goes well
        code = 1
        with contextlib.suppress(OSError):
            if not isinstance(error, BrokenPipeError):
                _fail(f"can't write to stdout: {_told(error)}", code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Give streams that the caller closed (`>&-`) somewhere to go: a file that is opened might get their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _run(arguments: list[str], *, debug: bool) -> int:
    messages.begin([])
    try:
        _check_text(arguments)
        from orientc.cli.app import app

        code = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except OrientcError as error:
        return _fail(str(error), next((code for kind, code in _CODES.items() if isinstance(error, kind)), 1))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        if _out_of_memory(error):
            return _fail(_more_memory(error), 1)
        if isinstance(error, OSError):
            return _fail(_told(error).replace("`", ""), 1)
        where = "above" if debug else _kept_traceback()
        return _fail(f"this is a bug of orientc ({_told(error)}); please report it, its traceback is {where}", BUG)


def _check_text(arguments: list[str]) -> None:
    """Raise `UsageError` for an argument that is no text: no record or artifact could name such a file."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{argument} is not UTF-8: rename the file or folder") from None


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # which need not be imported to know that nobody else has
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's words, on a CPU


def _more_memory(error: Exception) -> str:
    ways = {"batch_size": "a smaller `batch_size`", "device": "another `device`"}
    offered = [way for field, way in ways.items() if messages.has(field)] or ["a machine that has more"]
    return f"there is not enough memory ({_told(error)}): try {' or '.join(offered)}"


def _told(error: Exception) -> str:
    """An error's type and the first sentence of what it says; of the system's errors what is wrong with which file."""
    if isinstance(error, OSError) and error.strerror:
        what = "a file or stream can't be used" if error.filename is None else str(error.filename)
        return f"{what}: {error.strerror}"
    said = " ".join(str(error).split()).replace("`", "").partition(". ")[0]
    return ": ".join(part for part in (type(error).__name__, said) if part)


def _kept_traceback() -> str:
    """Write the traceback of the error being handled to a file; say where it is."""
    report = f"{' '.join(sys.argv)}\n\n{traceback.format_exc()}"
    try:
        with tempfile.NamedTemporaryFile(prefix="orientc-", suffix=".txt", delete=False) as file:
            file.write(report.encode(errors="backslashreplace"))
    except OSError:
        print(report, file=sys.stderr, end="")  # noqa: T201
        return "above"
    return f"in {file.name}"


def _fail(message: str, code: int) -> int:
    if not distributed.is_main():  # as a rule the main one fails of the same, says so, and the launcher ends them all
        time.sleep(_MAIN_FIRST)
    if message:  # none where the help was shown instead
        from orientc.cli.output import plain

        print(f"orientc: {plain(' '.join(messages.translated(message).split()))}", file=sys.stderr)  # noqa: T201
    return code
