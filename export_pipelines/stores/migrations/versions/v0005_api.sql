-- The API acts as this role: rights on columns, rows by policy. Roles belong to the server, so it may be there already.
-- Where its logins are members by an administrator's hand, this one need not be.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'export_api') THEN
        BEGIN
            CREATE ROLE export_api NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
        END;
    END IF;
    BEGIN
        EXECUTE format('GRANT export_api TO %I', current_user);
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END $$;
GRANT USAGE ON SCHEMA export_control TO export_api;

-- Who asked with which right; NULL is the host application or an operator, who may ask for everything.
ALTER TABLE export_control.export_requests
    ADD COLUMN requested_role text CHECK (requested_role IN ('member', 'admin')),
    ADD COLUMN estimated_rows bigint CHECK (estimated_rows >= 0),
    ADD COLUMN estimated_bytes bigint CHECK (estimated_bytes >= 0),
    ADD COLUMN estimated_seconds double precision CHECK (estimated_seconds >= 0),
    ADD COLUMN deleted_at timestamptz,          -- gone for people; the row stays for the history
    ADD COLUMN objects_removed_at timestamptz,  -- its files are gone, too
    ADD CONSTRAINT only_ended_ones_are_deleted CHECK (deleted_at IS NULL OR status NOT IN ('queued', 'processing', 'completed'));

CREATE INDEX export_requests_mine ON export_control.export_requests (tenant_id, requested_by, created_at DESC, id DESC);
DROP INDEX export_control.export_requests_history;
CREATE INDEX export_requests_history ON export_control.export_requests (tenant_id, created_at DESC, id DESC);

-- Whether the caller of this transaction may see a row of that tenant and user.
CREATE FUNCTION export_control.sees(tenant text, owner text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT tenant = current_setting('export_control.tenant', true)
       AND CASE current_setting('export_control.role', true)
           WHEN 'admin' THEN true
           WHEN 'member' THEN owner = current_setting('export_control.user', true)
           ELSE false END
$$;

ALTER TABLE export_control.export_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_requests FOR SELECT TO export_api
    USING (export_control.sees(tenant_id, requested_by));
CREATE POLICY own ON export_control.export_requests FOR INSERT TO export_api
    WITH CHECK (tenant_id = current_setting('export_control.tenant', true)
                AND requested_by = current_setting('export_control.user', true)
                AND requested_role = current_setting('export_control.role', true));
CREATE POLICY changed ON export_control.export_requests FOR UPDATE TO export_api
    USING (export_control.sees(tenant_id, requested_by));

ALTER TABLE export_control.export_request_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_request_events FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
ALTER TABLE export_control.export_files ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_files FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
ALTER TABLE export_control.export_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_deliveries FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
ALTER TABLE export_control.export_links ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_links TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));

-- Other roles, such as the host application's, see what their grants say, as before. Members of export_api are none.
DO $$
DECLARE
    of_table text;
BEGIN
    FOREACH of_table IN ARRAY ARRAY['requests', 'request_events', 'files', 'deliveries', 'links'] LOOP
        EXECUTE format('CREATE POLICY by_grant ON export_control.%I
            USING ((SELECT NOT pg_has_role(current_user, ''export_api'', ''MEMBER'')))', 'export_' || of_table);
    END LOOP;
END $$;

-- The API orders, cancels, queues again and removes; a run alone works on a request and completes it.
CREATE FUNCTION export_control.check_caller() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF row_security_active('export_control.export_requests') AND NEW.status IN ('processing', 'completed') THEN
        RAISE EXCEPTION 'only a run makes a request %', NEW.status USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_caller BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION export_control.check_caller();

-- Links: a password, a number of uses, who made it.
ALTER TABLE export_control.export_links
    ADD COLUMN created_by text,
    ADD COLUMN label text CHECK (length(label) <= 200),
    ADD COLUMN password_hash text,
    ADD COLUMN max_uses integer CHECK (max_uses >= 1);

-- What a link leads to. Its token is the credential, so nobody else's rights are asked.
CREATE FUNCTION export_control.find_link(token text)
RETURNS TABLE (link_id uuid, request_id uuid, tenant_id text, name text, rows bigint, size_bytes bigint,
               completed_at timestamptz, available_until timestamptz, password_hash text, uses_left integer, files jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.id, r.id, r.tenant_id, nullif(r.config ->> 'name', ''), r.package_rows, r.package_bytes,
           r.completed_at, least(l.expires_at, r.expires_at), l.password_hash, l.max_uses - l.uses,
           (SELECT jsonb_agg(jsonb_build_object('key', f.key, 'path', f.path, 'media_type', f.media_type,
                                                'rows', f.rows, 'size_bytes', f.size_bytes, 'sha256', f.sha256)
                             ORDER BY f.position)
            FROM export_control.export_files f WHERE f.request_id = r.id)
    FROM export_control.export_links l JOIN export_control.export_requests r ON r.id = l.request_id
    WHERE l.token_sha256 = token AND l.expires_at > now() AND l.revoked_at IS NULL
      AND r.status = 'completed' AND r.expires_at > now() AND r.deleted_at IS NULL
$$;

-- Count one use; false when there is none left.
CREATE FUNCTION export_control.use_link(link uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        UPDATE export_control.export_links SET uses = uses + 1, last_used_at = now()
        WHERE id = link AND (max_uses IS NULL OR uses < max_uses) RETURNING 1
    )
    SELECT EXISTS (SELECT FROM used)
$$;
REVOKE ALL ON FUNCTION export_control.find_link(text), export_control.use_link(uuid) FROM PUBLIC;

-- The first answer to a write that carries an idempotency key.
CREATE TABLE export_control.api_replies (
    tenant_id    text NOT NULL,
    user_id      text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    fingerprint  text NOT NULL,  -- of method, path and body
    status       smallint,
    headers      jsonb,
    body         jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX api_replies_age ON export_control.api_replies (created_at);
ALTER TABLE export_control.api_replies ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON export_control.api_replies TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND user_id = current_setting('export_control.user', true));

GRANT SELECT (id, tenant_id, config, requested_by, requested_role, status, launched_by, priority, attempt, max_attempts,
              not_before, asked_at, run_id, idempotency_key, percentage, rows_processed, total_rows, current_table,
              files_created, heartbeat_at, cancel_requested, error_type, error_message, package_prefix, package_rows,
              package_bytes, manifest_sha256, estimated_rows, estimated_bytes, estimated_seconds, created_at, started_at,
              completed_at, expires_at, deleted_at, objects_removed_at),
      INSERT (id, tenant_id, config, requested_by, requested_role, launched_by, idempotency_key, priority,
              sealed_secrets, estimated_rows, estimated_bytes, estimated_seconds),
      UPDATE (status, attempt, max_attempts, run_id, asked_at, cancel_requested, launched_by, not_before, error_type,
              error_message, completed_at, sealed_secrets, deleted_at, objects_removed_at)
    ON export_control.export_requests TO export_api;
GRANT SELECT ON export_control.export_request_events, export_control.export_files, export_control.export_deliveries
    TO export_api;
GRANT SELECT, INSERT (request_id, token_sha256, expires_at, created_by, label, password_hash, max_uses),
      UPDATE (revoked_at) ON export_control.export_links TO export_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON export_control.api_replies TO export_api;
GRANT EXECUTE ON FUNCTION export_control.find_link(text), export_control.use_link(uuid) TO export_api;
