"""`orientc export`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import export_options, options, output
from orientc.exporters.forms import FORMS, HEADS
from orientc.storage.sizes import MB

if TYPE_CHECKING:
    from orientc.exporters.export import Exported


def export(
    subject: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT…|FOLDER",
            help="A .safetensors artifact, or one of each of several tables; or a folder of orientc glue or squad.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder to write; for gguf the file.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ],
    form: Annotated[
        str,
        options.choice(
            FORMS,
            help="Small, with the code to load it; the original architecture, no smaller; a graph; or a GGUF file.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = "compact",
    head: Annotated[
        str | None,
        options.choice(
            HEADS,
            help="What a tied head runs from: the compressed table or the original. [default: tied]",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    body: export_options.Body = "none",
    dtype: export_options.ExportDtype = None,
    name: export_options.CardName = None,
    overwrite: options.Overwrite = False,
    push: export_options.Push = None,
    private: export_options.Private = False,
    model: options.BaseModel = None,
    force: options.Force = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model with its table compressed as a folder, or a GGUF file, that loads without orientc.

    Example: `orientc export runs/demo/svd-r75-5d1778d0.safetensors --to demo-small`

    Example: `orientc export runs/model.gguf/quantize-IQ4_NL-1b2c3d4e.safetensors --form gguf --to small.gguf`
    """
    from orientc.exporters.export import export as run

    with output.stages(quiet=quiet) as progress:
        exported = run(
            subject,
            to,
            form=form,
            head=head,
            body=body,
            dtype=dtype,
            name=name,
            overwrite=overwrite,
            push=push,
            private=private,
            model=model,
            force=force,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        output.show_json(exported.as_dict())
    else:
        output.show_facts(_facts(exported))


def _facts(exported: Exported) -> list[tuple[str, str]]:
    facts = exported.facts
    halved = "" if exported.halved is None else f"; {exported.halved / MB:.2f} MB with --dtype float16"
    shown = [
        ("file" if facts.form == "gguf" else "folder", f"{exported.folder}, {exported.nbytes / MB:.2f} MB"),
        ("form", f"{facts.form}, head {facts.head}, {facts.dtype}"),
        *([("body", facts.body)] if facts.body else []),
        (
            "table" if len(facts.tables) == 1 else "tables",
            f"{facts.table / MB:.2f} MB, was {facts.base_table / MB:.2f} MB",
        ),
        ("all weights", f"{exported.weights / MB:.2f} MB, were {facts.base_weights / MB:.2f} MB{halved}"),
    ]
    shown.append(("load with", facts.load(str(exported.folder))))
    if facts.needs:
        shown.append(("needs", f"pip install {' '.join(facts.needs)}"))
    return shown + ([("on the hub", exported.url)] if exported.url else [])
