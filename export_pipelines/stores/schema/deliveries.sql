-- Deliveries: an outbox, one row for each recipient. A failed one never touches the request. What a paused schedule
-- tells is about that, as there may be no request yet; every other delivery is about a request.
CREATE TYPE export_control.delivery_status AS ENUM ('pending', 'sending', 'delivered', 'failed');

CREATE TABLE export_control.export_deliveries (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        text NOT NULL,  -- that of what it is about
    request_id       uuid REFERENCES export_control.export_requests (id),
    schedule_id      uuid,
    kind             text NOT NULL DEFAULT 'package' CHECK (kind IN ('package', 'export_failed', 'schedule_paused')),
    attempt          integer NOT NULL DEFAULT 0,  -- of the request, that a notice of its failure is about
    method           text NOT NULL,  -- kind of destination
    recipient        text NOT NULL,  -- whom or where, in the words of the destination
    message          jsonb NOT NULL DEFAULT '{}',
    status           export_control.delivery_status NOT NULL DEFAULT 'pending',
    attempts         integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL DEFAULT 8,
    due_at           timestamptz NOT NULL DEFAULT now(),
    doubtful         boolean NOT NULL DEFAULT false,  -- a sender died without saying what it had done
    error_message    text,
    receipt          jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    delivered_at     timestamptz,
    UNIQUE (request_id, kind, attempt, method, recipient),
    CONSTRAINT about_one_thing CHECK (num_nonnulls(request_id, schedule_id) = 1),
    CONSTRAINT pauses_are_of_schedules CHECK ((kind = 'schedule_paused') = (schedule_id IS NOT NULL)),
    CONSTRAINT about_a_schedule_of_the_tenant FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES export_control.export_schedules (tenant_id, id)
);
CREATE INDEX export_deliveries_due ON export_control.export_deliveries (due_at)
    WHERE status IN ('pending', 'sending');

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

ALTER TABLE export_control.export_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_deliveries FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests AS r WHERE r.id = request_id)
           OR EXISTS (SELECT FROM export_control.export_schedules AS s WHERE s.id = schedule_id));
CREATE POLICY by_grant ON export_control.export_deliveries
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT ON export_control.export_deliveries TO export_api;
