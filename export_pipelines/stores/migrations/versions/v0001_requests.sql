-- Requests: one row is one export somebody asked for. The host application may insert rows here by SQL.

CREATE TYPE export_control.request_status AS ENUM
    ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired');

CREATE TABLE export_control.export_requests (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        text NOT NULL CHECK (tenant_id <> '' AND length(tenant_id) <= 200),
    requested_by     text CHECK (length(requested_by) <= 200),
    config           jsonb NOT NULL,
    status           export_control.request_status NOT NULL DEFAULT 'queued',
    launched_by      text NOT NULL DEFAULT 'sensor' CHECK (launched_by IN ('sensor', 'cli')),
    priority         smallint NOT NULL DEFAULT 0,
    attempt          integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    max_attempts     integer NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    not_before       timestamptz NOT NULL DEFAULT now(),
    run_id           text,
    idempotency_key  text,
    -- Progress: written by the run that holds run_id, at most once a second.
    percentage       numeric(5, 2) NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    rows_processed   bigint NOT NULL DEFAULT 0,
    total_rows       bigint,
    current_table    text,
    files_created    integer NOT NULL DEFAULT 0,
    heartbeat_at     timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    -- Outcome.
    error_type       text,
    error_message    text,
    package_prefix   text,
    package_rows     bigint,
    package_bytes    bigint,
    manifest_sha256  text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    completed_at     timestamptz,
    expires_at       timestamptz,
    CONSTRAINT completed_has_package CHECK (status NOT IN ('completed', 'expired') OR package_prefix IS NOT NULL),
    CONSTRAINT failed_has_reason CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT processing_has_run CHECK (status <> 'processing' OR run_id IS NOT NULL)
);

CREATE UNIQUE INDEX export_requests_idempotency ON export_control.export_requests (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX export_requests_open ON export_control.export_requests (priority DESC, created_at)
    WHERE status = 'queued';
CREATE INDEX export_requests_running ON export_control.export_requests (heartbeat_at) WHERE status = 'processing';
CREATE INDEX export_requests_history ON export_control.export_requests (tenant_id, created_at DESC, id);

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

-- A new row must be a plain order: the service alone writes status, run and outcome.
CREATE FUNCTION export_control.check_new_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'queued' OR NEW.attempt <> 1 OR NEW.run_id IS NOT NULL OR NEW.package_prefix IS NOT NULL THEN
        RAISE EXCEPTION 'a new request starts as queued, attempt 1, without run or package' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config) <> 'object' THEN
        RAISE EXCEPTION 'config: must be a JSON object, got %', jsonb_typeof(NEW.config) USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'format') IS DISTINCT FROM 'string' THEN
        RAISE EXCEPTION 'config.format: name a format, for example "csv"' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.config -> 'tables') IS DISTINCT FROM 'array'
       AND jsonb_typeof(NEW.config -> 'data_sources') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'config.tables: list the tables to export, for example ["pets"]' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_new_request BEFORE INSERT ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.check_new_request();

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

CREATE FUNCTION export_control.check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status AND NOT export_control.may_become(OLD.status, NEW.status) THEN
        RAISE EXCEPTION 'request % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id OR NEW.config <> OLD.config OR NEW.attempt < OLD.attempt THEN
        RAISE EXCEPTION 'request %: id, tenant and config never change, attempts only grow', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_transition BEFORE UPDATE ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.check_transition();

-- Every insert and every change of status or attempt leaves an event; nobody has to remember to write one.
CREATE FUNCTION export_control.record_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO export_control.export_request_events (request_id, new_status, attempt)
        VALUES (NEW.id, NEW.status, NEW.attempt);
    ELSIF NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt THEN
        INSERT INTO export_control.export_request_events (request_id, old_status, new_status, attempt, run_id, detail)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt, NEW.run_id, NEW.error_message);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER record_event AFTER INSERT OR UPDATE ON export_control.export_requests
    FOR EACH ROW EXECUTE FUNCTION export_control.record_event();

CREATE FUNCTION export_control.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
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
    PRIMARY KEY (request_id, position)
);

-- Deliveries: an outbox, one row for each recipient. A failed one never touches the request.
CREATE TYPE export_control.delivery_status AS ENUM ('pending', 'sending', 'delivered', 'failed');

CREATE TABLE export_control.export_deliveries (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id       uuid NOT NULL REFERENCES export_control.export_requests (id),
    method           text NOT NULL,
    recipient        text NOT NULL,
    message          jsonb NOT NULL DEFAULT '{}',
    status           export_control.delivery_status NOT NULL DEFAULT 'pending',
    attempts         integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL DEFAULT 8,
    due_at           timestamptz NOT NULL DEFAULT now(),
    error_message    text,
    receipt          text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    delivered_at     timestamptz,
    UNIQUE (request_id, method, recipient)
);
CREATE INDEX export_deliveries_due ON export_control.export_deliveries (due_at)
    WHERE status IN ('pending', 'sending');

-- Links: who has the token may download until it expires. Only the token's hash is kept.
CREATE TABLE export_control.export_links (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id    uuid NOT NULL REFERENCES export_control.export_requests (id),
    token_sha256  text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    uses          integer NOT NULL DEFAULT 0,
    last_used_at  timestamptz
);
CREATE INDEX export_links_request ON export_control.export_links (request_id);
