"""Upload an exported folder to the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.utils._validators import validate_repo_id

from orientc.errors import ExportError, UsageError
from orientc.models import first_line


def check(repository: str) -> None:
    """Raise `UsageError` for what can't be the name of a repository, before any work is done."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"--push can't take {repository!r}: {first_line(error)}") from None


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder as a model repository, made where there is none; returns its address. Raises `ExportError`."""
    api = HfApi(library_name="orientc")
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload by orientc export")
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise ExportError(f"{folder} is written, but can't be pushed to {repository}: {first_line(error)}") from error
    return str(made)
