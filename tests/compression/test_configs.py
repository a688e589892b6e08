from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from orientc.compression.configs import (
    PRESETS,
    AutoencoderConfig,
    Config,
    QuantizeConfig,
    SvdConfig,
    TargetConfig,
)
from orientc.errors import UsageError
from orientc.methods.recipe import Recipe

KINDS: tuple[type[Config], ...] = (SvdConfig, AutoencoderConfig, QuantizeConfig, TargetConfig)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained_with_its_default(kind: type[Config]) -> None:
    told = dict(re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w|^ {4}\S|\Z)", kind.__doc__ or "", re.M | re.S))
    assert told.keys() == {entry.name for entry in fields(kind)}
    for entry in fields(kind):
        shown = re.search(r"Default: (\S+?)[.,]\s", told[entry.name] + " ")
        if shown is None:  # a size has none
            assert entry.default is None
            continue
        text = shown[1].strip('"')
        assert text == str(entry.default) or float(text) == pytest.approx(entry.default), entry.name


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SvdConfig, {"rank": 4, "center": True}),
        (AutoencoderConfig, {"ratio": 4.0, "keep_rows": "auto", "nonlinear": "encoder"}),
        (QuantizeConfig, {"bits": 3, "group_size": 16}),
        (TargetConfig, {"target_mb": 1.5, "dtype": "bfloat16"}),
    ],
)
def test_a_config_is_frozen_and_made_by_keyword_alone(kind: type[Config], values: dict[str, Any]) -> None:
    config = kind(**values)
    with pytest.raises(FrozenInstanceError):
        config.dtype = "float32"  # type: ignore[misc]
    with pytest.raises(TypeError):
        kind(4)  # type: ignore[call-arg]
    assert replace(config) == config == kind(**asdict(config))


def test_a_preset_is_a_recipe_that_settings_change() -> None:
    config = AutoencoderConfig.preset("paper", rank=4, epochs=9)
    own = {entry.name: getattr(config, entry.name) for entry in fields(Recipe)}
    assert own == asdict(PRESETS["paper"]) | {"epochs": 9}
    assert AutoencoderConfig.preset("default", rank=4) == AutoencoderConfig(rank=4)


