"""A model argument and what it stands for: a hub id, a local folder, a `.gguf` file, or `demo`.

`ModelSource.resolve` finds out which, `file` brings one file of it (from the hub: that file alone), and the
rest is what transformers makes of it. Nothing is downloaded or read before it is asked for.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import os.path
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from huggingface_hub import _CACHED_NO_EXIST, constants, hf_hub_download, resolve_revision, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's, under any of its names
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import logging as hub_logging
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel

from orientc import demo
from orientc.errors import EvaluationError, ModelError, ModelNotFoundError, TrustError, UsageError
from orientc.models import compact, hub
from orientc.models.compact import Compact
from orientc.utils.files import file_sha256, stays_inside
from orientc.utils.logging import quietly
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEMO = "demo"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from. `revision` is the hub revision asked for; `commit` the one found.

    `local` is the folder or `.gguf` file of a model on this machine, None for a hub id.
    """

    id: str
    local: Path | None
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @classmethod
    def resolve(
        cls,
        model: str,
        *,
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
    ) -> ModelSource:
        """Find out what `model` stands for.

        Raises `ModelNotFoundError` for a path that does not exist, `UsageError` for a local model's revision.
        """
        path = Path(os.path.expanduser(model))
        local: Path | None = None
        if model == DEMO:
            local = demo.FOLDER
        elif path.suffix == ".gguf" or path.is_dir():
            local = path
            if path.suffix == ".gguf" and not path.is_file():
                raise ModelNotFoundError(f"there is no file {model}")
        elif path.exists():
            raise ModelError(f"{model} is neither a model folder nor a .gguf file")
        elif model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise ModelNotFoundError(f"there is no folder {model}")
        if local is not None and revision is not None:
            raise UsageError(f"{model} is on this machine: a revision is for models on the hub")
        return cls(model, local, revision, allow_pickle, trust_remote_code)

    @property
    def gguf(self) -> Path | None:
        """The `.gguf` file, where the model is one."""
        return self.local if self.local is not None and self.local.suffix == ".gguf" else None

    def file(self, name: str) -> Path | None:
        """A file of the model on this machine, downloaded first if need be; None where the model has no such file.

        Raises `ModelNotFoundError` where the hub does not know the model or can't be reached.
        """
        if self.local is not None:
            path = self.local / name
            return path if path.is_file() else None
        return self._hub_file(name)

    def has(self, name: str) -> bool:
        """Whether the model has such a file; nothing is downloaded. Raises as `file` does."""
        return (self.file(name) if self.local is not None else self._hub_file(name, dry_run=True)) is not None

    @cached_property
    def commit(self) -> str | None:
        """The hub commit the files come from, all of them; None for a local model."""
        if self.local is not None:
            return None
        with self._hub_errors():
            return resolve_revision(self.id, revision=self.revision).resolved

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises `ModelError` where there is none or it is unusable."""
        if self._compact is None:
            return self._from_pretrained(AutoConfig)
        held, values = self._compact
        try:
            return CONFIG_MAPPING[held.model_type].from_dict(values)
        except Exception as error:  # a configuration can be wrong in as many ways as there are architectures
            raise ModelError(f"{self.id} has a configuration that can't be used: {first_line(error)}") from error

    @property
    def compact(self) -> Compact | None:
        """How the model holds its table where it is in the compact form; None for any other model."""
        return self._compact and self._compact[0]

    @cached_property
    def _compact(self) -> tuple[Compact, dict[str, Any]] | None:
        if self.gguf:
            return None
        if (path := self.file(compact.CONFIG)) is None:
            raise ModelError(f"{self.id} has no {compact.CONFIG}: it is not a transformers model")
        return compact.read(path)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer. Raises `ModelError` where it has none that is usable."""
        tokenizer: PreTrainedTokenizerBase = self._from_pretrained(transformers.AutoTokenizer)
        # Where a tokenizer's files are missing, transformers makes one that knows special tokens alone.
        if not tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens, "▁"}:
            raise ModelError(f"{self.id} has no tokenizer that can be used: there is no vocabulary with it")
        for note in ("is_local", "local_files_only"):  # of how it was loaded; saved, they would go with it
            tokenizer.init_kwargs.pop(note, None)
        return tokenizer

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The checkpoint's architecture without numbers: on the meta device, shared parameters shared."""
        config = self.config
        with torch.device("meta"), quietly():
            try:
                architecture = self._architecture()
                return (compact.build(architecture) if self.compact else architecture)(config)
            except Exception as error:  # a configuration can be wrong in as many ways as there are architectures
                raise ModelError(f"{self.id} can't be built from its configuration: {first_line(error)}") from error

    def class_for(self, auto_class: Any) -> type[PreTrainedModel]:
        """The model class that one of transformers' auto classes stands for here.

        Raises `EvaluationError` where the architecture has none such.
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
    ) -> PreTrainedModel:
        """The whole model through one of transformers' auto classes, in `dtype`, in evaluation mode.

        Without an auto class it is the one it was saved from, and a pooler the checkpoint lacks is left out.
        With `new_head` what the class puts on top of the encoder or decoder may be missing in the checkpoint, or be
        of other sizes there, and is drawn at random then. `configure` changes the configuration first; `attention`
        names one of transformers' implementations. Raises `EvaluationError` where the checkpoint lacks weights
        this class needs: transformers would draw those too at random.
        """
        self._bring_weights()
        config = copy.deepcopy(self.config)
        if configure:
            configure(config)
        model_class = self.class_for(auto_class) if auto_class else self._architecture()
        model, info = self._from_pretrained(
            compact.build(model_class) if self.compact else model_class,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are among the lacking, below
            config=config,
            **({"attn_implementation": attention} if attention else {}),
            **({} if self.gguf or self.allow_pickle else {"use_safetensors": True}),
        )
        lacking = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
        lacking |= {key for key, parameter in model.named_parameters() if parameter.is_meta}  # shared, and not there
        if auto_class is None and any(key.startswith("pooler.") for key in lacking):
            model.pooler = None
            lacking = {key for key in lacking if not key.startswith("pooler.")}
        if new_head:
            lacking = {key for key in lacking if not _on_top(model, key)}
        if lacking:
            raise EvaluationError(
                f"{self.id} lacks weights that {type(model).__name__} needs, {sorted(lacking)[0]} among them: "
                "it was not saved with this head"
            )
        compact.check_left_over(self.id, info["unexpected_keys"])
        if self.gguf:  # its weights are plain numbers by now: a model that can be trained and saved
            model.hf_quantizer.remove_quantization_config(model)
        loaded: PreTrainedModel = model.eval()
        return loaded

    def weights_sha256(self) -> str | None:
        """A hash of a local model's weight files, to tell two versions of a folder apart; None for a hub model."""
        if self.local is None:
            return None
        if self.gguf:
            return file_sha256(self.gguf)
        files = sorted([*self.local.glob("*.safetensors"), *self.local.glob("pytorch_model*.bin")])
        return file_sha256(*files)

    def _bring_weights(self) -> None:
        """Have what `load` needs of the weights: transformers checks neither what comes of the hub nor an index."""
        names = (*WEIGHTS, *(PICKLES if self.allow_pickle else ()))
        if self.local is not None and (found := next(filter(None, map(self.file, names)), None)):
            self._shards(found)
        if self.local is not None or constants.is_offline_mode():
            return
        cached = [
            name for name in names if isinstance(try_to_load_from_cache(self.id, name, revision=self.commit), str)
        ]
        for name in cached or names:
            if (path := self._hub_file(name)) is not None:
                for shard in self._shards(path):
                    self._hub_file(shard)
                return

    @staticmethod
    def _shards(path: Path) -> list[str]:
        """The files an index names; none for weights in one file. Raises as `read_index` does."""
        return sorted({*read_index(path)[0].values()}) if path.suffix == ".json" else []

    def _architecture(self) -> Any:
        """The model class the checkpoint was saved from; the plain encoder or decoder where it does not say."""
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
        """`auto_class.from_pretrained` for this source; what goes wrong becomes a `ModelError`."""
        if self.gguf:
            _require_gguf()
            where, options = str(self.gguf.parent), {"gguf_file": self.gguf.name, **options}
        else:
            where = str(self.local or self.id)
        with self._hub_errors(), quietly():
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
        """One line for what transformers raised while loading this model."""
        text = str(error)
        if "trust_remote_code" in text and not self.trust_remote_code:
            return TrustError(f"{self.id} needs code from its own repository: allow it with --trust-remote-code")
        if ("pytorch_model.bin" in text or "no file named model.safetensors" in text) and not self.allow_pickle:
            return TrustError(f"{self.id} has no safetensors weights: allow .bin files with --allow-pickle")
        if auto_class is transformers.AutoTokenizer:
            return ModelError(f"{self.id} has no tokenizer that can be used: {first_line(error)}")
        return ModelError(f"{self.id} can't be loaded: {first_line(error)}")

    def _hub_file(self, name: str, *, dry_run: bool = False) -> Path | None:
        """Where a file of the hub's is in the cache, or in a dry run would be; None where the model has none such."""
        with self._hub_errors():
            if try_to_load_from_cache(self.id, name, revision=self.commit) is _CACHED_NO_EXIST:
                return None
            try:
                if dry_run:
                    return Path(hf_hub_download(self.id, name, revision=self.commit, dry_run=True).local_path)
                return hub.download(self.id, name, revision=self.commit)
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                return None

    @contextlib.contextmanager
    def _hub_errors(self) -> Iterator[None]:
        """Within it the hub's library keeps its warnings to itself, and its errors become ours."""
        verbosity = hub_logging.get_verbosity()
        hub_logging.set_verbosity(logging.ERROR)
        try:
            with hub.patience():
                yield
        except GatedRepoError:
            raise ModelNotFoundError(f"{self.id} is gated: accept its terms on the hub and set HF_TOKEN") from None
        except RevisionNotFoundError:
            raise ModelNotFoundError(f"{self.id} has no revision {self.revision}") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise ModelNotFoundError(
                f"there is no model {self.id}: neither a folder here nor one on the hub (a private one needs HF_TOKEN)"
            ) from None
        except (
            LocalEntryNotFoundError,
            RevisionResolutionError,
            HTTPError,
            ConnectionError,
            json.JSONDecodeError,
        ) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
                raise ModelNotFoundError(
                    f"{constants.ENDPOINT} does not let you read {self.id} ({error.response.status_code}): "
                    "set HF_TOKEN to a token that may"
                ) from None
            reason = first_line(error if isinstance(error, HTTPError) else error.__cause__ or error).rstrip(".")
            raise ModelNotFoundError(
                f"{self.id} is not on this machine and can't be had from {constants.ENDPOINT} ({reason}): "
                "check the network, or name a local folder, a .gguf file, or demo"
            ) from error
        finally:
            hub_logging.set_verbosity(verbosity)


