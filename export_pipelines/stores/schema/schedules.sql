-- Schedules: exports that recur. Each fire becomes one row of export_requests; stores/dispatch.py does it.
CREATE TABLE export_control.export_schedules (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    owner            text NOT NULL CHECK (owner <> '' AND length(owner) <= 200),
    owner_role       text CHECK (owner_role IN ('member', 'admin')),  -- NULL: an operator, as in export_requests
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    config           jsonb NOT NULL CHECK (
        jsonb_typeof(config) = 'object' AND NOT jsonb_path_exists(config, '$.**.password ? (@.type() == "string")')),
    sealed_password  bytea,  -- bound to this schedule; each request gets one bound to itself
    cron             text NOT NULL CHECK (length(cron) <= 200),
    timezone         text NOT NULL CHECK (length(timezone) <= 64),
    data_window      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data_window) = 'object'),
    catch_up         text NOT NULL DEFAULT 'latest' CHECK (catch_up IN ('all', 'latest', 'skip')),
    jitter_seconds   integer NOT NULL DEFAULT 0 CHECK (jitter_seconds BETWEEN 0 AND 86400),
    keep_days        integer CHECK (keep_days BETWEEN 1 AND 36500),  -- NULL: as long as other exports
    pause_after      integer CHECK (pause_after >= 1),               -- failures in a row; NULL: never
    state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    paused_reason    text,
    next_fire_at     timestamptz NOT NULL,  -- while paused: the first that was missed
    last_fire_at     timestamptz,           -- the newest fire that became a request
    last_run_at      timestamptz,
    last_request_id  uuid,
    last_status      export_control.request_status,
    fulfilled_at     timestamptz,           -- the newest fire that is a completed export
    covered_until    timestamptz,           -- end of the newest window that is a completed export
    failures         integer NOT NULL DEFAULT 0,  -- in a row
    version          integer NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    UNIQUE (tenant_id, id),
    CONSTRAINT paused_has_reason CHECK ((state = 'paused') = (paused_reason IS NOT NULL)),
    CONSTRAINT password_is_sealed CHECK (
        coalesce(config #> '{encryption,password}' = '{"sealed": true}', false) = (sealed_password IS NOT NULL)
        OR deleted_at IS NOT NULL),
    CONSTRAINT deleted_keeps_no_password CHECK (deleted_at IS NULL OR sealed_password IS NULL)
);
CREATE INDEX export_schedules_due ON export_control.export_schedules (next_fire_at, id)
    WHERE state = 'active' AND deleted_at IS NULL;
