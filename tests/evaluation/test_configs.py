"""What an evaluation can't use is refused by the name of its field; several seeds make several configs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orientc.errors import UsageError
from orientc.evaluation.configs import FinetuningConfig, PerplexityConfig, SimilarityConfig, SquadConfig


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (lambda: PerplexityConfig(dtype="int8"), "dtype"),
        (lambda: SimilarityConfig(dtype="double"), "dtype"),
        (lambda: FinetuningConfig(precision="int8"), "precision"),
    ],
)
def test_a_type_no_model_computes_in_is_refused(config: object, field: str) -> None:
    with pytest.raises(UsageError, match=f"`{field}` must be one of float32, float16, bfloat16"):
        config()  # type: ignore[operator]


@pytest.mark.parametrize("seeds", ["3,1,3", [3, 1, 3], (3, 1)])
def test_each_seed_makes_one_config_of_the_same_kind(seeds: Sequence[int] | str) -> None:
    config = SquadConfig(epochs=1, window_step=16)
    assert config.with_seeds(seeds) == [
        SquadConfig(epochs=1, window_step=16, seed=3),
        SquadConfig(epochs=1, window_step=16, seed=1),
    ]
    assert config.with_seeds(None) == [config]


@pytest.mark.parametrize("seeds", ["", "1,two", "1 2", [], [2**32], "-1"])
def test_what_is_no_list_of_seeds_is_refused(seeds: Sequence[int] | str) -> None:
    with pytest.raises(UsageError, match=r"`seeds?`"):
        FinetuningConfig().with_seeds(seeds)


def test_a_seed_beside_several_is_refused() -> None:
    with pytest.raises(UsageError, match="`seed` and `seeds` exclude each other"):
        FinetuningConfig(seed=3).with_seeds([1, 2])
