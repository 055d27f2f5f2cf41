"""Links to a package that stays where it is. Every export has that; naming it only says how long links last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from export_pipelines.core.configuration import LinkHours, parse_configuration
from export_pipelines.core.destinations import Carries, DestinationSpec, Target
from export_pipelines.core.errors import RequestRejected


class DownloadTarget(Target):
    """Every export can be downloaded; naming it only says how long links last that are made without a time."""

    method: Literal["download"] = Field(description="`download`.")
    link_ttl_hours: LinkHours = None


SPEC = DestinationSpec(
    name="download",
    title="Download links",
    target=DownloadTarget,
    example={"method": "download", "link_ttl_hours": 168},
    carries=Carries.NOTHING,
    limits="Nothing is sent: people get a link from the API.",
)


def download_hours(config: Mapping[str, Any]) -> float | None:
    """How long links to download a finished export work unless their maker says; None leaves it to the service."""
    try:
        entries = parse_configuration(config).delivery
        targets = [DownloadTarget.model_validate(entry.model_dump()) for entry in entries if entry.method == SPEC.name]
    except (RequestRejected, ValidationError):  # of another version; nobody is kept from sharing what is there
        return None
    return next((target.link_ttl_hours for target in targets if target.link_ttl_hours is not None), None)
