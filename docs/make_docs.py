"""Makes what the code can say about itself: settings, command line, format and catalog tables, the picture.

`make docs` writes; `--check` fails where a file is stale. Whole files are generated, or the parts of a page between
`<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import api_tables
import fidelity_tables
import meanings
import picture
import samples_of_kinds
import typer
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from export_pipelines.cli import app
from export_pipelines.core.access import Role
from export_pipelines.core.catalog import (
    Canary,
    Catalog,
    Column,
    Partition,
    Relation,
    Table,
    TenantPath,
    TenantRoot,
)
from export_pipelines.core.configuration import (
    DataSource,
    DateRange,
    DeliveryTarget,
    Encryption,
    ExportConfig,
    Filters,
    Retention,
    SplitFiles,
)
from export_pipelines.core.measures import Measure
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.samples.loader import sample_catalog, sample_names
from export_pipelines.settings import Settings
from export_pipelines.settings.values import Unit

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MODELS = (Catalog, TenantRoot, Canary, Table, TenantPath, Column, Relation, Partition, Measure)
_CONFIGURATION = (
    ExportConfig, DataSource, Filters, DateRange, SplitFiles, Encryption, DeliveryTarget, Retention,
)  # fmt: skip
_PAGES = (
    "api.md",
    "configuration.md",
    "formats.md",
    "fidelity.md",
    "packages.md",
    "catalog.md",
    "samples.md",
    "settings.md",
    "delivery.md",
)


def main() -> int:
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.stdout.writelines(f"{path.name} is stale; run `make docs`\n" for path in stale)
        return 1 if stale else 0
    for path in stale:
        path.write_text(documents()[path], encoding="utf-8")
        sys.stdout.write(f"wrote {path.name}\n")
    return 0


def documents() -> dict[Path, str]:
    """Every generated file as it should be."""
    made = {DOCS / "overview.svg": picture.svg(), DOCS / "cli.md": command_line()}
    for name in _PAGES:
        path = DOCS / name
        made[path] = _PART.sub(lambda found: f"{found[1]}{_PARTS[found[2]]()}\n{found[3]}", path.read_text("utf-8"))
    return made


def grid(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


# Settings -----------------------------------------------------------------------------------------------------------


def settings_tables() -> str:
    """A table for each group."""
    parts = []
    for group in Settings.groups():
        rows = []
        for name, field in group.model_fields.items():
            if not field.description:
                raise SystemExit(f"the setting {name} has no description")
            alias: Any = field.validation_alias
            secret = " Secret." if SecretStr in (field.annotation, *get_args(field.annotation)) else ""
            rows.append((f"`{alias.choices[0]}`", _default(field), _allowed(field), field.description + secret))
        heading = (group.__doc__ or "").strip().splitlines()[0]
        parts.append(f"### {heading}\n\n{grid(('Variable', 'Default', 'Values', 'Meaning'), rows)}")
    return "\n\n".join(parts)


def _allowed(field: FieldInfo) -> str:
    """Words, bounds and unit of a setting."""
    kinds = (field.annotation, *get_args(field.annotation))
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        return ", ".join(f"`{word}`" for word in words)
    if bool in kinds:
        return "`true`, `false`"
    least = next((f"{bound.ge:,}" for bound in field.metadata if isinstance(bound, Ge)), None)
    above = next((f"{bound.gt:,}" for bound in field.metadata if isinstance(bound, Gt)), None)
    most = next((f"{bound.le:,}" for bound in field.metadata if isinstance(bound, Le)), None)
    if above is not None:
        bounds = f"above {above}" if most is None else f"above {above}, to {most}"
    elif least is not None:
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
    else:
        bounds = ""
    units = [found.name for found in field.metadata if isinstance(found, Unit)]
    return " ".join(word for word in (bounds, *units) if word)


def _described(fields: Mapping[str, FieldInfo], extra: Mapping[str, str]) -> dict[str, str]:
    """Field → sentence, from the code or from `meanings`; exactly one of the two."""
    twice = [name for name in extra if name not in fields or fields[name].description]
    missing = [name for name, field in fields.items() if not field.description and name not in extra]
    if twice or missing:
        raise SystemExit(f"meanings.py: remove {twice}, add {missing}")
    return {name: field.description or extra[name] for name, field in fields.items()}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, BaseModel):
        return ", ".join(f"`{name}: {part}`" for name, part in value.model_dump(mode="json", exclude_none=True).items())
    return ", ".join(f"`{part}`" for part in value) if isinstance(value, tuple) else f"`{value}`"


# Command line -------------------------------------------------------------------------------------------------------


def command_line() -> str:
    root = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Generated from the program by `make docs`. `export-pipelines COMMAND --help` says the same.",
        "",
        *_exit_codes(),
    ]
    for path, command in commands(root):
        lines += ["", f"## {path}", "", str(command.help or "").strip()]
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            lines += ["", grid(("Argument or option", "Default", "Meaning"), rows)]
    return "\n".join(lines) + "\n"


def _exit_codes() -> list[str]:
    rows = [
        ("0", "Done."),
        ("1", "Unexpected failure."),
        ("2", "Bad request: change the command, the configuration, the catalog or a setting."),
        ("3", "Integrity violation: files, catalog or package are not what they should be."),
        ("4", "Unavailable: a database, a store or a mail server does not answer; try again."),
        ("5", "Cancelled or interrupted."),
        ("6", "`verify --keys`: the content is as the manifest says, but no trusted key has signed it."),
    ]
    return [grid(("Exit code", "Meaning"), rows)]


def commands(command: Any, path: str = "export-pipelines") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of the help."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from commands(command.get_command(None, name), f"{path} {name}")


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        name = ", ".join(f"`{spelling}`" for spelling in (*parameter.opts, *parameter.secondary_opts))
    value = parameter.default
    said = getattr(parameter, "show_default", None)  # what the command does without it, in words
    value = said if isinstance(said, str) else value
    shown = "" if value in (None, False, "", ()) or not isinstance(value, str | int) else f"`{value}`"
    meaning = parameter.help or "How many at most."
    if getattr(parameter, "envvar", None):
        meaning += f" Also `{parameter.envvar}`."
    return name, "required" if parameter.required else shown, meaning


# Formats ------------------------------------------------------------------------------------------------------------


def formats_table() -> str:
    rows = [
        (
            ", ".join(f"`{name}`" for name in (spec.name, *spec.aliases)),
            spec.title,
            f"`.{spec.extension}`",
            "all tables" if spec.many_tables else "a table with what nests in it" if spec.nests else "one table",
            ", ".join(f"`{name}`" for name in CODECS) if spec.compressible else "is compressed",
            spec.written_with,
            spec.read_with,
        )
        for spec in all_formats().values()
    ]
    header = ("Name", "Format", "File", "One file holds", "Compression", "Written with", "Re-read with")
    return grid(header, rows)


def compressions_table() -> str:
    rows = [
        (f"`{codec.name}`", f"`{codec.suffix}`", codec.media_type, codec.written_with, codec.read_with)
        for codec in CODECS.values()
    ]
    return grid(("Name", "Suffix", "Media type", "Written with", "Re-read with"), rows)


def options_table() -> str:
    rows = []
    for spec in all_formats().values():
        for name, field in (spec.options.model_fields if spec.options else {}).items():
            choices = [f"`{choice}`" for choice in get_args(field.annotation)] or ["`true`, `false`"]
            rows.append((spec.name, f"`{name}`", ", ".join(choices), _default(field), field.description or ""))
    return grid(("Format", "Option", "Values", "Default", "Meaning"), rows)


# Destinations -------------------------------------------------------------------------------------------------------


def destinations_table() -> str:
    rows = [
        (
            f"`{spec.name}`",
            spec.title,
            spec.carries.value,
            spec.effect.value if spec.open else "",
            ", ".join(f"`{Settings.variable(name)}`" for name in spec.operator.model_fields),
            spec.limits,
        )
        for spec in all_destinations().values()
    ]
    return grid(("Method", "Destination", "Carries", "Seen", "Settings", "Limits"), rows)


def destination_fields() -> str:
    parts = []
    for spec in all_destinations().values():
        rows = [
            (f"`{name}`", _default(field), str(field.description)) for name, field in spec.target.model_fields.items()
        ]
        summary = (spec.target.__doc__ or "").strip().splitlines()[0]
        example = f"```json\n{json.dumps(dict(spec.example), ensure_ascii=False)}\n```"
        parts.append(f"### {spec.name}\n\n{summary}\n\n{example}\n\n{grid(('Field', 'Default', 'Meaning'), rows)}")
    return "\n\n".join(parts)


# Catalog ------------------------------------------------------------------------------------------------------------


def catalog_fields() -> str:
    return _fields(_MODELS, meanings.CATALOG)


def configuration_fields() -> str:
    return _fields(_CONFIGURATION, meanings.CONFIGURATION)


def _fields(models: Sequence[type[BaseModel]], meant: Mapping[str, str]) -> str:
    """A table for each model."""
    fields = {
        f"{model.__name__}.{field.alias or name}": field
        for model in models
        for name, field in model.model_fields.items()
        if (model, name) != (Catalog, "withheld")  # in a file they are among the tables
    }
    described = _described(fields, meant)
    parts = []
    for model in models:
        own = {name: field for name, field in fields.items() if name.startswith(f"{model.__name__}.")}
        rows = [(f"`{name.partition('.')[2]}`", _default(field), described[name]) for name, field in own.items()]
        summary = (model.__doc__ or "").strip().splitlines()[0]
        parts.append(f"### {model.__name__}\n\n{summary}\n\n{grid(('Field', 'Default', 'Meaning'), rows)}")
    return "\n\n".join(parts)


def samples_table() -> str:
    """Every sample with its tenants and the tables that can be exported."""
    rows = []
    for name in sample_names():
        catalog = sample_catalog(name)
        tenants = catalog.tenant.table.split(".")[1]
        tables = ", ".join(f"`{table}`" for table in catalog.tables if table != tenants)
        rows.append((f"`{name}`", str(catalog.description), f"`{tenants}`", tables))
    return grid(("Sample", "Holds", "Tenants", "Tables"), rows)


_PARTS: dict[str, Callable[[], str]] = {
    "samples": samples_table,
    "settings": settings_tables,
    "formats": formats_table,
    "options": options_table,
    "compressions": compressions_table,
    "kinds": lambda: grid(samples_of_kinds.HEADER, samples_of_kinds.rows()),
    "matrix": lambda: grid(*fidelity_tables.matrix()),
    "carriage": lambda: grid(*fidelity_tables.carriage()),
    "catalog": catalog_fields,
    "api_routes": lambda: grid(("Method and path", "Does", "Answers"), tuple(api_tables.routes())),
    "api_actions": lambda: grid(("Action", *Role), tuple(api_tables.actions())),
    "configuration": configuration_fields,
    "destinations": destinations_table,
    "destination_fields": destination_fields,
}

if __name__ == "__main__":
    sys.exit(main())
