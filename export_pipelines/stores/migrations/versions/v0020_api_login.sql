-- Whether a fire since the last completed export is none itself after the time expected, or nobody dispatched one. Takes
-- columns and no row: the API may not read all of one.
CREATE FUNCTION export_control.is_late(
    schedule uuid, state text, deleted_at timestamptz, next_fire_at timestamptz, fulfilled_at timestamptz,
    jitter_seconds integer, late interval
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT state = 'active' AND deleted_at IS NULL AND (
        next_fire_at < now() - late
        OR EXISTS (
            SELECT FROM export_control.export_requests AS r
            WHERE r.schedule_id = schedule AND r.scheduled_for > coalesce(fulfilled_at, '-infinity')
              AND r.scheduled_for < now() - late - make_interval(secs => jitter_seconds)))
$$;
CREATE OR REPLACE FUNCTION export_control.schedule_figures(late interval)
RETURNS TABLE (active bigint, paused bigint, late_ones bigint, overdue_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE s.state = 'active'), count(*) FILTER (WHERE s.state = 'paused'),
           count(*) FILTER (WHERE export_control.is_late(
               s.id, s.state, s.deleted_at, s.next_fire_at, s.fulfilled_at, s.jitter_seconds, late)),
           (extract(epoch FROM now() - min(s.next_fire_at)
                FILTER (WHERE s.state = 'active' AND s.next_fire_at < now())))::double precision
    FROM export_control.export_schedules AS s
    WHERE s.deleted_at IS NULL AND (export_control.countable(NULL)).everything
$$;
DROP FUNCTION export_control.is_late(export_control.export_schedules, interval);

-- The API writes sealed passwords and reads none, sealed or not.
REVOKE SELECT ON export_control.export_schedules FROM export_api;
GRANT SELECT (id, tenant_id, owner, owner_role, name, config, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_fire_at, last_run_at, last_request_id,
              last_status, fulfilled_at, covered_until, failures, version, created_at, updated_at, deleted_at)
    ON export_control.export_schedules TO export_api;

-- A request of a schedule that needs its password and brings none gets the schedule's, still bound to the schedule.
-- Before `check_secrets`, which demands one; triggers fire in the order of their names.
ALTER TABLE export_control.export_requests ADD COLUMN secrets_sealed_for uuid;  -- NULL: for the request itself
CREATE FUNCTION export_control.adopt_password() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.sealed_password, s.id INTO NEW.sealed_secrets, NEW.secrets_sealed_for
    FROM export_control.export_schedules AS s
    WHERE s.id = NEW.schedule_id AND s.tenant_id = NEW.tenant_id AND s.deleted_at IS NULL
      AND s.sealed_password IS NOT NULL
      AND (export_control.acts_for_service() OR export_control.sees(s.tenant_id, s.owner));
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION export_control.adopt_password() FROM PUBLIC;
CREATE TRIGGER adopt_password BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.sealed_secrets IS NULL
                       AND NEW.config #> '{encryption,password}' = '{"sealed": true}')
    EXECUTE FUNCTION export_control.adopt_password();
-- A request that is given other secrets (a retry) has them for itself.
CREATE FUNCTION export_control.own_secrets() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.secrets_sealed_for := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER own_secrets BEFORE UPDATE OF sealed_secrets ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.sealed_secrets IS DISTINCT FROM OLD.sealed_secrets)
    EXECUTE FUNCTION export_control.own_secrets();

-- Whoever saves a schedule through the API owns it from then on, in the role that the session names. A schedule without
-- a role runs as an operator's, which no caller of the API can make one.
CREATE FUNCTION export_control.check_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.acts_for_service()
       AND (NEW.owner IS DISTINCT FROM nullif(current_setting('export_control.user', true), '')
            OR NEW.owner_role IS DISTINCT FROM nullif(current_setting('export_control.role', true), '')) THEN
        RAISE EXCEPTION 'a schedule belongs to whoever saves it, in their own role'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_owner BEFORE UPDATE OF owner, owner_role ON export_control.export_schedules
    FOR EACH ROW WHEN ((NEW.owner, NEW.owner_role) IS DISTINCT FROM (OLD.owner, OLD.owner_role))
    EXECUTE FUNCTION export_control.check_owner();

-- A line of the audit log that the API writes names its caller: tenant, user and role of the session, and an operator's
-- no tenant. Without a caller there is only the download behind a link, and it names the tenant of that export.
DROP TRIGGER check_entry ON export_control.audit_log;
CREATE OR REPLACE FUNCTION export_control.check_entry() RETURNS trigger
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
ALTER FUNCTION export_control.take_token(text, integer, interval) RENAME TO take_any_token;
ALTER FUNCTION export_control.tokens_left(text, integer, interval) RENAME TO any_tokens_left;
REVOKE ALL ON FUNCTION export_control.take_any_token(text, integer, interval),
    export_control.any_tokens_left(text, integer, interval) FROM export_api;
CREATE FUNCTION export_control.take_token(
    who text, capacity integer, per interval,
    OUT allowed boolean, OUT remaining integer, OUT retry_after_seconds double precision, OUT reset_seconds double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO allowed, remaining, retry_after_seconds, reset_seconds
    FROM export_control.take_any_token(who, capacity, per);
END $$;
CREATE FUNCTION export_control.tokens_left(who text, capacity integer, per interval)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN export_control.any_tokens_left(who, capacity, per);
END $$;
REVOKE ALL ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) TO export_api;

-- Whether a conversion reads an export is told to whoever sees that export.
CREATE OR REPLACE FUNCTION export_control.is_being_read(request uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE origins (id) AS (
        SELECT export_control.origin_of(config) FROM export_control.export_requests
        WHERE status IN ('queued', 'processing') AND config ? 'convert'
        UNION
        SELECT export_control.origin_of(r.config) FROM origins AS o JOIN export_control.export_requests AS r ON r.id = o.id
        WHERE r.config ? 'convert'
    )
    SELECT EXISTS (
        SELECT FROM origins JOIN export_control.export_requests AS r USING (id)
        WHERE id = request AND (export_control.acts_for_service() OR export_control.sees(r.tenant_id, r.requested_by)))
$$;
