"""Downloads from the Hugging Face Hub: with time limits, checked by hash, and errors in one line."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import (
    _CACHED_NO_EXIST,
    constants,
    get_session,
    hf_hub_download,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's, under any of its names
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import logging as hub_logging

from orientc.errors import DownloadError, ModelNotFoundError
from orientc.utils.files import file_sha256
from orientc.utils.messages import first_line

_http = importlib.import_module(HTTPError.__module__.partition(".")[0])
RESTARTS = 5  # of one file; as often as the hub's library tries again where nothing came at all
CONNECTING = 5.0  # seconds for a connection; for three attempts where it is refused at once
AGAIN = 1.0  # seconds to wait for a host that did not answer before
FORGOTTEN = 60.0  # seconds after which such a host is waited for as at first


def answers(within: float = CONNECTING) -> bool:
    """Whether the hub answers anything in so many seconds, those that a name server takes counted."""
    if is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(HTTPError, OSError):
            get_session().head(constants.ENDPOINT, timeout=within)
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)  # nothing but a thread can be left waiting for a name server
    asking.start()
    asking.join(within)
    return answered.is_set()


def cached(id: str, name: str, *, kind: str = "model") -> Path | None:
    """A file of the default branch that was downloaded before; None where it was not."""
    found = try_to_load_from_cache(id, name, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def download(id: str, name: str, *, revision: str | None = None, kind: str = "model") -> Path:
    """Download a file into the cache if it is not there yet, and check it.

    The hub's library checks the size. Large files lie in the cache under the sha256 that the hub states: a file with
    another one is deleted.

    Args:
        id: The repository.
        name: The file's path in it.
        revision: Branch, tag or commit.
        kind: "model" or "dataset".

    Returns:
        The file in the cache.

    Raises:
        DownloadError: The file came incomplete or damaged.
        HfHubHTTPError, OSError: As `hf_hub_download` raises.
    """
    with patience():
        before = try_to_load_from_cache(id, name, revision=revision, repo_type=kind)
        try:
            found = Path(hf_hub_download(id, name, revision=revision, repo_type=kind))
        except (OSError, DownloadError) as error:
            short = type(error) is OSError and "Consistency check failed" in str(error)
            if short or isinstance(error, DownloadError):
                raise DownloadError(f"{name} of {id} came incomplete from {constants.ENDPOINT}: try again") from None
            raise
    if str(found) != before:
        _check(found, f"{name} of {id}")
    return found


def model_file(id: str, name: str, *, revision: str | None, commit: str | None, look_up: bool = False) -> Path | None:
    """Find a file of a model, downloading it if need be; None where the model has no such file.

    Args:
        id: The model.
        name: The file's path in it.
        revision: The revision asked for, for messages.
        commit: The commit to take the file from.
        look_up: Download nothing; the path is where the file would be.

    Raises:
        ModelNotFoundError: The hub does not know the model or can't be reached.
    """
    with errors(id, revision):
        if try_to_load_from_cache(id, name, revision=commit) is _CACHED_NO_EXIST:
            return None
        try:
            if look_up:
                return Path(hf_hub_download(id, name, revision=commit, dry_run=True).local_path)
            return download(id, name, revision=commit)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None


@contextlib.contextmanager
def errors(id: str, revision: str | None) -> Iterator[None]:
    """Within the context there is `patience`, and errors of the hub's library become `ModelNotFoundError`.

    Args:
        id: The model, for messages.
        revision: The revision asked for, for messages.
    """
    try:
        with patience():
            yield
    except GatedRepoError:
        raise ModelNotFoundError(f"{id} is gated: accept its terms on the hub and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ModelNotFoundError(f"{id} has no revision {revision}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFoundError(
            f"there is no model {id}: neither a folder here nor one on the hub (a private one needs HF_TOKEN)"
        ) from None
    except (
        LocalEntryNotFoundError,
        RevisionResolutionError,
        HTTPError,
        ConnectionError,
        json.JSONDecodeError,
    ) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ModelNotFoundError(
                f"{constants.ENDPOINT} does not let you read {id} ({error.response.status_code}): "
                "set HF_TOKEN to a token that may"
            ) from None
        raise ModelNotFoundError(
            f"{id} is not on this machine and can't be had from {constants.ENDPOINT} ({reason(error)}): "
            "check the network, or name a local folder, a .gguf file, or demo"
        ) from error


class _Unreachable(OfflineModeIsEnabled):
    """A host does not answer. The hub's library takes it for being offline, and goes on with what is in its cache."""


