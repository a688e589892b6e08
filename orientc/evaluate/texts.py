"""The texts a model is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from orientc.errors import EvaluationError

WIKITEXT = ("Salesforce/wikitext", "wikitext-103-raw-v1", "test")


@dataclass(frozen=True)
class Text:
    """A text and the name it goes by in records."""

    name: str
    content: str

    @property
    def sha256(self) -> str:
        """Hash of the text's UTF-8 bytes."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def from_file(path: Path) -> Text:
    """A UTF-8 text file, as it stands. Raises `EvaluationError` where it can't be read, is not UTF-8 or is empty."""
    try:
        content = path.read_bytes().decode()
    except OSError as error:
        raise EvaluationError(f"can't read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path} is not UTF-8 text: byte {error.start} can't be decoded") from None
    if not content.strip():
        raise EvaluationError(f"{path} has no text in it")
    return Text(path.name, content)


def wikitext() -> Text:
    """The WikiText-103 raw test set from the hub, its rows joined as they are."""
    import datasets

    from orientc import hub

    repository, configuration, split = WIKITEXT
    datasets.disable_progress_bars()
    try:
        # the one file of this split; load_dataset would bring the training split's 300 MB along
        file = hub.download(repository, f"{configuration}/{split}-00000-of-00001.parquet", kind="dataset")
        rows = datasets.Dataset.from_parquet(str(file))
    except Exception as error:  # the library raises a dozen unrelated types, network ones among them
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise EvaluationError(
            f"can't load {repository} through the hub ({reason[0]}): name a text of your own with --text FILE"
        ) from error
    return Text(f"{repository}/{configuration}/{split}", "".join(rows["text"]))
