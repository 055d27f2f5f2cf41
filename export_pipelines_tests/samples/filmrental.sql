-- A chain of film-rental shops in one database. The tenant is the shop (table store); most tables know it only
-- through their foreign keys. Films are the chain's own and the same for every shop.

CREATE TYPE film_rating AS ENUM ('everyone', 'teen', 'adult');

CREATE TABLE store (
    store_id    integer PRIMARY KEY,
    name        text NOT NULL,
    opened_on   date NOT NULL
);
COMMENT ON TABLE store IS 'One row for each shop of the chain.';

CREATE TABLE film (
    film_id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title        text NOT NULL,
    story        text NOT NULL DEFAULT '',
    rating       film_rating NOT NULL DEFAULT 'everyone',
    extras       text[] NOT NULL DEFAULT '{}',
    day_rate     numeric(6,2) NOT NULL,
    week_rate    numeric(8,2) GENERATED ALWAYS AS (day_rate * 5) STORED,
    search       tsvector GENERATED ALWAYS AS (to_tsvector('simple', title || ' ' || story)) STORED
);

CREATE TABLE clerk (
    clerk_id       integer PRIMARY KEY,
    store_id       integer NOT NULL REFERENCES store,
    full_name      text NOT NULL,
    email          text,
    password_hash  text NOT NULL,
    created_at     timestamptz NOT NULL
);

CREATE TABLE inventory (
    inventory_id  integer PRIMARY KEY,
    film_id       integer NOT NULL REFERENCES film,
    store_id      integer NOT NULL REFERENCES store,
    condition     varchar(20),
    updated_at    timestamptz NOT NULL
);
COMMENT ON COLUMN inventory.condition IS 'How worn the disc is.';
CREATE INDEX inventory_store ON inventory (store_id);

CREATE TABLE rental (
    rental_id     bigint PRIMARY KEY,
    inventory_id  integer NOT NULL REFERENCES inventory,
    clerk_id      integer REFERENCES clerk,
    rented_at     timestamptz NOT NULL,
    returned_at   timestamptz,
    remark        text
);
CREATE INDEX rental_inventory ON rental (inventory_id);
CREATE INDEX rental_rented_at ON rental (rented_at);

CREATE TABLE payment (
    payment_id  bigint NOT NULL,
    rental_id   bigint NOT NULL REFERENCES rental ON DELETE CASCADE,
    amount      numeric(8,2) NOT NULL,
    tax         numeric(8,2) GENERATED ALWAYS AS (round(amount * 0.2, 2)) STORED,
    paid_at     timestamptz NOT NULL,
    PRIMARY KEY (payment_id, paid_at)
) PARTITION BY RANGE (paid_at);
CREATE TABLE payment_2023 PARTITION OF payment FOR VALUES FROM ('2023-01-01Z') TO ('2024-01-01Z');
CREATE TABLE payment_2024 PARTITION OF payment FOR VALUES FROM ('2024-01-01Z') TO ('2025-01-01Z');
CREATE INDEX payment_rental ON payment (rental_id);

CREATE VIEW shelf WITH (security_invoker = true) AS
    SELECT inventory_id, store_id, condition FROM inventory WHERE condition IS DISTINCT FROM 'lost';
CREATE VIEW takings AS
    SELECT i.store_id, date_trunc('month', p.paid_at) AS month, sum(p.amount) AS amount
    FROM payment p JOIN rental r USING (rental_id) JOIN inventory i USING (inventory_id) GROUP BY 1, 2;
CREATE MATERIALIZED VIEW popular AS
    SELECT film_id, count(*) AS discs FROM inventory GROUP BY film_id;

INSERT INTO store VALUES
    (1, 'O''Hara & "Söhne"; DROP TABLE store; --', '2019-05-01'),
    (2, E'Line one\nline two\t=1+1', '2020-02-29'),
    (3, '映画館 🎬 e\u0301', '2021-12-31');
INSERT INTO film (title, story, rating, extras, day_rate) VALUES
    ('Quote " and '' and \', E'a\r\nb', 'everyone', '{}', 2.50),
    ('Комета', '', 'teen', ARRAY['subtitles, "all"', NULL, ''], 3.00),
    ('=HYPERLINK("x")', 'plain', 'adult', ARRAY['{}', E'\n'], 0.99);
INSERT INTO clerk
    SELECT s * 10 + n, s, 'Clerk ' || s || '/' || n, CASE n WHEN 1 THEN NULL ELSE format('c%s@shop%s.example', n, s) END,
           md5(s || ':' || n), timestamptz '2022-03-27 00:59:59.999999Z' + n * interval '1 day'
    FROM generate_series(1, 3) s, generate_series(1, 2) n;
INSERT INTO inventory
    SELECT s * 100 + n, n % 3 + 1, s, (ARRAY['new', 'worn', 'lost', NULL, ''])[n % 5 + 1], timestamptz '2023-01-01Z'
    FROM generate_series(1, 3) s, generate_series(1, 9) n;
INSERT INTO rental
    SELECT s * 1000 + n, s * 100 + n % 9 + 1, CASE n % 4 WHEN 0 THEN NULL ELSE s * 10 + n % 2 + 1 END,
           timestamptz '2023-02-01Z' + n * interval '17 days', NULL,
           (ARRAY[NULL, '', E'two\nlines', 'quote '' " ,;', '-1+1', 'مرحبا', U&'\0001\FEFF'])[n % 7 + 1]
    FROM generate_series(1, 3) s, generate_series(1, 30) n;
INSERT INTO payment (payment_id, rental_id, amount, paid_at)
    SELECT rental_id * 10, rental_id, (rental_id % 7) * 1.05, rented_at FROM rental;
REFRESH MATERIALIZED VIEW popular;
