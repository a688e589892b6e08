"""Settings from a file, an artifact and keywords, and the one config that they make together."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from orientc.compression.configs import TARGETS, AutoencoderConfig, Config, TargetConfig
from orientc.errors import UsageError
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact
from orientc.utils.files import read_bytes

C = TypeVar("C", bound=Config)
_LARGEST = 1_000_000  # bytes of a file of settings
_GROUPS = (("rank", "ratio"), TARGETS)  # of a group one alone is given


def read_config(
    kinds: Sequence[type[C]],
    given: Mapping[str, Any],
    *,
    config: C | str | Path | None = None,
    like: str | Path | Artifact | None = None,
    calibrated: bool = False,
) -> C:
    """The config that settings from up to three places make; later ones go over earlier ones.

    First come an artifact's settings, then those of a file, then keywords. A rank or ratio takes the place of one that
    came earlier, and so does a target; a preset lies under all of them.

    Args:
        kinds: The method's config, and `TargetConfig` after it where a target can take its place.
        given: Settings by keyword; one that is None says nothing.
        config: A TOML or JSON file of settings; or a config that is complete, with no settings from elsewhere.
        like: An artifact whose settings are repeated.
        calibrated: Whether there is a calibration.

    Raises:
        UsageError: A setting is unknown, doesn't apply, or is of a wrong type or value.
        ArtifactError: `like` can't be read.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(config, Config):
        return _complete(kinds, given, config, like)
    merged: dict[str, Any] = {}
    for layer in (_settings_of(like), settings_from(config) if config is not None else {}, given):
        for group in _GROUPS:
            if any(name in layer for name in group):
                merged = {name: value for name, value in merged.items() if name not in group}
        merged |= layer
    kind = kinds[-1] if TargetConfig in kinds and any(name in merged for name in TARGETS) else kinds[0]
    _check_source(merged, kind, calibrated=calibrated)
    merged = {
        name: value for name, value in merged.items() if name not in ("method", "init_sha256", "calibration_sha256")
    }
    if TargetConfig in kinds and kind is not TargetConfig and not any(name in merged for name in _GROUPS[0]):
        raise UsageError("no size is given: say `target_bits`, or for the paper's autoencoder `rank` or `ratio`")
    known = _known(kind)
    for name in sorted(merged.keys() - known):
        if any(name in _known(other) for other in kinds):
            target = next((entry for entry in TARGETS if entry in merged), None)
            if target is None:
                raise UsageError(
                    f"`{name}` is for a target: say its size with {', '.join(f'`{own}`' for own in TARGETS)}"
                )
            raise UsageError(f"`{name}` and `{target}` exclude each other: a target chooses the form by itself")
        raise UsageError(f"{kind.method} has no setting {name!r}: choose from {', '.join(sorted(known))}")
    preset = merged.pop("preset", "default")
    if not isinstance(preset, str):
        raise UsageError(f"`preset` must be of type str, not {preset!r:.60}")
    return kind.preset(str(preset), **merged) if issubclass(kind, AutoencoderConfig) else kind(**merged)


def settings_from(path: str | Path) -> dict[str, Any]:
    """Settings by name from a TOML or JSON file; a hyphen in a name counts as "_". Raises `UsageError`."""
    path = Path(path)
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        text = read_bytes(path, _LARGEST).decode()
        values = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not {kind}: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not hold settings by name")
    return {key.replace("-", "_"): value for key, value in values.items() if value is not None}


def _complete(kinds: Sequence[type[C]], given: Mapping[str, Any], config: C, like: object) -> C:
    if not isinstance(config, tuple(kinds)):
        raise UsageError(f"a {type(config).__name__} is not for {kinds[0].method}: its `config` is {kinds[0].__name__}")
    if like is not None:
        raise UsageError("`config` and `like` exclude each other: a config is complete")
    if given:
        raise UsageError(f"`config` and `{next(iter(given))}` exclude each other: a config is complete")
    return config


def _settings_of(like: str | Path | Artifact | None) -> dict[str, Any]:
    if like is None:
        return {}
    return (like.description if isinstance(like, Artifact) else artifacts.read_description(like)).settings


def _check_source(merged: Mapping[str, Any], kind: type[Config], *, calibrated: bool) -> None:
    """Raise `UsageError` for settings that were recorded for something else than can be done here."""
    if "method" in merged and "preset" in merged:
        raise UsageError("`preset` and an artifact's settings exclude each other: both are complete")
    if "tuned_from_sha256" in merged:
        raise UsageError(
            "these settings are of a tuned artifact: replay those of the one it was tuned from, then orientc tune"
        )
    if (method := merged.get("method", kind.method)) != kind.method:
        raise UsageError(f"these are settings of another method, {method!s:.60}, and not of {kind.method}")
    if merged.get("calibration_sha256") and not calibrated:
        raise UsageError("these settings are of a calibration: name it with `calibration`")


def _known(kind: type[Config]) -> set[str]:
    """The settings of a config by name, and "preset" where there are some."""
    return {entry.name for entry in fields(kind)} | ({"preset"} if issubclass(kind, AutoencoderConfig) else set())
