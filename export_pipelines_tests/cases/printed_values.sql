CREATE TYPE mood AS ENUM ('so so', 'höchst');
CREATE TABLE firms (id bigint PRIMARY KEY, "Label" text, "user" text);
INSERT INTO firms VALUES (1, 'One', E'back\\slash'), (2, 'Two', 'é');
CREATE TABLE things (
    id int PRIMARY KEY,
    firm_id bigint NOT NULL REFERENCES firms,
    day date, at timestamptz, local timestamp, span interval, real_number real, number double precision, amount numeric,
    raw bytea, spans interval[], instants timestamptz[], numbers double precision[], raws bytea[], moods mood[],
    relation regclass, kind regtype, mood mood, period tstzrange, pair point, words tsvector
);
INSERT INTO things SELECT n, 1, '2024-02-29', '2024-02-29 12:00:00.123456+00', '2024-02-29 12:00', '-1 day 02:03:04',
    0.1::real, 0.1::double precision + 0.2, 12345678901234567890.5, '\xdeadbeef',
    ARRAY['1 mon -2 days'::interval, NULL], ARRAY['2024-02-29 12:00+00'::timestamptz], ARRAY[0.1::float8 + 0.2, 'NaN'],
    ARRAY['\x00ff'::bytea], ARRAY['so so', NULL]::mood[],
    'things', 'mood', 'höchst', '[2024-02-29 12:00+00,)', '(0.1,0.30000000000000004)', 'a b'
FROM generate_series(1, 50) AS n;
CREATE VIEW printed WITH (security_invoker = true) AS
    SELECT id, firm_id, day::text AS day, at::text AS at, span::text AS span, to_char(local, 'TMMonth') AS month,
           raw::text AS raw, number::text AS number FROM things;
