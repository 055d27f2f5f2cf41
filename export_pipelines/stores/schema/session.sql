-- Who is asking: the service, which owns everything here, or the API in a caller's name. See docs/access.md.

-- The API acts as this role: rights on columns, rows by policy. Roles belong to the server, so it may be there already.
-- Where its logins are members by an administrator's hand, this one need not be.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'export_api') THEN
        BEGIN
            CREATE ROLE export_api NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
        END;
    END IF;
    BEGIN
        EXECUTE format('GRANT export_api TO %I', current_user);
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END $$;
GRANT USAGE ON SCHEMA export_control TO export_api;

-- Who asks: the service itself, which is bound by nothing here, or the API in somebody's name.
CREATE FUNCTION export_control.acts_for_service() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT current_setting('role') <> 'export_api'
       AND pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'export_control'), 'USAGE')
$$;

-- Whether the caller of this transaction may see a row of that tenant and user.
CREATE FUNCTION export_control.sees(tenant text, owner text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT tenant = current_setting('export_control.tenant', true)
       AND CASE current_setting('export_control.role', true)
           WHEN 'admin' THEN true
           WHEN 'member' THEN owner = current_setting('export_control.user', true)
           ELSE false END
$$;

-- Whose exports the caller may count: everybody's, one tenant's, or (tenant NULL) nobody's.
CREATE FUNCTION export_control.countable(wanted text, OUT everything boolean, OUT tenant text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT unbound AND wanted IS NULL,
           CASE WHEN unbound OR (role = 'admin' AND own = coalesce(wanted, own)) THEN coalesce(wanted, own) END
    FROM (SELECT export_control.acts_for_service() OR role = 'operator' AS unbound, role, own
          FROM (SELECT current_setting('export_control.role', true) AS role,
                       nullif(current_setting('export_control.tenant', true), '') AS own) AS told) AS caller
$$;

-- For tables that are only appended to.
CREATE FUNCTION export_control.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
