"""Upload an exported folder to the hub as a model repository."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import shlex
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils._validators import validate_repo_id

from orientc._version import __version__
from orientc.errors import ExportError, UsageError
from orientc.utils.folders import files_of

TIMEOUT = 60.0  # seconds in which nothing comes or goes
PATIENCE = 30.0  # seconds in which a request is repeated
# Left alone, Xet takes six minutes to see that it can't reach its server; it reads these once, before its first use.
XET = {
    "HF_XET_CLIENT_CONNECT_TIMEOUT": "10s",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "1s",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "30s",
}


def prepare(repository: str) -> None:
    """Check what a push needs, before any work is done for it, and bound how long Xet tries.

    Raises:
        UsageError: `repository` can't be the name of one.
        ExportError: The hub is set to offline, or there is no usable token.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise UsageError(
            "`push` takes a repository as NAME or OWNER/NAME, of letters, digits, - _ and . (no -- and no ..), "
            f"not {repository!r}"
        ) from None
    if huggingface_hub.is_offline_mode():
        raise ExportError(
            "`push` needs the hub, and it is set to offline: unset HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE)"
        )
    try:
        token = huggingface_hub.get_token()
    except Exception as error:  # it may come from a file, from a notebook's vault, from a service
        raise ExportError(f"`push` can't get a token to the hub: {_text(error)}") from error
    if token is None:
        raise ExportError("`push` needs a token that may write to the hub: set HF_TOKEN, or log in with: hf auth login")
    if not (token.isascii() and token.isprintable()):
        raise ExportError("`push` has a token to the hub with characters that no token has: set HF_TOKEN again")
    for name, value in XET.items():
        os.environ.setdefault(name, value)


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder as a model repository, which is made where there is none, and return its address.

    What is on the folder's list is uploaded and nothing else. It replaces files of the same name, the repository keeps
    its others. With `private` a new repository is private, and a public one is refused. Raises `ExportError` where the
    upload fails.
    """
    api = HfApi(library_name="orientc", library_version=__version__, token=True)
    with _quietly(), _impatiently():
        try:
            # None, not False: where nobody asks for private, the owner's settings decide
            made = api.create_repo(repository, private=private or None, exist_ok=True)
            shown = private and not api.repo_info(made.repo_id).private
            if not shown:
                api.upload_folder(
                    repo_id=made.repo_id,
                    folder_path=folder,
                    commit_message="Upload by orientc export",
                    allow_patterns=[*map(glob.escape, files_of(folder))],
                )
        except Exception as error:  # Xet's, and what goes wrong in a thread, are of any kind
            later = shlex.join(["hf", "upload", repository, str(folder), *(["--private"] if private else [])])
            raise ExportError(
                f"{folder} is written, but not pushed to {repository}: {_reason(error)}; to push it later: {later}"
            ) from error
    if shown:
        raise ExportError(
            f"{folder} is written, but not pushed to {repository}: it is there and public; "
            "make it private on the hub, or leave out `private`"
        )
    return str(made)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Within it the hub's library keeps its warnings to itself."""
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _impatiently() -> Iterator[None]:
    """Within it the hub's library gives up in time.

    By itself it waits forever for an answer, and repeats a request five times, each time after as many minutes as the
    hub says.
    """
    client = huggingface_hub.get_session()
    timeout, hooks = client.timeout, client.event_hooks
    begun: dict[str, float] = {}

    def ask(request: Any) -> None:
        now = time.monotonic()
        if now - begun.setdefault(f"{request.method} {request.url}", now) > PATIENCE:
            raise TimeoutError(f"no answer from {request.url.host}")

    def hear(response: Any) -> None:
        if response.is_success:
            begun.pop(f"{response.request.method} {response.request.url}", None)
        for header in ("retry-after", "ratelimit"):
            response.headers.pop(header, None)

    client.timeout = TIMEOUT
    client.event_hooks = {"request": [*hooks["request"], ask], "response": [*hooks["response"], hear]}
    try:
        yield
    finally:
        client.timeout, client.event_hooks = timeout, hooks


def _reason(error: BaseException) -> str:
    """What kept the hub from taking the folder, in a few words."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:  # "Error while uploading …", in a thread
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        meant = {401: "the hub refuses the token", 403: "the token may not do this"}.get(status, "the hub answers")
        return f"{meant}: {status} {_text(error.server_message or error.response.reason_phrase)}"
    if isinstance(error, json.JSONDecodeError):
        return f"the answer of {constants.ENDPOINT} is not the hub's"
    if isinstance(error, HTTPError):
        return f"the connection to {constants.ENDPOINT} fails ({_text(error)})"
    return _text(error)


def _text(error: BaseException | str) -> str:
    """What is told, in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return textwrap.shorten(text, 300, placeholder=" …").rstrip(".")
