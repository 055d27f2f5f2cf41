-- A password that an open request still needs, encrypted by the service (stores/secrets.py).
ALTER TABLE export_control.export_requests
    ADD COLUMN sealed_secrets bytea,
    ADD CONSTRAINT secrets_end_with_the_request
        CHECK (sealed_secrets IS NULL OR status IN ('queued', 'processing'));

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
