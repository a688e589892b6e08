"""No file of an export names code but orientc's, or, where that is trusted and goes along, the model's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.compact_models import own_modules_cache
from transformers import AutoTokenizer

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import ExportError, ModelError
from orientc.exporters import model_card
from orientc.exporters.export import Exported, export
from orientc.models import foreign_code
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

EVIL = "evil_marker"
RAN = Path("ran")
CODE = f'from pathlib import Path\nPath("{RAN}").write_text("ran")\n'
PLANTED: dict[str, Any] = {
    "auto_map": {auto: f"{EVIL}.Evil" for auto in ("AutoConfig", "AutoModel", "AutoModelForMaskedLM")}
    | {"AutoTokenizer": [f"{EVIL}.Slow", None], "AutoProcessor": f"someone/{EVIL}--code.Evil"},
    "custom_pipelines": {"fill-mask": {"impl": f"{EVIL}.Evil", "pt": [f"{EVIL}.Evil"]}},
    "trust_remote_code": True,
    "code_revision": EVIL,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Foreign code that runs leaves a file in the working folder, which is the test's own."""
    monkeypatch.chdir(tmp_path)
    with own_modules_cache(tmp_path / "modules"):
        yield
    assert not RAN.exists()


def plant(folder: Path) -> None:
    """Name foreign code in every JSON file of a folder, at the top and within, and put it there."""
    for path in folder.rglob("*.json"):
        if path.name not in ("tokenizer.json", "modules.json"):
            values = json.loads(path.read_text())
            if path.name == "sentence_bert_config.json":  # sentence-transformers takes no other entries
                values["model_args"] = PLANTED | {"attn_implementation": f"someone/{EVIL}"}
            elif path.parent == folder:
                values |= PLANTED | {"further": {"deeper": [dict(PLANTED)]}}
            path.write_text(json.dumps(values))
    for name in (EVIL, "code"):
        (folder / f"{name}.py").write_text(CODE)


def exported(folder: Path, form: str, **options: Any) -> Exported:
    trust = {"trust_remote_code": options.get("trust_remote_code", False)}
    artifact = Path("artifact.safetensors")
    artifacts.save(fit_table(read_table(ModelSource.resolve(str(folder), **trust)), SvdConfig(rank=4)), artifact)
    return export(artifact, Path(f"out-{form}"), form=form, overwrite=True, **options)


def code_named(folder: Path) -> set[str]:
    """The modules that the JSON files of a folder name, and what else of the kind is in them."""
    found: set[str] = set()

    def look(value: Any) -> None:
        for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(entry)
        if isinstance(value, dict):
            places = [
                place
                for entry in value.get("auto_map", {}).values()
                for place in ([entry] if isinstance(entry, str) else entry)
            ]
            found.update(place.partition(".")[0] for place in places if place)
            found.update(name for name in ("custom_pipelines", "trust_remote_code", "code_revision") if name in value)

    for path in folder.rglob("*.json"):
        look(json.loads(path.read_text()))
    return found


def bert(tmp_path: Path, bert_folder: Path) -> Path:
    return shutil.copytree(bert_folder, tmp_path / "one")


