-- The schema of 0.1.0, as it was when migrations began. It never changes; `stores/schema` is the schema as it is.
SET LOCAL check_function_bodies = off;

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

-- Requests: one row is one export somebody asked for. The host application may insert rows here by SQL.

CREATE TYPE export_control.request_status AS ENUM
    ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired');

CREATE TABLE export_control.export_requests (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id           text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    -- Who asked, with which right; NULL is the host application or an operator, who may ask for everything.
    requested_by        text CHECK (length(requested_by) <= 200),
    requested_role      text CHECK (requested_role IN ('member', 'admin')),
    config              jsonb NOT NULL,
    -- A password that an open request still needs, encrypted by the service (stores/secrets.py), and for whom.
    sealed_secrets      bytea,
    secrets_sealed_for  uuid,  -- the schedule it was sealed for; NULL: the request itself
    status              export_control.request_status NOT NULL DEFAULT 'queued',
    launched_by         text NOT NULL DEFAULT 'sensor' CHECK (launched_by IN ('sensor', 'cli')),
    priority            smallint NOT NULL DEFAULT 0,
    attempt             integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    max_attempts        integer NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    not_before          timestamptz NOT NULL DEFAULT now(),
    asked_at            timestamptz,  -- when a run was last asked for: a hint for the order of asking, never a claim
    run_id              text,
    idempotency_key     text,
    -- An outage: since when nothing the request needs has answered, and how many attempts met that.
    unavailable_since   timestamptz,
    outages             integer NOT NULL DEFAULT 0,
    -- What it comes from. The pair of schedule and fire is what makes a fire one request, whatever dispatches it.
    schedule_id         uuid,
    scheduled_for       timestamptz,  -- NULL: run by hand
    window_end          timestamptz,  -- up to where the schedule's window reads
    batch_id            uuid,
    -- What was expected.
    estimated_rows      bigint CHECK (estimated_rows >= 0),
    estimated_bytes     bigint CHECK (estimated_bytes >= 0),
    estimated_seconds   double precision CHECK (estimated_seconds >= 0),
    -- Progress: written by the run that holds run_id, at most once a second.
    percentage          numeric(5, 2) NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    rows_processed      bigint NOT NULL DEFAULT 0,
    total_rows          bigint,
    current_table       text,
    files_created       integer NOT NULL DEFAULT 0,
    heartbeat_at        timestamptz,
    cancel_requested    boolean NOT NULL DEFAULT false,
    -- Outcome.
    error_type          text,
    error_message       text,
    failure_announced   boolean NOT NULL DEFAULT false,  -- people were told that it failed, or there was nobody to tell
    package_prefix      text,
    package_rows        bigint,
    package_bytes       bigint,
    manifest_sha256     text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    completed_at        timestamptz,
    expires_at          timestamptz,
    deleted_at          timestamptz,  -- gone for people; the row stays for the history
    objects_removed_at  timestamptz,  -- its files are gone, too
    CONSTRAINT completed_has_package CHECK (status NOT IN ('completed', 'expired') OR package_prefix IS NOT NULL),
    CONSTRAINT failed_has_reason CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT processing_has_run CHECK (status <> 'processing' OR run_id IS NOT NULL),
    CONSTRAINT queued_has_no_run CHECK (status <> 'queued' OR run_id IS NULL),
    CONSTRAINT secrets_end_with_the_request CHECK (sealed_secrets IS NULL OR status IN ('queued', 'processing')),
    CONSTRAINT only_ended_ones_are_deleted CHECK (
        deleted_at IS NULL OR status NOT IN ('queued', 'processing', 'completed')),
    CONSTRAINT one_request_a_fire UNIQUE (schedule_id, scheduled_for),
    CONSTRAINT fires_are_of_schedules CHECK (schedule_id IS NOT NULL OR num_nonnulls(scheduled_for, window_end) = 0)
) WITH (fillfactor = 80);  -- progress is written every second and changes no indexed column: it stays in the page

