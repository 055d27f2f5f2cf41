"""The errors of an export, named by what to do about them.

```
ExportError
├─ RequestRejected        the caller must change something; never retried
│  ├─ ValueBeyondRepresentation     or read the column as text
│  ├─ NotFound            there is no such thing, or not for this caller
│  ├─ Conflict            the thing is in a state that does not allow it
│  ├─ NotAuthenticated    say who you are
│  ├─ NotAllowed          this caller may not
│  └─ TooMany             later
├─ Unavailable            source, store or destination is down; retry with backoff
├─ IntegrityViolation     rows, tenant or checksum differ; stop, alert, publish nothing
│  └─ ObjectMissing       the object store does not have what it should
└─ Cancelled              somebody asked to stop
```

Messages name the value, the limit and the next step. Row data never appears in them.
Mapping to exit codes, Dagster failures and HTTP statuses belongs to the shells, not here.
"""

from __future__ import annotations

from collections.abc import Mapping


class ExportError(Exception):
    """Base of everything this service raises on purpose."""

    error_type: str = "error"


class RequestRejected(ExportError):
    """The request, the catalog or the settings must change before another try.

    ``field`` is the path of the offending value, for example ``filters.date_range.end``.
    """

    error_type = "request_rejected"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message = message
        self.field = field


class ValueBeyondRepresentation(RequestRejected):
    """A column holds a legal value that its travelling form cannot hold; read as text, the column arrives whole."""


class NotFound(RequestRejected):
    """What was named does not exist, or belongs to somebody else: both look the same."""


class Conflict(RequestRejected):
    """What was named is in a state that does not allow this."""


class NotAuthenticated(RequestRejected):
    """No credential, or one that is unknown, expired, revoked or forged; ``reason`` is an error code of RFC 6750."""

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message, field="Authorization")
        self.reason = reason


class NotAllowed(RequestRejected):
    """The caller is known, and its role does not include this."""


class TooMany(RequestRejected):
    """A rate limit; the same request is welcome after a while. ``fields`` tell the limit to programs."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float,
        field: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field)
        self.retry_after_seconds = retry_after_seconds
        self.fields = dict(fields or {})


class Unavailable(ExportError):
    """A part outside this process does not answer; the same request may succeed later."""

    error_type = "unavailable"


class IntegrityViolation(ExportError):
    """What was read or written is not what the source holds, or not only the tenant's."""

    error_type = "integrity_violation"


class ObjectMissing(IntegrityViolation):
    """An object that was stored is not there: it was removed, or the service was given another store."""


class Cancelled(ExportError):
    """The request was cancelled, or this run lost the right to work on it."""

    error_type = "cancelled"


def error_type_of(error: BaseException) -> str:
    """The stable name stored in ``export_requests.error_type``; ``internal`` for the unforeseen."""
    return error.error_type if isinstance(error, ExportError) else "internal"
