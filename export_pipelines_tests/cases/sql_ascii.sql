CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One'), (2, 'Two');
CREATE TABLE good (id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, v text, fixed char(4), doc jsonb);
INSERT INTO good VALUES (1, 1, 'é', 'é', '{"é": "ü"}');
CREATE TABLE bad (id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, v text, w text);
INSERT INTO bad VALUES (1, 1, 'é', convert_from('\xe9'::bytea, 'SQL_ASCII')), (2, 2, 'x', 'y');
