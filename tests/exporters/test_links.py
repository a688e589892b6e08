"""Links among a model's files: what lies elsewhere is not taken along, but for the hub's cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.compact_models import own_modules_cache

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import ExportError
from orientc.exporters.export import Exported, export
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

SECRET = "nobody else's business"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with own_modules_cache(tmp_path / "modules"):
        yield


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    """A model, with an artifact of it in the working folder."""
    made = shutil.copytree(bert_folder, tmp_path / "one")
    artifacts.save(fit_table(read_table(ModelSource.resolve(str(made))), SvdConfig(rank=4)), "a.safetensors")
    return made


def exported(model: Path, form: str = "dense", **options: bool) -> Exported:
    return export("a.safetensors", "out", form=form, model=model, **options)


def moved_out(path: Path) -> None:
    """Put a link in the place of a file."""
    target = Path("elsewhere").absolute()
    if path.exists():
        path.rename(target)
    else:
        target.write_text(SECRET)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja", "vocab.txt", "code.py",
     "additional_chat_templates/a.jinja"],
)  # fmt: skip
def test_a_link_out_of_the_model_is_refused(name: str, form: str, folder: Path) -> None:
    moved_out(folder / name)
    with pytest.raises(ExportError, match=r"is a link out of .*, and what it leads to would be copied") as raised:
        exported(folder, form)
    assert str(folder / name) in str(raised.value)
    assert not Path("out").exists()


def test_links_among_a_sentence_encoders_files_are_refused_file_or_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "modules.json").write_text(
        '[{"path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "config.json").write_text(f'{{"note": "{SECRET}"}}')
    (folder / "1_Pooling").symlink_to(tmp_path / "private")
    with pytest.raises(ExportError, match=r"1_Pooling/config\.json is a link out of"):
        exported(folder)
    (folder / "1_Pooling").unlink()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").symlink_to(tmp_path / "private" / "config.json")
    with pytest.raises(ExportError, match=r"1_Pooling/config\.json is a link out of"):
        exported(folder)


def test_links_within_the_model_links_to_it_and_links_of_its_weights_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "real")
    (folder / "tokenizer.json").symlink_to("real")
    moved_out(folder / "model.safetensors")
    (tmp_path / "link").symlink_to(folder)
    made = exported(tmp_path / "link")
    assert not [path for path in made.folder.rglob("*") if path.is_symlink()]


def test_a_snapshot_of_the_hubs_cache_is_a_folder_of_links(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--one"
    snapshot, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    exported(snapshot)
    (snapshot / "chat_template.jinja").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text(SECRET)
    with pytest.raises(ExportError, match="is a link out of"):
        exported(snapshot, overwrite=True)
