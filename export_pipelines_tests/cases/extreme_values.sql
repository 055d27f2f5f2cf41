CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One'), (2, 'Two');
CREATE TABLE numbers (
    id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms,
    wide numeric(38,0), narrow numeric(24,0), rounded numeric(5,-2), free numeric, small real, large double precision
);
INSERT INTO numbers
SELECT n, 1, sign * (10::numeric ^ 38 - 1), sign * (10::numeric ^ 24 - 1), sign * 12300,
       (sign * 10::numeric ^ 200 + 0.10), sign * 3.4028234e38::real, sign * 1.7976931348623157e308
FROM generate_series(1, 99) AS n, LATERAL (SELECT CASE WHEN n % 3 = 0 THEN -1 ELSE 1 END AS sign) AS signs;
INSERT INTO numbers VALUES (100, 1, -1, 0, 0, '-0.00', '-0', '-0'), (101, 1, 0, NULL, NULL, '1e-300', 1e-45, 5e-324),
    (102, 1, 18446744073709551615, 1, 100, '1E+5', 'NaN', '-Infinity'), (103, 1, NULL, 1, 100, NULL, '-Infinity', 'NaN'),
    (104, 1, -18446744073709551616, 1, 100, '0', 1e15, 1e-7);
CREATE TABLE times (
    id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms,
    day date, clock time, local timestamp, instant timestamptz, span interval, spans interval[]
);
INSERT INTO times VALUES
    (1, 1, '0001-01-01', '00:00', '0001-01-01 00:00:00', '0001-01-01 00:00:00+00', '-178000000 years', '{-1 day}'),
    (2, 1, '9999-12-31', '23:59:59.999999', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00',
     '178000000 years -1 day 00:00:00.000001', '{NULL}'),
    (3, 1, '1969-12-31', '12:00:00.000001', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999+00', '0', '{}');
CREATE TABLE far (id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, day date, instant timestamptz, n numeric(38,38));
INSERT INTO far VALUES (1, 1, 'infinity', '-infinity', 'NaN'), (2, 1, '4713-01-01 BC', '294276-12-31 23:59:59.999999+00', -0.5),
    (3, 1, '2024-01-31', '2024-01-31 12:00:00.5+00', 0);
