from __future__ import annotations

import pytest

from orientc.evaluation.causal_lm import windows

IDS = list(range(100, 137))


def scored(ids: list[int], **settings: int | None) -> list[int]:
    return [target for example in windows(ids, **settings) for target in example.targets]  # type: ignore[arg-type]


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (8, 1), (37, 37), (50, 50), (36, 36), (1, 1)])
def test_with_bos_every_token_is_scored_exactly_once(window: int, stride: int) -> None:
    assert scored(IDS, window=window, stride=stride, bos_id=0) == IDS


def test_without_bos_the_first_token_of_a_window_is_not_scored() -> None:
    assert scored(IDS, window=8, stride=8, bos_id=None) == [token for token in IDS if (token - 100) % 8]


def test_without_bos_but_overlapping_only_the_very_first_token_is_not_scored() -> None:
    assert scored(IDS, window=8, stride=4, bos_id=None) == IDS[1:]


@pytest.mark.parametrize("bos", [0, None])
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (5, 2)])
def test_each_target_follows_its_position_and_sees_all_of_the_window_before_it(
    window: int, stride: int, bos: int | None
) -> None:
    for example in windows(IDS, window=window, stride=stride, bos_id=bos):
        text = example.input_ids[1:] if bos is not None else example.input_ids
        assert len(text) < window
        start = IDS.index((text or example.targets)[0])
        whole = ([bos] if bos is not None else []) + IDS[start : start + window]
        assert example.input_ids == whole[:-1]
        assert example.targets == [whole[position + 1] for position in example.positions]


def test_a_last_window_without_anything_to_score_is_left_out() -> None:
    assert [len(example.targets) for example in windows(IDS[:9], window=8, stride=8, bos_id=None)] == [7]
