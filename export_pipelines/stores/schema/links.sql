-- Links: who has the token may download until it expires. Only hashes of tokens and passwords are stored.
CREATE TABLE export_control.export_links (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id     uuid NOT NULL REFERENCES export_control.export_requests (id),
    token_sha256   text NOT NULL UNIQUE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text,
    label          text CHECK (length(label) <= 200),
    password_hash  text,
    has_password   boolean NOT NULL GENERATED ALWAYS AS (password_hash IS NOT NULL) STORED,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz,
    max_uses       integer CHECK (max_uses >= 1),
    uses           integer NOT NULL DEFAULT 0,
    last_used_at   timestamptz
);
CREATE INDEX export_links_request ON export_control.export_links (request_id);

-- What a link leads to. Its token is the credential, so nobody else's rights are asked.
CREATE FUNCTION export_control.find_link(token text)
RETURNS TABLE (link_id uuid, request_id uuid, tenant_id text, name text, rows bigint, size_bytes bigint,
               completed_at timestamptz, available_until timestamptz, password_hash text, uses_left integer, files jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.id, r.id, r.tenant_id, nullif(r.config ->> 'name', ''), r.package_rows, r.package_bytes,
           r.completed_at, least(l.expires_at, r.expires_at), l.password_hash, l.max_uses - l.uses,
           (SELECT jsonb_agg(jsonb_build_object('key', f.key, 'path', f.path, 'media_type', f.media_type,
                                                'rows', f.rows, 'size_bytes', f.size_bytes, 'sha256', f.sha256,
                                                'crc32', f.crc32)
                             ORDER BY f.position)
            FROM export_control.export_files f WHERE f.request_id = r.id)
    FROM export_control.export_links l JOIN export_control.export_requests r ON r.id = l.request_id
    WHERE l.token_sha256 = token AND l.expires_at > now() AND l.revoked_at IS NULL
      AND r.status = 'completed' AND r.expires_at > now() AND r.deleted_at IS NULL
$$;

-- Count one use of a link; false when there is none left. By its token, as it is found: ids of links are listed and
-- logged, and whoever knows one could use up a foreign link. One that was revoked after it was found has no use left.
CREATE FUNCTION export_control.use_link(token text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        UPDATE export_control.export_links SET uses = uses + 1, last_used_at = now()
        WHERE token_sha256 = token AND expires_at > now() AND revoked_at IS NULL
          AND (max_uses IS NULL OR uses < max_uses) RETURNING 1
    )
    SELECT EXISTS (SELECT FROM used)
$$;
REVOKE ALL ON FUNCTION export_control.find_link(text), export_control.use_link(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.find_link(text), export_control.use_link(text) TO export_api;

-- Whose exports a caller sees says nothing about the links to them: hashes of tokens and passwords are not told.
ALTER TABLE export_control.export_links ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_links TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
CREATE POLICY by_grant ON export_control.export_links
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT (id, request_id, created_at, expires_at, revoked_at, uses, last_used_at, created_by, label, max_uses,
              has_password),
      INSERT (request_id, token_sha256, expires_at, created_by, label, password_hash, max_uses),
      UPDATE (revoked_at) ON export_control.export_links TO export_api;