_unreachable: dict[str, tuple[float, str]] = {}  # hosts that did not answer: when that was found out, and in words


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Within the context limit how long the hub is waited for; its library logs nothing but errors.

    Each answer may take `HF_HUB_DOWNLOAD_TIMEOUT` (10 seconds): the library waits for some without end. A host that has
    answered nothing is given up when it was waited for that long, or when it takes no connection in `CONNECTING`
    seconds; the library would try six times, twice over. To a host that has answered the library's own attempts are
    left, so that a slow download goes on; but it never stops where connections break off and the file starts over each
    time: here that is a `DownloadError` after `RESTARTS` times.
    """
    limit = float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))
    session = get_session()
    send, hooks = session.send, session.event_hooks
    begun = time.monotonic()
    answered: set[str] = set()
    waited: defaultdict[str, float] = defaultdict(float)
    restarts: Counter[str] = Counter()

    def limited(request: Any) -> None:
        host, longest = _host(request), limit
        if host not in answered:
            longest = max(limit - waited[host], limit / 10)
            if host in _unreachable and time.monotonic() - _unreachable[host][0] < FORGOTTEN:
                longest = min(longest, AGAIN)  # asked once more, but not waited for again
        given = request.extensions.get("timeout", {})
        parts = {"connect": min(longest, CONNECTING), "read": longest, "write": longest, "pool": longest}
        request.extensions["timeout"] = {part: min(given.get(part) or most, most) for part, most in parts.items()}

    def counted(answer: Any) -> None:
        host, address = _host(answer.request), str(answer.request.url)
        answered.add(host)
        _unreachable.pop(host, None)
        if answer.status_code == 200 and "range" in answer.request.headers:  # 206 where it goes on
            restarts[address] += 1
            if restarts[address] > RESTARTS:
                raise DownloadError(f"{constants.ENDPOINT} breaks off a file and starts it over each time: try again")

    def patient(request: Any, **options: Any) -> Any:
        found_out, words = _unreachable.get(_host(request), (-1.0, ""))
        if found_out >= begun:  # within this context
            raise _Unreachable(words)
        pause = 1.0
        while True:
            start = time.monotonic()
            try:
                return send(request, **options)
            except (_http.NetworkError, _http.RemoteProtocolError, _http.TimeoutException) as error:
                host = _host(error.request)  # another one behind a redirection
                if host in answered or request.method not in ("GET", "HEAD"):
                    raise
                refused = not isinstance(error, _http.TimeoutException)  # or the connection was closed at once
                waited[host] += time.monotonic() - start
                given_up = pause > CONNECTING / 2 if refused else waited[host] > 0.9 * limit
                if given_up or host in _unreachable or isinstance(error, _http.ConnectTimeout):
                    _unreachable[host] = time.monotonic(), f"{host} does not answer: {first_line(error)}"
                    raise _Unreachable(_unreachable[host][1]) from None
                if not refused:  # its own limit was shorter
                    raise
            time.sleep(pause)  # refused at once: a moment later it may be there
            pause *= 2

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    session.event_hooks = {"request": [*hooks["request"], limited], "response": [*hooks["response"], counted]}
    session.send = patient  # type: ignore[method-assign]
    try:
        yield
    finally:
        session.send, session.event_hooks = send, hooks  # type: ignore[method-assign]
        hub_logging.set_verbosity(verbosity)


def _host(request: Any) -> str:
    name: bytes = request.url.netloc
    return name.decode()


def reason(error: BaseException) -> str:
    """Why the hub could not be had, in one line, out of an error of the hub's library or of one that uses it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _Unreachable):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return first_line(error if isinstance(error, HTTPError) else error.__cause__ or error).rstrip(".")


def _check(found: Path, what: str) -> None:
    """Delete a file whose sha256 is not its name in the cache, and raise `DownloadError`."""
    if not found.is_symlink():  # a cache without links does not know the hash
        return
    stored = found.parent / found.readlink()
    if re.fullmatch("[0-9a-f]{64}", stored.name) and (sha256 := file_sha256(stored)) != stored.name:
        found.unlink()
        stored.unlink()
        raise DownloadError(
            f"{what} came damaged from {constants.ENDPOINT} (its sha256 is {sha256[:12]}…, not {stored.name[:12]}…) "
            "and was deleted: try again"
        )