CREATE INDEX export_schedules_tenant ON export_control.export_schedules (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
ALTER TABLE export_control.export_requests
    ADD CONSTRAINT of_a_schedule_of_the_tenant FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES export_control.export_schedules (tenant_id, id);

-- Pauses a schedule that cannot go on, with a line in the audit log and, where the owner is an address, a mail; false
-- when it is not active any more. Whoever writes to the log has others wait until its transaction ends, so this comes
-- late in one.
CREATE FUNCTION export_control.pause_schedule(of_schedule uuid, reason text, detail json) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schedule export_control.export_schedules;
BEGIN
    UPDATE export_control.export_schedules AS s SET state = 'paused', paused_reason = left(reason, 2000)
    WHERE s.id = of_schedule AND s.state = 'active' AND s.deleted_at IS NULL RETURNING s.* INTO schedule;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF schedule.owner ~ '^[^@[:space:],;<>"]+@[^@[:space:],;<>"]+\.[^@[:space:],;<>"]+$' THEN
        INSERT INTO export_control.export_deliveries (schedule_id, kind, method, recipient, message)
        VALUES (schedule.id, 'schedule_paused', 'email', schedule.owner,
                jsonb_build_object('schedule', schedule.name, 'reason', schedule.paused_reason));
    END IF;
    PERFORM export_control.audit(
        schedule.tenant_id, NULL, 'service', NULL, 'schedule.auto_pause', 'schedule', schedule.id::text, 'ok', NULL,
        NULL, NULL, detail);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION export_control.pause_schedule(uuid, text, json) FROM PUBLIC;

-- What a request tells its schedule. Too many failures in a row pause it.
CREATE FUNCTION export_control.tell_schedule() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schedule export_control.export_schedules;
BEGIN
    UPDATE export_control.export_schedules AS s SET
        last_status = CASE WHEN s.last_request_id = NEW.id THEN NEW.status ELSE s.last_status END,
        failures = CASE NEW.status WHEN 'completed' THEN 0 WHEN 'failed' THEN s.failures + 1 ELSE s.failures END,
        fulfilled_at = CASE WHEN NEW.status = 'completed'
                            THEN greatest(s.fulfilled_at, coalesce(NEW.scheduled_for, s.last_fire_at)) ELSE s.fulfilled_at END,
        covered_until = CASE WHEN NEW.status = 'completed'
                             THEN greatest(s.covered_until, NEW.window_end) ELSE s.covered_until END
    WHERE s.id = NEW.schedule_id RETURNING s.* INTO schedule;
    IF NEW.status = 'failed' AND schedule.failures >= schedule.pause_after THEN
        PERFORM export_control.pause_schedule(
            schedule.id,
            format('%s exports in a row failed; the last one: %s', schedule.failures, NEW.error_message),
            json_build_object('failures', schedule.failures, 'request', NEW.id));
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION export_control.tell_schedule() FROM PUBLIC;
CREATE TRIGGER tell_schedule AFTER UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.status <> OLD.status)
    EXECUTE FUNCTION export_control.tell_schedule();

-- What a schedule makes is kept as long as the schedule says.
CREATE FUNCTION export_control.keep_as_scheduled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.expires_at := coalesce(
        NEW.completed_at + (SELECT make_interval(days => s.keep_days)
                            FROM export_control.export_schedules AS s WHERE s.id = NEW.schedule_id),
        NEW.expires_at);
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION export_control.keep_as_scheduled() FROM PUBLIC;
CREATE TRIGGER keep_as_scheduled BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.status = 'completed' AND OLD.status <> 'completed')
    EXECUTE FUNCTION export_control.keep_as_scheduled();

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

-- Figures of schedules for operators. ``late``: after how long a fire that is no completed export yet is late.
CREATE FUNCTION export_control.schedule_figures(late interval)
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

ALTER TABLE export_control.export_schedules ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_schedules FOR SELECT TO export_api
    USING (export_control.sees(tenant_id, owner));
-- Who saves a schedule owns it, and it runs in its owner's role.
CREATE POLICY own ON export_control.export_schedules FOR INSERT TO export_api
    WITH CHECK (tenant_id = current_setting('export_control.tenant', true)
                AND owner = current_setting('export_control.user', true)
                AND owner_role = current_setting('export_control.role', true));
CREATE POLICY changed ON export_control.export_schedules FOR UPDATE TO export_api
    USING (export_control.sees(tenant_id, owner))
    WITH CHECK (export_control.sees(tenant_id, owner)
                AND (current_setting('export_control.role', true) = 'admin' OR owner_role = 'member'));
CREATE POLICY by_grant ON export_control.export_schedules
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
-- The API writes sealed passwords and reads none.
GRANT SELECT (id, tenant_id, owner, owner_role, name, config, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_fire_at, last_run_at, last_request_id,
              last_status, fulfilled_at, covered_until, failures, version, created_at, updated_at, deleted_at),
      INSERT (id, tenant_id, owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up,
              jitter_seconds, keep_days, pause_after, next_fire_at),
      UPDATE (owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_run_at, last_request_id, last_status,
              failures, covered_until, version, updated_at, deleted_at)
    ON export_control.export_schedules TO export_api;
REVOKE ALL ON FUNCTION export_control.schedule_figures(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.schedule_figures(interval) TO export_api;
