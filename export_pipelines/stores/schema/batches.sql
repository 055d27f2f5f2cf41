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
ALTER TABLE export_control.export_requests
    ADD FOREIGN KEY (batch_id) REFERENCES export_control.export_batches (id);

-- A request joins only a batch of its own tenant.
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

-- Batches are for admins, of their tenant.
ALTER TABLE export_control.export_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_admins ON export_control.export_batches TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND current_setting('export_control.role', true) = 'admin');
CREATE POLICY by_grant ON export_control.export_batches
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT, INSERT (id, tenant_id, requested_by, export_type, total_tables) ON export_control.export_batches TO export_api;
