CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One'), (2, 'Two');
DO $$ BEGIN
    EXECUTE 'CREATE TABLE wide_1598 (id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, '
        || (SELECT string_agg('c' || g || (ARRAY[' int', ' text', ' numeric(38,2)', ' timestamptz', ' real', ' jsonb'])[1 + g % 6], ', ')
            FROM generate_series(1, 1595) AS g) || ', c1596 text, c1597 numeric(38,38), c1598 int)';
END $$;
INSERT INTO wide_1598 (id, firm_id, c1, c2, c3, c4, c5, c1597, c1598)
VALUES (1, 1, 'é', 99999999999999999999.25, now(), 0.1, '{"a": 1}', -0.5, 7), (2, 2, 'x', 1, now(), 1, '1', 0, 8);
