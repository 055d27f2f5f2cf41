"""The resource of all jobs and sensors: the settings as Dagster's configuration, and what they open.

Its fields are made of the settings, so that Dagster's UI shows each with its meaning and value, and a run can be given
another value. Secrets arrive as `EnvVar`: the UI shows the variable's name and never its value. What is opened knows no
Dagster. Dagster's concept: https://docs.dagster.io/guides/build/external-resources
"""

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from dagster import ConfigurableResource, EnvVar, InitResourceContext
from pydantic import Field, PrivateAttr, SecretStr, create_model
from pydantic.fields import FieldInfo

from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings, load_settings

_PLAIN = (bool, int, float, str)


class ExportResource(ConfigurableResource):
    """What exports work with: databases, object store, mail server, and how long things are kept."""

    _opened: ExportServices | None = PrivateAttr(default=None)

    @property
    def services(self) -> ExportServices:
        """Opened once a resource, and so once a run or a tick; connects to nothing until used."""
        if self._opened is None:
            self._opened = open_services(self.as_settings())
        return self._opened

    def as_settings(self) -> Settings:
        """The settings that the configuration says; those that runs do not read come from the environment."""
        values = {_variable(field): getattr(self, name) for name, field in _fields().items()}
        return load_settings({variable: None if value == "" else value for variable, value in values.items()})

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Close what a run opened."""
        if self._opened is not None:
            self._opened.close()


def export_resource(settings: Settings) -> ExportResource:
    """The resource that the settings describe."""
    return _Configured(**{name: _shown(name, field, settings) for name, field in _fields().items()})


def _fields() -> dict[str, FieldInfo]:
    """The settings that runs read."""
    return {
        name: field for group in Settings.groups() if group.read_by_runs for name, field in group.model_fields.items()
    }


def _variable(field: FieldInfo) -> str:
    alias: Any = field.validation_alias
    return str(alias.choices[0])


def _configured_type(field: FieldInfo) -> Any:
    """As Dagster's configuration can have it: plain values and words from a list are, the rest is text."""
    kind = field.annotation
    if get_origin(kind) not in (Union, types.UnionType):
        return kind if kind in _PLAIN or get_origin(kind) is Literal else str
    (inner, *others) = (kind for kind in get_args(kind) if kind is not types.NoneType)
    return inner | None if inner in _PLAIN and not others else str | None


def _shown(name: str, field: FieldInfo, settings: Settings) -> Any:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return EnvVar(_variable(field))
    if isinstance(value, Path):
        return str(value.resolve())  # a run may have another working folder
    return value if value is None or isinstance(value, _PLAIN) else str(value)


def _configured_class() -> type[ExportResource]:
    """`ExportResource` with a field for each setting."""
    fields: dict[str, Any] = {
        name: (_configured_type(field), Field(description=f"{_variable(field)}: {field.description}"))
        for name, field in _fields().items()
    }
    name, doc = ExportResource.__name__, ExportResource.__doc__
    return create_model(name, __base__=ExportResource, __module__=__name__, __doc__=doc, **fields)


_Configured = _configured_class()
