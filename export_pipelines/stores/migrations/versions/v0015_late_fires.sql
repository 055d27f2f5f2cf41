-- Whether a fire since the last completed export is none itself after the time expected, or nobody dispatched one. By
-- the newest fire alone, whatever fires again within that time would never be late.
CREATE OR REPLACE FUNCTION export_control.is_late(s export_control.export_schedules, late interval) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT s.state = 'active' AND s.deleted_at IS NULL AND (
        s.next_fire_at < now() - late
        OR EXISTS (
            SELECT FROM export_control.export_requests AS r
            WHERE r.schedule_id = s.id AND r.scheduled_for > coalesce(s.fulfilled_at, '-infinity')
              AND r.scheduled_for < now() - late - make_interval(secs => s.jitter_seconds)))
$$;
