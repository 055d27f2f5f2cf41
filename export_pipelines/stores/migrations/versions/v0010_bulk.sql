-- A bulk order: one row here, one request for each format asked for.
CREATE TABLE export_control.export_batches (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    requested_by    text CHECK (length(requested_by) <= 200),
    export_type     text NOT NULL CHECK (export_type IN ('full_backup', 'migration', 'audit')),
    total_tables    integer NOT NULL CHECK (total_tables >= 0),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX export_batches_history ON export_control.export_batches (tenant_id, created_at DESC, id DESC);

ALTER TABLE export_control.export_requests ADD COLUMN batch_id uuid REFERENCES export_control.export_batches (id);
CREATE INDEX export_requests_batch ON export_control.export_requests (batch_id) WHERE batch_id IS NOT NULL;

-- Batches are for admins, of their tenant; a request joins only a batch of its own tenant.
ALTER TABLE export_control.export_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_admins ON export_control.export_batches TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND current_setting('export_control.role', true) = 'admin');
CREATE POLICY by_grant ON export_control.export_batches
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT, INSERT (id, tenant_id, requested_by, export_type, total_tables) ON export_control.export_batches TO export_api;
GRANT SELECT (batch_id), INSERT (batch_id) ON export_control.export_requests TO export_api;

CREATE FUNCTION export_control.check_batch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM export_control.export_batches AS b
                   WHERE b.id = NEW.batch_id AND b.tenant_id = NEW.tenant_id) THEN
        RAISE EXCEPTION 'batch % is not one of this tenant', NEW.batch_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_batch BEFORE INSERT OR UPDATE OF batch_id, tenant_id ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.batch_id IS NOT NULL) EXECUTE FUNCTION export_control.check_batch();

-- A bulk order may leave the tables to the catalog as it is when the run begins.
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
       AND jsonb_typeof(NEW.config -> 'convert') IS DISTINCT FROM 'string'
       AND coalesce(NEW.config ->> 'export_type', '') NOT IN ('full_backup', 'migration', 'audit') THEN
        RAISE EXCEPTION 'config.tables: list the tables to export, for example ["pets"]' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