CREATE UNIQUE INDEX export_requests_idempotency ON export_control.export_requests (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX export_requests_open ON export_control.export_requests (priority DESC, created_at) WHERE status = 'queued';
CREATE INDEX export_requests_running ON export_control.export_requests (created_at) WHERE status = 'processing';
CREATE INDEX export_requests_unavailable ON export_control.export_requests (not_before)
    WHERE status = 'queued' AND unavailable_since IS NOT NULL;
CREATE INDEX export_requests_recent ON export_control.export_requests (created_at DESC, id);
CREATE INDEX export_requests_history ON export_control.export_requests (tenant_id, created_at DESC, id DESC);
CREATE INDEX export_requests_mine ON export_control.export_requests (tenant_id, requested_by, created_at DESC, id DESC);
CREATE INDEX export_requests_ended ON export_control.export_requests (completed_at DESC) WHERE completed_at IS NOT NULL;
CREATE INDEX export_requests_batch ON export_control.export_requests (batch_id) WHERE batch_id IS NOT NULL;
-- What the nightly cleanup looks for; both hold only what it has yet to do or will have to. The third is for a tenant's
-- admins, who clean up by age.
CREATE INDEX export_requests_expiring ON export_control.export_requests (expires_at) WHERE status = 'completed';
CREATE INDEX export_requests_unremoved ON export_control.export_requests (id)
    WHERE objects_removed_at IS NULL AND (status = 'expired' OR deleted_at IS NOT NULL);
CREATE INDEX export_requests_age ON export_control.export_requests (tenant_id, completed_at) WHERE status = 'completed';
-- Whose failure people have yet to be told of.
CREATE INDEX export_requests_unannounced ON export_control.export_requests (completed_at)
    WHERE status = 'failed' AND NOT failure_announced;

-- Events: every transition of every request, append-only.
CREATE TABLE export_control.export_request_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id  uuid NOT NULL REFERENCES export_control.export_requests (id),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    old_status  export_control.request_status,
    new_status  export_control.request_status NOT NULL,
    attempt     integer NOT NULL,
    run_id      text,
    detail      text
);
CREATE INDEX export_request_events_request ON export_control.export_request_events (request_id, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON export_control.export_request_events
    FOR EACH STATEMENT EXECUTE FUNCTION export_control.refuse_change();

-- Files of a published package.
CREATE TABLE export_control.export_files (
    request_id  uuid NOT NULL REFERENCES export_control.export_requests (id),
    position    integer NOT NULL,
    key         text NOT NULL,
    path        text NOT NULL,
    media_type  text NOT NULL,
    rows        bigint NOT NULL CHECK (rows >= 0),
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    crc32       bigint NOT NULL CHECK (crc32 BETWEEN 0 AND 4294967295),  -- of a member of a ZIP
    PRIMARY KEY (request_id, position)
);

-- Triggers of one event fire in the order of their names -------------------------------------------------------------

CREATE FUNCTION export_control.adopt_password() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.sealed_password, s.id INTO NEW.sealed_secrets, NEW.secrets_sealed_for
    FROM export_control.export_schedules AS s
    WHERE s.id = NEW.schedule_id AND s.tenant_id = NEW.tenant_id AND s.deleted_at IS NULL
      AND s.sealed_password IS NOT NULL
      AND (export_control.acts_for_service() OR export_control.sees(s.tenant_id, s.owner));
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION export_control.adopt_password() FROM PUBLIC;
CREATE TRIGGER adopt_password BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.sealed_secrets IS NULL
                       AND NEW.config #> '{encryption,password}' = '{"sealed": true}')
    EXECUTE FUNCTION export_control.adopt_password();

-- A new row must be a plain order, of tables, modules, whole tables in bulk, or a finished export to convert, whatever
-- rights its author has. A bulk order may leave the tables to the catalog as it is when the run begins.
CREATE FUNCTION export_control.check_new_request() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status <> 'queued' OR NEW.attempt <> 1 OR NEW.cancel_requested
       OR NEW.percentage <> 0 OR NEW.rows_processed <> 0 OR NEW.files_created <> 0
       OR num_nonnulls(NEW.run_id, NEW.asked_at, NEW.total_rows, NEW.current_table, NEW.heartbeat_at, NEW.error_type,
                       NEW.error_message, NEW.package_prefix, NEW.package_rows, NEW.package_bytes, NEW.manifest_sha256,
                       NEW.started_at, NEW.completed_at, NEW.expires_at) > 0 THEN
        RAISE EXCEPTION 'a new request starts as queued, attempt 1, without run, progress or package; '
            'give tenant_id, config, requested_by, idempotency_key and priority only' USING ERRCODE = 'check_violation';
    END IF;
    IF length(NEW.tenant_id) > 200 THEN
        RAISE EXCEPTION 'tenant_id: has % characters; ids of tenants have at most 200', length(NEW.tenant_id)
            USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config) <> 'object' THEN
        RAISE EXCEPTION 'config: must be a JSON object, got %', jsonb_typeof(NEW.config) USING ERRCODE = 'check_violation';
    END IF;
    IF octet_length(NEW.config::text) > 65536 THEN
        RAISE EXCEPTION 'config: is larger than 65536 bytes' USING ERRCODE = 'check_violation';
    END IF;
    -- A thousand levels are more than a JSON reader takes, and one unreadable row would stop the reading of all.
    IF jsonb_path_exists(NEW.config, '$.**{32}') THEN
        RAISE EXCEPTION 'config: is nested deeper than 32 levels' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'format') IS DISTINCT FROM 'string' THEN
        RAISE EXCEPTION 'config.format: name a format, for example "csv"' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'tables') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'data_sources') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'modules') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'convert') IS DISTINCT FROM 'string'
       AND coalesce(NEW.config ->> 'export_type', '') NOT IN ('full_backup', 'migration', 'audit') THEN
        RAISE EXCEPTION 'config.tables: list the tables to export, for example ["pets"]' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_new_request BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.check_new_request();

-- A configuration is kept for ever and read by many: it may say that there is a password, never which.
CREATE FUNCTION export_control.check_secrets() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM jsonb_path_query(NEW.config, '$.**.password') AS password
        WHERE password NOT IN ('null', '{"sealed": true}')
    ) THEN
        RAISE EXCEPTION 'config.encryption.password: a password in clear would be kept here for everybody to read; '
            'encrypt for age recipients, which need no secret, or order through export-pipelines or the API'
            USING ERRCODE = 'check_violation';
    END IF;
    IF coalesce(NEW.config #> '{encryption,password}' = '{"sealed": true}', false) <> (NEW.sealed_secrets IS NOT NULL) THEN
        RAISE EXCEPTION 'config.encryption.password: only the service seals passwords; encrypt for age recipients, '
            'or order through export-pipelines or the API' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_secrets BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.check_secrets();

-- The total is known from the first moment where an estimate came with the order.
CREATE FUNCTION export_control.expect_rows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.total_rows := NEW.estimated_rows;
    RETURN NEW;
END $$;
CREATE TRIGGER expect_rows BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.estimated_rows IS NOT NULL) EXECUTE FUNCTION export_control.expect_rows();

-- The legal transitions; core/status.py holds the same table.
CREATE FUNCTION export_control.may_become(old export_control.request_status, new export_control.request_status)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (old, new) IN (
        ('queued', 'processing'), ('queued', 'failed'), ('queued', 'cancelled'),
        ('processing', 'queued'), ('processing', 'completed'), ('processing', 'failed'), ('processing', 'cancelled'),
        ('completed', 'expired'),
        ('failed', 'queued'), ('cancelled', 'queued')
    )
$$;

CREATE FUNCTION export_control.check_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status <> OLD.status AND NOT export_control.may_become(OLD.status, NEW.status) THEN
        RAISE EXCEPTION 'request % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id OR NEW.config <> OLD.config OR NEW.attempt < OLD.attempt THEN
        RAISE EXCEPTION 'request %: id, tenant and config never change, attempts only grow', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.status = 'queued' THEN  -- again: when this fails, people are told of it anew
        NEW.failure_announced := false;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_transition BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.check_transition();

-- The API orders, cancels, queues again and removes; a run alone works on a request and completes it.
CREATE FUNCTION export_control.check_caller() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF row_security_active('export_control.export_requests') AND NEW.status IN ('processing', 'completed') THEN
        RAISE EXCEPTION 'only a run makes a request %', NEW.status USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_caller BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION export_control.check_caller();

-- Whoever ends a request, and however: its secrets go with it.
CREATE FUNCTION export_control.wipe_secrets() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.sealed_secrets := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER wipe_secrets BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.status NOT IN ('queued', 'processing') AND NEW.sealed_secrets IS NOT NULL)
    EXECUTE FUNCTION export_control.wipe_secrets();

-- A request that is given other secrets (a retry) has them for itself.
CREATE FUNCTION export_control.own_secrets() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.secrets_sealed_for := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER own_secrets BEFORE UPDATE OF sealed_secrets ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.sealed_secrets IS DISTINCT FROM OLD.sealed_secrets)
    EXECUTE FUNCTION export_control.own_secrets();

