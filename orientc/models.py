"""A model argument and what it stands for: a hub id, a local folder, a `.gguf` file, or `demo`.

`ModelSource.resolve` finds out which, `file` brings one file of it (from the hub: that file alone), and the
rest is what transformers makes of it. Nothing is downloaded or read before it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import EvaluationError, ModelError, ModelNotFoundError, TrustError
from orientc.files import file_sha256

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
        """Find out what `model` stands for. Raises `ModelNotFoundError` for a path that does not exist."""
        path = Path(model).expanduser()
        local: Path | None = None
        if model == DEMO:
            local = Path(__file__).parent / "demo" / "model"
        elif path.suffix == ".gguf" or path.is_dir():
            local = path
            if path.suffix == ".gguf" and not path.is_file():
                raise ModelNotFoundError(f"there is no file {model}")
        elif path.exists():
            raise ModelError(f"{model} is neither a model folder nor a .gguf file")
        elif model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise ModelNotFoundError(f"there is no folder {model}")
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
        with self._hub_errors():
            try:
                return Path(hf_hub_download(self.id, name, revision=self.revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                return None

    @cached_property
    def commit(self) -> str | None:
        """The hub commit the files come from; None for a local model."""
        config = None if self.local else self.file("config.json")
        return config.parent.name if config else None

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises `ModelError` where there is none or it is unusable."""
        if not self.gguf and self.file("config.json") is None:
            raise ModelError(f"{self.id} has no config.json: it is not a transformers model")
        return self._from_pretrained(AutoConfig)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer. Raises `ModelError` where it has none that is usable."""
        return self._from_pretrained(AutoTokenizer)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The checkpoint's architecture without numbers: on the meta device, shared parameters shared."""
        with torch.device("meta"), _quiet():
            try:
                return self._architecture()(self.config)
            except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
                raise ModelError(f"{self.id} can't be built from its configuration: {_first_line(error)}") from error

    def load(self, auto_class: Any, *, dtype: torch.dtype) -> PreTrainedModel:
        """The whole model through one of transformers' auto classes, in `dtype`, in evaluation mode.

        Raises `EvaluationError` where the checkpoint lacks weights this class needs: transformers would draw
        them at random.
        """
        model, info = self._from_pretrained(
            auto_class,
            dtype=dtype,
            output_loading_info=True,
            **({} if self.gguf or self.allow_pickle else {"use_safetensors": True}),
        )
        if info["missing_keys"]:
            raise EvaluationError(
                f"{self.id} lacks weights that {type(model).__name__} needs, {sorted(info['missing_keys'])[0]} "
                "among them: it was not saved with this head"
            )
        loaded: PreTrainedModel = model.eval()
        return loaded

    def weights_sha256(self) -> str | None:
        """A hash of a local model's weight files, to tell two versions of a folder apart; None for a hub model."""
        if self.local is None:
            return None
        if self.gguf:
            return file_sha256(self.gguf)
        files = sorted([*self.local.glob("*.safetensors"), *self.local.glob("*.bin")])
        return file_sha256(*files)

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
                loader = importlib.import_module("transformers.dynamic_module_utils").get_class_from_dynamic_module
                return loader(auto_map[auto_name], str(self.local or self.id), revision=self.revision)
        for name in config.architectures or ():
            if hasattr(transformers, name):
                return getattr(transformers, name)
        auto = transformers.AutoModelForCausalLM if self.gguf else transformers.AutoModel
        return auto._model_mapping[type(config)]

    def _from_pretrained(self, auto_class: Any, **options: Any) -> Any:
        """`auto_class.from_pretrained` for this source; what goes wrong becomes a `ModelError`."""
        if self.gguf:
            _require_gguf()
            where, options = str(self.gguf.parent), {"gguf_file": self.gguf.name, **options}
        else:
            where = str(self.local or self.id)
        with self._hub_errors(), _quiet():
            try:
                return auto_class.from_pretrained(
                    where,
                    revision=self.revision if self.local else (self.revision or self.commit),
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
        if "trust_remote_code" in text:
            return TrustError(f"{self.id} needs code from its own repository: allow it with --trust-remote-code")
        if "pytorch_model.bin" in text or "no file named model.safetensors" in text:
            return TrustError(f"{self.id} has no safetensors weights: allow .bin files with --allow-pickle")
        if auto_class is AutoTokenizer:
            return ModelError(f"{self.id} has no tokenizer that can be used: {_first_line(error)}")
        return ModelError(f"{self.id} can't be loaded: {_first_line(error)}")

    @contextlib.contextmanager
    def _hub_errors(self) -> Iterator[None]:
        try:
            yield
        except GatedRepoError:
            raise ModelNotFoundError(f"{self.id} is gated: accept its terms on the hub and set HF_TOKEN") from None
        except RevisionNotFoundError:
            raise ModelNotFoundError(f"{self.id} has no revision {self.revision}") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise ModelNotFoundError(
                f"there is no model {self.id}: neither a folder here nor one on the hub (a private one needs HF_TOKEN)"
            ) from None
        except (LocalEntryNotFoundError, HfHubHTTPError, ConnectionError) as error:
            raise ModelNotFoundError(
                f"{self.id} is not on this machine and {constants.ENDPOINT} can't be reached: "
                "check the network, or name a local folder, a .gguf file, or demo"
            ) from error


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


def _require_gguf() -> None:
    try:
        importlib.import_module("gguf")
    except ImportError:
        raise ModelError("reading .gguf files needs the extra: pip install 'orientc[gguf]'") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own bars and notices off the terminal; errors reach the user as ours."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
