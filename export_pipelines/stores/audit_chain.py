"""Proof that the audit log is what was appended: the chain computed again, apart from the database's own function."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum

from export_pipelines.core.audit import GENESIS, entry_hash
from export_pipelines.core.errors import RequestRejected
from export_pipelines.stores.audit import AuditEntry, AuditLog, Head
from export_pipelines.stores.control import Control

_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


class Damage(StrEnum):
    """What was done to a log, as far as the first broken entry tells."""

    CHANGED = "changed"  # or made up: its hash is not that of what it says
    MISSING = "missing"
    REORDERED = "reordered"
    INSERTED = "inserted"  # or what it followed was removed and the gap closed
    TRUNCATED = "truncated"
    REPLACED = "replaced"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The first entry that is not what it should be."""

    id: int
    damage: Damage
    message: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How far the chain holds: ``entries`` up to ``head``, and what broke it."""

    entries: int
    head: Head | None
    broken: Broken | None

    @property
    def valid(self) -> bool:
        return self.broken is None


def parse_head(text: str) -> Head:
    """``ID:HASH`` as `audit head` prints it."""
    found = _HEAD.fullmatch(text.strip().lower())
    if found is None:
        raise RequestRejected("must be ID:HASH as `audit head` prints it", field="--head")
    return Head(id=int(found[1]), hash=found[2])


def verify_chain(control: Control, *, noted: Head | None = None) -> Verification:
    """Every entry from the first on, some at a time, and that ``noted`` is still among them.

    Only who may read all entries can verify: the chain runs through all tenants.
    """
    head: Head | None = None
    for entry in AuditLog(control).stream():
        broken = _broken(entry, head, control) or _unlike_noted(entry, noted)
        if broken is not None:
            return Verification(entries=head.id if head else 0, head=head, broken=broken)
        head = Head(id=entry.id, hash=entry.hash)
    last = head.id if head else 0
    broken = _hidden(control, last)
    if broken is None and noted is not None and noted.id > last:
        broken = Broken(
            id=last + 1,
            damage=Damage.TRUNCATED,
            message=f"the log ends with entry {last}, and had {noted.id} when the head was noted",
        )
    return Verification(entries=last, head=head, broken=broken)


def _broken(entry: AuditEntry, head: Head | None, control: Control) -> Broken | None:
    expected = head.id + 1 if head else 1
    if entry.id > expected:
        gone = f"entry {expected} is" if entry.id == expected + 1 else f"entries {expected} to {entry.id - 1} are"
        return Broken(id=expected, damage=Damage.MISSING, message=f"{gone} missing")
    if entry.id < expected:
        return Broken(id=entry.id, damage=Damage.INSERTED, message=f"entry {entry.id} is there where {expected} should")
    if bytes.fromhex(entry.previous_hash) != (bytes.fromhex(head.hash) if head else GENESIS):
        return _misplaced(entry, control)
    if entry_hash(bytes.fromhex(entry.previous_hash), _texts(entry)).hex() != entry.hash:
        message = f"entry {entry.id} was changed or made up: its hash is not that of what it says"
        return Broken(id=entry.id, damage=Damage.CHANGED, message=message)
    return None


def _misplaced(entry: AuditEntry, control: Control) -> Broken:
    """An entry that follows another one of this log was moved; one that follows none was never appended to it."""
    followed = control.rows(
        "SELECT 1 FROM export_control.audit_log WHERE hash = decode(%(hash)s, 'hex') LIMIT 1",
        {"hash": entry.previous_hash},
    )
    if followed:
        message = f"entry {entry.id} follows another one than the one before it; entries were reordered"
        return Broken(id=entry.id, damage=Damage.REORDERED, message=message)
    message = f"entry {entry.id} follows no entry of this log; it was inserted, or what it followed was removed"
    return Broken(id=entry.id, damage=Damage.INSERTED, message=message)


def _unlike_noted(entry: AuditEntry, noted: Head | None) -> Broken | None:
    if noted is None or entry.id != noted.id or entry.hash == noted.hash:
        return None
    message = f"entry {entry.id} is not the one that was noted: history up to it was replaced by another"
    return Broken(id=entry.id, damage=Damage.REPLACED, message=message)


def _hidden(control: Control, last: int) -> Broken | None:
    """Entries that reading in order of ids passes over, such as two with one id at the edge of a page."""
    (row,) = control.rows(
        "SELECT count(*) AS entries FROM export_control.audit_log WHERE id <= %(last)s", {"last": last}
    )
    if row["entries"] == last:
        return None
    message = f"there are {row['entries']} entries up to entry {last}"
    return Broken(id=last, damage=Damage.INSERTED, message=message)


def _texts(entry: AuditEntry) -> dict[str, str | None]:
    return {**asdict(entry), "id": str(entry.id)}
