"""A model argument (hub id, local folder, `.gguf` file or "demo"), and what transformers makes of its files."""

from __future__ import annotations

import copy
import importlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from orientc.errors import EvaluationError, ModelError, NoTableError, TrustError, UsageError
from orientc.modeling.swap import keep_apart, lookups_of_parts, text_tower, users_of
from orientc.models import compact, hub, quantized, sentence_transformers
from orientc.models.argument import place_of
from orientc.models.checkpoint import PICKLES, WEIGHTS, shards_of
from orientc.models.compact import Compact
from orientc.models.device_map import DeviceMap
from orientc.models.files import ModelFiles
from orientc.models.lengths import UNLIMITED, is_limit, usable_positions
from orientc.models.stored import Checkpoint
from orientc.models.towers import knows_no_table, reach_table
from orientc.models.unfilled import unfilled
from orientc.models.whole import check_whole
from orientc.utils.logging import quietly
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelSource(ModelFiles):
    """Where a model comes from, and what transformers makes of its files; made by `resolve`."""

    @classmethod
    def resolve(
        cls,
        model: str | Path | ModelSource,
        *,
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
    ) -> ModelSource:
        """Find out what a model argument stands for; the hub is not asked.

        Args:
            model: Hub id, local folder, `.gguf` file or "demo"; a `ModelSource` is returned as it is.
            revision: Branch, tag or commit on the hub.
            allow_pickle: Read `.bin` weights too (tensors only).
            trust_remote_code: Run Python code from the model's repository.

        Raises:
            ModelNotFoundError, ModelError: As `place_of`.
            UsageError: The name is empty or not UTF-8, a local model has no revisions, and a `ModelSource` has its
                options already.
        """
        if isinstance(model, ModelSource):
            options = {"revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
            if given := [name for name, value in options.items() if value]:
                raise UsageError(f"`{given[0]}` is for a model that is named, not for one that was found already")
            return model
        model = str(model)
        local = place_of(model)
        if local is not None and revision is not None:
            raise UsageError(f"{model} is on this machine: `revision` is for models on the hub")
        return cls(model, local, revision, allow_pickle, trust_remote_code)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises `ModelError` where there is none, or none that can be used."""
        if self._compact is None:
            return self._from_pretrained(AutoConfig)
        held, values = self._compact
        try:
            return CONFIG_MAPPING[held.model_type].from_dict(values)
        except Exception as error:  # a configuration can be wrong in as many ways as there are architectures
            raise ModelError(f"{self.id} has a configuration that can't be used: {first_line(error)}") from error

    @property
    def compact(self) -> Compact | None:
        """The description of a compact model's table; None for any other model."""
        return self._compact and self._compact[0]

    @cached_property
    def _compact(self) -> tuple[Compact, dict[str, Any]] | None:
        check_whole(self)
        if self.gguf:
            return None
        if (path := self.file(compact.CONFIG)) is None:
            raise ModelError(f"{self.id} has no {compact.CONFIG}: it is not a transformers model")
        return compact.read(path)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer. Raises `ModelError` where it has none that can be used."""
        _ = self.compact  # a folder without a configuration is no model, whatever a tokenizer makes of it
        tokenizer: PreTrainedTokenizerBase = self._from_pretrained(transformers.AutoTokenizer)
        # Where the files are missing, transformers makes a tokenizer of special tokens alone.
        if not tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens, "▁"}:
            raise ModelError(f"{self.id} has no tokenizer that can be used: there is no vocabulary with it")
        for note in ("is_local", "local_files_only"):  # how it was loaded would be saved with it
            tokenizer.init_kwargs.pop(note, None)
        if not is_limit(tokenizer.model_max_length):
            tokenizer.model_max_length = int(VERY_LARGE_INTEGER)  # how transformers says that there is none
        return tokenizer

    @cached_property
    def longest(self) -> int:
        """The most tokens of an input, by the tokenizer and by the positions; `UNLIMITED` where neither says so."""
        limits = (UNLIMITED, int(self.tokenizer.model_max_length), usable_positions(self.outline) or UNLIMITED)
        return min(limits)

    @cached_property
    def rows(self) -> int:
        """Rows of the token-embedding table. Raises `NoTableError` where there is none."""
        try:
            embedding = self.outline.get_input_embeddings()
        except NotImplementedError:
            embedding = None
        rows = getattr(embedding, "num_embeddings", None)
        if rows is None:
            raise NoTableError(f"{self.id} ({self.config.model_type}) has no token-embedding table")
        return int(rows)

    @cached_property
    def decoder_rows(self) -> int | None:
        """Rows of the table that a decoder looks tokens up in where its encoder has another one; else None."""
        lookups = lookups_of_parts(self.skeleton)
        shares = not lookups or lookups[-1] in users_of(self.skeleton).values()
        return None if shares else getattr(lookups[-1], "num_embeddings", None)

    @cached_property
    def outline(self) -> PreTrainedModel:
        """The model of the checkpoint's architecture on the meta device, as the configuration describes it.

        It has shapes but no numbers; what is tied the checkpoint may contradict (see `skeleton`).
        """
        config = copy.deepcopy(self.config)  # a class may change it
        with torch.device("meta"), quietly():
            try:
                outline = self._buildable(self.architecture)(config)
            except Exception as error:  # a configuration can be wrong in as many ways as there are architectures
                raise ModelError(f"{self.id} can't be built from its configuration: {first_line(error)}") from error
        reach_table(outline)
        return outline

    @property
    def has_towers(self) -> bool:
        """Whether the model reads text in a tower of its own, beside one for pictures, and can't run without both."""
        return text_tower(self.outline) is not None and knows_no_table(self.outline, self.architecture)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The tensors of the model's weight files. Raises `TrustError` or `ModelError` where they can't be read."""
        return Checkpoint(self, self.outline)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The outline with what is tied in truth: parameters that are stored with unequal numbers are not.

        Raises `TrustError` or `ModelError` where there are no weights that can be read.
        """
        keep_apart(self.outline, self._kept_apart)
        return self.outline

    @cached_property
    def _kept_apart(self) -> frozenset[str]:
        """Names of tied parameters that the checkpoint stores with numbers of their own."""
        if self.gguf or self.compact or not self.outline.all_tied_weights_keys:
            return frozenset()  # a GGUF's configuration is made of what is in it; a compact one says it itself
        return self.checkpoint.kept_apart()

    @property
    def encoder_class(self) -> type[PreTrainedModel] | None:
        """The class of an encoder-decoder's encoder alone, such as T5's, where it is what the model is; else None.

        That is where it was saved from this class, or is a sentence encoder, which has no use for a decoder.
        """
        name = f"{type(self.config).__name__.removesuffix('Config')}EncoderModel"
        found: type[PreTrainedModel] | None = getattr(transformers, name, None)
        alone = found is not None and (self.architecture is found or self.file(sentence_transformers.LIST) is not None)
        return found if alone else None

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has a decoder beside its encoder."""
        return bool(self.config.is_encoder_decoder) and self.encoder_class is None

    def class_for(self, auto_class: Any) -> type[PreTrainedModel]:
        """The model class that one of transformers' auto classes stands for in this model.

        Raises:
            EvaluationError: The architecture has no such class.
        """
        if self.trust_remote_code and auto_class.__name__ in (getattr(self.config, "auto_map", None) or {}):
            remote: type[PreTrainedModel] = self._remote_class(auto_class.__name__)
            return remote
        try:
            found: type[PreTrainedModel] = auto_class._model_mapping[type(self.config)]
        except KeyError:
            kind = auto_class.__name__.removeprefix("AutoModelFor")
            raise EvaluationError(
                f"{self.id} ({self.config.model_type}) has no {kind} class in transformers: name another model"
            ) from None
        return found

    def load(
        self,
        auto_class: Any | None,
        *,
        dtype: torch.dtype,
        new_head: bool = False,
        configure: Callable[[PreTrainedConfig], object] | None = None,
        attention: str | None = None,
        quantization: Any | None = None,
        place: torch.device | DeviceMap | None = None,
    ) -> PreTrainedModel:
        """Load the whole model, in evaluation mode.

        Args:
            auto_class: One of transformers' auto classes, or a model class; None: the class it was saved from, without
                a pooler where the checkpoint has none.
            dtype: Type of the weights.
            new_head: Draw at random what the class adds to the encoder or decoder, where the checkpoint lacks it or
                has it in another size.
            configure: Changes the configuration before loading.
            attention: Name of one of transformers' attention implementations.
            quantization: One of transformers' configurations to quantize a body of floats by.
            place: The device it goes to, or how it is spread over several; the CPU unless given.

        Raises:
            EvaluationError: The checkpoint lacks other weights, which transformers would draw at random too.
            ModelError: The model can't be loaded.
        """
        self._bring_weights()
        quantized.check(self.id, self.config)
        config = copy.deepcopy(self.config)
        quantized.dequantize(config)
        if configure:
            configure(config)
        spread = place if isinstance(place, DeviceMap) else None
        if spread and self.dequantized_from:
            raise ModelError(
                f"{self.id} is dequantized on loading: `device_map` is for models that run as they are stored"
            )
        offloaded = TemporaryDirectory(prefix="orientc-offload-") if spread else None
        named = isinstance(auto_class, type) and issubclass(auto_class, PreTrainedModel)
        model_class = auto_class if named else self.class_for(auto_class) if auto_class else self.architecture
        model, info = self._from_pretrained(
            self._buildable(model_class),
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they count as lacking, below
            config=config,
            **({"attn_implementation": attention} if attention else {}),
            **(spread.options(offloaded.name) if spread and offloaded else {}),
            **({} if self.gguf or self.allow_pickle else {"use_safetensors": True}),
            **({"quantization_config": quantization} if quantization is not None else {}),
            **({"quantization_config": transformers.GgufConfig(dequantize=True)} if self.gguf else {}),
        )
        if offloaded:
            weakref.finalize(model, offloaded.cleanup)
        reach_table(model)
        lacking = unfilled(model, info, new_head=new_head, pooler=auto_class is not None)
        if lacking:
            raise EvaluationError(
                f"{self.id} lacks weights that {type(model).__name__} needs, {sorted(lacking)[0]} among them: "
                "it was not saved with this head"
            )
        compact.check_left_over(self.id, info["unexpected_keys"])
        if not self.gguf and quantized.method_of(self.config) is None:
            self.checkpoint.check_floats()
        if self.kept_quantized:
            quantized.check_all_used(self.id, model, info["unexpected_keys"])
            quantized.unify(model, dtype)
        ties = model.get_expanded_tied_weights_keys(all_submodels=True).keys()
        # transformers compares them too, but after a cast, and tells its tying alone
        keep_apart(model, (ties - model.all_tied_weights_keys.keys()) | (ties & self._kept_apart))
        if self.dequantized_from:  # by now a plain model, which can be trained and saved
            vars(model).pop("_weight_conversions", None)  # saving would quantize it again, and not say so
            model.to(dtype)  # what was not quantized has kept its type
        loaded: PreTrainedModel = model.eval()
        return loaded.to(place) if isinstance(place, torch.device) else loaded

    @cached_property
    def dequantized_from(self) -> str | None:
        """What the body is stored as, where it is quantized and `load` dequantizes it; None for any other model."""
        if self.gguf:
            return quantized.gguf_types(self.gguf)
        method = quantized.method_of(self.config)
        return method if method in quantized.DEQUANTIZED else None

    @property
    def kept_quantized(self) -> str | None:
        """The method that the body is quantized with, where `load` keeps it as it is; None for any other model."""
        return None if self.gguf or self.dequantized_from else quantized.method_of(self.config)

    def _bring_weights(self) -> None:
        """Download and check the weight files for `load`; transformers checks neither hashes nor the index."""
        names = (*WEIGHTS, *(PICKLES if self.allow_pickle else ()))
        if self.local is not None and (found := next(filter(None, map(self.file, names)), None)):
            shards_of(found)
        if self.local is not None or constants.is_offline_mode():
            return
        cached = [
            name for name in names if isinstance(try_to_load_from_cache(self.id, name, revision=self.commit), str)
        ]
        for name in cached or names:
            if (path := self.file(name)) is not None:
                for shard in shards_of(path):
                    self.file(shard)
                return

    def _buildable(self, model_class: Any) -> Any:
        """The class to make a model with: a compact one for a compact model."""
        return compact.build(model_class) if self.compact else model_class

    @cached_property
    def architecture(self) -> Any:
        """The model class the checkpoint was saved from; the bare encoder or decoder where it does not say."""
        config = self.config
        auto_map = getattr(config, "auto_map", None) or {}
        for auto_name in (
            "AutoModelForCausalLM",
            "AutoModelForMaskedLM",
            "AutoModelForSeq2SeqLM",
            "AutoModel",
        ):
            if self.trust_remote_code and auto_name in auto_map:
                return self._remote_class(auto_name)
        for name in config.architectures or ():
            named = getattr(transformers, name, None)
            if isinstance(named, type) and issubclass(named, PreTrainedModel):
                return named
        auto = transformers.AutoModelForCausalLM if self.gguf else transformers.AutoModel
        return auto._model_mapping[type(config)]

    def _remote_class(self, auto_name: str) -> Any:
        """A model class from the repository's own code."""
        loader = importlib.import_module("transformers.dynamic_module_utils").get_class_from_dynamic_module
        return loader(self.config.auto_map[auto_name], str(self.local or self.id), revision=self.commit)

    def _from_pretrained(self, auto_class: Any, **options: Any) -> Any:
        """Call `auto_class.from_pretrained` for this model; errors become a `ModelError`."""
        if self.gguf:
            _require_gguf()
            where, options = str(self.gguf.parent), {"gguf_file": self.gguf.name, **options}
        else:
            where = str(self.local or self.id)
        with hub.errors(self.id, self.revision), quietly():
            try:
                return auto_class.from_pretrained(
                    where,
                    revision=self.commit,
                    trust_remote_code=self.trust_remote_code,
                    **options,
                )
            except (HfHubHTTPError, LocalEntryNotFoundError):
                raise
            except Exception as error:
                raise self._explain(auto_class, error) from error

    def _explain(self, auto_class: Any, error: Exception) -> ModelError:
        """The error for an exception of transformers while loading this model."""
        text = str(error)
        if "trust_remote_code" in text and not self.trust_remote_code:
            return TrustError(f"{self.id} needs code from its own repository: allow it with `trust_remote_code`")
        if ("pytorch_model.bin" in text or "no file named model.safetensors" in text) and not self.allow_pickle:
            return TrustError(f"{self.id} has no safetensors weights: allow .bin files with `allow_pickle`")
        if auto_class is transformers.AutoTokenizer:
            return ModelError(f"{self.id} has no tokenizer that can be used: {first_line(error)}")
        method = None if auto_class is AutoConfig or self.gguf else quantized.method_of(self.config)
        which = f"{self.id}, which is quantized ({method})," if method else self.id
        return ModelError(f"{which} can't be loaded: {first_line(error)}")


def _require_gguf() -> None:
    try:
        importlib.import_module("gguf")
    except ImportError:
        raise ModelError("reading .gguf files needs the extra: pip install 'orientc[gguf]'") from None
