-- Counters for Prometheus and the state of the queue.

-- Counters are kept, not counted: a scrape reads a few rows however long the history is, and nothing that is deleted
-- makes a total fall. The triggers wait for the commit, so that no transaction holds a counter while it does something
-- else. Orders are not counted: a host application may insert thousands in one transaction, each a new version of one row.
CREATE TABLE export_control.metric_counters (
    name        text NOT NULL,
    status      text NOT NULL,
    kind        text NOT NULL,  -- format of an export, method of a delivery
    error_type  text NOT NULL,
    value       numeric NOT NULL,
    PRIMARY KEY (name, status, kind, error_type)
);
CREATE TABLE export_control.metric_histograms (
    name    text NOT NULL,
    kind    text NOT NULL,
    counts  bigint[] NOT NULL,  -- of each bucket, not accumulated; the last one is beyond all bounds
    total   double precision NOT NULL,
    PRIMARY KEY (name, kind)
);
ALTER TABLE export_control.metric_counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_control.metric_histograms ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION export_control.metric_bounds(name text) RETURNS double precision[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN name = 'export_size_bytes'
        THEN ARRAY[1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11]::double precision[]
        ELSE ARRAY[0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600]::double precision[] END
$$;

-- Commits that count take turns: one that ends several exports would else wait in a circle with another.
CREATE FUNCTION export_control.metric_turn() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(7283002) $$;

CREATE FUNCTION export_control.metric_add(of_name text, of_status text, of_kind text, of_error text, amount numeric)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO export_control.metric_counters AS held VALUES (of_name, of_status, of_kind, of_error, amount)
    ON CONFLICT (name, status, kind, error_type) DO UPDATE SET value = held.value + excluded.value
$$;

CREATE FUNCTION export_control.metric_observe(of_name text, of_kind text, observed double precision)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds CONSTANT double precision[] := export_control.metric_bounds(of_name);
    place  CONSTANT integer := 1 + (SELECT count(*) FROM unnest(bounds) AS bound WHERE bound < observed);
BEGIN
    IF observed IS NULL THEN  -- counting must never keep an export from ending
        RETURN;
    END IF;
    INSERT INTO export_control.metric_histograms
    VALUES (of_name, of_kind, array_fill(0::bigint, ARRAY[cardinality(bounds) + 1]), 0) ON CONFLICT DO NOTHING;
    UPDATE export_control.metric_histograms SET counts[place] = counts[place] + 1, total = total + observed
    WHERE name = of_name AND kind = of_kind;
END $$;

-- The format as a label. What was asked for is untrusted text until an export in it completed, so there are at most
-- forty of them.
CREATE FUNCTION export_control.metric_format(config jsonb, completed boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named CONSTANT text := lower(btrim(coalesce(config ->> 'format', '')));
BEGIN
    IF completed OR EXISTS (SELECT FROM export_control.metric_counters WHERE kind = named) THEN
        RETURN named;
    END IF;
    IF named ~ '^[a-z0-9_]{1,20}$' AND (SELECT count(DISTINCT kind) FROM export_control.metric_counters) < 40 THEN
        RETURN named;
    END IF;
    RETURN 'other';
END $$;

CREATE FUNCTION export_control.count_outcome() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked CONSTANT text := export_control.metric_format(NEW.config, NEW.status = 'completed');
    waited CONSTANT interval := NEW.started_at - greatest(NEW.created_at, NEW.not_before);
BEGIN
    PERFORM export_control.metric_turn();
    PERFORM export_control.metric_add('exports', NEW.status::text, asked,
        CASE WHEN NEW.status IN ('failed', 'queued') THEN coalesce(NEW.error_type, '') ELSE '' END, 1);
    IF NEW.status = 'completed' THEN
        PERFORM export_control.metric_add('rows', '', asked, '', coalesce(NEW.package_rows, 0));
        PERFORM export_control.metric_add('bytes', '', asked, '', coalesce(NEW.package_bytes, 0));
        PERFORM export_control.metric_observe('export_duration_seconds', asked,
                                              extract(epoch FROM NEW.completed_at - NEW.started_at));
        PERFORM export_control.metric_observe('export_size_bytes', asked, coalesce(NEW.package_bytes, 0));
        PERFORM export_control.metric_observe('export_wait_seconds', asked,
                                              greatest(extract(epoch FROM waited), 0));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER count_outcome AFTER UPDATE ON export_control.export_requests DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status <> 'processing' AND (NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt))
    EXECUTE FUNCTION export_control.count_outcome();

CREATE FUNCTION export_control.count_delivery() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM export_control.metric_turn();
    PERFORM export_control.metric_add('deliveries', NEW.status::text, NEW.method, '', 1);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER count_delivery AFTER UPDATE ON export_control.export_deliveries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status <> OLD.status AND NEW.status <> 'sending')
    EXECUTE FUNCTION export_control.count_delivery();

