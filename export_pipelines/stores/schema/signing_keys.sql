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
