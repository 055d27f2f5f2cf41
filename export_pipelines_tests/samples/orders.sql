-- A wholesaler's orders, kept for several client companies in one database. The tenant is the company; its id is a
-- short code, and the tables beneath it have keys of several columns that start with it or do without it.

CREATE SCHEMA trade;

CREATE TYPE trade.order_state AS ENUM ('draft', 'sent', 'on hold', 'it''s done');
CREATE DOMAIN trade.quantity AS integer CHECK (VALUE > 0);
CREATE DOMAIN trade.country_code AS varchar(2) CHECK (VALUE ~ '^[A-Z]{2}$');

CREATE TABLE trade.company (
    code      varchar(8) PRIMARY KEY,
    name      text NOT NULL,
    country   trade.country_code,
    iban      text
);

CREATE TABLE trade.employee (
    company_id  varchar(8) NOT NULL REFERENCES trade.company,
    number      integer NOT NULL,
    manager     integer,
    first_name  text NOT NULL,
    birth_date  date,
    photo       bytea,
    notes       text,
    PRIMARY KEY (company_id, number),
    FOREIGN KEY (company_id, manager) REFERENCES trade.employee
);
COMMENT ON COLUMN trade.employee.manager IS 'Number of the manager; NULL for the head, who has none.';

CREATE TABLE trade.product (
    sku     text PRIMARY KEY,
    title   text NOT NULL,
    price   money NOT NULL,
    "limit" numeric
);

CREATE TABLE trade.orders (
    region      char(2) NOT NULL,
    number      bigint NOT NULL,
    company_id  varchar(8) NOT NULL REFERENCES trade.company,
    taken_by    integer,
    state       trade.order_state NOT NULL DEFAULT 'draft',
    created_at  timestamp NOT NULL,
    deleted_at  timestamp,
    PRIMARY KEY (region, number),
    FOREIGN KEY (company_id, taken_by) REFERENCES trade.employee
);
CREATE INDEX ON trade.orders (created_at);

CREATE TABLE trade."Order Details" (
    region        char(2) NOT NULL,
    order_number  bigint NOT NULL,
    "Line"        smallint NOT NULL,
    sku           text NOT NULL REFERENCES trade.product,
    amount        trade.quantity NOT NULL,
    "unit price"  numeric(12,4) NOT NULL,
    discount      real NOT NULL DEFAULT 0,
    PRIMARY KEY (region, order_number, "Line"),
    FOREIGN KEY (region, order_number) REFERENCES trade.orders ON DELETE CASCADE
);

CREATE TABLE trade."select" (
    id          uuid PRIMARY KEY,
    region      char(2) NOT NULL,
    number      bigint NOT NULL,
    line        smallint NOT NULL,
    complaint   jsonb NOT NULL,
    api_token   text,
    FOREIGN KEY (region, number, line) REFERENCES trade."Order Details"
);
COMMENT ON TABLE trade."select" IS 'Complaints about a line, under a reserved word.';

INSERT INTO trade.company VALUES
    ('ACME', 'Acme "and" Sons', 'GB', 'GB00TEST'),
    ('ACMEX', E'Tab\tand\nline', NULL, NULL),
    ('o''neil', 'Ünïcode, 株式会社 🚚', 'JP', '');
INSERT INTO trade.employee
    SELECT code, n, nullif(n - 1, 0), 'N''' || n, date '0999-12-31' + n, decode(repeat('00ff5c27', n), 'hex'),
           CASE n WHEN 2 THEN E'=cmd|\r\n"x"' END
    FROM trade.company, generate_series(1, 3) n;
INSERT INTO trade.product VALUES
    ('a;b', 'Semi; colon', '12.34', NULL), ('"q"', 'Quote', '0.01', 'NaN'), ('ж', '', '-5', 12345678901234567890.123456789);
INSERT INTO trade.orders
    SELECT (ARRAY['N ', 'SW'])[n % 2 + 1], rank * 100 + n, code, CASE n % 3 WHEN 0 THEN NULL ELSE n % 3 END,
           (enum_range(NULL::trade.order_state))[n % 4 + 1], timestamp '2024-01-31 23:59:59.5' + n * interval '20 days',
           CASE n WHEN 5 THEN timestamp 'infinity' END
    FROM (SELECT code, rank() OVER (ORDER BY code) FROM trade.company) c, generate_series(1, 6) n;
INSERT INTO trade."Order Details"
    SELECT region, number, l, (ARRAY['a;b', '"q"', 'ж'])[l], l * 3, number / 7.0, 0.1 * l
    FROM trade.orders, generate_series(1, 3) l;
INSERT INTO trade."select"
    SELECT gen_random_uuid(), region, order_number, "Line", jsonb_build_object('text', E'it''s "bad"\n', 'n', 1e400), 'k' || "Line"
    FROM trade."Order Details" WHERE "Line" = 2;
