"""Which protocol a language model is scored by: that of the head its checkpoint has."""

from __future__ import annotations

from transformers.models.auto import modeling_auto

from orientc.errors import EvaluationError
from orientc.models.source import ModelSource

MASKED, CAUSAL, SEQ2SEQ = "masked", "causal", "seq2seq"


def protocol_of(source: ModelSource) -> str:
    """Masked, causal or seq2seq, by the checkpoint's architecture. Raises `EvaluationError` for any other."""
    if protocol := head_protocol(source):
        return protocol
    name = source.architecture.__name__
    if source.is_encoder_decoder:
        raise EvaluationError(
            f"{source.id} ({name}) is an encoder-decoder that does not write text for text, so it has no perplexity: "
            "name a checkpoint that does, or a masked or causal language model"
        )
    raise EvaluationError(
        f"{source.id} ({name}) has no language-model head, so it has no perplexity: name a checkpoint saved with "
        "one, or measure its sentence vectors with orientc similarity"
    )


def head_protocol(source: ModelSource) -> str | None:
    """Masked, causal or seq2seq, by the language-model head the checkpoint has; None where it has none."""
    name = source.architecture.__name__
    if source.is_encoder_decoder:
        writes = name in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values()
        return SEQ2SEQ if writes and source.architecture.main_input_name == "input_ids" else None
    masked_names = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    pretraining = modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.get(source.config.model_type)
    if name.endswith("ForMaskedLM") or name in masked_names.values():
        return MASKED
    if name == pretraining and source.config.model_type in masked_names and name.endswith("ForPreTraining"):
        return MASKED
    if name.endswith("ForCausalLM") or name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return CAUSAL
    return None


def reads_pairs(source: ModelSource) -> bool:
    """Whether a model is scored on pairs of source and target: whether it is an encoder-decoder that writes text."""
    return head_protocol(source) == SEQ2SEQ
