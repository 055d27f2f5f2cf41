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

-- The pair is what makes a fire one request, whatever dispatches it and however often.
ALTER TABLE export_control.export_requests
    ADD COLUMN schedule_id uuid,
    ADD COLUMN scheduled_for timestamptz,  -- NULL: run by hand
    ADD COLUMN window_end timestamptz,     -- up to where the schedule's window reads
    ADD CONSTRAINT of_a_schedule_of_the_tenant FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES export_control.export_schedules (tenant_id, id),
    ADD CONSTRAINT one_request_a_fire UNIQUE (schedule_id, scheduled_for),
    ADD CONSTRAINT fires_are_of_schedules CHECK (schedule_id IS NOT NULL OR num_nonnulls(scheduled_for, window_end) = 0);

-- What a request tells its schedule. Too many failures in a row pause it, with a line in the audit log and, where the
-- owner is an address, a mail.
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
    IF NEW.status = 'failed' AND schedule.state = 'active' AND schedule.failures >= schedule.pause_after
       AND schedule.deleted_at IS NULL THEN
        UPDATE export_control.export_schedules AS s
        SET state = 'paused', paused_reason = left(format('%s exports in a row failed; the last one: %s',
                                                          schedule.failures, NEW.error_message), 2000)
        WHERE s.id = schedule.id;
        IF schedule.owner ~ '^[^@[:space:],;<>"]+@[^@[:space:],;<>"]+\.[^@[:space:],;<>"]+$' THEN
            INSERT INTO export_control.export_deliveries (request_id, method, recipient, message)
            VALUES (NEW.id, 'notice', schedule.owner, jsonb_build_object(
                'schedule', schedule.name, 'failures', schedule.failures, 'error', left(NEW.error_message, 2000)))
            ON CONFLICT DO NOTHING;
        END IF;
        PERFORM export_control.audit(
            schedule.tenant_id, NULL, 'service', NULL, 'schedule.auto_pause', 'schedule', schedule.id::text, 'ok', NULL,
            NULL, NULL, json_build_object('failures', schedule.failures, 'request', NEW.id));
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
GRANT SELECT ON export_control.export_schedules TO export_api;
GRANT INSERT (id, tenant_id, owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up,
              jitter_seconds, keep_days, pause_after, next_fire_at),
      UPDATE (owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_run_at, last_request_id, last_status,
              failures, covered_until, version, updated_at, deleted_at)
    ON export_control.export_schedules TO export_api;
GRANT SELECT (schedule_id, scheduled_for, window_end), INSERT (schedule_id, window_end)
    ON export_control.export_requests TO export_api;

-- Figures of schedules for operators. ``late``: after how long a fire that is no completed export yet is late.
CREATE FUNCTION export_control.is_late(s export_control.export_schedules, late interval) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT s.state = 'active' AND s.deleted_at IS NULL AND (
        s.next_fire_at < now() - late
        OR coalesce(s.last_fire_at > coalesce(s.fulfilled_at, '-infinity')
                    AND s.last_fire_at + make_interval(secs => s.jitter_seconds) < now() - late, false))
$$;
CREATE FUNCTION export_control.schedule_figures(late interval)
RETURNS TABLE (active bigint, paused bigint, late_ones bigint, overdue_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE s.state = 'active'), count(*) FILTER (WHERE s.state = 'paused'),
           count(*) FILTER (WHERE export_control.is_late(s, late)),
           (extract(epoch FROM now() - min(s.next_fire_at)
                FILTER (WHERE s.state = 'active' AND s.next_fire_at < now())))::double precision
    FROM export_control.export_schedules AS s
    WHERE s.deleted_at IS NULL AND (export_control.countable(NULL)).everything
$$;

-- Templates: configurations to use again. They hold no secret.
CREATE TABLE export_control.export_templates (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id          text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    owner              text NOT NULL CHECK (owner <> '' AND length(owner) <= 200),
    name               text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description        text NOT NULL DEFAULT '' CHECK (length(description) <= 2000),
    shared             boolean NOT NULL DEFAULT false,
    config             jsonb NOT NULL CHECK (
        jsonb_typeof(config) = 'object' AND NOT jsonb_path_exists(config, '$.**.password ? (@.type() != "null")')),
    estimated_rows     bigint CHECK (estimated_rows >= 0),
    estimated_bytes    bigint CHECK (estimated_bytes >= 0),
    estimated_seconds  double precision CHECK (estimated_seconds >= 0),
    times_used         integer NOT NULL DEFAULT 0,
    last_used_at       timestamptz,
    version            integer NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX export_templates_tenant ON export_control.export_templates (tenant_id, created_at DESC, id DESC);

ALTER TABLE export_control.export_templates ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_templates FOR SELECT TO export_api
    USING (export_control.sees(tenant_id, owner)
           OR (shared AND tenant_id = current_setting('export_control.tenant', true)));
CREATE POLICY own ON export_control.export_templates FOR INSERT TO export_api
    WITH CHECK (tenant_id = current_setting('export_control.tenant', true)
                AND owner = current_setting('export_control.user', true)
                AND (NOT shared OR current_setting('export_control.role', true) = 'admin'));
CREATE POLICY changed ON export_control.export_templates FOR UPDATE TO export_api
    USING (export_control.sees(tenant_id, owner))
    WITH CHECK (export_control.sees(tenant_id, owner)
                AND (NOT shared OR current_setting('export_control.role', true) = 'admin'));
CREATE POLICY removed ON export_control.export_templates FOR DELETE TO export_api
    USING (export_control.sees(tenant_id, owner));
GRANT SELECT, DELETE,
      INSERT (id, tenant_id, owner, name, description, shared, config, estimated_rows, estimated_bytes, estimated_seconds),
      UPDATE (name, description, shared, config, estimated_rows, estimated_bytes, estimated_seconds, version, updated_at)
    ON export_control.export_templates TO export_api;

-- Who may see a shared template may use it, which is all that is written about it.
CREATE FUNCTION export_control.use_template(template uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE export_control.export_templates AS t SET times_used = t.times_used + 1, last_used_at = now()
    WHERE t.id = template AND (export_control.acts_for_service() OR export_control.sees(t.tenant_id, t.owner)
        OR (t.shared AND t.tenant_id = current_setting('export_control.tenant', true)))
$$;
REVOKE ALL ON FUNCTION export_control.use_template(uuid), export_control.schedule_figures(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.use_template(uuid), export_control.schedule_figures(interval) TO export_api;

-- Other roles see what their grants say, as of the tables before.
DO $$
DECLARE
    of_table text;
BEGIN
    FOREACH of_table IN ARRAY ARRAY['schedules', 'templates'] LOOP
        EXECUTE format('CREATE POLICY by_grant ON export_control.%I
            USING ((SELECT NOT pg_has_role(current_user, ''export_api'', ''MEMBER'')))', 'export_' || of_table);
    END LOOP;
END $$;
