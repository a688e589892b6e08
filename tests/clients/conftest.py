"""Models whose tables are in codes, exported as a user would, for programs that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data import SENTENCES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder run real clients."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.clients)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "DISABLE_MLFLOW_INTEGRATION"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(scope="session")
def own_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """transformers keeps models' code in a folder of these tests alone."""
    from support.compact_models import own_modules_cache

    with own_modules_cache(tmp_path_factory.mktemp("code")):
        yield


@pytest.fixture(scope="session")
def calibration_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "calibration.txt"
    path.write_text("\n".join(SENTENCES * 40))
    return path


def _coded(model: Path, folder: Path, text: Path) -> Path:
    """A compact folder of a model: its table calibrated, in codes of about 5 bits, and the head with it."""
    import orientc

    calibration = orientc.calibrate(model, text=text, tokens=2000, out=folder / "calibration.safetensors").path
    artifact = orientc.compress(model, target_bits=5, calibration=calibration, out=folder / "table.safetensors")
    orientc.export(artifact.path, folder / "compact")
    return folder / "compact"


@pytest.fixture(scope="session")
def encoder(bert_folder: Path, own_code: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of a tiny BERT."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("encoder")
    transformer = Transformer(str(bert_folder))
    SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension())]).save(str(folder))
    return folder


@pytest.fixture(scope="session")
def coded_encoder(encoder: Path, calibration_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _coded(encoder, tmp_path_factory.mktemp("coded-encoder"), calibration_text)


@pytest.fixture(scope="session")
def coded_decoder(
    gpt2_folder: Path, calibration_text: Path, own_code: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return _coded(gpt2_folder, tmp_path_factory.mktemp("coded-decoder"), calibration_text)


@pytest.fixture(scope="session")
def dense_decoder(coded_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same table as `coded_decoder`'s, written out."""
    import orientc

    folder = tmp_path_factory.mktemp("dense-decoder") / "dense"
    orientc.export(coded_decoder.parent / "table.safetensors", folder, form="dense")
    return folder
