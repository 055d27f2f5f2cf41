-- What the end of each schema.sql calls: the exporter's rights and the row-level security of one sample.
-- Functions of the session (pg_temp), so that nothing but the sample stays in the database.

-- The exporter's roles. They are shared by all databases of a server, so another one may be creating them right now.
CREATE FUNCTION pg_temp.make_readers() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['export_reader', 'export_reader_directory'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;

-- Grants every column but those of kept_back (`table` or `table.column`) to the reader, and the list of tenants
-- (id, slug, name) to the directory role.
CREATE FUNCTION pg_temp.let_read(namespace regnamespace, root text, kept_back text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    granted record;
BEGIN
    PERFORM pg_temp.make_readers();
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO export_reader, export_reader_directory', namespace);
    EXECUTE format('GRANT SELECT (id, slug, name) ON %s.%I TO export_reader_directory', namespace, root);
    FOR granted IN
        SELECT c.relname AS name, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = namespace AND c.relkind = 'r' AND c.relname <> ALL (kept_back)
          AND c.relname || '.' || a.attname <> ALL (kept_back)
        GROUP BY c.relname
    LOOP
        EXECUTE format('GRANT SELECT (%s) ON %s.%I TO export_reader', granted.columns, namespace, granted.name);
    END LOOP;
END
$$;

-- Row-level security: the application keeps its access, the exporter sees rows that pass the test or none.
CREATE FUNCTION pg_temp.secure(relation regclass, test text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format(
        'CREATE POLICY export_keep_access ON %s AS PERMISSIVE FOR ALL TO PUBLIC USING (true) WITH CHECK (true)',
        relation);
    EXECUTE format(
        'CREATE POLICY export_tenant_read ON %s AS PERMISSIVE FOR SELECT TO export_reader USING (%s)', relation, test);
    EXECUTE format(
        'CREATE POLICY export_tenant_only ON %s AS RESTRICTIVE FOR SELECT TO export_reader USING (%s)', relation, test);
END
$$;

-- The tenant of this transaction; NULL, which equals nothing, where it is unset or empty.
CREATE FUNCTION pg_temp.tenant() RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'NULLIF(current_setting(''export.tenant_id'', true), '''')::uuid';

-- Tables with a column that holds the tenant.
CREATE FUNCTION pg_temp.keep_apart(namespace regnamespace, tables text[], tenant_column text) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_temp.secure(format('%s.%I', namespace, name)::regclass, format('%I = %s', tenant_column, pg_temp.tenant()))
    FROM unnest(tables) AS name
$$;

-- A table whose rows without a tenant are every tenant's. What goes beyond a plain comparison `catalog check` knows by
-- the mark that `catalog rls` leaves (export_pipelines/catalog/predicate.py), so this is its text, letter by letter.
CREATE FUNCTION pg_temp.keep_apart_or_shared(namespace regnamespace, name text, tenant_column text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    relation regclass := format('%s.%I', namespace, name);
    owner text := format('"%s"."%s"."%s"', namespace, name, tenant_column);
    tenant text := 'NULLIF(pg_catalog.current_setting(''export.tenant_id'', true), '''')';
    test text := format('(%1$s OPERATOR(pg_catalog.=) %2$s::uuid OR (%1$s IS NULL AND %2$s IS NOT NULL))', owner, tenant);
    policy text;
BEGIN
    PERFORM pg_temp.secure(relation, test);
    FOREACH policy IN ARRAY ARRAY['export_tenant_read', 'export_tenant_only'] LOOP
        EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', policy, relation,
                       'Rows of one tenant, as the export catalog says: ' || encode(sha256(test::bytea), 'hex'));
    END LOOP;
END
$$;

-- A table whose column `key` leads to the id of a parent that has the tenant's column.
CREATE FUNCTION pg_temp.keep_apart_through(
    namespace regnamespace, child text, key text, parent text, tenant_column text
) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.secure(
        format('%s.%I', namespace, child)::regclass,
        format('EXISTS (SELECT 1 FROM %s.%I AS parent WHERE parent.id = %I.%I AND parent.%I = %s)',
               namespace, parent, child, key, tenant_column, pg_temp.tenant()))
$$;
