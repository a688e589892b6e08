"""What an exported model is: its form, sizes, and how to load it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.exporters import bodies
from orientc.exporters.forms import COMPACT, DENSE, NONE, ONNX
from orientc.exporters.onnx_weights import stored_bytes
from orientc.modeling.layout import PLAIN
from orientc.modeling.modules import CompressedHead, CompressedTable, table_of
from orientc.modeling.resident import FORMS, Resident
from orientc.models import compact, compact_code, foreign_code, quantized
from orientc.models.resolve import Subject
from orientc.storage.table_info import TableInfo
from orientc.utils.messages import literal

TASKS = {
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
}
OURS, THEIRS = "orientc", "the model's repository"  # whose code


@dataclass(frozen=True)
class Facts:
    """What an exported model is.

    Attributes:
        base: Id of the model it was made from.
        form: "compact", "dense" or "onnx".
        head: Head policy it runs under.
        dtype: Type of its weights.
        auto_class: The class of transformers' that loads it with the head it was exported with: an auto class, or for
            a dense model that none loads its own.
        library: What loads the folder: "transformers" or "sentence-transformers".
        code: Whose code loading the model runs: "orientc", "the model's repository", or None for nobody's.
        tokenizer_code: Whose code loading the tokenizer runs, in the same words; it is never orientc's.
        method: How the table was compressed; None for a model that came in the compact form.
        rank: Latent width.
        table: Bytes of the table here.
        base_table: Bytes of the table before.
        base_weights: Bytes of all tensors before.
        vocab: Rows of the table.
        dim: Columns of the table.
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
    method: str | None
    rank: int
    table: int
    base_table: int
    base_weights: int
    vocab: int
    dim: int
    processor: bool = False
    body: str | None = None
    needs: tuple[str, ...] = ()
    resident: tuple[str, ...] = ()

    def load(self, place: str) -> str:
        """The expression that loads the model from a folder or repository: Python's, or of a graph JavaScript's."""
        if self.form == ONNX:
            return f"await pipeline({json.dumps(self.task)}, {json.dumps(place, ensure_ascii=False)})"
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
        info: TableInfo,
        *,
        form: str,
        head: str,
        dtype: str,
        sentences: bool,
        tokenizer: PreTrainedTokenizerBase | None,
        processor: bool,
        body: str,
    ) -> Facts:
        """The facts of a model with a compressed module, or of one that an artifact was decoded into.

        `sentences` is whether it is part of a sentence encoder, `body` what its body was quantized to.
        """
        if isinstance(held := model.get_input_embeddings(), CompressedTable):
            factors = held.factors
        else:
            assert found.artifact
            factors = found.artifact.factors
        rebuilt = info.vocab * info.dim * table_of(held).element_size()
        method = bodies.method(body, form) or found.source.kept_quantized
        if found.artifact:
            base_table, base_weights = info.nbytes, info.model_bytes
        else:  # it never was dense; as it would be
            base_table, base_weights = rebuilt, info.model_bytes - info.nbytes + rebuilt
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
            method=found.artifact.description.method if found.artifact else None,
            rank=factors.rank,
            table=rebuilt if form == DENSE else stored_bytes(factors) if form == ONNX else factors.nbytes,
            base_table=base_table,
            base_weights=base_weights,
            vocab=info.vocab,
            dim=info.dim,
            processor=processor,
            body=method and (method if body == NONE else f"{body}, {method}"),
            needs=quantized.PACKAGES.get(method, ()) if method else (),
            resident=_resident(model) if form == COMPACT else (),
        )


def _resident(model: PreTrainedModel) -> tuple[str, ...]:
    layout = compact.compressed_table(model).factors.layout
    if layout.codec == PLAIN or not isinstance(model.get_output_embeddings(), CompressedHead):
        return ()
    return tuple(name for name, kind in FORMS.items() if kind is not Resident and not kind.obstacle(layout))
