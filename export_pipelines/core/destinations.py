"""What the rest of the system knows of a destination, and what a destination is told of a delivery.

A destination hands a finished package out: it tells people where it is (`Carries.NOTICE`) or takes its files somewhere
(`Carries.FILES`). Adapters are in `export_pipelines.destinations`; nothing here names one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from export_pipelines.core.ports import Message


class DeliveryKind(StrEnum):
    """What a delivery is about."""

    PACKAGE = "package"  # a finished export
    EXPORT_FAILED = "export_failed"
    SCHEDULE_PAUSED = "schedule_paused"


class Carries(StrEnum):
    """What a delivery of a package consists of."""

    NOTHING = "nothing"  # the package waits behind its links
    NOTICE = "notice"  # a message with a link
    FILES = "files"


class Effect(StrEnum):
    """How often a recipient can see one delivery when senders are killed and answers are lost."""

    ONCE = "once"  # `Destination.probe` decides
    AT_LEAST_ONCE = "at-least-once"  # a repeat has the same id, by which a receiver can drop it


class Target(BaseModel):
    """Base of what an entry of `delivery` says for one method; a subclass has a field `method` with its name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file of a published package, as its manifest says."""

    path: str  # inside the package
    media_type: str
    size_bytes: int
    sha256: str  # hex
    open: Callable[[], AbstractContextManager[BinaryIO]]


def always_ours() -> None:
    """Nobody else delivers this."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One delivery to one recipient. All but the message is the same in every try."""

    id: str
    kind: DeliveryKind
    tenant_id: str
    request_id: str | None  # None: about a schedule
    recipient: str  # whom or where, in the words of the destination
    message: Message | None = None  # of destinations that carry notices
    files: tuple[PackageFile, ...] = ()  # of those that carry files, the manifest last
    export_name: str = ""
    manifest_sha256: str = ""
    requested_at: dt.datetime | None = None
    still_ours: Callable[[], None] = always_ours  # called between parts; `Cancelled` once another sender took over


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a destination can say of a delivery that has happened."""

    remote_id: str  # by which the other side knows it
    location: str = ""  # where people find it; never a path of this machine
    files: int = 0
    size_bytes: int = 0
    confirmed: Literal["accepted", "read-back"] = "accepted"
    duplicate_possible: bool = False  # an earlier try may have had its effect, too


@dataclass(frozen=True, kw_only=True)
class TestStep:
    """One step of a destination's self-test."""

    __test__ = False  # no test of pytest's

    name: str
    problem: str | None = None  # what failed, and the next step; None: done


class Destination(Protocol):
    """One configured destination. Connects to nothing until used."""

    def require(self, recipient: str) -> None:
        """`RequestRejected` unless the operator's settings know this recipient; asked before anything is read."""
        ...

    def deliver(self, delivery: Delivery) -> Receipt:
        """Make it happen, whole or not at all.

        `Unavailable` to try again, `RequestRejected` when another try is no use, `IntegrityViolation` when what would
        arrive is not what was published.
        """
        ...

    def probe(self, delivery: Delivery) -> Receipt | None:
        """Whether it has happened already. Asked only where the spec says that the effect is `Effect.ONCE`."""
        ...

    def self_test(self) -> Iterator[TestStep]:
        """What a delivery needs, step by step, without a trace that stays. No step follows one that it needs and that
        failed.
        """
        ...


def no_recipients(_target: Target) -> tuple[str, ...]:
    """Nobody is told and nothing is taken anywhere."""
    return ()


def no_notices(_entry: Mapping[str, Any]) -> tuple[str, ...]:
    """It takes packages only."""
    return ()


def stays_inside(_target: Target) -> str | None:
    """No file leaves the service's own store and the operator's folders."""
    return None


@dataclass(frozen=True, kw_only=True)
class DestinationSpec:
    """Everything the rest of the system knows about a kind of destination.

    ``operator`` is the part of the operator's settings that ``open`` takes; its fields are those of
    `export_pipelines.settings.Settings`, of the same names. ``open`` raises `Unavailable` where a setting is missing,
    naming it. ``notice_recipients`` reads an entry that may have been refused, and answers whom to tell that nothing
    will come: only what is a sound recipient by itself.
    """

    name: str
    title: str
    target: type[Target]
    example: Mapping[str, Any]  # an entry of `delivery`
    carries: Carries
    effect: Effect = Effect.AT_LEAST_ONCE
    operator: type[BaseModel] = BaseModel
    open: Callable[[Any], Destination] | None = None
    recipients: Callable[[Any], tuple[str, ...]] = no_recipients  # one delivery for each
    exposes_files: Callable[[Any], str | None] = stays_inside  # the field by which readable files leave, if they do
    notice_recipients: Callable[[Mapping[str, Any]], tuple[str, ...]] = no_notices
    must_be_set_up: bool = False  # an order is refused until it is; else what is due waits for the operator
    max_file_bytes: int | None = None  # None: any size
    limits: str = ""  # for people, what it refuses
