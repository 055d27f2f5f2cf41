-- A notice is about a schedule, of which there may be no request yet; every other delivery is about a request.
ALTER TABLE export_control.export_deliveries
    ALTER COLUMN request_id DROP NOT NULL,
    ADD COLUMN schedule_id uuid,
    ADD COLUMN tenant_id text;
UPDATE export_control.export_deliveries AS d SET tenant_id = r.tenant_id
FROM export_control.export_requests AS r WHERE r.id = d.request_id;
UPDATE export_control.export_deliveries AS d
SET request_id = NULL, schedule_id = r.schedule_id,
    message = jsonb_build_object(
        'schedule', d.message -> 'schedule',
        'reason', format('%s exports in a row failed; the last one: %s', d.message ->> 'failures', d.message ->> 'error'))
FROM export_control.export_requests AS r WHERE r.id = d.request_id AND d.method = 'notice';
ALTER TABLE export_control.export_deliveries
    ALTER COLUMN tenant_id SET NOT NULL,
    ADD CONSTRAINT about_one_thing CHECK (num_nonnulls(request_id, schedule_id) = 1),
    ADD CONSTRAINT about_a_schedule_of_the_tenant FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES export_control.export_schedules (tenant_id, id);

-- Its tenant is that of what it is about.
CREATE FUNCTION export_control.name_tenant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.tenant_id := coalesce(
        (SELECT r.tenant_id FROM export_control.export_requests AS r WHERE r.id = NEW.request_id),
        (SELECT s.tenant_id FROM export_control.export_schedules AS s WHERE s.id = NEW.schedule_id));
    RETURN NEW;
END $$;
CREATE TRIGGER name_tenant BEFORE INSERT ON export_control.export_deliveries
    FOR EACH ROW EXECUTE FUNCTION export_control.name_tenant();

DROP POLICY seen ON export_control.export_deliveries;
CREATE POLICY seen ON export_control.export_deliveries FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests AS r WHERE r.id = request_id)
           OR EXISTS (SELECT FROM export_control.export_schedules AS s WHERE s.id = schedule_id));

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
        INSERT INTO export_control.export_deliveries (schedule_id, method, recipient, message)
        VALUES (schedule.id, 'notice', schedule.owner,
                jsonb_build_object('schedule', schedule.name, 'reason', schedule.paused_reason));
    END IF;
    PERFORM export_control.audit(
        schedule.tenant_id, NULL, 'service', NULL, 'schedule.auto_pause', 'schedule', schedule.id::text, 'ok', NULL,
        NULL, NULL, detail);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION export_control.pause_schedule(uuid, text, json) FROM PUBLIC;

-- What a request tells its schedule. Too many failures in a row pause it.
CREATE OR REPLACE FUNCTION export_control.tell_schedule() RETURNS trigger
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

-- What waits and runs now, notices about schedules included.
CREATE OR REPLACE FUNCTION export_control.queue_now(of_tenant text DEFAULT NULL)
RETURNS TABLE (queued bigint, waiting bigint, processing bigint, oldest_queued_seconds double precision,
               silent_seconds double precision, running jsonb, deliveries jsonb, oldest_delivery_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH scope AS MATERIALIZED (SELECT * FROM export_control.countable(of_tenant)),
    due AS (
        SELECT r.not_before <= now() AS due, greatest(r.created_at, r.not_before) AS since
        FROM export_control.export_requests AS r, scope
        WHERE r.status = 'queued' AND (scope.everything OR r.tenant_id = scope.tenant)
    ),
    at_work AS (
        SELECT r.tenant_id, r.heartbeat_at FROM export_control.export_requests AS r, scope
        WHERE r.status = 'processing' AND (scope.everything OR r.tenant_id = scope.tenant)
    ),
    outbox AS (
        SELECT d.status, d.due_at FROM export_control.export_deliveries AS d, scope
        WHERE d.status IN ('pending', 'sending') AND (scope.everything OR d.tenant_id = scope.tenant)
    )
    SELECT (SELECT count(*) FROM due WHERE due), (SELECT count(*) FROM due WHERE NOT due), (SELECT count(*) FROM at_work),
           (SELECT extract(epoch FROM now() - min(since)) FROM due WHERE due),
           (SELECT extract(epoch FROM now() - min(heartbeat_at)) FROM at_work),
           (SELECT coalesce(jsonb_object_agg(tenant_id, n), '{}') FROM (
                SELECT tenant_id, count(*) AS n FROM at_work GROUP BY tenant_id ORDER BY n DESC, tenant_id LIMIT 100
            ) AS busiest),
           (SELECT coalesce(jsonb_object_agg(status, n), '{}') FROM (
                SELECT status, count(*) AS n FROM outbox GROUP BY status) AS held),
           (SELECT CASE WHEN count(*) > 0 THEN greatest(extract(epoch FROM now() - min(due_at)), 0) END FROM outbox)
    FROM scope WHERE scope.everything OR scope.tenant IS NOT NULL
$$;
