-- When a run was last asked for. A hint for the order of asking and never a claim: losing it asks once more.
ALTER TABLE export_control.export_requests
    ADD COLUMN asked_at timestamptz,
    ADD CONSTRAINT queued_has_no_run CHECK (status <> 'queued' OR run_id IS NULL);

-- Progress and asking are written every second; without an index on what they change PostgreSQL keeps them in the page.
DROP INDEX export_control.export_requests_running;
CREATE INDEX export_requests_running ON export_control.export_requests (created_at) WHERE status = 'processing';
CREATE INDEX export_requests_recent ON export_control.export_requests (created_at DESC, id);
ALTER TABLE export_control.export_requests SET (fillfactor = 80);

-- A new row must be a plain order, whatever rights its author has.
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
       AND jsonb_typeof(NEW.config -> 'data_sources') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'config.tables: list the tables to export, for example ["pets"]' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER FUNCTION export_control.check_transition() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION export_control.refuse_change() SET search_path = pg_catalog, pg_temp;

-- Who may insert a request may not write events: the trigger does it, with its owner's rights and a fixed search_path.
-- It names the run that took or left the request.
CREATE OR REPLACE FUNCTION export_control.record_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO export_control.export_request_events (request_id, new_status, attempt)
        VALUES (NEW.id, NEW.status, NEW.attempt);
    ELSIF NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt OR NEW.run_id IS DISTINCT FROM OLD.run_id THEN
        INSERT INTO export_control.export_request_events (request_id, old_status, new_status, attempt, run_id, detail)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt, coalesce(NEW.run_id, OLD.run_id), NEW.error_message);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION export_control.record_event() FROM PUBLIC;
