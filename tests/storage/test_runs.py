from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import documents
from support.calibrations import made as made_calibration

from orientc.compression.configs import AutoencoderConfig, Config, SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import OutputError, UsageError
from orientc.models.table import Table, table_sha256
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.table_info import TableInfo
from orientc.utils.files import short_hash

PLAN = AutoencoderConfig(rank=3, epochs=2, batch_size=16)


def table(seed: int = 0, name: str = "some/model") -> Table:
    weight = torch.randn(40, 8, generator=torch.Generator().manual_seed(seed))
    info = TableInfo(
        id=name, revision=None, sha256=table_sha256(weight), vocab=40, dim=8, dtype="float32", nbytes=weight.nbytes,
        padding_idx=None, embed_scale=1.0, tied=True, model_parameters=1000, model_bytes=4000,
    )  # fmt: skip
    return Table(weight, info)


def fitting(of: Table, plan: Config) -> Callable[[Callable[[Any], None]], Artifact]:
    return lambda log: fit_table(of, plan, device="cpu", on_epoch=log)


def never(_log: Callable[[Any], None]) -> Artifact:
    raise AssertionError("this should not have been fitted")


def put(path: Path, plan: Config = PLAN, of: Table | None = None) -> runs.Stored:
    of = of or table()
    return runs.produce(plan, of.info, path, fitting(of, plan))


def test_artifacts_lie_under_the_models_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "local-model").mkdir(parents=True)
    assert runs.model_folder("bert-base-uncased") == Path("runs/bert-base-uncased")
    assert runs.model_folder("org/model") == Path("runs/org--model")
    assert runs.model_folder("demo") == Path("runs/demo")
    assert runs.model_folder("deep/local-model") == Path("runs/local-model")
    assert runs.model_folder("./deep/local-model/") == Path("runs/local-model")
    assert runs.model_folder(str(tmp_path / "gone")) == Path("runs/gone")
    monkeypatch.chdir(tmp_path / "deep" / "local-model")
    assert runs.model_folder(".") == Path("runs/local-model")


def test_the_runs_folder_is_the_option_or_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIENTC_RUNS", str(tmp_path / "env"))
    assert runs.model_folder("a/b") == tmp_path / "env" / "a--b"
    assert runs.model_folder("a/b", tmp_path / "out") == tmp_path / "out" / "a--b"
    monkeypatch.setenv("ORIENTC_RUNS", "")
    assert runs.runs_folder() == Path("runs")