def sentences(tmp_path: Path, bert_folder: Path) -> Path:
    """The same as a sentence encoder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(bert_folder)), Pooling(32, "mean"), Dense(32, 16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "one"))
    return tmp_path / "one"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["compact", "dense", "onnx"])
@pytest.mark.parametrize("make", [bert, sentences])
def test_no_file_names_code_but_ours(
    make: Callable[[Path, Path], Path], form: str, tmp_path: Path, bert_folder: Path
) -> None:
    folder = make(tmp_path, bert_folder)
    transformers.GenerationConfig(max_new_tokens=7).save_pretrained(folder)
    plant(folder)
    expected = AutoTokenizer.from_pretrained(bert_folder)

    made = exported(folder, form)

    assert code_named(made.folder) == ({"modeling_orientc"} if form == "compact" else set())
    assert EVIL not in "".join(path.read_text() for path in made.folder.rglob("*") if path.suffix in (".json", ".md"))
    assert sorted(path.name for path in made.folder.rglob("*.py")) == ["modeling_orientc.py"] * (form == "compact")
    for trust in (False, True):
        found = AutoTokenizer.from_pretrained(made.folder, trust_remote_code=trust)
        assert found("the quick fox")["input_ids"] == expected("the quick fox")["input_ids"]
    if form != "onnx":
        auto = transformers.AutoModelForMaskedLM if make is bert else transformers.AutoModel
        auto.from_pretrained(made.folder, trust_remote_code=True)
    if form != "onnx" and make is sentences:
        from sentence_transformers import SentenceTransformer

        SentenceTransformer(str(made.folder), trust_remote_code=True, device="cpu").encode(["a fox"])


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("names", [[f"{EVIL}.Slow", f"{EVIL}.Fast"], {"AutoTokenizer": [f"{EVIL}.Slow", None]}, EVIL])
def test_any_spelling_of_a_tokenizers_code_is_stripped(
    names: Any, form: str, tmp_path: Path, bert_folder: Path
) -> None:
    folder = bert(tmp_path, bert_folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": names}))
    if names == EVIL:  # transformers reads no such thing: there is nothing to export
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoFeatureExtractor": EVIL}}))
    made = exported(folder, form)
    assert EVIL not in (made.folder / path.name).read_text()


def test_what_only_looks_like_names_of_code_stays(tmp_path: Path) -> None:
    kept = {
        "label2id": {"auto_map": 0, "custom_pipelines": 1, "trust_remote_code": 2},
        "id2label": {"0": "auto_map"},
        "attn_implementation": "sdpa",
        "auto_map": {"AutoModel": "own.Model", "AutoConfig": None},
    }
    (tmp_path / "own.py").write_text("")
    (tmp_path / "config.json").write_text(json.dumps(kept))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"vocab": {"auto_map": "x.Y"}}))
    (tmp_path / "damaged.json").write_text("{")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    foreign_code.strip(tmp_path)
    expected = kept | {"auto_map": {"AutoModel": "own.Model"}}
    assert json.loads((tmp_path / "config.json").read_text()) == expected
    del before[tmp_path / "config.json"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("activation", ["os.getcwd", f"{EVIL}.Evil", "torch.hub.load", "torch.nnx"])
def test_an_activation_that_is_other_code_is_refused(activation: str, tmp_path: Path, bert_folder: Path) -> None:
    """sentence-transformers imports whatever stands there, once any code is trusted, as the compact form needs."""
    folder = sentences(tmp_path, bert_folder)
    path = folder / "2_Dense" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"activation_function": activation}))
    with pytest.raises(ModelError, match=f"has a module in 2_Dense that names code: {activation}$"):
        exported(folder, "compact")


# -- code that is trusted

CONFIGURATION = """
from transformers import BertConfig


class OwnConfig(BertConfig):
    model_type = "own"
"""
MODELING = """
from transformers import BertForMaskedLM

from .configuration_own import OwnConfig


class OwnForMaskedLM(BertForMaskedLM):
    config_class = OwnConfig
"""
TOKENIZATION = """
from transformers import PreTrainedTokenizerFast


class OwnTokenizerFast(PreTrainedTokenizerFast):
    pass
