-- The audit log: a chain of hashes over everything that was changed or revealed. docs/access.md states the encoding.
CREATE TABLE export_control.audit_log (
    id               bigint PRIMARY KEY CHECK (id > 0),  -- without gaps
    at               timestamptz NOT NULL,
    tenant_id        text,
    user_id          text,
    role             text,
    credential       text,
    action           text NOT NULL,
    target_type      text,
    target_id        text,
    outcome          text NOT NULL CHECK (outcome IN ('ok', 'refused', 'failed')),
    ip               inet,
    user_agent       text,
    http_request_id  text,
    detail           json NOT NULL CHECK (json_typeof(detail) = 'object'),  -- json, not jsonb: the text is what is hashed
    previous_hash    bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash             bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_tenant ON export_control.audit_log (tenant_id, id);
CREATE INDEX audit_log_target ON export_control.audit_log (target_id, id) WHERE target_id IS NOT NULL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON export_control.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION export_control.refuse_change();

-- One field of an entry: bytes in UTF-8, colon, text, comma; or minus, comma where there is none.
CREATE FUNCTION export_control.audit_field(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(octet_length(convert_to(value, 'UTF8')) || ':' || value, '-') || ','
$$;

CREATE FUNCTION export_control.audit_hash(entry export_control.audit_log) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous_hash || convert_to(string_agg(export_control.audit_field(field), '' ORDER BY place), 'UTF8'))
    FROM unnest(ARRAY[
        entry.id::text, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        entry.tenant_id, entry.user_id, entry.role, entry.credential, entry.action, entry.target_type, entry.target_id,
        entry.outcome, host(entry.ip), entry.user_agent, entry.http_request_id, entry.detail::text
    ]) WITH ORDINALITY AS fields (field, place)
$$;

-- Appends an entry. Others wait until this transaction ends, so it comes last in one; the end of a chain that is read
-- before that wait ends would be an old one, which a snapshot of READ COMMITTED, taken anew by each statement, is not.
CREATE FUNCTION export_control.audit(
    tenant_id text, user_id text, role text, credential text, action text, target_type text, target_id text,
    outcome text, ip inet, user_agent text, http_request_id text, detail json,
    OUT id bigint, OUT at timestamptz, OUT hash bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry export_control.audit_log;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('export_control.audit_log', 0));
    SELECT last.id, last.hash INTO entry.id, entry.previous_hash
    FROM export_control.audit_log AS last ORDER BY last.id DESC LIMIT 1;
    entry.id := coalesce(entry.id, 0) + 1;
    entry.previous_hash := coalesce(entry.previous_hash, decode(repeat('00', 32), 'hex'));
    entry.at := clock_timestamp();
    entry.tenant_id := nullif(left(tenant_id, 200), '');
    entry.user_id := nullif(left(user_id, 200), '');
    entry.role := left(role, 20);
    entry.credential := left(credential, 200);
    entry.action := left(action, 100);
    entry.target_type := left(target_type, 100);
    entry.target_id := left(target_id, 200);
    entry.outcome := outcome;
    entry.ip := host(ip)::inet;
    entry.user_agent := left(user_agent, 500);
    entry.http_request_id := left(http_request_id, 200);
    entry.detail := CASE WHEN octet_length(detail::text) <= 4096 THEN detail
                         ELSE json_build_object('omitted_bytes', octet_length(detail::text)) END;
    entry.hash := export_control.audit_hash(entry);
    INSERT INTO export_control.audit_log SELECT entry.*;
    id := entry.id;
    at := entry.at;
    hash := entry.hash;
END $$;
REVOKE ALL ON FUNCTION export_control.audit(text, text, text, text, text, text, text, text, inet, text, text, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.audit(text, text, text, text, text, text, text, text, inet, text, text, json)
    TO export_api;

-- A line of the audit log that the API writes names its caller: tenant, user and role of the session, and an operator's
-- no tenant. Without a caller there is only the download behind a link, and it names the tenant of that export.
CREATE FUNCTION export_control.check_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    acts_as CONSTANT text := nullif(current_setting('export_control.role', true), '');
    of_tenant CONSTANT text := nullif(current_setting('export_control.tenant', true), '');
    of_user CONSTANT text := nullif(current_setting('export_control.user', true), '');
BEGIN
    IF export_control.acts_for_service() THEN
        RETURN NEW;
    END IF;
    IF acts_as IS NULL THEN
        IF NEW.action = 'export.download' AND num_nonnulls(NEW.role, NEW.user_id, NEW.credential) = 0
           AND EXISTS (SELECT FROM export_control.export_requests AS r
                       WHERE r.id::text = NEW.target_id AND r.tenant_id = NEW.tenant_id) THEN
            RETURN NEW;
        END IF;
    ELSIF NEW.role = acts_as AND NEW.tenant_id IS NOT DISTINCT FROM of_tenant
          AND of_user IN (NEW.user_id, NEW.credential) AND coalesce(NEW.user_id = of_user, true) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an entry of the audit log names its caller' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER check_entry BEFORE INSERT ON export_control.audit_log
    FOR EACH ROW EXECUTE FUNCTION export_control.check_entry();

ALTER TABLE export_control.audit_log ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON export_control.audit_log TO export_api;
CREATE POLICY audit_by_role ON export_control.audit_log FOR SELECT TO export_api USING (
    current_setting('export_control.role', true) = 'operator'
    OR (current_setting('export_control.role', true) = 'admin'
        AND tenant_id = nullif(current_setting('export_control.tenant', true), ''))
);
