"""The Dagster shell: partitions, assets, ops, jobs, schedules, sensors and resources around the pipeline."""
