"""What the settings of a study may be, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orientc.errors import UsageError
from orientc.workflows.fits import fits
from orientc.workflows.study import Study, read_study

NAMES = (
    "methods", "ratios", "bits", "target_bits", "presets", "effort", "fit_seeds", "calibration", "perplexity",
    "similarity", "task", "text", "limit", "data", "squad_data", "limit_train", "limit_eval", "train_embeddings",
    "epochs", "learning_rate", "seed", "seeds", "precision", "keep",
)  # fmt: skip


def study(tmp_path: Path, text: str = "", base: Study | None = None, **said: Any) -> Study:
    given = dict.fromkeys(NAMES) | said
    (tmp_path / "study.toml").write_text(text)
    return read_study(given, tmp_path / "study.toml" if text else None, base)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({}, ["svd, ratio 2.5", "autoencoder, ratio 2.5", "svd, ratio 5", "autoencoder, ratio 5", "svd, ratio 10",
              "autoencoder, ratio 10"]),
        ({"ratios": 4}, ["svd, ratio 4", "autoencoder, ratio 4"]),
        ({"target_bits": "1.5,2"}, ["target, target bits 1.5", "target, target bits 2"]),
        ({"ratios": "4", "target_bits": [2]}, ["svd, ratio 4", "autoencoder, ratio 4", "target, target bits 2"]),
        ({"bits": "8,4"}, ["quantize, 8 bits", "quantize, 4 bits"]),
        ({"bits": "8", "ratios": "4"}, ["svd, ratio 4, 8 bits", "autoencoder, ratio 4, 8 bits"]),
        ({"blocks": "IQ4_NL,Q5_0"}, ["quantize, IQ4_NL blocks", "quantize, Q5_0 blocks"]),
        ({"blocks": ["Q8_0"], "bits": 8, "target_bits": 2},
         ["quantize, 8 bits", "quantize, Q8_0 blocks", "target, target bits 2"]),
        ({"methods": "quantize"}, ["quantize, 4 bits"]),
        ({"methods": ["target"]}, [f"target, target bits {bits}" for bits in ("1.5", "2", "3")]),
        ({"methods": "ae", "ratios": "4", "presets": "paper,default", "fit_seeds": "0,7"},
         ["autoencoder, ratio 4, preset paper", "autoencoder, ratio 4, preset paper, seed 7", "autoencoder, ratio 4",
          "autoencoder, ratio 4, seed 7"]),
    ],
)  # fmt: skip
def test_the_sizes_that_are_given_say_what_is_made(tmp_path: Path, said: dict[str, Any], names: list[str]) -> None:
    assert [fit.name for fit in fits(study(tmp_path, **said))] == names


def test_targets_are_searched_with_the_effort_of_the_study(tmp_path: Path) -> None:
    found = fits(study(tmp_path, "target-bits = 2\nratios = 4\neffort = 'best'\n"))
    assert {fit.config.method: fit.config.settings.get("effort") for fit in found} == {
        "svd": None, "autoencoder": None, "target": "best",
    }  # fmt: skip


def test_a_tasks_own_settings_go_over_gluess_and_those_over_all(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        """
        task = "all"
        epochs = 2
        limit-train = 9
        [glue]
        epochs = 4
        data = "there"
        [mnli]
        epochs = 1
        seeds = "5,6"
        """,
        limit_train=7,
    )
    assert len(found.task) == 9
    assert (found.config_of("rte").epochs, found.config_of("mnli").epochs) == (4, 1)
    assert (found.data_of("rte"), found.data_of("squad")) == ("there", None)
    assert (found.seeds_of("rte"), found.seeds_of("mnli")) == ((0,), (5, 6))
    assert found.limits_of("mnli") == (7, None)


def test_what_is_said_goes_over_a_base_and_its_tasks(tmp_path: Path) -> None:
    base = Study(task=("rte", "squad"), finetuning={"epochs": 3.0}, of_task={"squad": {"epochs": 2, "batch_size": 12}})
    assert study(tmp_path, base=base).config_of("squad").epochs == 2
    found = study(tmp_path, base=base, epochs=1)
    assert [(found.config_of(task).epochs, found.config_of(task).batch_size) for task in found.task] == [
        (1, 32),
        (1, 12),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rank = 4", "no setting 'rank'"),
        ("[sst3]\nepochs = 1", "no task 'sst3'"),
        ("task = 'rte'\n[rte]\nwindow-step = 4", "rte has no setting 'window_step'"),
        ("task = 'rte'\n[rte]\nlimit-train = 0", "limit_train"),
        ("limit = 'x'", "`limit`"),
        ("perplexity = 1", "`perplexity`"),
        ("ratios = {}", "no task 'ratios'"),
        ("ratios = [true]\nfit-seeds = [[1]]", "`fit_seeds`"),
        ("task = 'rte'\nepochs = 'many'", "wrong type"),
        ("seeds = []", "`seeds`"),
        ("target-bits = 2\neffort = 'most'", "`effort` must be fast or best"),
        ("effort = 'best'", "`effort` is for target"),
        ("target-bits = 2\neffort = 3", "`effort`"),
        ("= 3", "is not TOML"),
    ],
)
def test_a_file_that_no_study_can_be_is_a_wrong_request(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        study(tmp_path, text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
