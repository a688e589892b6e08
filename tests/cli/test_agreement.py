"""What a command does a function does: options and keyword arguments agree in name, type and default."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

import orientc
from orientc.cli.app import PANELS

COMMANDS = {command.__name__: command for commands in PANELS.values() for command in commands}
AGREEING = [name for name in COMMANDS if name not in ("demo", "schema")]
# of the command or of the function alone; `format` and `latex` are how a command prints, as `--json` is
APART = {"as_json", "format", "latex", "quiet", "debug", "config", "progress"}
PUBLIC = {name: getattr(orientc, name) for name in orientc.__all__}  # modules import some for type checkers only


def parts(annotation: Any) -> set[Any]:
    """The types in a union, each in one form.

    `Path` and `Enum` count as `str`, and a list, tuple or sequence is ("several", its entries' types).
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return parts(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return set().union(*map(parts, arguments))
    if origin is not None and issubclass(origin, Sequence):
        return {("several", frozenset(parts(arguments[0])))}
    if inspect.isclass(annotation) and issubclass(annotation, Path | Enum):
        return {str}
    return {annotation}


def metavar(annotation: Any) -> str:
    return next((found.metavar or "" for found in getattr(annotation, "__metadata__", ())), "")


def is_argument(annotation: Any) -> bool:
    return any(type(found).__name__ == "ArgumentInfo" for found in getattr(annotation, "__metadata__", ()))


def agree(option: Any, keyword: Any) -> bool:
    """Whether a keyword takes all that an option gives, and besides that only objects of the library.

    Two ways of writing are the command line's: values with commas between (metavar X,X,…) are a sequence for Python,
    and N|word is a number or a word. Where there are several values a function may take one by itself, and the way that
    they are written.
    """
    given, taken = parts(option), parts(keyword)
    if "," in metavar(option):
        several = {part for part in taken if isinstance(part, tuple)}
        given = (given - {str}) | several | (taken & {str} if several else {str})
    one = {entry for part in given if isinstance(part, tuple) for entry in part[1]}
    if metavar(option).startswith("N|"):
        given |= {int}
    others = {part for part in taken - given - one if not getattr(part, "__module__", "").startswith("orientc.")}
    return given <= taken and not others


def default(value: Any, annotation: Any) -> Any:
    """A default in one form: an `Enum`'s value, and what is written with commas between as a list of strings."""
    value = value.value if isinstance(value, Enum) else value
    if "," not in metavar(annotation) or value is None:
        return value
    return (
        value.split(",")
        if isinstance(value, str)
        else [f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value]
    )


@pytest.mark.parametrize("name", AGREEING)
def test_options_and_keywords_agree(name: str) -> None:
    command, function = COMMANDS[name], getattr(orientc, name)
    options, keywords = inspect.signature(command).parameters, inspect.signature(function).parameters
    assert set(options) - APART == set(keywords) - APART
    option_types = typing.get_type_hints(command, include_extras=True)
    keyword_types = typing.get_type_hints(function, localns=PUBLIC)
    for field in set(options) - APART:
        option, keyword = option_types[field], keyword_types[field]
        assert agree(option, keyword), (field, option, keyword)
        assert default(options[field].default, option) == default(keywords[field].default, option), field
        if is_argument(option):
            assert keywords[field].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, field


@pytest.mark.parametrize("name", AGREEING)
def test_what_a_function_returns_is_frozen_and_has_the_commands_json(name: str) -> None:
    for result in parts(typing.get_type_hints(getattr(orientc, name), localns=PUBLIC)["return"]):
        assert dataclasses.is_dataclass(result)
        assert result.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert callable(result.as_dict)
        assert result.__name__ in orientc.__all__


@pytest.mark.parametrize(
    ("option", "keyword", "same"),
    [
        (int, int, True),
        (int, float, False),
        (Path | None, str | Path | None, True),
        (Path, int, False),
        (str, str | orientc.ModelSource, True),
        (str, str | bytes, False),
        (str | None, str, False),
        (list[str] | None, Sequence[str] | None, True),
        (list[str] | None, str | Sequence[str] | None, True),
        (list[str] | None, Sequence[int] | None, False),
        (Annotated[str, typer.Option(metavar="N,N,…")], Sequence[int], True),
        (Annotated[str, typer.Option(metavar="N,N,…")], str | Sequence[int], True),
        (Annotated[str, typer.Option(metavar="N,N,…")], int, False),
        (Annotated[str, typer.Option(metavar="N|auto")], int | str, True),
        (Annotated[str, typer.Option(metavar="N|auto")], str, False),
    ],
)
def test_what_agreeing_is(option: Any, keyword: Any, same: bool) -> None:
    assert agree(option, keyword) == same
