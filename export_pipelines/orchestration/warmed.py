"""Importing this warms a process up. For the fork server, which can be told what to import and nothing else."""

from __future__ import annotations

import logging

from export_pipelines.orchestration.warm import warm_up

try:
    warm_up()
except Exception as error:  # noqa: BLE001 - a fork server that ended here would be started again for each run in vain
    logging.getLogger("dagster.code_server").warning(
        "runs start slowly until the code server is started again, because nothing could be imported for them: %s: %s",
        type(error).__name__,
        error,
    )
