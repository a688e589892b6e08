"""What an exported model is: its form, sizes, and how to load it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.exporters import bodies
from orientc.exporters.forms import COMPACT, DENSE, NONE, ONNX
from orientc.exporters.onnx_weights import stored_bytes
from orientc.modeling.layout import PLAIN
from orientc.modeling.modules import CompressedHead, table_of
from orientc.modeling.resident import FORMS, Resident
from orientc.models import compact, compact_code, foreign_code, quantized
from orientc.models.resolve import Subject
from orientc.models.substitute import by_table
from orientc.storage.table_info import TableInfo
from orientc.utils.messages import literal

TASKS = {
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
}
LLAMA_CPP = "llama.cpp"
OURS, THEIRS = "orientc", "the model's repository"  # whose code


@dataclass(frozen=True)
class TableFacts:
    """One compressed table of an exported model.

    Attributes:
        table: Its name: "input", "head" …
        vocab: Rows.
        dim: Columns.
        method: How it was compressed; None for a model that came in the compact form.
        rank: Latent width.
        nbytes: Bytes here.
        base_nbytes: Bytes before.
    """

    table: str
    vocab: int
    dim: int
    method: str | None
    rank: int
    nbytes: int
    base_nbytes: int


@dataclass(frozen=True)
class Facts:
    """What an exported model is.

    Attributes:
        base: Id of the model it was made from.
        form: "compact", "dense", "onnx" or "gguf".
        head: Head policy it runs under.
        dtype: Type of its weights.
        auto_class: The class of transformers' that loads it with the head it was exported with: an auto class, or for
            a dense model that none loads its own.
        library: What loads it: "transformers", "sentence-transformers" or "llama.cpp".
        code: Whose code loading the model runs: "orientc", "the model's repository", or None for nobody's.
        tokenizer_code: Whose code loading the tokenizer runs, in the same words; it is never orientc's.
        tables: The compressed tables, that which tokens are looked up in first.
        base_weights: Bytes of all tensors before.
        processor: Whether a processor goes along, which takes more than text.
        body: What the weights of the body are quantized by, as "int8, torchao"; None where they are floats.
        needs: What has to be installed to load it beside the library, as pip names it.
        resident: The forms besides its codes in which the head may hold its table while it runs, if it has codes.
    """

    base: str
    form: str
    head: str
    dtype: str
    auto_class: str
    library: str
    code: str | None
    tokenizer_code: str | None
    tables: tuple[TableFacts, ...]
    base_weights: int
    processor: bool = False
    body: str | None = None
    needs: tuple[str, ...] = ()
    resident: tuple[str, ...] = ()

    @property
    def table(self) -> int:
        """Bytes of the compressed tables here."""
        return sum(each.nbytes for each in self.tables)

    @property
    def base_table(self) -> int:
        """Bytes of these tables before."""
        return sum(each.base_nbytes for each in self.tables)

    @property
    def numbers(self) -> int:
        """Numbers in these tables."""
        return sum(each.vocab * each.dim for each in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; where there is one table, what is said of that stands for itself, too."""
        alone = asdict(self.tables[0]) if len(self.tables) == 1 else {}
        own = {name: alone[name] for name in ("method", "rank", "vocab", "dim") if name in alone}
        return asdict(self) | own | {"table": self.table, "base_table": self.base_table}

    def load(self, place: str) -> str:
        """What loads the model from a folder, repository or file: Python, for a graph JavaScript, or a command."""
        if self.form == ONNX:
            return f"await pipeline({json.dumps(self.task)}, {json.dumps(place, ensure_ascii=False)})"
        if self.library == LLAMA_CPP:
            return f"llama-cli -m {shlex.quote(place)}"
        call = f"{self.auto_class}.from_pretrained" if self.library == "transformers" else "SentenceTransformer"
        return f"{call}({self.arguments(place)})"

    @property
    def task(self) -> str:
        """What transformers.js calls what the model does."""
        return TASKS.get(self.auto_class, "feature-extraction")

    def arguments(self, place: str) -> str:
        """The arguments of that expression's call."""
        return literal(place) + (", trust_remote_code=True" if self.code else "")

    @property
    def preparing(self) -> str:
        """The class of transformers' that loads what makes inputs."""
        return "AutoProcessor" if self.processor else "AutoTokenizer"

    def tokenizer(self, place: str) -> str:
        """The Python expression that loads the tokenizer, or the processor, which has it.

        In the compact form it needs no code, but has to say so. Before any file of the tokenizer transformers reads the
        configuration, and decides by that alone: where it names code and is of a `model_type` that transformers does
        not know, it asks, unless it is told. A `model_type` that it knows would be worse: models would load as that,
        with a table drawn at random.
        """
        trust = ""
        if self.code == OURS:
            trust = ", trust_remote_code=False"
        elif self.code or self.tokenizer_code:
            trust = ", trust_remote_code=True"
        return f"{self.preparing}.from_pretrained({literal(place)}{trust})"

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        found: Subject,
        infos: Mapping[str, TableInfo],
        *,
        form: str,
        head: str,
        dtype: str,
        sentences: bool,
        tokenizer: PreTrainedTokenizerBase | None,
        processor: bool,
        body: str,
    ) -> Facts:
        """The facts of a model with compressed modules, or of one that artifacts were decoded into.

        `infos` are the facts of the compressed tables by name, `sentences` is whether it is part of a sentence encoder,
        `body` what its body was quantized to.
        """
        held = {name: table.factors for name, table in compact.compressed_tables(model).items()}
        held = held or by_table(found.artifacts)
        methods = {each.description.base.table: each.description.method for each in found.artifacts}
        itemsize = table_of(model.get_input_embeddings()).element_size()
        tables, base_weights = [], next(iter(infos.values())).model_bytes
        for name, factors in held.items():
            rebuilt = factors.vocab * factors.dim * itemsize
            nbytes = rebuilt if form == DENSE else stored_bytes(factors) if form == ONNX else factors.nbytes
            base_nbytes = infos[name].nbytes if found.artifact else rebuilt  # it never was dense: as it would be
            base_weights += base_nbytes - infos[name].nbytes
            tables.append(
                TableFacts(name, factors.vocab, factors.dim, methods.get(name), factors.rank, nbytes, base_nbytes)
            )
        method = bodies.method(body, form) or found.source.kept_quantized
        autos = {name: auto for auto, name in compact_code.classes(type(model.config)).items()}
        kind = type(model).__name__
        theirs = foreign_code.is_foreign(type(model.config))
        if foreign := form == DENSE and theirs:
            named = dict(getattr(model.config, "auto_map", None) or {})
            autos |= {str(place).rpartition(".")[2]: auto for auto, place in named.items()}
        return cls(
            base=found.source.id,
            form=form,
            head=head,
            dtype=dtype,
            auto_class=autos.get(kind, "AutoModel" if theirs else kind),
            library="sentence-transformers" if sentences else "transformers",
            code=OURS if form == COMPACT else THEIRS if foreign else None,
            tokenizer_code=THEIRS if tokenizer and foreign_code.is_foreign(type(tokenizer)) else None,
            tables=tuple(tables),
            base_weights=base_weights,
            processor=processor,
            body=method and (method if body == NONE else f"{body}, {method}"),
            needs=quantized.PACKAGES.get(method, ()) if method else (),
            resident=_resident(model) if form == COMPACT else (),
        )


def _resident(model: PreTrainedModel) -> tuple[str, ...]:
    head = model.get_output_embeddings()
    if not isinstance(head, CompressedHead) or (layout := head.factors.layout).codec == PLAIN:
        return ()
    return tuple(name for name, kind in FORMS.items() if kind is not Resident and not kind.obstacle(layout))
