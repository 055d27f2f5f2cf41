"""Importing this warms a process up. For the fork server, which can be told what to import and nothing else."""

from __future__ import annotations

from export_pipelines.orchestration.warm import warm_up

warm_up()
