-- What past exports were, for the estimates of the next ones.

-- Measures: what each table of a finished export was.
CREATE TABLE export_control.export_measures (
    request_id    uuid NOT NULL REFERENCES export_control.export_requests (id) ON DELETE CASCADE,
    table_name    text NOT NULL,
    tenant_id     text NOT NULL,
    catalog       text NOT NULL,
    format        text NOT NULL,
    compression   text NOT NULL,           -- how the bytes were made: a codec, zip, or none
    converted     boolean NOT NULL,        -- from a retained stage, without reading the source
    selection     text NOT NULL,           -- which kind of selection: a guess errs alike on the same kind
    planner_rows  bigint CHECK (planner_rows >= 0),
    rows          bigint NOT NULL CHECK (rows >= 0),
    volume_bytes  bigint NOT NULL CHECK (volume_bytes >= 0),  -- rows × planned width; what work is counted in
    size_bytes    bigint NOT NULL CHECK (size_bytes >= 0),    -- the table's share of the data files as published
    seconds       double precision NOT NULL CHECK (seconds >= 0),  -- the table's share of the run, by volume
    completed_at  timestamptz NOT NULL,
    PRIMARY KEY (request_id, table_name)
);
CREATE INDEX export_measures_tenant ON export_control.export_measures (tenant_id, catalog, table_name, completed_at DESC);
CREATE INDEX export_measures_table
    ON export_control.export_measures (catalog, table_name, format, compression, completed_at DESC);
CREATE INDEX export_measures_format ON export_control.export_measures (format, compression, completed_at DESC);
ALTER TABLE export_control.export_measures ENABLE ROW LEVEL SECURITY;

-- Whether sums over these tenants may be told to one of them: what it knows of itself taken off, five are left.
CREATE FUNCTION export_control.reaches_anonymity_threshold(tenants text[], beside text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(DISTINCT tenant) >= 5 FROM unnest(tenants) AS tenant WHERE tenant <> beside
$$;

-- Sums over the last exports: for each table of this tenant and, if they are a crowd, of anybody; and of the format, of
-- this tenant alone where it is in no crowd. The API is told its own tenant's past, whatever it asks for.
CREATE FUNCTION export_control.past_measures(
    of_tenant text, of_catalog text, of_tables text[], of_format text, of_compression text, of_converted boolean
) RETURNS TABLE (basis text, table_name text, exports bigint, volume_bytes numeric, size_bytes numeric,
                 seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'tenant', wanted, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM unnest(of_tables) AS wanted, LATERAL (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.tenant_id = of_tenant AND e.catalog = of_catalog AND e.table_name = wanted AND e.format = of_format
          AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 20
    ) AS m GROUP BY wanted
    UNION ALL
    SELECT 'table', wanted, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM unnest(of_tables) AS wanted, LATERAL (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.catalog = of_catalog AND e.table_name = wanted AND e.format = of_format
          AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 20
    ) AS m GROUP BY wanted HAVING export_control.reaches_anonymity_threshold(array_agg(m.tenant_id), of_tenant);
    RETURN QUERY
    WITH lately AS (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.format = of_format AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 50
    ), told AS (
        SELECT export_control.reaches_anonymity_threshold(array_agg(l.tenant_id), of_tenant) AS of_all FROM lately AS l
    )
    SELECT 'format', NULL, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM (
        SELECT l.* FROM lately AS l, told WHERE told.of_all
        UNION ALL
        (SELECT e.* FROM export_control.export_measures AS e, told
         WHERE NOT told.of_all AND e.tenant_id = of_tenant AND e.format = of_format
           AND e.compression = of_compression AND e.converted = of_converted
         ORDER BY e.completed_at DESC LIMIT 50)
    ) AS m HAVING count(*) > 0;
END $$;

-- How far the planner was off when this tenant's last five exports read the same kind of selection: rows over guess,
-- each counted one higher than it was.
CREATE FUNCTION export_control.past_ratios(of_tenant text, of_catalog text, of_tables text[], of_selections text[])
RETURNS TABLE (table_name text, ratio double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT wanted.name, percentile_cont(0.5) WITHIN GROUP (ORDER BY (m.rows + 1.0) / (m.planner_rows + 1.0))
    FROM unnest(of_tables, of_selections) AS wanted (name, selection), LATERAL (
        SELECT e.rows, e.planner_rows FROM export_control.export_measures AS e
        WHERE e.tenant_id = of_tenant AND e.catalog = of_catalog AND e.table_name = wanted.name
          AND e.selection = wanted.selection AND e.planner_rows IS NOT NULL
        ORDER BY e.completed_at DESC LIMIT 5
    ) AS m GROUP BY wanted.name;
END $$;

-- The median relative error of the estimates of the last 50 completed exports: this tenant's in these formats if it has
-- five, else everybody's if they are a crowd, else this tenant's in any format.
CREATE FUNCTION export_control.past_error(of_tenant text, of_formats text[])
RETURNS TABLE (own boolean, exports bigint, rows double precision, bytes double precision, seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH ours AS (
        SELECT r.* FROM (
            SELECT * FROM export_control.export_requests WHERE tenant_id = of_tenant ORDER BY created_at DESC LIMIT 500
        ) AS r
        WHERE r.status IN ('completed', 'expired') AND r.estimated_rows IS NOT NULL
    ), everybodys AS (
        SELECT r.* FROM (
            SELECT * FROM export_control.export_requests WHERE completed_at IS NOT NULL
            ORDER BY completed_at DESC LIMIT 500
        ) AS r
        WHERE r.status IN ('completed', 'expired') AND r.estimated_rows IS NOT NULL
        LIMIT 50
    ), told AS (
        SELECT export_control.reaches_anonymity_threshold(array_agg(e.tenant_id), of_tenant) AS of_all FROM everybodys AS e
    ), judged AS (
        (SELECT true AS own, o.* FROM ours AS o WHERE lower(btrim(o.config ->> 'format')) = ANY(of_formats) LIMIT 50)
        UNION ALL
        SELECT false, e.* FROM everybodys AS e, told WHERE told.of_all
        UNION ALL
        (SELECT false, o.* FROM ours AS o, told WHERE NOT told.of_all LIMIT 50)
    )
    SELECT j.own, count(*),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_rows - j.package_rows) / greatest(j.package_rows, 1)::double precision),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_bytes - j.package_bytes) / greatest(j.package_bytes, 1)::double precision),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_seconds - x.seconds) / greatest(x.seconds, 0.1))
    FROM judged AS j,
         LATERAL (SELECT extract(epoch FROM j.completed_at - j.started_at)::double precision AS seconds) AS x
    GROUP BY j.own HAVING NOT j.own OR count(*) >= 5
    ORDER BY j.own DESC LIMIT 1;
END $$;

REVOKE ALL ON FUNCTION
    export_control.past_measures(text, text, text[], text, text, boolean),
    export_control.past_ratios(text, text, text[], text[]), export_control.past_error(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    export_control.past_measures(text, text, text[], text, text, boolean),
    export_control.past_ratios(text, text, text[], text[]), export_control.past_error(text, text[]) TO export_api;
