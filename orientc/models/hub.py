"""Files from the hub: checked where the hub says what they should be, and not waited for without end."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache

from orientc.errors import DownloadError
from orientc.utils.files import file_sha256

RESTARTS = 5  # of one file; so often the hub's library tries again where nothing came at all


def download(id: str, name: str, *, revision: str | None = None, kind: str = "model") -> Path:
    """Where a file is in the cache, brought there first if need be; `kind` is "model" or "dataset".

    The hub's library checks the size of what came. Large files are in the cache under their sha256, as the hub states
    it: what has another one is deleted, and a `DownloadError` raised. Other errors are those of `hf_hub_download`.
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


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Within it no answer of the hub is waited for any longer than `HF_HUB_DOWNLOAD_TIMEOUT` (10 seconds).

    By itself the hub's library waits for some answers without end, and for others six times a minute. Nor does it
    stop where each connection brings a part and breaks off, and the next one starts over instead of going on: within
    this block a file that has been started over `RESTARTS` times is a `DownloadError`.
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
    """Raise `DownloadError`, the file deleted, where it is not what its name in the cache says."""
    if not found.is_symlink():  # a cache that can't link files doesn't keep what they are called
        return
    stored = found.parent / found.readlink()
    if re.fullmatch("[0-9a-f]{64}", stored.name) and (sha256 := file_sha256(stored)) != stored.name:
        found.unlink()
        stored.unlink()
        raise DownloadError(
            f"{what} came damaged from {constants.ENDPOINT} (its sha256 is {sha256[:12]}…, not {stored.name[:12]}…) "
            "and was deleted: try again"
        )
