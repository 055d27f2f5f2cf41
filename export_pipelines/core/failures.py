"""What people who cannot change the service are told of a failed export: why, and what to do.

Operators read the stored message itself. A requester is told it only where it is about a field of the configuration,
which a requester can change; a message that names a setting, a command or an address of the service is never passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from export_pipelines.core.configuration import ExportConfig
from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable

# Names of settings and commands, and URLs, which can hold names of machines.
_FOR_OPERATORS = re.compile(r"\b(?:EXPORT|SMTP|S3|FROM|AWS)_[A-Z]|\bexport-pipelines\b|\b[a-z][a-z0-9+]*://")
_FIELDS = frozenset({*ExportConfig.model_fields, "config"})


@dataclass(frozen=True, kw_only=True)
class FailureExplanation:
    """Two paragraphs of plain text without markup."""

    why: str
    next_step: str  # for whoever ordered the export


_ASK_OPERATORS = "Ask the operators of the service, and give them the export's id."
_BY_TYPE = {
    RequestRejected.error_type: FailureExplanation(
        why="The service cannot make this export as it is set up now.", next_step=_ASK_OPERATORS
    ),
    Unavailable.error_type: FailureExplanation(
        why="A system that the export needs did not answer, and the service stopped trying.",
        next_step=f"Order the export again later. If it fails again: {_ASK_OPERATORS[0].lower()}{_ASK_OPERATORS[1:]}",
    ),
    IntegrityViolation.error_type: FailureExplanation(
        why="A check found that the files were not exactly what the source holds, so they were not published.",
        next_step=_ASK_OPERATORS,
    ),
}
_UNEXPECTED = FailureExplanation(why="The service met an unexpected fault.", next_step=_ASK_OPERATORS)


def explain_failure(error_type: str | None, message: str | None) -> FailureExplanation:
    """Why an export with this stored error failed, in words for its requester."""
    field, separator, problem = (message or "").partition(": ")
    if (
        error_type == RequestRejected.error_type
        and separator
        and field.partition(".")[0] in _FIELDS
        and not _FOR_OPERATORS.search(problem)
    ):
        return FailureExplanation(
            why=f"The export cannot be made as it was ordered. {field}: {problem}",
            next_step="Change that and order the export again.",
        )
    return _BY_TYPE.get(error_type or "", _UNEXPECTED)
