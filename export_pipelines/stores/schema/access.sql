-- Credentials, rate limits, and the first answers to idempotent calls.

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

-- Whose bucket the API may ask for: that of the caller that the session names, or without a caller those of addresses
-- and links. The subject is a JSON array that begins with what is counted; a caller's continues with tenant and name.
CREATE FUNCTION export_control.may_count(subject text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts jsonb;
BEGIN
    IF export_control.acts_for_service() THEN
        RETURN true;  -- before the text is parsed: the service may count anything
    END IF;
    parts := subject;
    IF coalesce(current_setting('export_control.role', true), '') = '' THEN
        RETURN coalesce(parts ->> 0 LIKE 'anonymous %', false);
    END IF;
    RETURN jsonb_array_length(parts) = 3
        AND parts ->> 1 IS NOT DISTINCT FROM nullif(current_setting('export_control.tenant', true), '')
        AND coalesce(parts ->> 2 = current_setting('export_control.user', true), false);
END $$;

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
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
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

-- What a bucket holds, without taking from it.
CREATE FUNCTION export_control.tokens_left(who text, capacity integer, per interval)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN coalesce(
        (SELECT export_control.refilled(tokens, refilled_at, clock_timestamp(), capacity, per)
         FROM export_control.rate_limits WHERE subject = who),
        capacity);
END $$;
REVOKE ALL ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) TO export_api;

-- The first answer to a write that carries an idempotency key. A repeated answer is the first one to the byte; jsonb
-- would sort its fields.
CREATE TABLE export_control.api_replies (
    tenant_id    text NOT NULL,
    user_id      text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    fingerprint  text NOT NULL,  -- of method, path and body
    status       smallint,
    headers      json,
    body         json,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX api_replies_age ON export_control.api_replies (created_at);
ALTER TABLE export_control.api_replies ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON export_control.api_replies TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND user_id = current_setting('export_control.user', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON export_control.api_replies TO export_api;