@pytest.mark.parametrize("out", [".", "./", "{here}"])
def test_a_runs_folder_takes_no_hub_ids_place(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path(out.format(here=tmp_path))
    assert runs.model_folder("gpt2", place).name == "gpt2-runs"
    assert runs.records_folder("gpt2", None, place).name == "gpt2-runs"
    assert runs.model_folder("org/model", place).name == "org--model"
    assert runs.model_folder("demo", place).name == "demo"  # always the packaged one


@pytest.mark.parametrize(
    ("model", "out"),
    [
        ("gpt2", "gpt2"),
        ("gpt2", "./gpt2/deeper"),
        ("gpt2", "gpt2/x.safetensors"),
        ("gpt2", "{here}/gpt2/x.safetensors"),
        ("org/model", "org/model"),
        ("org/model", "org/model/runs/x.safetensors"),
    ],
)
def test_no_folder_is_made_that_would_hide_the_model(
    model: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path(out.format(here=tmp_path))
    base = table(name=model).info
    with pytest.raises(UsageError, match=f"a folder {model} would hide the model of that name on the hub"):
        runs.artifact_path(base, PLAN.slug, PLAN.settings, place)
    if place.suffix != ".safetensors":
        with pytest.raises(UsageError, match="would hide"):
            runs.records_folder(model, None, place)
    runs.artifact_path(table(name="demo").info, PLAN.slug, PLAN.settings, Path("demo"))
    (tmp_path / model).mkdir(parents=True)  # it is a local model
    runs.artifact_path(base, PLAN.slug, PLAN.settings, place)


def placed(plan: Config, out: Path) -> Path:
    return runs.artifact_path(table(name="a/b").info, plan.slug, plan.settings, out)


def test_a_name_tells_method_rank_and_settings(tmp_path: Path) -> None:
    path = placed(SvdConfig(rank=3), tmp_path)
    assert path.parent == tmp_path / "a--b"
    assert path.name.startswith("svd-r3-")
    assert len(path.stem) == len("svd-r3-") + 8
    assert placed(SvdConfig(rank=3, dtype="float16"), tmp_path) != path
    assert placed(SvdConfig(rank=3, center=True), tmp_path) != path
    assert placed(SvdConfig(rank=3), tmp_path) == path


def test_an_out_that_names_an_artifact_is_the_artifact(tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    assert placed(PLAN, out) == out
    assert runs.history_path(out) == tmp_path / "mine.history.json"


def test_a_fit_leaves_an_artifact_and_its_history(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    stored = put(path)
    assert stored.fresh
    assert artifacts.load(path).description == stored.description
    assert sorted(os.listdir(path.parent)) == ["x.history.json", "x.safetensors"]


def test_the_history_tells_every_epoch(tmp_path: Path) -> None:
    stored = put(tmp_path / "x.safetensors")
    history = documents.read(tmp_path / "x.history.json")
    assert history["settings"] == PLAN.settings == stored.description.settings
    assert history["seconds"] == stored.seconds
    assert {"orientc", "python", "torch", "transformers"} <= history["versions"].keys()
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    figures = {"objective", "cosine", "rmse", "mae", "power_0_1", "power_0_6", "learning_rate", "alpha"}
    for epoch in history["epochs"]:
        assert figures <= epoch.keys()
        assert all(isinstance(epoch[name], float) for name in figures)
    last, weights = history["epochs"][-1], PLAN.weights
    assert last["objective"] == pytest.approx(weights.cosine * last["cosine"] + weights.power * last["power_0_1"])


def test_the_last_epoch_measures_what_the_artifact_holds(tmp_path: Path) -> None:
    stored = put(tmp_path / "x.safetensors")
    last = json.loads((tmp_path / "x.history.json").read_text())["epochs"][-1]
    for name, value in stored.description.distances.items():
        assert last[name] == pytest.approx(value, rel=1e-5)


def test_the_same_again_is_done_already(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    first = put(path)
    os.utime(path, (1, 1))
    before = path.read_bytes()
    again = runs.produce(PLAN, table().info, path, never)
    assert (first.fresh, again.fresh) == (True, False)
    assert (again.description, again.seconds) == (first.description, first.seconds)
    assert path.read_bytes() == before
    assert path.stat().st_mtime > 1  # what made it has done its work now: `make` compares times


def test_overwrite_fits_again(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    put(path)
    content = path.read_bytes()
    stored = runs.produce(PLAN, table().info, path, fitting(table(), PLAN), overwrite=True)
    assert stored.fresh
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("plan", "seed"),
    [
        (SvdConfig(rank=3), 0),
        (replace(PLAN, rank=2), 0),
        (replace(PLAN, rank=3, seed=1), 0),
        (replace(PLAN, rank=3, dtype="float16"), 0),
        (PLAN, 1),
    ],
)
def test_another_artifact_in_the_way_is_kept(tmp_path: Path, plan: Config, seed: int) -> None:
    path = tmp_path / "x.safetensors"
    put(path)
    content = path.read_bytes()
    with pytest.raises(OutputError, match="with `overwrite`"):
        runs.produce(plan, table(seed).info, path, never)
    assert path.read_bytes() == content
    assert put_over(path, plan, table(seed)).description.settings == plan.settings


def put_over(path: Path, plan: Config, of: Table) -> runs.Stored:
    return runs.produce(plan, of.info, path, fitting(of, plan), overwrite=True)


ABOUT_A_BASE: dict[str, Any] = {
    "id": "a/copy", "revision": "abc", "dtype": "float16", "nbytes": 640, "padding_idx": 0, "embed_scale": 2.0,
    "tied": False, "model_parameters": 1001, "model_bytes": 4001,
}  # fmt: skip


@pytest.mark.parametrize("fact", ABOUT_A_BASE)
def test_an_artifact_of_the_same_table_in_another_model_is_another(tmp_path: Path, fact: str) -> None:
    """Two models may share a table, and a checkpoint can be cast in place: what an artifact says would be wrong."""
    path = tmp_path / "x.safetensors"
    put(path)
    other = replace(table().info, **{fact: ABOUT_A_BASE[fact]})
    with pytest.raises(OutputError, match="another artifact"):
        runs.produce(PLAN, other, path, never)


def test_a_local_model_is_one_however_its_place_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "m")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    put(path, of=table(name="deep/m"))
    for name in ("./deep/m/", str(tmp_path / "deep" / "m"), "deep/../deep/m", "link"):
        assert not runs.produce(PLAN, table(name=name).info, path, never).fresh


def test_models_with_one_folder_name_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def path(**changes: Any) -> Path:
        info = replace(table(name="a/m").info, **changes)
        return runs.artifact_path(info, PLAN.slug, PLAN.settings, tmp_path / "runs")

    assert path(id="b/m") != path()
    assert path(id="b/m").parent == path().parent
    assert path(id="./a/m") == path()
    assert path(dtype="float16", nbytes=640) != path()
    assert path(model_bytes=4001) != path()


def test_two_commits_that_share_a_table_have_files_of_their_own(tmp_path: Path) -> None:
    commits = [replace(table().info, revision=commit) for commit in ("abc", "abc", "def")]
    first, again, other = (runs.artifact_path(info, PLAN.slug, PLAN.settings, tmp_path) for info in commits)
    assert first == again != other


@pytest.mark.parametrize("content", [b"", b"somebody's notes", b"\xff" * 100])
def test_another_file_in_the_way_is_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="in the way"):
        runs.produce(PLAN, table().info, path, never)
    assert path.read_bytes() == content


def somebody_elses(path: Path) -> None:
    save_file({"weight": torch.ones(3)}, path, metadata={"format": "pt", "note": '"format":"orientc'})


def notes(path: Path) -> None:
    path.write_text('somebody\'s notes on "format":"orientc"')


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("put_there", [somebody_elses, notes, a_link_to_nowhere])
def test_overwriting_replaces_nothing_that_orientc_did_not_write(
    put_there: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    put_there(path)
    before = path.lstat()
    with pytest.raises(
        OutputError, match="is in the way, and orientc did not write it: move it, or name another place"
    ):
        runs.produce(PLAN, table().info, path, never, overwrite=True)
    with pytest.raises(OutputError, match="orientc did not write it"):
        kept(path, no_calibration, made_calibration(), overwrite=True)
    assert path.lstat() == before


def test_overwriting_replaces_artifacts_calibrations_and_what_is_left_of_them(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    put(path)
    whole = path.read_bytes()
    kept(path.with_name("calibration.safetensors"), made_calibration, made_calibration())
    for content in (b"", whole[:100], whole[:-1], whole + b"x", (tmp_path / "calibration.safetensors").read_bytes()):
        path.write_bytes(content)
        assert put_over(path, PLAN, table()).fresh
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ["notes", "{}", "[1]", '{"format": "other"}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_another_file_where_the_history_goes_is_kept(overwrite: bool, content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    runs.history_path(path).write_text(content)
    with pytest.raises(
        OutputError, match=r"x\.history\.json, where the history of x\.safetensors goes, holds something else"
    ):
        runs.produce(PLAN, table().info, path, never, overwrite=overwrite)
    assert runs.history_path(path).read_text() == content


def test_a_folder_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.mkdir()
    with pytest.raises(OutputError):
        runs.produce(PLAN, table().info, path, never)
    with pytest.raises(OutputError):
        put_over(path, PLAN, table())
    assert path.is_dir()


def test_a_folder_that_cannot_be_written_is_found_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        runs.produce(PLAN, table().info, tmp_path / "file" / "x.safetensors", never)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_fit_that_ends_early_leaves_nothing(tmp_path: Path, raised: type[BaseException]) -> None:
    def fit(_log: Callable[[Any], None]) -> Artifact:
        raise raised

    with pytest.raises(raised):
        runs.produce(PLAN, table().info, tmp_path / "x.safetensors", fit)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"seconds": null}', '{"seconds": "long"}', "[" * 100_000])
def test_a_history_that_is_gone_or_damaged_tells_no_time(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        runs.history_path(path).write_text(content)
    assert runs.fit_seconds(path) is None


# -- calibrations


def no_calibration() -> Calibration:
    raise AssertionError("there is one already")


def kept(path: Path, make: Callable[[], Calibration], calibration: Calibration, **options: Any) -> bool:
    description = calibration.description
    return runs.keep_calibration(description.settings, description.base, path, make, **options)


def test_a_calibration_has_a_place_of_its_own_or_the_one_it_is_given(tmp_path: Path) -> None:
    path = runs.calibration_path("a/b", {"tokens": 300}, tmp_path)
    assert path.parent == tmp_path / "a--b"
    assert path.name == f"calibration-{short_hash({'tokens': 300})}.safetensors"
    out = tmp_path / "mine.safetensors"
    assert runs.calibration_path("a/b", {"tokens": 300}, out) == out


def test_a_calibration_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "calibration.safetensors"
    assert kept(path, made_calibration, made_calibration())
    content = path.read_bytes()
    assert not kept(path, no_calibration, made_calibration())
    assert kept(path, made_calibration, made_calibration(), overwrite=True)
    assert path.read_bytes() == content


def test_what_is_in_a_calibrations_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    kept(path, made_calibration, made_calibration())
    content = path.read_bytes()
    other_table = replace(made_calibration().description.base, sha256="2" * 64)
    for other in (made_calibration(settings={"tokens": 301}), made_calibration(base=other_table)):
        with pytest.raises(OutputError, match="another calibration"):
            kept(path, no_calibration, other)
    assert path.read_bytes() == content
    path.write_text("somebody's notes")
    with pytest.raises(OutputError, match="in the way"):
        kept(path, no_calibration, made_calibration())
    assert path.read_text() == "somebody's notes"
