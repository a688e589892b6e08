"""The protocol of causal language models: a token stream cut into windows, every token scored once."""

from __future__ import annotations

from collections.abc import Sequence

from orientc.evaluation.scoring import Example


def windows(ids: Sequence[int], *, window: int, stride: int, bos_id: int | None) -> list[Example]:
    """Cut a token stream into windows; tokens that an earlier window covered are not scored again.

    Args:
        ids: The text's tokens.
        window: Text tokens in a window.
        stride: Text tokens from the start of a window to the start of the next.
        bos_id: A token to stand before each window; without one a window's first token has nothing to be predicted
            from, and is not scored.
    """
    lead = [] if bos_id is None else [bos_id]
    found: list[Example] = []
    covered = 0
    for start in range(0, len(ids), stride):
        end = min(start + window, len(ids))
        sequence = [*lead, *ids[start:end]]
        first = max(covered - start + len(lead), 1)  # where in the sequence the first scored token stands
        if first < len(sequence):
            # the output at a position predicts the token after it, so the last token never goes in
            found.append(Example(sequence[:-1], list(range(first - 1, len(sequence) - 1)), sequence[first:]))
        covered = end
        if end == len(ids):
            break
    return found
