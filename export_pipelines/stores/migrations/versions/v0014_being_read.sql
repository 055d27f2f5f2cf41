-- Whose rows a configuration converts; NULL for no conversion and for what is no id. The host application may write an
-- id in any form that a UUID has.
CREATE FUNCTION export_control.origin_of(config jsonb) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN digits ~ '^[0-9a-f]{32}$' THEN digits::uuid END
    FROM (SELECT translate(regexp_replace(lower(config ->> 'convert'), '^urn:uuid:', ''), '{}-', '') AS digits) AS written
$$;

-- Whether an open conversion reads the kept rows of this export, at any depth: a conversion of a conversion reads the
-- first one's. Members do not see what others convert, and their deletions must not take it away.
CREATE FUNCTION export_control.is_being_read(request uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE origins (id) AS (
        SELECT export_control.origin_of(config) FROM export_control.export_requests
        WHERE status IN ('queued', 'processing') AND config ? 'convert'
        UNION
        SELECT export_control.origin_of(r.config) FROM origins AS o JOIN export_control.export_requests AS r ON r.id = o.id
        WHERE r.config ? 'convert'
    )
    SELECT EXISTS (SELECT FROM origins WHERE id = request)
$$;

REVOKE ALL ON FUNCTION export_control.is_being_read(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.is_being_read(uuid) TO export_api;
