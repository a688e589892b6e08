"""The page as a browser makes it; runs where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.comparisons import column, comparison, row

from orientc.comparison import formats
from orientc.comparison.grid import grid

TIED = "perplexity.tied"
BROWSER = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), ""
)


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="there is no browser")
@pytest.mark.parametrize(
    ("heading", "clicks", "order"),
    [
        ("ppl tied", 1, ["original", "b-10", "b-9", "a"]),  # 4, 12, 100, and none last
        ("ppl tied", 2, ["b-9", "b-10", "original", "a"]),
        ("MB", 1, ["b-9", "a", "original", "b-10"]),
        ("table", 1, ["a", "b-9", "b-10", "original"]),
        ("table", 3, ["a", "b-9", "b-10", "original"]),
    ],
)
def test_a_click_on_a_heading_sorts(tmp_path: Path, heading: str, clicks: int, order: list[str]) -> None:
    rows = [("b-10", 12.0, 9.0), ("b-9", 100.0, 0.5), ("a", None, 0.6)]
    made = grid(
        comparison(
            [column(TIED)],
            row(figures={TIED: 4.0}),
            *(row(name, 2, {TIED: ppl} if ppl else {}, table_mb=size, method=name) for name, ppl, size in rows),
        )
    )
    click = f"document.querySelectorAll('th button')[{made.header.index(heading)}].click();"
    page = tmp_path / "page.html"
    page.write_text(formats.page([(made, [])]).replace("</body>", f"<script>{click * clicks}</script></body>"))
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([BROWSER, *arguments, page.as_uri()], capture_output=True, text=True, timeout=180, check=True)
    names = re.findall(r'<tr[^>]*><td class="text">(?:◆ )?([^<]*)', done.stdout)
    assert names == order
    direction = "ascending" if clicks % 2 else "descending"
    assert re.findall(r'aria-sort="(\w+)"><button>([^<]*)', done.stdout) == [(direction, heading)]
