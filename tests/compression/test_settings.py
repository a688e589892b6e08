from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.coded import filled, layout, stored

from orientc.compression.configs import AutoencoderConfig, Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.compression.settings import read_config, settings_from
from orientc.errors import UsageError
from orientc.storage.artifact import Artifact

COMPRESS: tuple[type[Config], ...] = (AutoencoderConfig, TargetConfig)
SVD: tuple[type[Config], ...] = (SvdConfig,)


def like(settings: Mapping[str, Any]) -> Artifact:
    """An artifact that was made by some settings."""
    made = stored(filled(layout("plain", "linear")))
    return replace(made, description=replace(made.description, settings=dict(settings)))


def test_without_layers_above_the_preset_counts() -> None:
    assert read_config(COMPRESS, {"rank": 4}) == AutoencoderConfig(rank=4)
    assert read_config(COMPRESS, {"rank": 4, "preset": "paper"}) == AutoencoderConfig.preset("paper", rank=4)


def test_a_later_layer_goes_over_an_earlier_one(tmp_path: Path) -> None:
    made = like({"rank": 4, "epochs": 7, "batch_size": 8, "seed": 3})
    file = tmp_path / "fit.toml"
    file.write_text('preset = "paper"\nepochs = 8\nbatch-size = 9\n')
    options = {"epochs": 9, "batch_size": None, "seed": None, "preset": None}
    expected = AutoencoderConfig.preset("paper", rank=4, epochs=9, batch_size=9, seed=3)
    assert read_config(COMPRESS, options, config=file, like=made) == expected


def test_a_preset_lies_under_every_layer_wherever_it_is_named() -> None:
    config = read_config(COMPRESS, {"preset": "paper"}, like=like({"rank": 4, "learning_rate": 0.5}))
    assert config == AutoencoderConfig.preset("paper", rank=4, learning_rate=0.5)


def test_a_preset_on_top_of_an_artifacts_complete_settings_is_refused() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        read_config(COMPRESS, {"preset": "paper"}, like=like(AutoencoderConfig(rank=4).settings))


@pytest.mark.parametrize(
    ("kinds", "config"),
    [
        (COMPRESS, AutoencoderConfig(rank=4, epochs=3, nonlinear="both", dtype="float16", seed=5)),
        (COMPRESS, TargetConfig(target_bits=4, head_weight=0.5)),
        (COMPRESS, TargetConfig(target_bits=4, effort="best")),
        (SVD, SvdConfig(rank=4, center=True, bits=4, keep_rows=3)),
        ((QuantizeConfig,), QuantizeConfig(bits=3)),
    ],
)
def test_the_settings_of_a_config_replay_it(kinds: tuple[type[Config], ...], config: Config) -> None:
    assert read_config(kinds, {}, like=like(config.settings)) == config


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ({"rank": 4}, {"rank": 2, "ratio": None}, AutoencoderConfig(rank=2)),
        ({"rank": 4}, {"ratio": 5}, AutoencoderConfig(ratio=5)),
        ({"ratio": 2.5}, {"rank": 2}, AutoencoderConfig(rank=2)),
        ({"target_bits": 4}, {"target_mb": 1}, TargetConfig(target_mb=1)),
    ],
)
def test_a_size_takes_the_place_of_an_earlier_one(
    earlier: dict[str, Any], later: dict[str, Any], expected: Config
) -> None:
    assert read_config(COMPRESS, later, like=like(earlier)) == expected


@pytest.mark.parametrize(
    ("kinds", "given", "named"),
    [
        (COMPRESS, {"epoch": 3}, "'epoch'"),
        (COMPRESS, {"center": True}, "'center'"),
        (SVD, {"epochs": 3}, "'epochs'"),
        (SVD, {"seed": 3}, "'seed'"),
        (SVD, {"preset": "paper"}, "'preset'"),
        (SVD, {"target_bits": 3}, "'target_bits'"),
        (SVD, {"method": "autoencoder"}, "another method"),
        (COMPRESS, {"method": "svd"}, "another method"),
        (COMPRESS, {"method": "target"}, "another method"),
        (COMPRESS, {"preset": "fast"}, "default, paper"),
        (COMPRESS, {"preset": ["paper"]}, "`preset` must be of type str"),
        (COMPRESS, {"epochs": "3"}, "`epochs` must be of type int"),
        (COMPRESS, {"tuned_from_sha256": "1" * 64}, "orientc tune"),
        (COMPRESS, {"calibration_sha256": "1" * 64}, "`calibration`"),
        (COMPRESS, {"effort": "best"}, "`effort` is for a target"),
    ],
)
def test_a_setting_that_does_not_belong_is_named(
    kinds: tuple[type[Config], ...], given: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(kinds, {"rank": 4} | given)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"rank": 4},
        {"ratio": 4.0},
        {"bits": 4},
        {"keep_rows": 3},
        {"preset": "paper"},
        {"epochs": 2},
        {"init": "random"},
    ],
)
def test_a_target_and_what_it_chooses_by_itself_exclude_each_other(other: dict[str, Any]) -> None:
    (name,) = other
    with pytest.raises(UsageError, match=f"`{name}` and `target_bits` exclude each other"):
        read_config(COMPRESS, {"target_bits": 3} | other)


def test_a_complete_config_stands_alone() -> None:
    config = SvdConfig(rank=4)
    assert read_config(SVD, {"rank": None}, config=config) is config
    with pytest.raises(UsageError, match="`config` and `rank` exclude each other"):
        read_config(SVD, {"rank": 5}, config=config)
    with pytest.raises(UsageError, match="`config` and `like` exclude each other"):
        read_config(SVD, {}, config=config, like=like(config.settings))
    with pytest.raises(UsageError, match="TargetConfig is not for svd"):
        read_config(SVD, {}, config=TargetConfig(target_bits=4))


def test_recorded_files_are_not_settings_that_are_replayed() -> None:
    recorded = AutoencoderConfig(rank=4, init="artifact").settings | {"init_sha256": "1" * 64}
    assert read_config(COMPRESS, {}, like=like(recorded)) == AutoencoderConfig(rank=4, init="artifact")
    assert read_config(COMPRESS, {"init": "random"}, like=like(recorded)) == AutoencoderConfig(rank=4, init="random")


def test_a_file_is_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text('batch-size = 16\nschedule = "halving"\n')
    (tmp_path / "fit.json").write_text('{"batch_size": 16, "schedule": "halving", "seed": null}')
    expected = {"batch_size": 16, "schedule": "halving"}
    assert settings_from(tmp_path / "fit.toml") == settings_from(str(tmp_path / "fit.json")) == expected


def test_without_any_size_the_target_is_named_first() -> None:
    with pytest.raises(UsageError, match="no size is given: say `target_bits`"):
        read_config(COMPRESS, {"epochs": 3})
