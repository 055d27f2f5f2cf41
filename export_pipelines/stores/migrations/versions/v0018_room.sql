-- How many schedules and templates a tenant may have, whoever sees them. After the insert: a row that the policies refuse
-- gets no answer from here, and does not make a foreign tenant wait. Those of one tenant take turns until they commit,
-- and what is counted after that wait is a snapshot of READ COMMITTED, taken anew by each statement.
CREATE FUNCTION export_control.check_room() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    things CONSTANT text := TG_ARGV[0];
    most   CONSTANT bigint := TG_ARGV[1];
    there  bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(format('export_control.%s of %s', things, NEW.tenant_id), 0));
    IF things = 'schedules' THEN
        SELECT count(*) INTO there FROM export_control.export_schedules AS s
        WHERE s.tenant_id = NEW.tenant_id AND s.deleted_at IS NULL;
    ELSE
        SELECT count(*) INTO there FROM export_control.export_templates AS t WHERE t.tenant_id = NEW.tenant_id;
    END IF;
    IF there > most THEN
        RAISE EXCEPTION 'there are % % already; delete one first', most, things
            USING ERRCODE = 'check_violation', CONSTRAINT = 'room_of_the_tenant', COLUMN = things;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION export_control.check_room() FROM PUBLIC;
CREATE TRIGGER check_room AFTER INSERT ON export_control.export_schedules
    FOR EACH ROW EXECUTE FUNCTION export_control.check_room('schedules', 500);
CREATE TRIGGER check_room AFTER INSERT ON export_control.export_templates
    FOR EACH ROW EXECUTE FUNCTION export_control.check_room('templates', 1000);
