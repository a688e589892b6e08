"""`orientc export`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, output
from orientc.errors import UsageError
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.sizes import MB

if TYPE_CHECKING:
    from orientc.exporters.export import Exported


class Form(StrEnum):
    """What is written."""

    compact = "compact"
    dense = "dense"
    onnx = "onnx"


class Head(StrEnum):
    """Head policies of a tied model."""

    tied = "tied"
    input_only = "input-only"


def export(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT|FOLDER",
            help="A .safetensors artifact, or a model folder that orientc glue or squad saved.",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.", show_default=False)],
    form: Annotated[
        Form,
        typer.Option(help="Small, with the code to load it; the original's architecture, no smaller; or a graph."),
    ] = Form.compact,
    head: Annotated[
        Head | None,
        typer.Option(help="What a tied head runs from: the compressed table or the original. [default: tied]"),
    ] = None,
    dtype: Annotated[
        str | None,
        options.choice(
            FLOAT_DTYPES,
            help="Type of all weights. [default: the base checkpoint's]",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Upload the folder to the hub too; HF_TOKEN says who you are."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private; a public one is left alone.")
    ] = False,
    model: options.BaseModel = None,
    force: options.Force = False,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model with its table compressed as a folder that loads without orientc.

    Example: `orientc export runs/demo/svd-r75-5d1778d0.safetensors --to demo-small`
    """
    from orientc.exporters import push as pushing

    if push is not None:
        pushing.prepare(push)
    elif private:
        raise UsageError("--private is for a repository on the hub: name it with --push")

    from orientc.exporters import export as exporting

    with output.stages(quiet=quiet) as progress:
        exported = exporting.export(
            subject,
            to,
            form=form,
            head=head,
            dtype=dtype,
            model=model,
            revision=revision,
            force=force,
            overwrite=overwrite,
            progress=progress,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
    url = pushing.push(exported.folder, push, private=private) if push is not None else None
    if as_json:
        output.show_json(exported.as_dict() | {"url": url})
    else:
        output.show_facts(_facts(exported, url))


def _facts(exported: Exported, url: str | None) -> list[tuple[str, str]]:
    facts = exported.facts
    shown = [
        ("folder", f"{exported.folder}, {exported.nbytes / MB:.2f} MB"),
        ("form", f"{facts.form}, head {facts.head}, {facts.dtype}"),
        ("table", f"{facts.table / MB:.2f} MB, was {facts.base_table / MB:.2f} MB"),
        ("all weights", f"{exported.weights / MB:.2f} MB, were {facts.base_weights / MB:.2f} MB"),
    ]
    if facts.form != "onnx":
        shown.append(("load with", facts.load(str(exported.folder))))
    return shown + ([("on the hub", url)] if url else [])