-- Who may insert a request may not write events: the trigger does it, with its owner's rights and a fixed search_path.
-- It names the run that took or left the request.
CREATE FUNCTION export_control.record_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO export_control.export_request_events (request_id, new_status, attempt)
        VALUES (NEW.id, NEW.status, NEW.attempt);
    ELSIF NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt OR NEW.run_id IS DISTINCT FROM OLD.run_id THEN
        INSERT INTO export_control.export_request_events (request_id, old_status, new_status, attempt, run_id, detail)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt, coalesce(NEW.run_id, OLD.run_id), NEW.error_message);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION export_control.record_event() FROM PUBLIC;
CREATE TRIGGER record_event AFTER INSERT OR UPDATE ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.record_event();

-- Conversions ---------------------------------------------------------------------------------------------------------

-- Whose rows a configuration converts; NULL for no conversion and for what is no id. The host application may write an
-- id in any form that a UUID has.
CREATE FUNCTION export_control.origin_of(config jsonb) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN digits ~ '^[0-9a-f]{32}$' THEN digits::uuid END
    FROM (SELECT translate(regexp_replace(lower(config ->> 'convert'), '^urn:uuid:', ''), '{}-', '') AS digits) AS written
$$;

-- Whether a conversion reads an export is told to whoever sees that export.
CREATE FUNCTION export_control.is_being_read(request uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE origins (id) AS (
        SELECT export_control.origin_of(config) FROM export_control.export_requests
        WHERE status IN ('queued', 'processing') AND config ? 'convert'
        UNION
        SELECT export_control.origin_of(r.config) FROM origins AS o JOIN export_control.export_requests AS r ON r.id = o.id
        WHERE r.config ? 'convert'
    )
    SELECT EXISTS (
        SELECT FROM origins JOIN export_control.export_requests AS r USING (id)
        WHERE id = request AND (export_control.acts_for_service() OR export_control.sees(r.tenant_id, r.requested_by)))
$$;
REVOKE ALL ON FUNCTION export_control.is_being_read(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.is_being_read(uuid) TO export_api;

-- The API -------------------------------------------------------------------------------------------------------------

ALTER TABLE export_control.export_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_requests FOR SELECT TO export_api
    USING (export_control.sees(tenant_id, requested_by));
CREATE POLICY own ON export_control.export_requests FOR INSERT TO export_api
    WITH CHECK (tenant_id = current_setting('export_control.tenant', true)
                AND requested_by = current_setting('export_control.user', true)
                AND requested_role = current_setting('export_control.role', true));
CREATE POLICY changed ON export_control.export_requests FOR UPDATE TO export_api
    USING (export_control.sees(tenant_id, requested_by));
-- Other roles, such as the host application's, see what their grants say. Members of export_api are none.
CREATE POLICY by_grant ON export_control.export_requests
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));

ALTER TABLE export_control.export_request_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_request_events FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
CREATE POLICY by_grant ON export_control.export_request_events
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));

ALTER TABLE export_control.export_files ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_files FOR SELECT TO export_api
    USING (EXISTS (SELECT FROM export_control.export_requests r WHERE r.id = request_id));
CREATE POLICY by_grant ON export_control.export_files
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));

GRANT SELECT (id, tenant_id, config, requested_by, requested_role, status, launched_by, priority, attempt, max_attempts,
              not_before, asked_at, run_id, idempotency_key, schedule_id, scheduled_for, window_end, batch_id, percentage,
              rows_processed, total_rows, current_table, files_created, heartbeat_at, cancel_requested, error_type,
              error_message, package_prefix, package_rows, package_bytes, manifest_sha256, estimated_rows,
              estimated_bytes, estimated_seconds, created_at, started_at, completed_at, expires_at, deleted_at,
              objects_removed_at),
      INSERT (id, tenant_id, config, requested_by, requested_role, launched_by, idempotency_key, priority,
              sealed_secrets, estimated_rows, estimated_bytes, estimated_seconds, schedule_id, window_end, batch_id),
      UPDATE (status, attempt, max_attempts, run_id, asked_at, cancel_requested, launched_by, not_before, error_type,
              error_message, completed_at, sealed_secrets, unavailable_since, outages, deleted_at, objects_removed_at)
    ON export_control.export_requests TO export_api;
GRANT SELECT ON export_control.export_request_events, export_control.export_files TO export_api;

-- A bulk order: one row here, one request for each format asked for.
CREATE TABLE export_control.export_batches (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    requested_by    text CHECK (length(requested_by) <= 200),
    export_type     text NOT NULL CHECK (export_type IN ('full_backup', 'migration', 'audit')),
    total_tables    integer NOT NULL CHECK (total_tables >= 0),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX export_batches_history ON export_control.export_batches (tenant_id, created_at DESC, id DESC);
ALTER TABLE export_control.export_requests
    ADD FOREIGN KEY (batch_id) REFERENCES export_control.export_batches (id);

-- A request joins only a batch of its own tenant.
CREATE FUNCTION export_control.check_batch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM export_control.export_batches AS b
                   WHERE b.id = NEW.batch_id AND b.tenant_id = NEW.tenant_id) THEN
        RAISE EXCEPTION 'batch % is not one of this tenant', NEW.batch_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_batch BEFORE INSERT OR UPDATE OF batch_id, tenant_id ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.batch_id IS NOT NULL) EXECUTE FUNCTION export_control.check_batch();

-- Batches are for admins, of their tenant.
ALTER TABLE export_control.export_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_admins ON export_control.export_batches TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND current_setting('export_control.role', true) = 'admin');
CREATE POLICY by_grant ON export_control.export_batches
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT, INSERT (id, tenant_id, requested_by, export_type, total_tables) ON export_control.export_batches TO export_api;

