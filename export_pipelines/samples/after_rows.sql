-- After each generate.sql: numbers go on after the highest, indexes and foreign keys come back (a wrong reference fails
-- here), and the planner learns what there is.

DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT format('SELECT setval(pg_get_serial_sequence(%L, %L), max(%I)) FROM %s',
                      attrelid::regclass, attname, attname, attrelid::regclass)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = current_setting('sample.schema')::regnamespace AND relkind = 'r' AND attidentity <> ''
    LOOP
        EXECUTE command;
    END LOOP;
    FOR command IN SELECT restore FROM set_aside ORDER BY place, restore COLLATE "C" LOOP
        EXECUTE command;
    END LOOP;
    FOR command IN
        SELECT format('ANALYZE %s', pg_class.oid::regclass) FROM pg_class
        WHERE relnamespace = current_setting('sample.schema')::regnamespace AND relkind = 'r'
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;
