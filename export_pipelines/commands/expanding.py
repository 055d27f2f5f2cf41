"""Options that several commands have: declared once, as a dataclass, and expanded into the parameters of each.

typer reads a command's options from its signature, so a dataclass among the parameters is replaced there by its fields;
the command itself gets the dataclass. A field is what a parameter would be: a type in `Annotated` with its
`typer.Option`, and a default. Dataclasses may hold others. Which options there are and what they mean for an order is
`export_pipelines.commands.ordering`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from typer.models import OptionInfo


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Options that belong together; in the help they stand in one panel."""

    panel: ClassVar[str | None] = None


def expanded(
    *,
    required: Collection[str] = (),
    without: Collection[str] = (),
    defaults: Mapping[str, str] | None = None,
    changes: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function that takes `OptionGroup` dataclasses.

    By the names of fields: ``required`` options have no default here, ``without`` are left out, and ``defaults`` says
    what the help names as the default of this command. One that ``changes`` something has no defaults: what is not
    given stays. `TypeError` for a name that no group has.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        taken = inspect.signature(function).parameters
        shown: list[inspect.Parameter] = []
        for name, parameter in taken.items():
            if _is_group(hints[name]):
                shown += _parameters(hints[name], required, without, None if changes else defaults or {})
            else:
                shown.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
        unknown = {*required, *(defaults or {})} - {parameter.name for parameter in shown}
        unknown |= set(without) - {field.name for kind in hints.values() for field, _, _ in _options(kind)}
        if unknown:
            raise TypeError(f"{function.__name__} has no option {', '.join(sorted(unknown))}")

        @wraps(function)
        def command(**given: Any) -> None:
            function(**{name: _built(hints[name], given) if _is_group(hints[name]) else given[name] for name in taken})

        command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return command

    return decorate


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind) and issubclass(kind, OptionGroup)


def _options(kind: Any) -> Iterator[tuple[Field[Any], Any, str | None]]:
    """Every option of a group and of the groups in it: field, annotation, panel."""
    if not _is_group(kind):
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if _is_group(hints[field.name]):
            yield from _options(hints[field.name])
        else:
            yield field, hints[field.name], kind.panel


def _parameters(
    kind: type[OptionGroup], required: Collection[str], without: Collection[str], defaults: Mapping[str, str] | None
) -> Iterator[inspect.Parameter]:
    for field, annotation, panel in _options(kind):
        if field.name in without:
            continue
        bare = field.name in required or field.default is MISSING
        default = False if defaults is None else defaults.get(field.name)
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if bare else field.default,
            annotation=_placed(annotation, panel, default),
        )


def _placed(annotation: Any, panel: str | None, default: str | bool | None) -> Any:
    """The annotation with its option in the panel of its group, naming the default of this command."""
    if get_origin(annotation) is not Annotated:
        raise TypeError(f"{annotation} is no Annotated type with a typer.Option")
    kind, option = get_args(annotation)
    if not isinstance(option, OptionInfo):
        raise TypeError(f"{annotation} is no Annotated type with a typer.Option")
    option = copy(option)
    option.rich_help_panel = option.rich_help_panel or panel
    option.show_default = option.show_default if default is None else default
    return Annotated[kind, option]


def _built(kind: type[OptionGroup], given: Mapping[str, Any]) -> OptionGroup:
    hints = get_type_hints(kind)
    inner = {field.name: hints[field.name] for field in fields(kind)}
    return kind(
        **{name: _built(hint, given) for name, hint in inner.items() if _is_group(hint)},
        **{name: given[name] for name, hint in inner.items() if not _is_group(hint) and name in given},
    )
