"""The steps of an export as plain functions over the ports. Knows no Dagster and no web framework.

`export` puts them in order, each under an `attempt` that holds the request:

    planning → extract → write → verification (validate) → publish (package, publish, deliver)

`export_pipelines.orchestration` runs the same functions as ops. `lake` is behind the table assets, `maintenance` behind
the cleanup job, `restoration` behind ``restore``. Imports between these packages point down, as the import contract
"Inside the pipeline" in pyproject.toml says.
"""
