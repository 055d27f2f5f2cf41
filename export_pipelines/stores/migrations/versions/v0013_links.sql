-- Count one use of a link; false when there is none left. By its token, as it is found: ids of links are listed and
-- logged, and whoever knows one could use up a foreign link. One that was revoked after it was found has no use left.
DROP FUNCTION export_control.use_link(uuid);
CREATE FUNCTION export_control.use_link(token text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        UPDATE export_control.export_links SET uses = uses + 1, last_used_at = now()
        WHERE token_sha256 = token AND expires_at > now() AND revoked_at IS NULL
          AND (max_uses IS NULL OR uses < max_uses) RETURNING 1
    )
    SELECT EXISTS (SELECT FROM used)
$$;
REVOKE ALL ON FUNCTION export_control.use_link(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.use_link(text) TO export_api;

-- Whose exports a caller sees says nothing about the links to them: hashes of tokens and passwords are not told.
ALTER TABLE export_control.export_links
    ADD COLUMN has_password boolean NOT NULL GENERATED ALWAYS AS (password_hash IS NOT NULL) STORED;
REVOKE SELECT ON export_control.export_links FROM export_api;
GRANT SELECT (id, request_id, created_at, expires_at, revoked_at, uses, last_used_at, created_by, label, max_uses,
              has_password)
    ON export_control.export_links TO export_api;

-- A line of the audit log that the API writes in a caller's name tells that caller's role and, where it has one, tenant.
CREATE FUNCTION export_control.check_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    acts_as CONSTANT text := nullif(current_setting('export_control.role', true), '');
    of_tenant CONSTANT text := nullif(current_setting('export_control.tenant', true), '');
BEGIN
    IF NEW.role IS DISTINCT FROM acts_as OR (of_tenant IS NOT NULL AND NEW.tenant_id IS DISTINCT FROM of_tenant) THEN
        RAISE EXCEPTION 'an entry of the audit log names its caller' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_entry BEFORE INSERT ON export_control.audit_log
    FOR EACH ROW WHEN (current_setting('role') = 'export_api') EXECUTE FUNCTION export_control.check_entry();

-- A repeated answer is the first one to the byte; jsonb would sort its fields.
ALTER TABLE export_control.api_replies ALTER COLUMN headers TYPE json, ALTER COLUMN body TYPE json;
