"""Rules about the mails of an export: user input, like all of planning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from export_pipelines.core.catalog import Catalog, Classification
from export_pipelines.core.configuration import DownloadTarget, EmailTarget
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import EmailDelivery, TableSelection

_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\".]+(?:\.[^@\s,;<>\".]+)+")
_DELICATE = (Classification.PERSONAL, Classification.SENSITIVE)
_NAMED = 5  # columns in a message


def emails_of(
    targets: Iterable[EmailTarget | DownloadTarget],
    selections: Sequence[TableSelection],
    catalog: Catalog,
    *,
    sealed: bool,
) -> tuple[EmailDelivery, ...]:
    """The mails; files may only be attached readable when a mailbox may hold what is in them."""
    emails = tuple(_email(target) for target in targets if isinstance(target, EmailTarget))
    if any(email.attach for email in emails) and not sealed:
        _require_harmless(selections, catalog)
    return emails


def _email(target: EmailTarget) -> EmailDelivery:
    for address in target.recipients:
        if not _EMAIL.fullmatch(address):
            raise RequestRejected(f"{address!r} is not an email address", field="delivery.recipients")
        check_line(address, "delivery.recipients")
    check_line(target.subject or "", "delivery.subject")
    return EmailDelivery(
        recipients=tuple(dict.fromkeys(target.recipients)),
        subject=target.subject,
        body=target.body,
        link_ttl_hours=target.link_ttl_hours,
        attach=target.include_attachment,
    )


def _require_harmless(selections: Iterable[TableSelection], catalog: Catalog) -> None:
    delicate = [
        f"{selection.table}.{name}"
        for selection in selections
        for name, column in catalog.shape(selection.table, selection.aggregation).columns.items()
        if name in selection.columns and column.mask is None and column.classification in _DELICATE
    ]
    if delicate:
        more = f" and {len(delicate) - _NAMED} more" if len(delicate) > _NAMED else ""
        raise RequestRejected(
            f"would leave personal or sensitive columns readable in mailboxes: {', '.join(delicate[:_NAMED])}{more}; "
            "encrypt the export, leave the columns out by fields, or send the link only",
            field="delivery.include_attachment",
        )


def check_line(value: str, field: str) -> None:
    """That a text cannot end the line it is put into."""
    if any(ord(char) < ord(" ") or char == "\x7f" for char in value):
        raise RequestRejected("must not hold line breaks or control characters", field=field)
