"""The service as commands use it: opened for a while, and with a note in the audit log of what they did."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from export_pipelines.core.access import Caller, Role
from export_pipelines.embedded.workplace import prepared
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.audit import AuditLog
from export_pipelines.stores.control import Control, ControlDatabase

if TYPE_CHECKING:
    from export_pipelines.pipeline.services import ExportServices


@contextmanager
def at_work(settings: Settings) -> Iterator[ExportServices]:
    """The services with every URL known; an embedded server stops at the end."""
    from export_pipelines.pipeline.services import open_services  # late, see below

    with prepared(settings) as workplace, open_services(workplace.settings) as services:
        yield services


@contextmanager
def open_control() -> Iterator[ControlDatabase]:
    """The control database alone: what else services are made of takes half a second to import."""
    with (
        prepared(load_settings()) as workplace,
        closing(ControlDatabase(workplace.settings.require_control_url())) as control,
    ):
        yield control


def shell_user() -> str:
    """``cli:`` and the account that runs the command, by its number: variables of the shell could say anything."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user need not be in the password file
        return f"cli:{os.getuid()}"


def record(
    control: Control,
    action: str,
    *,
    target: tuple[str, str],
    tenant_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """An entry of the audit log about what this command did; last in a transaction."""
    caller = Caller(role=Role.OPERATOR, user_id=shell_user(), credential="cli")
    AuditLog(control).append(action, caller=caller, tenant_id=tenant_id, target=target, detail=detail)
