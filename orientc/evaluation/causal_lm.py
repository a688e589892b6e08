"""The protocol of causal language models: a token stream cut into windows, every token scored once.

It is only a protocol where no token is seen before it is predicted. Names say nothing of that: BERT's `BertLMHeadModel`
sees all tokens unless its configuration has `is_decoder`, XLNet always does. So the model is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from transformers import PreTrainedModel

from orientc.evaluation.scoring import Example
from orientc.models import quantized
from orientc.models.device_map import inputs_device

_ASKED = 16  # tokens that a model is asked with; the second half is changed
# How far earlier logits may move for later tokens, relative to how far those of the later tokens move: where experts
# get other batches of tokens, sums are rounded otherwise. Of models that see later tokens the least found was 1.3e-3 in
# float32 and 2.7e-3 in bfloat16, with random weights.
_ROUNDING = 1e-4
_COARSE = 1e-3  # in 16 bits


@torch.inference_mode()
def sees_later_tokens(model: PreTrainedModel, special_ids: Collection[int] = ()) -> bool:
    """Whether a model's logits for a token move when later tokens change: whether it sees what it predicts.

    Args:
        model: A language model, in evaluation mode.
        special_ids: Token ids not to ask with: some stand for more than a token.
    """
    rows = model.get_input_embeddings().num_embeddings
    usable = [token_id for token_id in range(min(rows, 4096)) if token_id not in special_ids]
    step = max(1, len(usable) // (2 * _ASKED))
    drawn = (usable[::step] * _ASKED)[: 2 * _ASKED]  # of a tiny vocabulary some come again
    half = _ASKED // 2
    one = drawn[:_ASKED]
    other = one[:half] + drawn[_ASKED : _ASKED + half]

    def logits(ids: list[int]) -> torch.Tensor:
        batch = torch.tensor([ids], device=inputs_device(model))
        found: torch.Tensor = model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
        return found[0].double().cpu()

    allowed = _COARSE if model.dtype.itemsize < 4 else _ROUNDING
    with quantized.token_by_token(model):
        moved = (logits(one) - logits(other)).abs().amax(-1)
    return bool(moved[:half].max() > allowed * moved[half:].max())


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
