"""What the measured programs share: the services that settings name, one selection of the bench catalog, the answer."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measuring import own_peak_bytes
from export_pipelines.core.errors import ExportError
from export_pipelines.embedded.workplace import Workplace, prepared
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import load_settings

STORED = ("objects", "scratch")


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A prepared home; what was exported into it is gone afterwards."""
    with prepared(load_settings()) as found:
        os.environ.update(found.environment)
        try:
            yield found
        finally:
            for folder in STORED:
                shutil.rmtree(found.settings.home / folder, ignore_errors=True)


@contextmanager
def opened_services(found: Workplace) -> Iterator[ExportServices]:
    """The parts a run works with, as the Dagster resource opens them."""
    with open_services(found.settings) as services:
        yield services


def answer(**figures: Any) -> None:
    """The one line for whoever measures, with this process's peak memory."""
    sys.stdout.write(f"{json.dumps({'peak_bytes': own_peak_bytes(), **figures})}\n")


@contextmanager
def refusals_reported() -> Iterator[None]:
    """A request the product refuses is an answer, too: this version does not have what was asked for."""
    try:
        yield
    except ExportError as error:
        answer(unavailable=str(error))
        sys.exit(1)
