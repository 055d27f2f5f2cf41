-- A new row must be a plain order, of tables, modules, whole tables in bulk, or a finished export to convert, whatever
-- rights its author has. A bulk order may leave the tables to the catalog as it is when the run begins.
CREATE OR REPLACE FUNCTION export_control.check_new_request() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status <> 'queued' OR NEW.attempt <> 1 OR NEW.cancel_requested
       OR NEW.percentage <> 0 OR NEW.rows_processed <> 0 OR NEW.files_created <> 0
       OR num_nonnulls(NEW.run_id, NEW.asked_at, NEW.total_rows, NEW.current_table, NEW.heartbeat_at, NEW.error_type,
                       NEW.error_message, NEW.package_prefix, NEW.package_rows, NEW.package_bytes, NEW.manifest_sha256,
                       NEW.started_at, NEW.completed_at, NEW.expires_at) > 0 THEN
        RAISE EXCEPTION 'a new request starts as queued, attempt 1, without run, progress or package; '
            'give tenant_id, config, requested_by, idempotency_key and priority only' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config) <> 'object' THEN
        RAISE EXCEPTION 'config: must be a JSON object, got %', jsonb_typeof(NEW.config) USING ERRCODE = 'check_violation';
    END IF;
    IF octet_length(NEW.config::text) > 65536 THEN
        RAISE EXCEPTION 'config: is larger than 65536 bytes' USING ERRCODE = 'check_violation';
    END IF;
    -- A thousand levels are more than a JSON reader takes, and one unreadable row would stop the reading of all.
    IF jsonb_path_exists(NEW.config, '$.**{32}') THEN
        RAISE EXCEPTION 'config: is nested deeper than 32 levels' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'format') IS DISTINCT FROM 'string' THEN
        RAISE EXCEPTION 'config.format: name a format, for example "csv"' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'tables') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'data_sources') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'modules') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'convert') IS DISTINCT FROM 'string'
       AND coalesce(NEW.config ->> 'export_type', '') NOT IN ('full_backup', 'migration', 'audit') THEN
        RAISE EXCEPTION 'config.tables: list the tables to export, for example ["pets"]' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
