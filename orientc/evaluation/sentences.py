"""Sentence vectors: what a sentence encoder's folder says of the way from a text to its vector, or a plain pooling.

The states of the tokens are pooled; in a folder of sentence-transformers' all that its list of modules has beside the
model is run, in that order. Nothing of it needs that library.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import EvaluationError
from orientc.models import sentence_transformers
from orientc.models.device_map import DeviceMap
from orientc.models.sentence_transformers import Module, Texts
from orientc.models.source import ModelSource
from orientc.utils.messages import first_line

STATES, VECTOR = "token_embeddings", "sentence_embedding"  # what one module hands the next
# sentence-transformers' poolings, in its order: its name since 5.4, the flag before, and what `pool` calls it
_POOLINGS = (
    ("cls", "pooling_mode_cls_token", "cls"),
    ("max", "pooling_mode_max_tokens", "max"),
    ("mean", "pooling_mode_mean_tokens", "mean"),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", "mean-sqrt"),
    ("weightedmean", "pooling_mode_weightedmean_tokens", "weighted-mean"),
    ("lasttoken", "pooling_mode_lasttoken", "last"),
)


_DAMAGED = (
    SafetensorError,
    pickle.UnpicklingError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)
_KINDS = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")


@dataclass(frozen=True)
class Sentences:
    """How one model's sentences become vectors.

    Args:
        source: The model.
        pooling: How token states become a vector, one of `POOLINGS`, in the place of what the folder says; None for
            that, and "mean" where the model is no sentence encoder.

    Raises:
        ModelError: The folder's list of modules or settings can't be read.
        EvaluationError: The folder lists a module that is not known, and `pooling` is None.
    """

    source: ModelSource
    pooling: str | None = None

    def __post_init__(self) -> None:
        """Raise for a folder that can't be used."""
        if self.source.has_towers:
            raise EvaluationError(
                f"{self.source.id} ({self.source.architecture.__name__}) needs a picture beside each text, so it has "
                "no sentence vectors here: save its text tower by itself, or go by counts alone (`frequency`)"
            )
        self.settings  # noqa: B018

    @cached_property
    def texts(self) -> Texts:
        """How texts are prepared, and how long they may be."""
        return Texts() if self._listed is None else sentence_transformers.texts(self.source)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What of it belongs to a record: the pooling, and prompt and modules where there are any."""
        found: dict[str, Any] = {"pooling": "+".join(self._poolings)}
        if others := [str(module.kind) for module in self._modules if module.kind not in ("Pooling", "Dropout")]:
            found["modules"] = "+".join(others)
        if self.texts.prompt:
            found |= {"prompt": self.texts.prompt, "include_prompt": self._include_prompt}
        if self.texts.lower_case:
            found["lower_case"] = True
        return found

    def load(self, dtype: torch.dtype, place: torch.device | DeviceMap) -> PreTrainedModel:
        """Load the model whose token states are taken, without a head."""
        chosen = self.source.encoder_class or AutoModel
        return self.source.load(chosen, dtype=dtype, new_head=True, place=place)

    def prepared(self, lines: Sequence[str]) -> list[str]:
        """Lines as the tokenizer gets them."""
        return [self.texts.prepared(line) for line in lines]

    def vectors(self, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> Vectors:
        """What makes vectors of token states. Raises `EvaluationError` or `TrustError` where weights can't be read."""
        left_out = 0
        if self.texts.prompt and not self._include_prompt:
            ids = tokenizer(self.texts.prepared(""))["input_ids"]
            left_out = len(ids) - (ids[-1] in tokenizer.all_special_ids)
        steps, there = [], {STATES}
        for module in self._modules:
            if module.kind != "Dropout":
                step = _Pooling(self._poolings) if module.kind == "Pooling" else _step(self.source, module)
                if step.source not in there:
                    raise self._unknown(str(module))
                there.add(step.target)
                steps.append(step)
        return Vectors(steps or [_Pooling(self._poolings)], left_out).to(device).eval()

    @cached_property
    def _listed(self) -> tuple[Module, ...] | None:
        return sentence_transformers.modules(self.source)

    @cached_property
    def _modules(self) -> list[Module]:
        """The modules after the model; none where a plain pooling is in their place."""
        if self.pooling is not None or self._listed is None:
            return []
        for number, module in enumerate(self._listed):
            if not (module.is_model if number == 0 else module.kind in _KINDS and module.place.parts):
                raise self._unknown(str(module))
        if [module.kind for module in self._listed].count("Pooling") != 1:
            raise self._unknown("no pooling")
        return [*self._listed[1:]]

    @cached_property
    def _poolings(self) -> list[str]:
        """What is pooled: several poolings are put one behind the other."""
        if not self._modules:
            return [self.pooling or "mean"]
        config = self._pooling_config
        named = config.get("pooling_mode") or [new for new, flag, _ in _POOLINGS if config.get(flag)] or "mean"
        known = {new: how for new, _, how in _POOLINGS}
        wanted = [named] if isinstance(named, str) else named
        if not isinstance(wanted, list) or not all(isinstance(name, str) and name in known for name in wanted):
            raise self._unknown(f"the pooling {named}")
        return [known[name] for name in wanted]

    @property
    def _include_prompt(self) -> bool:
        return bool(self._pooling_config.get("include_prompt", True))

    @cached_property
    def _pooling_config(self) -> dict[str, Any]:
        return next((module.config(self.source) for module in self._modules if module.kind == "Pooling"), {})

    def _unknown(self, what: str) -> EvaluationError:
        return EvaluationError(
            f"{self.source.id} lists {what} in its {sentence_transformers.LIST}, of which orientc can't make sentence "
            "vectors: choose a `pooling` in the place of its modules"
        )


