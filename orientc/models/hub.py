"""Downloads from the Hugging Face Hub: with time limits, checked by hash, and errors in one line."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's, under any of its names
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import logging as hub_logging

from orientc.errors import DownloadError, ModelNotFoundError
from orientc.utils.files import file_sha256
from orientc.utils.messages import first_line

RESTARTS = 5  # of one file; as often as the hub's library tries again where nothing came at all


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
    """Within the context the hub's library shows no warnings, and its errors become `ModelNotFoundError`.

    Args:
        id: The model, for messages.
        revision: The revision asked for, for messages.
    """
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
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
        reason = first_line(error if isinstance(error, HTTPError) else error.__cause__ or error).rstrip(".")
        raise ModelNotFoundError(
            f"{id} is not on this machine and can't be had from {constants.ENDPOINT} ({reason}): "
            "check the network, or name a local folder, a .gguf file, or demo"
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Within the context limit the wait for each answer of the hub to `HF_HUB_DOWNLOAD_TIMEOUT` (10 seconds).

    The hub's library waits for some answers without end. Nor does it ever stop where connections break off and the file
    starts over each time: here that is a `DownloadError` after `RESTARTS` times.
    """
    limit = float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))

    def limited(request: Any) -> None:
        given = request.extensions.get("timeout", {})
        parts = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {part: min(given.get(part) or limit, limit) for part in parts}

    restarts: Counter[str] = Counter()

    def counted(answer: Any) -> None:
        if answer.status_code == 200 and "range" in answer.request.headers:  # 206 where it goes on
            restarts[str(answer.request.url)] += 1
            if restarts[str(answer.request.url)] > RESTARTS:
                raise DownloadError(f"{constants.ENDPOINT} breaks off a file and starts it over each time: try again")

    hooks = get_session().event_hooks
    get_session().event_hooks = {
        "request": [*hooks["request"], limited],
        "response": [*hooks["response"], counted],
    }
    try:
        yield
    finally:
        get_session().event_hooks = hooks


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
