"""Models of two towers, one for text and one for pictures: where their token-embedding table is."""

from __future__ import annotations

from transformers import PreTrainedModel

from orientc.modeling.swap import text_tower


def knows_no_table(model: PreTrainedModel, model_class: type[PreTrainedModel]) -> bool:
    """Whether a model class can't say where the token-embedding table of one of its models is."""
    try:
        model_class.get_input_embeddings(model)
    except NotImplementedError:
        return True
    return False


def reach_table(model: PreTrainedModel) -> None:
    """Have a model that can't say where its table is give its text tower's."""
    if knows_no_table(model, type(model)) and (tower := text_tower(model)) is not None:
        vars(model)["get_input_embeddings"] = tower.get_input_embeddings
