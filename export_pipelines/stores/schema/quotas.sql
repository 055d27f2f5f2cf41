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