"""


def with_own_tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer_config.json"
    names = {"auto_map": {"AutoTokenizer": [None, "tokenization_own.OwnTokenizerFast"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    (folder / "tokenization_own.py").write_text(TOKENIZATION)
    return folder


def own(tmp_path: Path, bert_folder: Path) -> Path:
    """A model and a tokenizer with code of their own, and more names beside."""
    folder = with_own_tokenizer(bert(tmp_path, bert_folder))
    names = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForMaskedLM": "modeling_own.OwnForMaskedLM"}
    names |= {"AutoModel": f"someone/{EVIL}--code.Evil", "AutoModelForQuestionAnswering": f"{EVIL}.Evil"}
    path = folder / "config.json"
    values = json.loads(path.read_text()) | {"model_type": "own", "architectures": ["OwnForMaskedLM"]}
    path.write_text(json.dumps(values | PLANTED | {"auto_map": names}))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    return folder


def test_code_that_goes_along_is_told_on_the_card_and_nothing_else_is_named(tmp_path: Path, bert_folder: Path) -> None:
    folder = own(tmp_path, bert_folder)
    made = exported(folder, "dense", trust_remote_code=True)
    shutil.rmtree(folder)

    taken = ["configuration_own.py", "modeling_own.py", "tokenization_own.py"]
    assert sorted(path.name for path in made.folder.glob("*.py")) == taken
    assert {
        name.strip("()[]',").rpartition(" ")[2].strip("'").partition(".")[0] for name in code_named(made.folder)
    } == {name.removesuffix(".py") for name in taken}
    assert EVIL not in "".join(path.read_text() for path in made.folder.rglob("*.json"))
    card = (made.folder / model_card.FILE).read_text()
    assert "This runs code of the model's own repository, not of orientc's: " in card
    assert all(f"`{name}`" in card for name in taken)
    assert made.facts.code == "the model's repository"
    assert made.facts.load("x") == 'AutoModelForMaskedLM.from_pretrained("x", trust_remote_code=True)'
    assert f"model = {made.facts.load('path/or/repository')}\n" in card
    assert 'tokenizer = AutoTokenizer.from_pretrained("path/or/repository", trust_remote_code=True)' in card
    found = transformers.AutoModelForMaskedLM.from_pretrained(made.folder, trust_remote_code=True)
    assert type(found).__name__ == "OwnForMaskedLM"
    tokenizer = AutoTokenizer.from_pretrained(made.folder, trust_remote_code=True)
    assert type(tokenizer).__name__ == "OwnTokenizerFast"


@pytest.mark.parametrize("form", ["compact", "onnx"])
def test_a_tokenizer_that_is_code_goes_along_in_the_dense_form_alone(
    form: str, tmp_path: Path, bert_folder: Path
) -> None:
    folder = with_own_tokenizer(bert(tmp_path, bert_folder))
    with pytest.raises(ExportError, match="tokenizer that is code of its repository: export it in the dense form"):
        exported(folder, form, trust_remote_code=True)
    assert not Path(f"out-{form}").exists()
    exported(folder, form)  # transformers' own does as well
    card = (exported(folder, "dense", trust_remote_code=True).folder / model_card.FILE).read_text()
    assert "`tokenization_own.py`" in card
    assert 'AutoModelForMaskedLM.from_pretrained("path/or/repository")' in card
    assert 'AutoTokenizer.from_pretrained("path/or/repository", trust_remote_code=True)' in card


# -- the tokenizer asks nothing

ALONE = """
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({arguments})
assert len(tokenizer("the quick fox")["input_ids"]) == 5
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ['"out-compact"', '"out-compact", trust_remote_code=False'])
def test_the_tokenizer_of_a_compact_folder_loads_with_nobody_to_ask(
    arguments: str, tmp_path: Path, bert_folder: Path
) -> None:
    made = exported(bert(tmp_path, bert_folder), "compact")
    assert f"tokenizer = {made.facts.tokenizer('path/or/repository')}\n" in (made.folder / "README.md").read_text()
    ended = subprocess.run(
        [sys.executable, "-c", ALONE.format(arguments=arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert ended.returncode == 0, ended.stderr
    if "False" in arguments:
        assert ended.stdout == ""
        assert made.facts.tokenizer("out-compact") == f"AutoTokenizer.from_pretrained({arguments})"
    assert not [*(tmp_path / "modules").rglob("modeling_orientc.py")]  # no code ran
