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

-- Who may see a shared template may use it, which is all that is written about it.
CREATE FUNCTION export_control.use_template(template uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE export_control.export_templates AS t SET times_used = t.times_used + 1, last_used_at = now()
    WHERE t.id = template AND (export_control.acts_for_service() OR export_control.sees(t.tenant_id, t.owner)
        OR (t.shared AND t.tenant_id = current_setting('export_control.tenant', true)))
$$;
REVOKE ALL ON FUNCTION export_control.use_template(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.use_template(uuid) TO export_api;

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
CREATE POLICY by_grant ON export_control.export_templates
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT, DELETE,
      INSERT (id, tenant_id, owner, name, description, shared, config, estimated_rows, estimated_bytes, estimated_seconds),
      UPDATE (name, description, shared, config, estimated_rows, estimated_bytes, estimated_seconds, version, updated_at)
    ON export_control.export_templates TO export_api;
