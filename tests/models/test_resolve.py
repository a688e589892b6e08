from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import coded

from orientc.errors import ModelNotFoundError, UsageError
from orientc.models.resolve import subject
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact


def artifact_of(id: str) -> Artifact:
    """A small artifact that names a base model."""
    artifact = coded.stored(coded.made("plain", "linear"))
    return replace(artifact, description=replace(artifact.description, base=replace(artifact.description.base, id=id)))


def test_a_model_is_named_by_a_string_a_path_or_its_source(bert_folder: Path) -> None:
    source = ModelSource.resolve(bert_folder)
    for argument in (str(bert_folder), bert_folder, source):
        found = subject(argument)
        assert (found.source, found.path, found.artifact) == (source, None, None)


def test_an_artifact_is_a_file_or_in_memory_and_brings_its_base_model(bert_folder: Path, tmp_path: Path) -> None:
    artifact, path = artifact_of(str(bert_folder)), tmp_path / "table.safetensors"
    artifacts.save(artifact, path)
    held = subject(artifact)
    assert (held.source.local, held.path, held.artifact) == (bert_folder, None, artifact)
    for argument in (path, str(path)):
        found = subject(argument)
        assert found.artifact is not None
        assert (found.source.local, found.path) == (bert_folder, path)
        assert found.artifact.description == artifact.description


def test_another_base_model_is_named_beside_an_artifact_alone(bert_folder: Path, tmp_path: Path) -> None:
    artifact = artifact_of(str(tmp_path / "gone"))
    with pytest.raises(
        ModelNotFoundError, match=r"base model of an artifact in memory\): say where it is with `model`"
    ):
        subject(artifact)
    for model in (str(bert_folder), bert_folder, ModelSource.resolve(bert_folder)):
        assert subject(artifact, model=model).source.local == bert_folder
    with pytest.raises(UsageError, match="`model` names the base model of an artifact"):
        subject(bert_folder, model="demo")
