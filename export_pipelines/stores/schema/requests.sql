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