class Vectors(nn.Module):
    """Token states to sentence vectors; the model itself is not in it.

    Args:
        steps: Modules that read and write a dictionary of features.
        left_out: Tokens at the beginning that are not pooled.
    """

    def __init__(self, steps: Sequence[_Step], left_out: int = 0) -> None:
        super().__init__()
        self.steps, self.left_out = nn.ModuleList(steps), left_out

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors `[batch, dim]` of states `[batch, length, dim]`, padded on the right, and a mask of them."""
        if self.left_out:
            mask = mask.clone()
            mask[:, : self.left_out] = 0
        features = {STATES: states, "attention_mask": mask}
        for step in self.steps:
            features |= step(features)
        return features[VECTOR]


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """Sentence vectors `[batch, dim]` from token states `[batch, length, dim]` and a mask `[batch, length]`.

    "mean" and "max" are over the tokens of the mask, "cls" is the first of them, "last" the last. "mean-sqrt" is their
    sum over the root of their number, "weighted-mean" weighs each by its position, from 1 on.
    """
    kept = mask.unsqueeze(-1).to(states.dtype)
    if how == "mean":
        return (states * kept).sum(1) / kept.sum(1).clamp(min=1)
    if how == "mean-sqrt":
        return (states * kept).sum(1) / kept.sum(1).clamp(min=1).sqrt()
    if how == "weighted-mean":
        weights = kept * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=states.dtype).unsqueeze(-1)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    if how == "max":
        return states.masked_fill(kept == 0, -torch.inf).amax(1)
    positions = mask.argmax(1) if how == "cls" else mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states), device=states.device), positions]


class _Step(nn.Module):
    """One module: it makes one feature of another."""

    def __init__(self, source: str = VECTOR, target: str | None = None) -> None:
        super().__init__()
        self.source, self.target = source, target or source


class _Pooling(_Step):
    """Poolings, one behind the other."""

    def __init__(self, poolings: Sequence[str]) -> None:
        super().__init__(STATES, VECTOR)
        self.poolings = poolings

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = [pool(features[STATES], features["attention_mask"], how) for how in self.poolings]
        return {VECTOR: torch.cat(pooled, dim=-1)}


class _Dense(_Step):
    """A linear layer and an activation, with what goes in added to what comes out where that is asked for."""

    def __init__(self, config: dict[str, Any], activation: str) -> None:
        super().__init__(**_features(config))
        width, out = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(width, out, bias=bool(config.get("bias", True)))
        self.activation = getattr(nn, activation)()
        self.residual: nn.Module | None = None
        if config.get("use_residual"):
            self.residual = nn.Identity() if width == out else nn.Linear(width, out, bias=False)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        given = features[self.source]
        made = self.activation(self.linear(given))
        return {self.target: made if self.residual is None else made + self.residual(given)}


class _LayerNorm(_Step):
    """A layer norm of the vector."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(config["dimension"]))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {VECTOR: self.norm(features[VECTOR])}


class _Normalize(_Step):
    """The vector, or the states, at unit length."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(**_features(config))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {self.target: nn.functional.normalize(features[self.source], dim=-1)}


def _features(config: dict[str, Any]) -> dict[str, str]:
    """The features that a module reads and writes."""
    source = str(config.get("module_input_name", VECTOR))
    return {"source": source, "target": str(config.get("module_output_name") or source)}


def _step(source: ModelSource, module: Module) -> _Step:
    """Build a module and read its weights. Raises `EvaluationError` where they can't be used."""
    config = module.config(source)
    try:
        if module.kind == "Normalize":
            return _Normalize(config)
        built = _Dense(config, module.activation(source)) if module.kind == "Dense" else _LayerNorm(config)
        if (path := source.file(module.weights(source))) is None:
            raise EvaluationError(f"{source.id} lacks the weights of {module}")
        built.load_state_dict(_tensors(path))
    except _DAMAGED as error:
        raise EvaluationError(f"{source.id} has a module that can't be used, {module}: {first_line(error)}") from error
    return built


def _tensors(path: Path) -> dict[str, Tensor]:
    """The weights of a module, in float32."""
    pickled = path.name == sentence_transformers.PICKLE
    loaded = torch.load(path, map_location="cpu", weights_only=True) if pickled else load_file(path)
    return {key: tensor.float() for key, tensor in loaded.items()}
