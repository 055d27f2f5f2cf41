"""What a process works with, opened as the settings say: for Dagster's resource, the API, commands and tests alike.

Settings are not copied here: whoever needs one reads ``services.settings``. Something new that has to be opened is one
`part`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast, overload, runtime_checkable

import psycopg

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import LakeRetention
from export_pipelines.core.ports import ObjectStore, Source
from export_pipelines.destinations.registry import Destinations, open_destinations
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.pipeline import assembly
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase, Lock
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.dispatch import Dispatcher
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.links import LinkStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.retention import RetentionStore
from export_pipelines.stores.secrets import SecretBox
from export_pipelines.stores.service_state import ServiceStateStore
from export_pipelines.stores.signing_keys import SigningKeyStore

T = TypeVar("T")


@runtime_checkable
class Closeable(Protocol):
    """A part that holds connections."""

    def close(self) -> None: ...


class part(Generic[T]):  # noqa: N801 - used like `property`
    """A part of services, opened when it is first used and once, whichever thread asks."""

    def __init__(self, opened: Callable[[Any], T]) -> None:
        self._open = opened
        self.__doc__ = opened.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, services: None, owner: type) -> Self: ...

    @overload
    def __get__(self, services: Services, owner: type) -> T: ...

    def __get__(self, services: Services | None, owner: type) -> Self | T:
        if services is None:
            return self
        return services.opened_part(self._name, self._open)


class Services:
    """Settings, and the parts that need no control database. Opening connects to nothing yet.

    A copied process opens its own: what was open before a fork belongs to the parent, so nothing is used before it.
    """

    def __init__(self, settings: Settings, *, original: Self | None = None, **given: Any) -> None:
        """``given`` takes the place of parts and stays its giver's to close; all others are those of an original."""
        unknown = [name for name in given if not isinstance(getattr(type(self), name, None), part)]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no part {', '.join(unknown)}")
        self.settings = settings
        self._original = original
        self._given = given
        self._opened: dict[str, Any] = {}
        self._lock = threading.RLock()  # one part opens others

    def having(self, *, settings: Settings | None = None, **given: Any) -> Self:
        """A view with other settings or parts. It shares all others with the original; closing one closes both."""
        return type(self)(settings or self.settings, original=self, **given)

    def opened_part(self, name: str, opened: Callable[[Any], T]) -> T:
        """What is there by that name, else what ``opened`` makes of these services."""
        if name in self._given:
            return cast("T", self._given[name])
        if self._original is not None:
            return self._original.opened_part(name, opened)
        with self._lock:
            if name not in self._opened:
                self._opened[name] = opened(self)
            return cast("T", self._opened[name])

    def open_all(self) -> Self:
        """Open every part now, so that a setting that is wrong is refused here and not at first use."""
        for name in dir(type(self)):
            if isinstance(getattr(type(self), name), part):
                getattr(self, name)
        return self

    def close(self) -> None:
        """Close what was opened, the newest first and each whatever becomes of the others; use opens it again."""
        if self._original is not None:
            self._original.close()
        with self._lock, ExitStack() as stack:
            for opened in self._opened.values():
                if isinstance(opened, Closeable):
                    stack.callback(opened.close)
            self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @part
    def catalog(self) -> Catalog:
        return assembly.open_catalog(self.settings)

    @part
    def store(self) -> ObjectStore:
        """Where stage, lake and packages are."""
        return assembly.open_object_store(self.settings)

    @part
    def secrets(self) -> SecretBox:
        """What seals the service's secrets."""
        return assembly.open_box(self.settings)


class ExportServices(Services):
    """What exports, the daemon and commands work with: the service's own connection to the control database as well.

    Transactions of `control` follow each other; work that goes on beside it opens services of its own.
    """

    formats = staticmethod(all_formats)
    find_format = staticmethod(find_format)

    @part
    def source(self) -> Source:
        """The tenants' database, read as one tenant at a time."""
        return assembly.open_source(self.settings.require_source_url(), self.catalog, self.settings.decoder)

    @part
    def control(self) -> ControlDatabase:
        return ControlDatabase(self.settings.require_control_url())

    @part
    def requests(self) -> RequestStore:
        return RequestStore(self.control, self.secrets, outage_deadline=self.settings.outage_deadline)

    @part
    def state(self) -> ServiceStateStore:
        return ServiceStateStore(self.control)

    @part
    def deliveries(self) -> DeliveryStore:
        return DeliveryStore(self.control)

    @part
    def measures(self) -> MeasureStore:
        return MeasureStore(self.control)

    @part
    def signing(self) -> SigningKeyStore:
        """The keys that manifests are signed with."""
        return SigningKeyStore(self.control, self.secrets)

    @part
    def links(self) -> LinkStore:
        return LinkStore(self.control)

    @part
    def schedules(self) -> Dispatcher:
        """Fires into requests."""
        return Dispatcher(self.control, self.secrets)

    @part
    def retention(self) -> RetentionStore:
        return RetentionStore(self.control)

    @part
    def destinations(self) -> Destinations:
        """The ways to deliver, each with its operator's settings."""
        return open_destinations(self.settings)

    @part
    def exclusively(self) -> Callable[[str], AbstractContextManager[Lock]]:
        """A lock against all other processes."""
        return self.control.exclusively

    @part
    def reading_control(self) -> Callable[[], AbstractContextManager[psycopg.Connection[Any]]]:
        """A snapshot of the service's state."""
        return self.control.reading

    @property
    def lake_retention(self) -> LakeRetention:
        """How long the past of a partition of the lake is kept."""
        return LakeRetention(snapshots=self.settings.lake_snapshots, days=self.settings.lake_days)


def open_services(settings: Settings, **given: Any) -> ExportServices:
    """Everything the settings name; used as a context, it is closed at the end. ``given`` takes the place of parts."""
    return ExportServices(settings, **given)
