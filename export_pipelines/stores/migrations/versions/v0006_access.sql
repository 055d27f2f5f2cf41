-- API keys: who holds one acts in its role. The key itself is nowhere, only its SHA-256.
CREATE TABLE export_control.api_keys (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name          text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    token_sha256  text NOT NULL UNIQUE CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
    hint          text NOT NULL CHECK (length(hint) = 4),  -- the key's last characters, to tell keys apart
    role          text NOT NULL CHECK (role IN ('member', 'admin', 'operator')),
    tenant_id     text CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    user_id       text CHECK (user_id <> '' AND length(user_id) <= 200),
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL CHECK (length(created_by) <= 200),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,  -- at most once a minute
    CONSTRAINT all_but_operators_have_a_tenant CHECK ((role = 'operator') = (tenant_id IS NULL)),
    CONSTRAINT members_have_a_user CHECK (role <> 'member' OR user_id IS NOT NULL)
);
CREATE INDEX api_keys_tenant ON export_control.api_keys (tenant_id, created_at);
-- No policy and no grant: the API never reads keys, it asks `authenticate` about one.
ALTER TABLE export_control.api_keys ENABLE ROW LEVEL SECURITY;

-- Who a key is for, while it is neither revoked nor expired. Nobody waits for another's note of the last use.
CREATE FUNCTION export_control.authenticate(of_token text)
RETURNS TABLE (id uuid, role text, tenant_id text, user_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH noted AS (
        UPDATE export_control.api_keys SET last_used_at = now()
        WHERE id = (
            SELECT k.id FROM export_control.api_keys AS k
            WHERE k.token_sha256 = of_token AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
              AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
            FOR UPDATE SKIP LOCKED
        )
    )
    SELECT k.id, k.role, k.tenant_id, k.user_id FROM export_control.api_keys AS k
    WHERE k.token_sha256 = of_token AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
REVOKE ALL ON FUNCTION export_control.authenticate(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.authenticate(text) TO export_api;

-- Rate limits: a bucket of tokens for each subject. Not logged: a crash of the server fills all buckets, no more.
CREATE UNLOGGED TABLE export_control.rate_limits (
    subject      text PRIMARY KEY CHECK (length(subject) <= 1000),
    tokens       double precision NOT NULL,
    refilled_at  timestamptz NOT NULL,
    allowed      boolean NOT NULL  -- whether the last try got a token
) WITH (fillfactor = 50);
ALTER TABLE export_control.rate_limits ENABLE ROW LEVEL SECURITY;

-- What a bucket holds at an instant. Without a search path of its own, so that it becomes part of the calling query.
CREATE FUNCTION export_control.refilled(
    tokens double precision, since timestamptz, at timestamptz, capacity integer, per interval
) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT least(capacity, tokens + greatest(0, extract(epoch FROM at - since)::float8) * capacity / extract(epoch FROM per)::float8)
$$;

-- Takes a token if there is one; a try that finds none takes nothing. Tries at the same time wait for each other on the
-- bucket's row. A bucket that nobody touched for a week is full, since no interval is longer, and may go.
CREATE FUNCTION export_control.take_token(
    who text, capacity integer, per interval,
    OUT allowed boolean, OUT remaining integer, OUT retry_after_seconds double precision, OUT reset_seconds double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bucket export_control.rate_limits;
    seconds_a_token double precision := extract(epoch FROM per) / capacity;
BEGIN
    INSERT INTO export_control.rate_limits AS held (subject, tokens, refilled_at, allowed)
    VALUES (who, capacity - 1, clock_timestamp(), true)
    ON CONFLICT (subject) DO UPDATE SET
        tokens = export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per)
            - CASE WHEN export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per) >= 1
                   THEN 1 ELSE 0 END,
        allowed = export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per) >= 1,
        refilled_at = greatest(held.refilled_at, EXCLUDED.refilled_at)
    RETURNING held.* INTO bucket;
    allowed := bucket.allowed;
    remaining := floor(bucket.tokens);
    retry_after_seconds := CASE WHEN bucket.tokens >= 1 THEN 0 ELSE (1 - bucket.tokens) * seconds_a_token END;
    reset_seconds := (capacity - bucket.tokens) * seconds_a_token;
    IF random() < 0.001 THEN
        DELETE FROM export_control.rate_limits WHERE subject IN (
            SELECT idle.subject FROM export_control.rate_limits AS idle
            WHERE idle.refilled_at < now() - interval '7 days' LIMIT 1000 FOR UPDATE SKIP LOCKED
        );
    END IF;
END $$;
REVOKE ALL ON FUNCTION export_control.take_token(text, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.take_token(text, integer, interval) TO export_api;

-- What a bucket holds, without taking from it.
CREATE FUNCTION export_control.tokens_left(who text, capacity integer, per interval)
RETURNS double precision LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        (SELECT export_control.refilled(tokens, refilled_at, clock_timestamp(), capacity, per)
         FROM export_control.rate_limits WHERE subject = who),
        capacity)
$$;
REVOKE ALL ON FUNCTION export_control.tokens_left(text, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.tokens_left(text, integer, interval) TO export_api;

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

ALTER TABLE export_control.audit_log ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON export_control.audit_log TO export_api;
CREATE POLICY audit_by_role ON export_control.audit_log FOR SELECT TO export_api USING (
    current_setting('export_control.role', true) = 'operator'
    OR (current_setting('export_control.role', true) = 'admin'
        AND tenant_id = nullif(current_setting('export_control.tenant', true), ''))
);

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
