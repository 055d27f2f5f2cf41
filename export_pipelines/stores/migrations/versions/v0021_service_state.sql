-- What the service's background work last saw: one row, written with each look at the clock. The API reads it to say in
-- /readyz and /metrics what it cannot see itself. No part of it belongs to a tenant.
CREATE TABLE export_control.service_state (
    only_one      boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    looked_at     timestamptz NOT NULL,       -- by the database's clock; old: the daemon does not evaluate sensors
    believed_at   timestamptz NOT NULL,       -- the time that counts for schedules at that look
    boot_id       text NOT NULL,
    boot_seconds  double precision NOT NULL,
    ahead_since   double precision,           -- boot seconds since which an unconfirmed step forward lasts
    stepped_at    double precision,           -- boot seconds of the last step of any kind, on this boot
    step_seconds  double precision NOT NULL DEFAULT 0,  -- of the wall clock from the time that counts
    skew_seconds  double precision NOT NULL DEFAULT 0,  -- of the process's clock from the database's
    steps_forward bigint NOT NULL DEFAULT 0,
    steps_back    bigint NOT NULL DEFAULT 0,
    daemons       jsonb NOT NULL DEFAULT '{}',          -- the last heartbeat of each of Dagster's daemons, Unix seconds
    silent_from   timestamptz,                -- the last time in which nobody looked, and therefore nothing was launched
    silent_until  timestamptz,
    source_down_since timestamptz,
    store_down_since  timestamptz
);
ALTER TABLE export_control.service_state ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybodys ON export_control.service_state FOR SELECT TO export_api USING (true);
GRANT SELECT ON export_control.service_state TO export_api;

-- A request that met an outage: since when nothing it needs has answered, and how many attempts met that.
ALTER TABLE export_control.export_requests
    ADD COLUMN unavailable_since timestamptz,
    ADD COLUMN outages integer NOT NULL DEFAULT 0;
GRANT UPDATE (unavailable_since, outages) ON export_control.export_requests TO export_api;
CREATE INDEX export_requests_unavailable ON export_control.export_requests (not_before)
    WHERE status = 'queued' AND unavailable_since IS NOT NULL;