-- Schedules: exports that recur. Each fire becomes one row of export_requests; stores/dispatch.py does it.
CREATE TABLE export_control.export_schedules (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    owner            text NOT NULL CHECK (owner <> '' AND length(owner) <= 200),
    owner_role       text CHECK (owner_role IN ('member', 'admin')),  -- NULL: an operator, as in export_requests
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    config           jsonb NOT NULL CHECK (
        jsonb_typeof(config) = 'object' AND NOT jsonb_path_exists(config, '$.**.password ? (@.type() == "string")')),
    sealed_password  bytea,  -- bound to this schedule; each request gets one bound to itself
    cron             text NOT NULL CHECK (length(cron) <= 200),
    timezone         text NOT NULL CHECK (length(timezone) <= 64),
    data_window      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data_window) = 'object'),
    catch_up         text NOT NULL DEFAULT 'latest' CHECK (catch_up IN ('all', 'latest', 'skip')),
    jitter_seconds   integer NOT NULL DEFAULT 0 CHECK (jitter_seconds BETWEEN 0 AND 86400),
    keep_days        integer CHECK (keep_days BETWEEN 1 AND 36500),  -- NULL: as long as other exports
    pause_after      integer CHECK (pause_after >= 1),               -- failures in a row; NULL: never
    state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    paused_reason    text,
    next_fire_at     timestamptz NOT NULL,  -- while paused: the first that was missed
    last_fire_at     timestamptz,           -- the newest fire that became a request
    last_run_at      timestamptz,
    last_request_id  uuid,
    last_status      export_control.request_status,
    fulfilled_at     timestamptz,           -- the newest fire that is a completed export
    covered_until    timestamptz,           -- end of the newest window that is a completed export
    failures         integer NOT NULL DEFAULT 0,  -- in a row
    version          integer NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    UNIQUE (tenant_id, id),
    CONSTRAINT paused_has_reason CHECK ((state = 'paused') = (paused_reason IS NOT NULL)),
    CONSTRAINT password_is_sealed CHECK (
        coalesce(config #> '{encryption,password}' = '{"sealed": true}', false) = (sealed_password IS NOT NULL)
        OR deleted_at IS NOT NULL),
    CONSTRAINT deleted_keeps_no_password CHECK (deleted_at IS NULL OR sealed_password IS NULL)
);
CREATE INDEX export_schedules_due ON export_control.export_schedules (next_fire_at, id)
    WHERE state = 'active' AND deleted_at IS NULL;
CREATE INDEX export_schedules_tenant ON export_control.export_schedules (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
ALTER TABLE export_control.export_requests
    ADD CONSTRAINT of_a_schedule_of_the_tenant FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES export_control.export_schedules (tenant_id, id);

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
        INSERT INTO export_control.export_deliveries (schedule_id, kind, method, recipient, message)
        VALUES (schedule.id, 'schedule_paused', 'email', schedule.owner,
                jsonb_build_object('schedule', schedule.name, 'reason', schedule.paused_reason));
    END IF;
    PERFORM export_control.audit(
        schedule.tenant_id, NULL, 'service', NULL, 'schedule.auto_pause', 'schedule', schedule.id::text, 'ok', NULL,
        NULL, NULL, detail);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION export_control.pause_schedule(uuid, text, json) FROM PUBLIC;

-- What a request tells its schedule. Too many failures in a row pause it.
CREATE FUNCTION export_control.tell_schedule() RETURNS trigger
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
REVOKE ALL ON FUNCTION export_control.tell_schedule() FROM PUBLIC;
CREATE TRIGGER tell_schedule AFTER UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.status <> OLD.status)
    EXECUTE FUNCTION export_control.tell_schedule();

-- What a schedule makes is kept as long as the schedule says.
CREATE FUNCTION export_control.keep_as_scheduled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.expires_at := coalesce(
        NEW.completed_at + (SELECT make_interval(days => s.keep_days)
                            FROM export_control.export_schedules AS s WHERE s.id = NEW.schedule_id),
        NEW.expires_at);
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION export_control.keep_as_scheduled() FROM PUBLIC;
CREATE TRIGGER keep_as_scheduled BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW WHEN (NEW.schedule_id IS NOT NULL AND NEW.status = 'completed' AND OLD.status <> 'completed')
    EXECUTE FUNCTION export_control.keep_as_scheduled();