-- All counters and histograms, for operators.
CREATE FUNCTION export_control.metric_totals()
RETURNS TABLE (name text, status text, kind text, error_type text, value double precision, bounds double precision[],
               counts bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.name, c.status, c.kind, c.error_type, c.value::double precision, NULL, NULL
    FROM export_control.metric_counters AS c WHERE (export_control.countable(NULL)).everything
    UNION ALL
    SELECT h.name, '', h.kind, '', h.total, export_control.metric_bounds(h.name), h.counts
    FROM export_control.metric_histograms AS h WHERE (export_control.countable(NULL)).everything
$$;

-- What waits and runs now, notices about schedules included. Indexes hold only what is open, so the length of the
-- history does not matter.
CREATE FUNCTION export_control.queue_now(of_tenant text DEFAULT NULL)
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

-- What the last day was like.
CREATE FUNCTION export_control.queue_recent(of_tenant text DEFAULT NULL)
RETURNS TABLE (completed_last_hour bigint, completed_last_day bigint, failed_last_day bigint, cancelled_last_day bigint,
               wait_median double precision, wait_p95 double precision, run_median double precision,
               run_p95 double precision, failures jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH scope AS MATERIALIZED (SELECT * FROM export_control.countable(of_tenant)),
    ended AS MATERIALIZED (
        SELECT r.status, r.error_type, r.completed_at > now() - interval '1 hour' AS lately,
               CASE WHEN r.started_at < greatest(r.created_at, r.not_before) THEN 0
                    ELSE extract(epoch FROM r.started_at - greatest(r.created_at, r.not_before))::double precision
               END AS waited,
               extract(epoch FROM r.completed_at - r.started_at)::double precision AS ran
        FROM export_control.export_requests AS r, scope
        WHERE r.completed_at > now() - interval '1 day' AND (scope.everything OR r.tenant_id = scope.tenant)
    )
    SELECT count(*) FILTER (WHERE status IN ('completed', 'expired') AND lately),
           count(*) FILTER (WHERE status IN ('completed', 'expired')),
           count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled'),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY waited), percentile_cont(0.95) WITHIN GROUP (ORDER BY waited),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY ran) FILTER (WHERE status IN ('completed', 'expired')),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY ran) FILTER (WHERE status IN ('completed', 'expired')),
           (SELECT coalesce(jsonb_object_agg(error_type, n), '{}') FROM (
                SELECT coalesce(error_type, 'internal') AS error_type, count(*) AS n
                FROM ended WHERE status = 'failed' GROUP BY 1) AS kinds)
    FROM ended
$$;

REVOKE ALL ON FUNCTION
    export_control.metric_add(text, text, text, text, numeric),
    export_control.metric_observe(text, text, double precision), export_control.metric_format(jsonb, boolean),
    export_control.count_outcome(), export_control.count_delivery(),
    export_control.metric_totals(), export_control.queue_now(text), export_control.queue_recent(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    export_control.metric_totals(), export_control.queue_now(text), export_control.queue_recent(text) TO export_api;
