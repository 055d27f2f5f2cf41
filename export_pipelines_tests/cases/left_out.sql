-- A firm with 30 customers of which 22 are marked as deleted, and visits of which some have no day.
CREATE TABLE firms (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (
    id int PRIMARY KEY,
    firm_id int NOT NULL REFERENCES firms,
    name text NOT NULL,
    deleted_at timestamptz
);
CREATE TABLE visits (
    id int PRIMARY KEY,
    firm_id int NOT NULL REFERENCES firms,
    visited_on date,
    deleted_at timestamptz
);
INSERT INTO firms SELECT i, 'Firm ' || i FROM generate_series(1, 2) i;
INSERT INTO customers
SELECT i, CASE WHEN i <= 30 THEN 1 ELSE 2 END, 'Customer ' || i, CASE WHEN i > 8 THEN now() END
FROM generate_series(1, 60) i;
INSERT INTO visits
SELECT i, 1, CASE WHEN i % 5 <> 0 THEN DATE '2024-01-01' + i END, CASE WHEN i % 2 = 0 THEN now() END
FROM generate_series(1, 40) i;
