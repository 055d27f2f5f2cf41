"""Two tables to extract: ``inv``, narrow, and ``act``, wide; all rows of one tenant, behind a policy."""

from __future__ import annotations

import psycopg

from export_pipelines.core.catalog import Catalog

TENANT = "00000000-0000-4000-8000-000000000001"
READER = "bench_reader"
LOGIN = "bench_login"

COLUMNS = {
    "inv": {
        "id": "uuid",
        "number": "bigint",
        "amount": "numeric(12,2)",
        "issued_at": "timestamp with time zone",
        "due_on": "date",
        "paid": "boolean",
        "currency": "text",
        "status": "character varying(12)",
    },
    "act": {
        "id": "uuid",
        "user_id": "uuid",
        "position": "bigint",
        "kind": "text",
        "title": "text",
        "body": "text",
        "comment": "text",
        "details": "jsonb",
        "tags": "text[]",
        "scores": "integer[]",
        "credits": "numeric(14,4)",
        "ratio": "double precision",
        "factor": "numeric",
        "attempts": "integer",
        "rank": "smallint",
        "started_at": "timestamp with time zone",
        "ended_at": "timestamp without time zone",
        "day": "date",
        "done": "boolean",
        "address": "inet",
    },
}

_TEXT = "Grüße, Zoë – κόσμος, мир, 世界 🦉; the quick brown fox jumps over the lazy dog. "
_FILL = {
    "inv": """
        SELECT {tenant}::uuid, md5(i::text)::uuid, i, (i::bigint * 7919 % 100000000)::numeric / 100,
               timestamptz '2024-01-01+00' + i * interval '7 seconds 13 microseconds', date '2024-01-01' + i % 366,
               i % 3 = 0, (ARRAY['EUR', 'USD', 'GBP'])[i % 3 + 1], (ARRAY['open', 'paid', 'overdue', 'void'])[i % 4 + 1]
        FROM generate_series(1, {rows}) AS i
    """,
    "act": """
        SELECT {tenant}::uuid, md5(i::text)::uuid, md5((i % 5000)::text)::uuid, i,
               (ARRAY['visit', 'click', 'order'])[i % 3 + 1], 'Activity ' || i,
               left(repeat({text}, 3), 40 + i % 160), CASE WHEN i % 4 > 0 THEN left({text}, i % 75) END,
               jsonb_build_object('page', i % 100, 'ref', md5((i % 1000)::text), 'tags', jsonb_build_array('a', i % 7)),
               ARRAY['t' || i % 10, 'ü' || i % 13], ARRAY[i % 5, i % 11, NULL],
               (i::bigint * 7919 % 1000000000)::numeric / 10000, i / 7.0::float8, (i % 100000)::numeric / 37,
               i % 9, (i % 100)::smallint, timestamptz '2024-01-01+00' + i * interval '11 seconds',
               CASE WHEN i % 5 > 0 THEN timestamp '2024-01-01' + i * interval '13 seconds' END,
               date '2024-01-01' + i % 366, i % 2 = 0, ('10.0.' || i % 256 || '.' || i % 100)::inet
        FROM generate_series(1, {rows}) AS i
    """,
}


def catalog() -> Catalog:
    """The tables as the product reads them."""
    return Catalog.model_validate(
        {
            "version": 1,
            "name": "bench",
            "schema": "bench",
            "reader_role": READER,
            "tenant": {"table": "bench.tenants", "key": "id", "type": "uuid", "setting": "export.tenant_id"},
            "tables": {
                name: {
                    "tenant": {"column": "tenant_id"},
                    "columns": {
                        "tenant_id": {"type": "uuid", "nullable": False, "exclude": "measured without"},
                        **{column: {"type": pg_type} for column, pg_type in columns.items()},
                    },
                }
                for name, columns in COLUMNS.items()
            },
        }
    )


def fill(admin_url: str, table: str, rows: int) -> None:
    """Make one table with its rows; roles and policies once a database."""
    columns = ", ".join(f'"{name}" {pg_type}' for name, pg_type in COLUMNS[table].items())
    rows_sql = _FILL[table].format(tenant=f"'{TENANT}'", rows=rows, text=f"'{_TEXT}'")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for statement in (*_SCHEMA, f"CREATE TABLE bench.{table} (tenant_id uuid NOT NULL, {columns})"):
            connection.execute(statement.encode())
        for statement in (f"INSERT INTO bench.{table} {rows_sql}", *_guards(table), f"VACUUM ANALYZE bench.{table}"):
            connection.execute(statement.encode())
        connection.execute("CHECKPOINT")


_SCHEMA = (
    "CREATE SCHEMA IF NOT EXISTS bench",
    "CREATE TABLE IF NOT EXISTS bench.tenants (id uuid PRIMARY KEY)",
    f"INSERT INTO bench.tenants VALUES ('{TENANT}') ON CONFLICT DO NOTHING",
    *(
        f"DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} {options}; END IF; END $$"
        for role, options in (
            (READER, "NOLOGIN"),
            (f"{READER}_directory", "NOLOGIN"),
            (LOGIN, "LOGIN NOINHERIT PASSWORD 'bench'"),
        )
    ),
    f"GRANT {READER}, {READER}_directory TO {LOGIN}",
    f"GRANT USAGE ON SCHEMA bench TO {READER}, {READER}_directory",
    f"GRANT SELECT ON bench.tenants TO {READER}, {READER}_directory",
)


def _guards(table: str) -> tuple[str, ...]:
    own = "tenant_id = current_setting('export.tenant_id')::uuid"
    return (
        f"ALTER TABLE bench.{table} ENABLE ROW LEVEL SECURITY",
        f"GRANT SELECT ON bench.{table} TO {READER}",
        f"CREATE POLICY export_tenant ON bench.{table} FOR SELECT TO {READER} USING ({own})",
    )
