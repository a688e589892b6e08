"""What `shrink` keeps of a job, read again."""

from __future__ import annotations

import json
import math

from orientc.utils.files import strict_json
from orientc.workflows.ruler import Outcome
from orientc.workflows.search import Tried
from orientc.workflows.shrunk import Shrunk, Verdict


def test_infinite_figures_are_read_as_they_were() -> None:
    """No form is so small; a perplexity left the range of a float."""
    outcome = Outcome(20.0, math.inf, math.inf, math.inf, {"kl": math.inf})
    made = Shrunk(
        model="demo", folder=None, artifact=None, artifacts=(), calibration=None, bits=2.0, head="tied", body="none",
        texts={}, table=10, base_table=20, weights=30, base_weights=40, halved=None,
        verdict=Verdict("perplexity", "text", outcome, "1%", 0.01),
        tried=(Tried(1.0, None, math.inf, 0.0, -math.inf, False),), bounds=(), predicted=(), load="", loaded=None,
    )  # fmt: skip
    kept = json.loads(json.dumps(strict_json(made.as_dict()), allow_nan=False))
    assert Shrunk.from_dict(kept) == made