-- Whether a fire since the last completed export is none itself after the time expected, or nobody dispatched one. Takes
-- columns and no row: the API may not read all of one.
CREATE FUNCTION export_control.is_late(
    schedule uuid, state text, deleted_at timestamptz, next_fire_at timestamptz, fulfilled_at timestamptz,
    jitter_seconds integer, late interval
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT state = 'active' AND deleted_at IS NULL AND (
        next_fire_at < now() - late
        OR EXISTS (
            SELECT FROM export_control.export_requests AS r
            WHERE r.schedule_id = schedule AND r.scheduled_for > coalesce(fulfilled_at, '-infinity')
              AND r.scheduled_for < now() - late - make_interval(secs => jitter_seconds)))
$$;

-- Figures of schedules for operators. ``late``: after how long a fire that is no completed export yet is late.
CREATE FUNCTION export_control.schedule_figures(late interval)
RETURNS TABLE (active bigint, paused bigint, late_ones bigint, overdue_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE s.state = 'active'), count(*) FILTER (WHERE s.state = 'paused'),
           count(*) FILTER (WHERE export_control.is_late(
               s.id, s.state, s.deleted_at, s.next_fire_at, s.fulfilled_at, s.jitter_seconds, late)),
           (extract(epoch FROM now() - min(s.next_fire_at)
                FILTER (WHERE s.state = 'active' AND s.next_fire_at < now())))::double precision
    FROM export_control.export_schedules AS s
    WHERE s.deleted_at IS NULL AND (export_control.countable(NULL)).everything
$$;

-- Whoever saves a schedule through the API owns it from then on, in the role that the session names. A schedule without
-- a role runs as an operator's, which no caller of the API can make one.
CREATE FUNCTION export_control.check_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.acts_for_service()
       AND (NEW.owner IS DISTINCT FROM nullif(current_setting('export_control.user', true), '')
            OR NEW.owner_role IS DISTINCT FROM nullif(current_setting('export_control.role', true), '')) THEN
        RAISE EXCEPTION 'a schedule belongs to whoever saves it, in their own role'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_owner BEFORE UPDATE OF owner, owner_role ON export_control.export_schedules
    FOR EACH ROW WHEN ((NEW.owner, NEW.owner_role) IS DISTINCT FROM (OLD.owner, OLD.owner_role))
    EXECUTE FUNCTION export_control.check_owner();

ALTER TABLE export_control.export_schedules ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON export_control.export_schedules FOR SELECT TO export_api
    USING (export_control.sees(tenant_id, owner));
-- Who saves a schedule owns it, and it runs in its owner's role.
CREATE POLICY own ON export_control.export_schedules FOR INSERT TO export_api
    WITH CHECK (tenant_id = current_setting('export_control.tenant', true)
                AND owner = current_setting('export_control.user', true)
                AND owner_role = current_setting('export_control.role', true));
CREATE POLICY changed ON export_control.export_schedules FOR UPDATE TO export_api
    USING (export_control.sees(tenant_id, owner))
    WITH CHECK (export_control.sees(tenant_id, owner)
                AND (current_setting('export_control.role', true) = 'admin' OR owner_role = 'member'));
CREATE POLICY by_grant ON export_control.export_schedules
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
-- The API writes sealed passwords and reads none.
GRANT SELECT (id, tenant_id, owner, owner_role, name, config, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_fire_at, last_run_at, last_request_id,
              last_status, fulfilled_at, covered_until, failures, version, created_at, updated_at, deleted_at),
      INSERT (id, tenant_id, owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up,
              jitter_seconds, keep_days, pause_after, next_fire_at),
      UPDATE (owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up, jitter_seconds,
              keep_days, pause_after, state, paused_reason, next_fire_at, last_run_at, last_request_id, last_status,
              failures, covered_until, version, updated_at, deleted_at)
    ON export_control.export_schedules TO export_api;
REVOKE ALL ON FUNCTION export_control.schedule_figures(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.schedule_figures(interval) TO export_api;

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

-- How many schedules and templates a tenant may have, and how many of them one user, so that nobody takes all of them from
-- the rest. Also when somebody takes over what another one owned. After the change: a row that the policies refuse gets
-- no answer from here, and does not make a foreign tenant wait. Those of one tenant take turns until they commit, and what
-- is counted after that wait is a snapshot of READ COMMITTED, taken anew by each statement.
CREATE FUNCTION export_control.check_quota() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    things        CONSTANT text := TG_ARGV[0];
    most          CONSTANT bigint := TG_ARGV[1];
    most_of_user  CONSTANT bigint := TG_ARGV[2];
    there         bigint;
    there_of_user bigint;
    problem       text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(format('export_control.%s of %s', things, NEW.tenant_id), 0));
    IF things = 'schedules' THEN
        SELECT count(*), count(*) FILTER (WHERE s.owner = NEW.owner) INTO there, there_of_user
        FROM export_control.export_schedules AS s WHERE s.tenant_id = NEW.tenant_id AND s.deleted_at IS NULL;
    ELSE
        SELECT count(*), count(*) FILTER (WHERE t.owner = NEW.owner) INTO there, there_of_user
        FROM export_control.export_templates AS t WHERE t.tenant_id = NEW.tenant_id;
    END IF;
    IF there > most AND TG_OP = 'INSERT' THEN
        problem := format('the tenant has %s already, the most there may be; delete one first', most);
    ELSIF there_of_user > most_of_user THEN
        problem := format('the user has %s already, the most one may have; delete one first', most_of_user);
    ELSE
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '%', problem
        USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_of_the_tenant', COLUMN = things;
END $$;
REVOKE ALL ON FUNCTION export_control.check_quota() FROM PUBLIC;
CREATE TRIGGER check_quota AFTER INSERT ON export_control.export_schedules
    FOR EACH ROW EXECUTE FUNCTION export_control.check_quota('schedules', 500, 200);
CREATE TRIGGER check_quota AFTER INSERT ON export_control.export_templates
    FOR EACH ROW EXECUTE FUNCTION export_control.check_quota('templates', 1000, 400);
CREATE TRIGGER check_quota_of_owner AFTER UPDATE OF owner ON export_control.export_schedules
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION export_control.check_quota('schedules', 500, 200);
CREATE TRIGGER check_quota_of_owner AFTER UPDATE OF owner ON export_control.export_templates
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner)
    EXECUTE FUNCTION export_control.check_quota('templates', 1000, 400);

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