def test_the_same_number_in_another_type_is_the_same_setting() -> None:
    one = AutoencoderConfig(ratio=5, cosine_weight=1)
    assert repr(one.settings) == repr(AutoencoderConfig(ratio=5.0, cosine_weight=1.0).settings)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (SvdConfig, {"rank": 4, "ratio": 5.0}, "not both"),
        (SvdConfig, {}, "rank"),
        (SvdConfig, {"rank": 0}, "at least 1"),
        (SvdConfig, {"ratio": 0.5}, "at least 1"),
        (SvdConfig, {"rank": 4, "center": 1}, "`center` must be of type bool"),
        (SvdConfig, {"rank": 4, "bits": 5}, "8, 4, 3, 2"),
        (SvdConfig, {"rank": 4, "group_size": 32}, "give `bits` too"),
        (SvdConfig, {"rank": 4, "bits": 4, "group_size": 0}, "`group_size` must be from 1"),
        (SvdConfig, {"rank": 4, "keep_rows": -1}, "`keep_rows` must be at least 0"),
        (SvdConfig, {"rank": 4, "keep_rows": "many"}, "a whole number or auto"),
        (SvdConfig, {"rank": 4, "keep_rows": "auto"}, "only with a ratio"),
        (SvdConfig, {"rank": 4, "keep_rows": 1.5}, "`keep_rows` must be of type int or str"),
        (SvdConfig, {"rank": 4, "head_weight": -1}, "`head_weight` must be at least 0"),
        (AutoencoderConfig, {"rank": 4, "dtype": "int8"}, "float16"),
        (AutoencoderConfig, {"rank": 4, "dtype": ["float16"]}, "`dtype` must be of type str"),
        (AutoencoderConfig, {"rank": 4, "schedule": "steps"}, "halving"),
        (AutoencoderConfig, {"rank": 4, "halve_every": 2}, "set `schedule` to halving"),
        (AutoencoderConfig, {"rank": 4, "nonlinear": "relu"}, "encoder"),
        (AutoencoderConfig, {"rank": 4, "init": "zeros"}, "subspace"),
        (AutoencoderConfig, {"rank": 4, "epochs": 2.5}, "`epochs` must be of type int"),
        (AutoencoderConfig, {"rank": 4, "epochs": "3"}, "`epochs` must be of type int"),
        (AutoencoderConfig, {"rank": 4, "epochs": True}, "`epochs` must be of type int"),
        (AutoencoderConfig, {"rank": 4, "epochs": 0}, "must be at least 1"),
        (AutoencoderConfig, {"rank": 4, "epochs": {"a": 1}}, "`epochs` must be of type int"),
        (AutoencoderConfig, {"rank": 4, "learning_rate": "0.1"}, "`learning_rate` must be of type float"),
        (AutoencoderConfig, {"rank": 4, "learning_rate": 0}, "must be above 0"),
        (AutoencoderConfig, {"rank": 4, "learning_rate": float("nan")}, "must be above 0"),
        (AutoencoderConfig, {"rank": 4, "learning_rate": 10**400}, "larger than any number"),
        (AutoencoderConfig, {"rank": 4, "cosine_weight": -1}, "must be at least 0"),
        (AutoencoderConfig, {"rank": 4, "cosine_weight": 0, "power_weight": 0}, "at least one of"),
        (AutoencoderConfig, {"rank": 4, "seed": 1.0}, "`seed` must be of type int"),
        (AutoencoderConfig, {"rank": 4, "seed": 2**70}, "`seed` must fit"),
        (AutoencoderConfig, {"rank": "4"}, "`rank` must be of type int"),
        (AutoencoderConfig, {"rank": True}, "`rank` must be of type int"),
        (QuantizeConfig, {}, "`bits` is missing"),
        (QuantizeConfig, {"bits": "4"}, "`bits` must be of type int"),
        (QuantizeConfig, {"bits": 4, "keep_rows": "auto"}, "only with a ratio"),
        (TargetConfig, {}, "one target"),
        (TargetConfig, {"target_bits": 4, "target_mb": 1}, "one target"),
        (TargetConfig, {"target_ratio": 0}, "`target_ratio` must be above 0"),
        (TargetConfig, {"target_mb": float("inf")}, "`target_mb` must be above 0"),
        (TargetConfig, {"target_bits": 4, "effort": "most"}, "`effort` must be fast or best, not 'most'"),
        (TargetConfig, {"target_bits": 5, "effort": "best", "runtime": "gguf"}, "`effort` and `runtime` exclude"),
    ],
)
def test_a_value_that_fits_no_table_is_named(kind: type[Config], values: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "inputs", "named"),
    [
        (SvdConfig(rank=4, keep_rows=3), {}, "`calibration`"),
        (SvdConfig(rank=4, head_weight=0.5), {}, "`calibration`"),
        (TargetConfig(target_bits=4, head_weight=0.5), {}, "`calibration`"),
        (AutoencoderConfig(rank=4, nonlinear="both"), {"calibration": True}, "`nonlinear`"),
        (AutoencoderConfig(rank=4, init="artifact"), {}, "`init`"),
        (AutoencoderConfig(rank=4), {"init": True}, "`init`"),
        (QuantizeConfig(bits=4), {"init": True}, "`init`"),
    ],
)
def test_a_file_that_is_missing_or_means_nothing_is_named(config: Config, inputs: dict[str, bool], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.check_inputs(**{"calibration": False, "init": False} | inputs)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("config", "slug"),
    [
        (SvdConfig(rank=4), "svd-r4"),
        (AutoencoderConfig(rank=4, bits=3), "autoencoder-r4-b3"),
        (QuantizeConfig(bits=8), "quantize-b8"),
        (TargetConfig(target_bits=3.5), "target-bits3.5"),
    ],
)
def test_a_file_is_named_after_method_and_size(config: Config, slug: str) -> None:
    assert config.slug == slug
