"""What finished exports were, table by table, and how good their estimates: the ground of the next estimates."""

from __future__ import annotations

from collections.abc import Sequence

from export_pipelines.core.estimating import START_SECONDS, History, Measure, Past, PastError, shares
from export_pipelines.stores.control import Control

STATISTICS_PER_TABLE = 20  # of one tenant's table in one form; no estimate looks further back


class MeasureStore:
    """Records measures and answers sums over them; `export_pipelines.core.estimating` makes estimates of those."""

    def __init__(self, control: Control) -> None:
        self._control = control

    @property
    def control(self) -> Control:
        """The database it is in, for figures that need no measures."""
        return self._control

    def record(
        self,
        request_id: str,
        measures: Sequence[Measure],
        *,
        catalog: str,
        format_name: str,
        compression: str,
        converted: bool,
    ) -> None:
        """The tables of a completed export; its seconds beyond the start are split by volume. Older ones make room."""
        if not measures:
            return
        with self._control.transaction() as connection:
            connection.execute(
                """
                INSERT INTO export_control.export_measures
                    (request_id, table_name, tenant_id, catalog, format, compression, converted, selection,
                     planner_rows, rows, volume_bytes, size_bytes, seconds, completed_at)
                SELECT r.id, t.name, r.tenant_id, %(catalog)s, %(format)s, %(compression)s, %(converted)s, t.selection,
                       t.planner_rows, t.rows, t.volume, t.size, t.share * greatest(
                           extract(epoch FROM r.completed_at - r.started_at)::double precision - %(start)s, 0),
                       r.completed_at
                FROM export_control.export_requests r,
                     unnest(%(names)s::text[], %(selections)s::text[], %(planner_rows)s::bigint[], %(rows)s::bigint[],
                            %(volumes)s::bigint[], %(sizes)s::bigint[], %(shares)s::double precision[])
                         AS t (name, selection, planner_rows, rows, volume, size, share)
                WHERE r.id = %(id)s AND r.status = 'completed'
                ON CONFLICT DO NOTHING
                """,
                {
                    "id": request_id,
                    "catalog": catalog,
                    "format": format_name,
                    "compression": compression,
                    "converted": converted,
                    "start": START_SECONDS,
                    "names": [measure.table for measure in measures],
                    "selections": [measure.selection for measure in measures],
                    "planner_rows": [measure.planner_rows for measure in measures],
                    "rows": [measure.rows for measure in measures],
                    "volumes": [measure.volume_bytes for measure in measures],
                    "sizes": [measure.size_bytes for measure in measures],
                    "shares": shares([measure.volume_bytes for measure in measures]),
                },
            )
            connection.execute(
                """
                DELETE FROM export_control.export_measures m USING (
                    SELECT e.request_id, e.table_name, row_number() OVER (
                        PARTITION BY e.table_name, e.converted ORDER BY e.completed_at DESC, e.request_id) AS place
                    FROM export_control.export_measures e
                    JOIN export_control.export_requests r ON r.id = %(id)s AND r.tenant_id = e.tenant_id
                    WHERE e.catalog = %(catalog)s AND e.table_name = ANY(%(names)s) AND e.format = %(format)s
                      AND e.compression = %(compression)s
                ) AS ranked
                WHERE ranked.place > %(kept)s
                  AND m.request_id = ranked.request_id AND m.table_name = ranked.table_name
                """,
                {
                    "id": request_id,
                    "catalog": catalog,
                    "format": format_name,
                    "compression": compression,
                    "names": [measure.table for measure in measures],
                    "kept": STATISTICS_PER_TABLE,
                },
            )

    def history(
        self,
        tenant_id: str,
        selections: dict[str, str],
        *,
        catalog: str,
        format_name: str,
        compression: str,
        converted: bool,
    ) -> History:
        """What past exports tell about these tables (name → kind of selection) in this form."""
        values = {
            "tenant": tenant_id,
            "catalog": catalog,
            "tables": list(selections),
            "kinds": list(selections.values()),
            "format": format_name,
            "compression": compression,
            "converted": converted,
        }
        sums = self._control.rows(
            """
            SELECT * FROM export_control.past_measures(
                %(tenant)s, %(catalog)s, %(tables)s, %(format)s, %(compression)s, %(converted)s)
            """,
            values,
        )
        ratios = self._control.rows(
            "SELECT * FROM export_control.past_ratios(%(tenant)s, %(catalog)s, %(tables)s, %(kinds)s)", values
        )
        found: dict[str, dict[str, Past]] = {"tenant": {}, "table": {}, "format": {}}
        for row in sums:
            found[row["basis"]][row["table_name"]] = Past(
                exports=row["exports"],
                volume_bytes=float(row["volume_bytes"]),
                size_bytes=float(row["size_bytes"]),
                seconds=row["seconds"],
            )
        return History(
            ratios={row["table_name"]: row["ratio"] for row in ratios},
            by_tenant=found["tenant"],
            by_table=found["table"],
            by_format=next(iter(found["format"].values()), None),
        )

    def past_error(self, tenant_id: str, formats: Sequence[str]) -> PastError | None:
        """How good estimates were: this tenant's in a format (its name and aliases), else everybody's if many."""
        rows = self._control.rows(
            "SELECT * FROM export_control.past_error(%(tenant)s, %(formats)s)",
            {"tenant": tenant_id, "formats": list(formats)},
        )
        if not rows:
            return None
        (row,) = rows
        return PastError(
            exports=row["exports"],
            own=row["own"],
            rows=row["rows"],
            size_bytes=row["bytes"],
            seconds=row["seconds"],
        )
