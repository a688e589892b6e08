from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from support.coded import CASES, layout

from orientc.modeling.layout import PER_GROUP, Layout, Run, packed_bytes


@pytest.mark.parametrize(("count", "bits", "expected"), [(0, 3, 0), (1, 1, 1), (8, 3, 3), (9, 3, 4), (5, 8, 5)])
def test_codes_take_whole_bytes(count: int, bits: int, expected: int) -> None:
    assert packed_bytes(count, bits) == expected


@pytest.mark.parametrize(("coding", "shape", "options"), CASES)
def test_a_layout_comes_back_from_json(coding: str, shape: str, options: dict[str, Any]) -> None:
    one = layout(coding, shape, **options)
    assert Layout.from_dict(json.loads(json.dumps(asdict(one)))) == one


def test_neighbours_of_the_same_bits_and_width_are_read_together() -> None:
    row_group = (4, 4, 0, 4, 3, 3)  # the last group has 2 columns
    found = Layout(5, 17, 17, False, codec=PER_GROUP, group_size=3, bits=(row_group,), row_group_sizes=(5,)).runs(0)
    assert found == [
        Run(bits=4, groups=2, width=3, start=0, byte=0, scale=0),
        Run(bits=4, groups=1, width=3, start=9, byte=4, scale=2),
        Run(bits=3, groups=1, width=3, start=12, byte=6, scale=3),
        Run(bits=3, groups=1, width=2, start=15, byte=8, scale=4),
    ]
    assert [run.nbytes for run in found] == [4, 2, 2, 1]


def test_each_tensor_is_as_large_as_its_rows_need() -> None:
    shapes = layout("row groups", "bias", kept=5).shapes
    assert {name: shape for name, (_, shape) in shapes.items()} == {
        "latents.0.codes": (12, 4),  # 5 bits for 4 columns and 1 bit for 3
        "latents.0.scales": (12, 2), "latents.0.offsets": (12, 2),
        "latents.1.codes": (6, 4), "latents.1.scales": (6, 1), "latents.1.offsets": (6, 1),
        "latents.2.codes": (6, 3), "latents.2.scales": (6, 1), "latents.2.offsets": (6, 1),
        "latents.row_groups": (24,), "decoder.weight": (10, 7), "decoder.bias": (10,),
        "kept.ids": (5,), "kept.rows": (5, 10),
    }  # fmt: skip


def test_a_code_a_scale_and_an_id_are_a_number_each() -> None:
    groups = layout("one row group", "linear")
    assert groups.bits == ((3, 0, 2),)
    assert groups.numbers == 29 * (3 + 1 + 2 * 2) + 10 * 7
    assert layout("plain", "bare", kept=4).numbers == 25 * 10 + 4 + 4 * 10


@pytest.mark.parametrize(
    ("coding", "changes"),
    [
        ("plain", {"vocab": 0}),
        ("plain", {"vocab": 29.0}),
        ("plain", {"vocab": True}),
        ("plain", {"rank": 1 << 20}),
        ("plain", {"kept": -1}),
        ("plain", {"kept": 30}),
        ("plain", {"bias": 1}),
        ("plain", {"activation": "relu"}),
        ("plain", {"decoder": False}),
        ("plain", {"codec": "huffman"}),
        ("plain", {"group_size": 4}),
        ("plain", {"row_group_sizes": (29,)}),
        ("one row group", {"group_size": 0}),
        ("one row group", {"group_size": (1 << 16) + 1}),
        ("one row group", {"group_size": 2}),
        ("one row group", {"bits": ()}),
        ("one row group", {"bits": ((9, 1, 1),)}),
        ("one row group", {"bits": ((-1, 1, 1),)}),
        ("one row group", {"bits": ((True, 1, 1),)}),
        ("one row group", {"bits": (("4", 1, 1),)}),
        ("one row group", {"bits": ((0, 0, 0),)}),
        ("one row group", {"bits": ((1, 1, 1),) * 65, "row_group_sizes": (29, *(0,) * 64)}),
        ("one row group", {"row_group_sizes": (28,)}),
        ("one row group", {"row_group_sizes": (29.0,)}),
        ("one row group", {"row_group_sizes": ()}),
        ("row groups", {"row_group_sizes": (30, -1, 0)}),
    ],
)
def test_numbers_that_describe_no_table_are_refused(coding: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        replace(layout(coding, "linear"), **changes).check()
    assert len(str(caught.value)) < 150
