"""Folders of sentence encoders, as sentence-transformers keeps them: what its list of modules says, and no guess.

`modules.json` lists the steps from a text to its vector, in order, and where each has its files: the model, a pooling,
dense layers, a normalisation. `config_sentence_transformers.json` holds prompts, `sentence_bert_config.json` the
length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from orientc.errors import ModelError, TrustError
from orientc.utils.files import stays_inside

if TYPE_CHECKING:
    from orientc.models.files import ModelFiles

LIST = "modules.json"
MODEL = "Transformer"
PROMPTS = "config_sentence_transformers.json"
# `max_seq_length` and the like are in the first of these that is there, all but one of them of its first years
LENGTHS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
CONFIG, WEIGHTS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"  # of a module


@dataclass(frozen=True)
class Module:
    """One entry of the list.

    Attributes:
        type: Path of its class, which the versions of sentence-transformers spell differently.
        place: Its folder below the model's; "." for the model's own.
    """

    type: str
    place: PurePosixPath

    @property
    def kind(self) -> str | None:
        """The name of its class; None where it is not sentence-transformers' own, or lies outside the folder."""
        package, _, name = self.type.rpartition(".")
        own = package.partition(".")[0] == "sentence_transformers" and stays_inside(str(self.place))
        return name if own else None

    @property
    def is_model(self) -> bool:
        """Whether it is the transformers model in the folder itself."""
        return self.kind == MODEL and not self.place.parts

    def __str__(self) -> str:
        return f"{self.type} in {self.place}" if self.place.parts else self.type

    def config(self, source: ModelFiles) -> dict[str, Any]:
        """Its settings. Raises `ModelError` where they can't be read."""
        return _values(source, str(self.place / CONFIG))

    def activation(self, source: ModelFiles) -> str:
        """The class in `torch.nn` of a dense layer's activation. Raises `ModelError` for one from anywhere else."""
        named = str(self.config(source).get("activation_function", "torch.nn.modules.activation.Tanh"))
        if not named.startswith("torch.nn."):  # loading imports it, whatever it is
            raise ModelError(f"{source.id} has a module in {self.place} that names code: {named}")
        return named.rpartition(".")[2]

    def weights(self, source: ModelFiles) -> str:
        """Name of the file that holds its weights, whether it has any or not.

        Raises `TrustError` where they are pickled and that is not allowed.
        """
        pickled = not source.has(str(self.place / WEIGHTS)) and source.has(str(self.place / PICKLE))
        if pickled and not source.allow_pickle:
            raise TrustError(
                f"{source.id} has no safetensors weights in {self.place}: allow .bin files with `allow_pickle`"
            )
        return str(self.place / (PICKLE if pickled else WEIGHTS))


@dataclass(frozen=True)
class Texts:
    """What is done to a text before it is tokenized, and how long it may be.

    Attributes:
        prompt: What is put before it, where the folder names a prompt as its default.
        lower_case: Whether it is put in lower case.
        max_length: The most tokens; None where the folder does not say.
    """

    prompt: str = ""
    lower_case: bool = False
    max_length: int | None = None

    def prepared(self, text: str) -> str:
        """The text as the tokenizer gets it."""
        text = self.prompt + text
        return text.lower() if self.lower_case else text


def modules(source: ModelFiles) -> tuple[Module, ...] | None:
    """The list of modules; None for a folder that has none.

    Raises `ModelError` where it can't be read.
    """
    if (listed := source.file(LIST)) is None:
        return None
    try:
        entries = json.loads(listed.read_text(encoding="utf-8"))
        return tuple(Module(str(entry["type"]), PurePosixPath(entry["path"])) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{source.id} has a {LIST} that can't be read: {error}") from None


def texts(source: ModelFiles) -> Texts:
    """How a sentence encoder's texts are prepared. Raises `ModelError` for settings that can't be read."""
    lengths = next((values for name in LENGTHS if (values := _values(source, name))), {})
    prompts = _values(source, PROMPTS)
    length, lower_case = lengths.get("max_seq_length"), lengths.get("do_lower_case", False)
    named, default = prompts.get("prompts") or {}, prompts.get("default_prompt_name")
    prompt = named.get(default, "") if isinstance(named, Mapping) and isinstance(default, str | None) else None
    sound = {
        "max_seq_length": length is None or (type(length) is int and length > 0),
        "do_lower_case": isinstance(lower_case, bool),
        "default_prompt_name": isinstance(prompt, str) and (default is None or default in named),
    }
    if wrong := [name for name, fits in sound.items() if not fits]:
        raise ModelError(f"{source.id} has settings for sentences that can't be used: {wrong[0]}")
    return Texts(str(prompt), lower_case, length)


def _values(source: ModelFiles, name: str) -> dict[str, Any]:
    """A JSON object in the folder; empty where there is no such file. Raises `ModelError` where it can't be read."""
    if (path := source.file(name)) is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        return values
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{source.id} has a {name} that can't be read: {error}") from None