def read_index(path: Path) -> tuple[dict[str, str], int]:
    """Which shard holds which tensor, and the bytes of all tensors (0 where the index does not say).

    Raises `ModelError` where the file is not an index of a checkpoint's shards, or names one elsewhere.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        shards = {str(key): str(shard) for key, shard in described["weight_map"].items()}
        total = int((described.get("metadata") or {}).get("total_size", 0))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not an index of a checkpoint's shards: {first_line(error)}") from error
    if outside := sorted({shard for shard in shards.values() if not stays_inside(shard)}):
        raise ModelError(f"{path} names {outside[0]}, which is not a file beside it")
    return shards, total


def usable_positions(model: PreTrainedModel) -> int | None:
    """The longest input, in tokens, that the model has positions for; None where it has no such limit.

    RoBERTa-like models number positions from `padding_idx + 1` on, so their tables hold more rows than can
    be used.
    """
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = module.num_embeddings - reserved
    return int(limit) if limit and limit > 0 else None


def _on_top(model: PreTrainedModel, key: str) -> bool:
    """Whether a parameter belongs to what a task's class adds to the encoder or decoder (BERT's pooler included)."""
    bare = isinstance(model, transformers.AutoModel._model_mapping.get(type(model.config), ()))
    table = model.get_input_embeddings()
    parts = {name for name, module in model.named_children() if isinstance(module, PreTrainedModel) or module is table}
    return (not bare and key.partition(".")[0] not in parts | {model.base_model_prefix}) or "pooler." in key


def _require_gguf() -> None:
    try:
        importlib.import_module("gguf")
    except ImportError:
        raise ModelError("reading .gguf files needs the extra: pip install 'orientc[gguf]'") from None
