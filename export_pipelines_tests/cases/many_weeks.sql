CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One');
CREATE TABLE events (
    id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, created_at timestamptz NOT NULL, name text, amount numeric(12, 2), note text
);
INSERT INTO events
SELECT n, 1, timestamptz '2007-01-01Z' + (n % 893) * interval '7 days', 'name ' || n, n / 100.0, repeat('x', n % 50)
FROM generate_series(1, 2429) AS n;
ANALYZE;
