"""Figures of the paper from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orientc.errors import UsageError
from orientc.workflows.paper import Published, read_published

FIGURE = """
[[figure]]
method = "ae"
ratio = 10
figure = "perplexity.input-only"
value = 12.5
table = "Table 9"
"""


def test_figures_go_by_method_ratio_and_name(tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    path.write_text(f'{FIGURE}[[figure]]\nmethod = "original"\nfigure = "squad.f1"\nvalue = 88\ntable = "Table 8"\n')
    assert read_published(path) == {
        ("ae", 10.0, "perplexity.input-only"): Published(12.5, "Table 9"),
        ("original", None, "squad.f1"): Published(88.0, "Table 8"),
    }


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('method = "ae"', 'method = "pca"', "figure 1 has the method 'pca'"),
        ("ratio = 10", "", "figure 1 needs 'ratio', a number"),
        ("value = 12.5", "value = true", "figure 1 needs 'value', a number"),
        ('table = "Table 9"', "", "figure 1 needs 'table', a text"),
        ("[[figure]]", "[figure", "is not TOML"),
    ],
)
def test_a_figure_without_its_table_is_refused(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "published.toml"
    path.write_text(FIGURE.replace(old, new))
    with pytest.raises(UsageError) as caught:
        read_published(path)
    assert named in str(caught.value)