-- The audit log: a chain of hashes over everything that was changed or revealed. docs/access.md states the encoding.
CREATE TABLE export_control.audit_log (
    id               bigint PRIMARY KEY CHECK (id > 0),  -- without gaps
    at               timestamptz NOT NULL,
    tenant_id        text,
    user_id          text,
    role             text,
    credential       text,
    action           text NOT NULL,
    target_type      text,
    target_id        text,
    outcome          text NOT NULL CHECK (outcome IN ('ok', 'refused', 'failed')),
    ip               inet,
    user_agent       text,
    http_request_id  text,
    detail           json NOT NULL CHECK (json_typeof(detail) = 'object'),  -- json, not jsonb: the text is what is hashed
    previous_hash    bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash             bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_tenant ON export_control.audit_log (tenant_id, id);
CREATE INDEX audit_log_target ON export_control.audit_log (target_id, id) WHERE target_id IS NOT NULL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON export_control.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION export_control.refuse_change();

-- One field of an entry: bytes in UTF-8, colon, text, comma; or minus, comma where there is none.
CREATE FUNCTION export_control.audit_field(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(octet_length(convert_to(value, 'UTF8')) || ':' || value, '-') || ','
$$;

CREATE FUNCTION export_control.audit_hash(entry export_control.audit_log) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous_hash || convert_to(string_agg(export_control.audit_field(field), '' ORDER BY place), 'UTF8'))
    FROM unnest(ARRAY[
        entry.id::text, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        entry.tenant_id, entry.user_id, entry.role, entry.credential, entry.action, entry.target_type, entry.target_id,
        entry.outcome, host(entry.ip), entry.user_agent, entry.http_request_id, entry.detail::text
    ]) WITH ORDINALITY AS fields (field, place)
$$;

-- Appends an entry. Others wait until this transaction ends, so it comes last in one; the end of a chain that is read
-- before that wait ends would be an old one, which a snapshot of READ COMMITTED, taken anew by each statement, is not.
CREATE FUNCTION export_control.audit(
    tenant_id text, user_id text, role text, credential text, action text, target_type text, target_id text,
    outcome text, ip inet, user_agent text, http_request_id text, detail json,
    OUT id bigint, OUT at timestamptz, OUT hash bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry export_control.audit_log;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('export_control.audit_log', 0));
    SELECT last.id, last.hash INTO entry.id, entry.previous_hash
    FROM export_control.audit_log AS last ORDER BY last.id DESC LIMIT 1;
    entry.id := coalesce(entry.id, 0) + 1;
    entry.previous_hash := coalesce(entry.previous_hash, decode(repeat('00', 32), 'hex'));
    entry.at := clock_timestamp();
    entry.tenant_id := nullif(left(tenant_id, 200), '');
    entry.user_id := nullif(left(user_id, 200), '');
    entry.role := left(role, 20);
    entry.credential := left(credential, 200);
    entry.action := left(action, 100);
    entry.target_type := left(target_type, 100);
    entry.target_id := left(target_id, 200);
    entry.outcome := outcome;
    entry.ip := host(ip)::inet;
    entry.user_agent := left(user_agent, 500);
    entry.http_request_id := left(http_request_id, 200);
    entry.detail := CASE WHEN octet_length(detail::text) <= 4096 THEN detail
                         ELSE json_build_object('omitted_bytes', octet_length(detail::text)) END;
    entry.hash := export_control.audit_hash(entry);
    INSERT INTO export_control.audit_log SELECT entry.*;
    id := entry.id;
    at := entry.at;
    hash := entry.hash;
END $$;
REVOKE ALL ON FUNCTION export_control.audit(text, text, text, text, text, text, text, text, inet, text, text, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.audit(text, text, text, text, text, text, text, text, inet, text, text, json)
    TO export_api;

-- A line of the audit log that the API writes names its caller: tenant, user and role of the session, and an operator's
-- no tenant. Without a caller there is only the download behind a link, and it names the tenant of that export.
CREATE FUNCTION export_control.check_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    acts_as CONSTANT text := nullif(current_setting('export_control.role', true), '');
    of_tenant CONSTANT text := nullif(current_setting('export_control.tenant', true), '');
    of_user CONSTANT text := nullif(current_setting('export_control.user', true), '');
BEGIN
    IF export_control.acts_for_service() THEN
        RETURN NEW;
    END IF;
    IF acts_as IS NULL THEN
        IF NEW.action = 'export.download' AND num_nonnulls(NEW.role, NEW.user_id, NEW.credential) = 0
           AND EXISTS (SELECT FROM export_control.export_requests AS r
                       WHERE r.id::text = NEW.target_id AND r.tenant_id = NEW.tenant_id) THEN
            RETURN NEW;
        END IF;
    ELSIF NEW.role = acts_as AND NEW.tenant_id IS NOT DISTINCT FROM of_tenant
          AND of_user IN (NEW.user_id, NEW.credential) AND coalesce(NEW.user_id = of_user, true) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an entry of the audit log names its caller' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER check_entry BEFORE INSERT ON export_control.audit_log
    FOR EACH ROW EXECUTE FUNCTION export_control.check_entry();

ALTER TABLE export_control.audit_log ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON export_control.audit_log TO export_api;
CREATE POLICY audit_by_role ON export_control.audit_log FOR SELECT TO export_api USING (
    current_setting('export_control.role', true) = 'operator'
    OR (current_setting('export_control.role', true) = 'admin'
        AND tenant_id = nullif(current_setting('export_control.tenant', true), ''))
);

-- Credentials, rate limits, and the first answers to idempotent calls.

-- API keys: who holds one acts in its role. The key itself is nowhere, only its SHA-256.
CREATE TABLE export_control.api_keys (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name          text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    token_sha256  text NOT NULL UNIQUE CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
    hint          text NOT NULL CHECK (length(hint) = 4),  -- the key's last characters, to tell keys apart
    role          text NOT NULL CHECK (role IN ('member', 'admin', 'operator')),
    tenant_id     text CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    user_id       text CHECK (user_id <> '' AND length(user_id) <= 200),
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL CHECK (length(created_by) <= 200),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,  -- at most once a minute
    CONSTRAINT all_but_operators_have_a_tenant CHECK ((role = 'operator') = (tenant_id IS NULL)),
    CONSTRAINT members_have_a_user CHECK (role <> 'member' OR user_id IS NOT NULL)
);
CREATE INDEX api_keys_tenant ON export_control.api_keys (tenant_id, created_at);
-- No policy and no grant: the API never reads keys, it asks `authenticate` about one.
ALTER TABLE export_control.api_keys ENABLE ROW LEVEL SECURITY;

-- Who a key is for, while it is neither revoked nor expired. Nobody waits for another's note of the last use.
CREATE FUNCTION export_control.authenticate(of_token text)
RETURNS TABLE (id uuid, role text, tenant_id text, user_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH noted AS (
        UPDATE export_control.api_keys SET last_used_at = now()
        WHERE id = (
            SELECT k.id FROM export_control.api_keys AS k
            WHERE k.token_sha256 = of_token AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
              AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
            FOR UPDATE SKIP LOCKED
        )
    )
    SELECT k.id, k.role, k.tenant_id, k.user_id FROM export_control.api_keys AS k
    WHERE k.token_sha256 = of_token AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
REVOKE ALL ON FUNCTION export_control.authenticate(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.authenticate(text) TO export_api;

-- Rate limits: a bucket of tokens for each subject. Not logged: a crash of the server fills all buckets, no more.
CREATE UNLOGGED TABLE export_control.rate_limits (
    subject      text PRIMARY KEY CHECK (length(subject) <= 1000),
    tokens       double precision NOT NULL,
    refilled_at  timestamptz NOT NULL,
    allowed      boolean NOT NULL  -- whether the last try got a token
) WITH (fillfactor = 50);
ALTER TABLE export_control.rate_limits ENABLE ROW LEVEL SECURITY;

-- What a bucket holds at an instant. Without a search path of its own, so that it becomes part of the calling query.
CREATE FUNCTION export_control.refilled(
    tokens double precision, since timestamptz, at timestamptz, capacity integer, per interval
) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT least(capacity, tokens + greatest(0, extract(epoch FROM at - since)::float8) * capacity / extract(epoch FROM per)::float8)
$$;

-- Whose bucket the API may ask for: that of the caller that the session names, or without a caller those of addresses
-- and links. The subject is a JSON array that begins with what is counted; a caller's continues with tenant and name.
CREATE FUNCTION export_control.may_count(subject text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts jsonb;
BEGIN
    IF export_control.acts_for_service() THEN
        RETURN true;  -- before the text is parsed: the service may count anything
    END IF;
    parts := subject;
    IF coalesce(current_setting('export_control.role', true), '') = '' THEN
        RETURN coalesce(parts ->> 0 LIKE 'anonymous %', false);
    END IF;
    RETURN jsonb_array_length(parts) = 3
        AND parts ->> 1 IS NOT DISTINCT FROM nullif(current_setting('export_control.tenant', true), '')
        AND coalesce(parts ->> 2 = current_setting('export_control.user', true), false);
END $$;

-- Takes a token if there is one; a try that finds none takes nothing. Tries at the same time wait for each other on the
-- bucket's row. A bucket that nobody touched for a week is full, since no interval is longer, and may go.
CREATE FUNCTION export_control.take_token(
    who text, capacity integer, per interval,
    OUT allowed boolean, OUT remaining integer, OUT retry_after_seconds double precision, OUT reset_seconds double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bucket export_control.rate_limits;
    seconds_a_token double precision := extract(epoch FROM per) / capacity;
BEGIN
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO export_control.rate_limits AS held (subject, tokens, refilled_at, allowed)
    VALUES (who, capacity - 1, clock_timestamp(), true)
    ON CONFLICT (subject) DO UPDATE SET
        tokens = export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per)
            - CASE WHEN export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per) >= 1
                   THEN 1 ELSE 0 END,
        allowed = export_control.refilled(held.tokens, held.refilled_at, EXCLUDED.refilled_at, capacity, per) >= 1,
        refilled_at = greatest(held.refilled_at, EXCLUDED.refilled_at)
    RETURNING held.* INTO bucket;
    allowed := bucket.allowed;
    remaining := floor(bucket.tokens);
    retry_after_seconds := CASE WHEN bucket.tokens >= 1 THEN 0 ELSE (1 - bucket.tokens) * seconds_a_token END;
    reset_seconds := (capacity - bucket.tokens) * seconds_a_token;
    IF random() < 0.001 THEN
        DELETE FROM export_control.rate_limits WHERE subject IN (
            SELECT idle.subject FROM export_control.rate_limits AS idle
            WHERE idle.refilled_at < now() - interval '7 days' LIMIT 1000 FOR UPDATE SKIP LOCKED
        );
    END IF;
END $$;

-- What a bucket holds, without taking from it.
CREATE FUNCTION export_control.tokens_left(who text, capacity integer, per interval)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT export_control.may_count(who) THEN
        RAISE EXCEPTION 'a rate limit is its caller''s own' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN coalesce(
        (SELECT export_control.refilled(tokens, refilled_at, clock_timestamp(), capacity, per)
         FROM export_control.rate_limits WHERE subject = who),
        capacity);
END $$;
REVOKE ALL ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION export_control.take_token(text, integer, interval),
    export_control.tokens_left(text, integer, interval) TO export_api;

-- The first answer to a write that carries an idempotency key. A repeated answer is the first one to the byte; jsonb
-- would sort its fields.
CREATE TABLE export_control.api_replies (
    tenant_id    text NOT NULL,
    user_id      text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    fingerprint  text NOT NULL,  -- of method, path and body
    status       smallint,
    headers      json,
    body         json,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX api_replies_age ON export_control.api_replies (created_at);
ALTER TABLE export_control.api_replies ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON export_control.api_replies TO export_api
    USING (tenant_id = current_setting('export_control.tenant', true)
           AND user_id = current_setting('export_control.user', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON export_control.api_replies TO export_api;

-- What past exports were, for the estimates of the next ones.

-- Measures: what each table of a finished export was.
CREATE TABLE export_control.export_measures (
    request_id    uuid NOT NULL REFERENCES export_control.export_requests (id) ON DELETE CASCADE,
    table_name    text NOT NULL,
    tenant_id     text NOT NULL,
    catalog       text NOT NULL,
    format        text NOT NULL,
    compression   text NOT NULL,           -- how the bytes were made: a codec, zip, or none
    converted     boolean NOT NULL,        -- from a retained stage, without reading the source
    selection     text NOT NULL,           -- which kind of selection: a guess errs alike on the same kind
    planner_rows  bigint CHECK (planner_rows >= 0),
    rows          bigint NOT NULL CHECK (rows >= 0),
    volume_bytes  bigint NOT NULL CHECK (volume_bytes >= 0),  -- rows × planned width; what work is counted in
    size_bytes    bigint NOT NULL CHECK (size_bytes >= 0),    -- the table's share of the data files as published
    seconds       double precision NOT NULL CHECK (seconds >= 0),  -- the table's share of the run, by volume
    completed_at  timestamptz NOT NULL,
    PRIMARY KEY (request_id, table_name)
);
CREATE INDEX export_measures_tenant ON export_control.export_measures (tenant_id, catalog, table_name, completed_at DESC);
CREATE INDEX export_measures_table
    ON export_control.export_measures (catalog, table_name, format, compression, completed_at DESC);
CREATE INDEX export_measures_format ON export_control.export_measures (format, compression, completed_at DESC);
ALTER TABLE export_control.export_measures ENABLE ROW LEVEL SECURITY;

-- Whether sums over these tenants may be told to one of them: what it knows of itself taken off, five are left.
CREATE FUNCTION export_control.reaches_anonymity_threshold(tenants text[], beside text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(DISTINCT tenant) >= 5 FROM unnest(tenants) AS tenant WHERE tenant <> beside
$$;

-- Sums over the last exports: for each table of this tenant and, if they are a crowd, of anybody; and of the format, of
-- this tenant alone where it is in no crowd. The API is told its own tenant's past, whatever it asks for.
CREATE FUNCTION export_control.past_measures(
    of_tenant text, of_catalog text, of_tables text[], of_format text, of_compression text, of_converted boolean
) RETURNS TABLE (basis text, table_name text, exports bigint, volume_bytes numeric, size_bytes numeric,
                 seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'tenant', wanted, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM unnest(of_tables) AS wanted, LATERAL (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.tenant_id = of_tenant AND e.catalog = of_catalog AND e.table_name = wanted AND e.format = of_format
          AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 20
    ) AS m GROUP BY wanted
    UNION ALL
    SELECT 'table', wanted, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM unnest(of_tables) AS wanted, LATERAL (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.catalog = of_catalog AND e.table_name = wanted AND e.format = of_format
          AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 20
    ) AS m GROUP BY wanted HAVING export_control.reaches_anonymity_threshold(array_agg(m.tenant_id), of_tenant);
    RETURN QUERY
    WITH lately AS (
        SELECT * FROM export_control.export_measures AS e
        WHERE e.format = of_format AND e.compression = of_compression AND e.converted = of_converted
        ORDER BY e.completed_at DESC LIMIT 50
    ), told AS (
        SELECT export_control.reaches_anonymity_threshold(array_agg(l.tenant_id), of_tenant) AS of_all FROM lately AS l
    )
    SELECT 'format', NULL, count(*), sum(m.volume_bytes), sum(m.size_bytes), sum(m.seconds)
    FROM (
        SELECT l.* FROM lately AS l, told WHERE told.of_all
        UNION ALL
        (SELECT e.* FROM export_control.export_measures AS e, told
         WHERE NOT told.of_all AND e.tenant_id = of_tenant AND e.format = of_format
           AND e.compression = of_compression AND e.converted = of_converted
         ORDER BY e.completed_at DESC LIMIT 50)
    ) AS m HAVING count(*) > 0;
END $$;

-- How far the planner was off when this tenant's last five exports read the same kind of selection: rows over guess,
-- each counted one higher than it was.
CREATE FUNCTION export_control.past_ratios(of_tenant text, of_catalog text, of_tables text[], of_selections text[])
RETURNS TABLE (table_name text, ratio double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT wanted.name, percentile_cont(0.5) WITHIN GROUP (ORDER BY (m.rows + 1.0) / (m.planner_rows + 1.0))
    FROM unnest(of_tables, of_selections) AS wanted (name, selection), LATERAL (
        SELECT e.rows, e.planner_rows FROM export_control.export_measures AS e
        WHERE e.tenant_id = of_tenant AND e.catalog = of_catalog AND e.table_name = wanted.name
          AND e.selection = wanted.selection AND e.planner_rows IS NOT NULL
        ORDER BY e.completed_at DESC LIMIT 5
    ) AS m GROUP BY wanted.name;
END $$;

-- The median relative error of the estimates of the last 50 completed exports: this tenant's in these formats if it has
-- five, else everybody's if they are a crowd, else this tenant's in any format.
CREATE FUNCTION export_control.past_error(of_tenant text, of_formats text[])
RETURNS TABLE (own boolean, exports bigint, rows double precision, bytes double precision, seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT export_control.acts_for_service() THEN
        of_tenant := nullif(current_setting('export_control.tenant', true), '');
    END IF;
    IF of_tenant IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH ours AS (
        SELECT r.* FROM (
            SELECT * FROM export_control.export_requests WHERE tenant_id = of_tenant ORDER BY created_at DESC LIMIT 500
        ) AS r
        WHERE r.status IN ('completed', 'expired') AND r.estimated_rows IS NOT NULL
    ), everybodys AS (
        SELECT r.* FROM (
            SELECT * FROM export_control.export_requests WHERE completed_at IS NOT NULL
            ORDER BY completed_at DESC LIMIT 500
        ) AS r
        WHERE r.status IN ('completed', 'expired') AND r.estimated_rows IS NOT NULL
        LIMIT 50
    ), told AS (
        SELECT export_control.reaches_anonymity_threshold(array_agg(e.tenant_id), of_tenant) AS of_all FROM everybodys AS e
    ), judged AS (
        (SELECT true AS own, o.* FROM ours AS o WHERE lower(btrim(o.config ->> 'format')) = ANY(of_formats) LIMIT 50)
        UNION ALL
        SELECT false, e.* FROM everybodys AS e, told WHERE told.of_all
        UNION ALL
        (SELECT false, o.* FROM ours AS o, told WHERE NOT told.of_all LIMIT 50)
    )
    SELECT j.own, count(*),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_rows - j.package_rows) / greatest(j.package_rows, 1)::double precision),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_bytes - j.package_bytes) / greatest(j.package_bytes, 1)::double precision),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(j.estimated_seconds - x.seconds) / greatest(x.seconds, 0.1))
    FROM judged AS j,
         LATERAL (SELECT extract(epoch FROM j.completed_at - j.started_at)::double precision AS seconds) AS x
    GROUP BY j.own HAVING NOT j.own OR count(*) >= 5
    ORDER BY j.own DESC LIMIT 1;
END $$;

REVOKE ALL ON FUNCTION
    export_control.past_measures(text, text, text[], text, text, boolean),
    export_control.past_ratios(text, text, text[], text[]), export_control.past_error(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    export_control.past_measures(text, text, text[], text, text, boolean),
    export_control.past_ratios(text, text, text[], text[]), export_control.past_error(text, text[]) TO export_api;

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

-- Keys that manifests are signed with (stores/signing_keys.py). The secret half, sealed by the service, is there as long
-- as the key is in use.
CREATE TABLE export_control.signing_keys (
    key_id         text PRIMARY KEY,
    public_key     bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
    sealed_private bytea,
    created_at     timestamptz NOT NULL DEFAULT now(),
    retired_at     timestamptz,
    revoked_at     timestamptz,
    CONSTRAINT id_is_of_the_key CHECK (key_id = left(encode(sha256(public_key), 'hex'), 16)),
    CONSTRAINT signs_while_in_use CHECK ((sealed_private IS NOT NULL) = (retired_at IS NULL AND revoked_at IS NULL))
);
CREATE UNIQUE INDEX one_key_in_use ON export_control.signing_keys ((true)) WHERE sealed_private IS NOT NULL;

-- Verifiers rely on what was once published: no key changes, comes back or vanishes.
CREATE FUNCTION export_control.check_signing_key() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'signing key % stays published; revoke it instead', OLD.key_id USING ERRCODE = 'check_violation';
    END IF;
    IF (NEW.key_id, NEW.public_key, NEW.created_at) IS DISTINCT FROM (OLD.key_id, OLD.public_key, OLD.created_at)
        OR (OLD.retired_at IS NOT NULL AND NEW.retired_at IS DISTINCT FROM OLD.retired_at)
        OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
        OR (NEW.sealed_private IS NOT NULL AND NEW.sealed_private IS DISTINCT FROM OLD.sealed_private)
    THEN
        RAISE EXCEPTION 'signing key % may be retired and revoked, once, and nothing else', OLD.key_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_signing_key BEFORE UPDATE OR DELETE ON export_control.signing_keys
    FOR EACH ROW EXECUTE FUNCTION export_control.check_signing_key();

-- The API publishes every key, and only the public half of it.
ALTER TABLE export_control.signing_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY published ON export_control.signing_keys FOR SELECT TO export_api USING (true);
CREATE POLICY by_grant ON export_control.signing_keys
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT (key_id, public_key, created_at, retired_at, revoked_at) ON export_control.signing_keys TO export_api;

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
CREATE POLICY seen ON export_control.service_state FOR SELECT TO export_api USING (true);
CREATE POLICY by_grant ON export_control.service_state
    USING ((SELECT NOT pg_has_role(current_user, 'export_api', 'MEMBER')));
GRANT SELECT ON export_control.service_state TO export_api;
