"""What may be taken away, and when: the rules of expiry and sweeping, without the doing.

An export's own files go when it expires. Everything else in the object store that no request needs any more is a
leftover: of killed processes, of attempts that were given up, of a control database that was restored.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from export_pipelines.core.naming import Area, RequestFolder
from export_pipelines.core.status import RequestStatus

_OPEN = (RequestStatus.QUEUED, RequestStatus.PROCESSING)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """What the control database knows of the request that a folder is named after."""

    status: RequestStatus
    attempt: int
    ended_at: dt.datetime | None  # the latest of completed, failed, cancelled and deleted
    awaits_removal: bool  # expired or deleted; its objects are about to be removed as an export's


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long things must have lain still."""

    now: dt.datetime
    grace: dt.timedelta  # no object that is younger is touched, and nothing of a request that ended since
    keep: dt.timedelta  # how long packages are kept

    @property
    def before(self) -> dt.datetime:
        return self.now - self.grace


def is_leftover(folder: RequestFolder, holder: Holder | None, newest_at: dt.datetime, patience: Patience) -> bool:
    """Whether nobody needs the folder any more; ``newest_at`` is when its newest object was written.

    A control database that was restored from a backup has forgotten the exports made since then, so packages of
    unknown requests stay as long as any package does.
    """
    if newest_at > patience.before:
        return False
    if holder is None:
        return folder.area is Area.STAGE or newest_at <= patience.now - patience.keep
    if holder.status in _OPEN:
        return folder.attempt is not None and folder.attempt < holder.attempt
    if holder.awaits_removal or holder.ended_at is None or holder.ended_at > patience.before:
        return False
    return folder.area is Area.STAGE or holder.status is not RequestStatus.COMPLETED
