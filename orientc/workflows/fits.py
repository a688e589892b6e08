"""The grid of a study: each artifact it makes, as a config and a calibration. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orientc.compression.configs import AutoencoderConfig, Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.evaluation.option_values import NONE
from orientc.workflows.study import AE, QUANTIZE, SVD, TARGET, Study


@dataclass(frozen=True)
class Fit:
    """An artifact to make.

    Attributes:
        config: How.
        calibration: "none", "auto" or a calibration's file.
        preset: The autoencoder's recipe by name; "" for other methods.
    """

    config: Config
    calibration: str | Path
    preset: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether there is a calibration."""
        return self.calibration != NONE

    @property
    def name(self) -> str:
        """The method, its size, and what else tells it from the others of a study."""
        told = [self.config.method, self.config.size]
        bits = getattr(self.config, "bits", None)
        told += [f"{bits} bits"] if bits is not None and not isinstance(self.config, QuantizeConfig) else []
        told += [f"preset {self.preset}"] if self.preset not in ("", "default") else []
        seed = getattr(self.config, "seed", 0)
        told += [f"seed {seed}"] if seed else []
        told += ["calibrated"] if self.calibrated else []
        return ", ".join(told)


def fits(study: Study) -> list[Fit]:
    """The artifacts of a study, each once, the sizes of all methods in turn.

    Raises:
        UsageError: For a size or setting that fits no table.
    """
    found = [
        Fit(config, calibration, preset) for config, preset in _configs(study) for calibration in study.calibration
    ]
    return [*dict.fromkeys(found)]


def _configs(study: Study) -> Iterator[tuple[Config, str]]:
    for ratio in study.ratios if {SVD, AE} & {*study.methods} else ():
        for bits in study.bits:
            for method in study.methods:
                if method == SVD:
                    yield SvdConfig(ratio=ratio, bits=bits), ""
                elif method == AE:
                    for preset in study.presets:
                        for seed in study.fit_seeds:
                            yield AutoencoderConfig.preset(preset, ratio=ratio, bits=bits, seed=seed), preset
    if QUANTIZE in study.methods:
        widths = [bits for bits in study.bits if bits is not None]
        for bits in widths or ([] if study.blocks else [4]):
            yield QuantizeConfig(bits=bits), ""
        for block in study.blocks:
            yield QuantizeConfig(block=block), ""
    if TARGET in study.methods:
        for target_bits in study.target_bits:
            yield TargetConfig(target_bits=target_bits, effort=study.effort), ""
