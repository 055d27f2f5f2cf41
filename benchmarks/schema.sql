-- Tables of the benchmark and functions that fill them. The same numbers make the same rows, ids included.
-- Unlogged: what is read is the same, and loading ten million wide rows writes half as much.

CREATE SCHEMA bench;
CREATE TABLE bench.orgs (id uuid PRIMARY KEY, name text NOT NULL);
INSERT INTO bench.orgs VALUES
    ('00000000-0000-4000-8000-000000000001', 'All but a few rows'),
    ('00000000-0000-4000-8000-000000000002', 'A few rows');

CREATE UNLOGGED TABLE bench.inv (
    id        uuid NOT NULL,
    org_id    uuid NOT NULL,
    number    bigint NOT NULL,
    total     numeric(12, 2) NOT NULL,
    issued_at timestamptz NOT NULL,
    due_on    date,
    paid      boolean NOT NULL,
    status    text NOT NULL,
    reference text
);

CREATE UNLOGGED TABLE bench.act (
    id          uuid NOT NULL,
    org_id      uuid NOT NULL,
    sequence    bigint NOT NULL,
    kind        text NOT NULL,
    title       text NOT NULL,
    body        text,
    note        varchar(200),
    payload     jsonb NOT NULL,
    tags        text[],
    scores      integer[] NOT NULL,
    amount      numeric(14, 4) NOT NULL,
    measured    numeric,
    ratio       double precision NOT NULL,
    occurred_at timestamptz NOT NULL,
    local_at    timestamp NOT NULL,
    day         date NOT NULL,
    at_time     time NOT NULL,
    active      boolean,
    address     inet,
    session     uuid NOT NULL
);

-- Eleven tokens of Unicode text, about 75 characters, that do not compress better than real notes do.
CREATE FUNCTION bench.sentence(hash bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(' ', w[1 + (hash & 63)], w[1 + (hash >> 6 & 63)], w[1 + (hash >> 12 & 63)], w[1 + (hash >> 18 & 63)],
                     to_hex(hash & 1048575), w[1 + (hash >> 24 & 63)], w[1 + (hash >> 30 & 63)], w[1 + (hash >> 36 & 63)],
                     w[1 + (hash >> 42 & 63)], hash >> 52 & 4095, w[1 + (hash >> 48 & 63)])
    FROM (SELECT ARRAY[
        'the', 'quick', 'brown', 'fox', 'jumps', 'over', 'lazy', 'dogs', 'while', 'seven', 'wizards', 'brew',
        'žluťoučký', 'kůň', 'příliš', 'úpěl', 'ďábelské', 'ódy', 'größer', 'Straße', 'Übung', 'façade', 'naïve',
        'crème', 'brûlée', 'señor', 'mañana', 'corazón', '東京', 'の', '猫', 'が', '好き', 'です', 'ёжик', 'в', 'тумане',
        'Ελλάδα', 'καλημέρα', 'שלום', '🦔', '€uro', '"quoted"', '<b>bold</b>', 'R&D', '50%', 'semi;colon', 'comma,',
        'it''s', 'back\slash', 'tab-less', 'report', 'invoice', 'approved', 'budget', 'quarterly', 'meeting',
        'customer', 'shipment', 'reference', 'delayed', 'warehouse', 'contract', 'review'] AS w) AS words;
$$;

-- Rows are spread evenly over ``months`` months, beginning at the catalog's history_start.
CREATE PROCEDURE bench.fill_inv(org uuid, first_row bigint, row_count bigint, months integer) LANGUAGE sql AS $$
    INSERT INTO bench.inv
    SELECT md5('inv ' || i)::uuid, org, i,
           ((hashint8extended(i, 1) % 50000000) / 100.0)::numeric(12, 2),
           at, CASE WHEN i % 9 <> 0 THEN (at AT TIME ZONE 'UTC')::date + 30 END, i % 3 = 0,
           (ARRAY['draft', 'sent', 'paid', 'overdue', 'void'])[1 + i % 5],
           CASE WHEN i % 11 <> 0 THEN 'PO-' || to_hex(hashint8extended(i, 2) & 1099511627775) END
    FROM generate_series(first_row, first_row + row_count - 1) AS i,
         LATERAL (SELECT timestamptz '2016-01-01 00:00Z' + (interval '1 month' * (i % months))
                         + interval '1 microsecond' * (hashint8extended(i, 3) & 2199023255551) AS at) AS moment;
$$;

CREATE PROCEDURE bench.fill_act(org uuid, first_row bigint, row_count bigint, months integer) LANGUAGE sql AS $$
    INSERT INTO bench.act
    SELECT md5('act ' || i)::uuid, org, i,
           (ARRAY['view', 'edit', 'share', 'comment', 'delete'])[1 + i % 5],
           left(first, 10 + (h >> 8 & 63)::int),
           CASE WHEN i % 7 <> 0 THEN left(concat_ws(' ', first, second, third), 20 + (h >> 24 & 255)::int % 181) END,
           CASE WHEN i % 4 = 0 THEN left(second, 1 + (h >> 28 & 127)::int) END,
           jsonb_build_object('page', i % 500, 'ms', h & 4095, 'tags', jsonb_build_array('α', 'b"c', i % 10),
                              'agent', jsonb_build_object('name', left(third, 12), 'bot', i % 6 = 0)),
           CASE WHEN i % 5 <> 0 THEN ARRAY['red', 'grün, hell', 'blue "' || i % 100 || '"'] END,
           ARRAY[(h & 1023)::int, NULL, -(i % 1000)::int],
           ((h % 900000000000) / 10000.0)::numeric(14, 4),
           CASE WHEN i % 3 = 0 THEN (h % 1000000007)::numeric / 1000000 END,
           (h % 1000000) / 7.0::float8,
           at, at AT TIME ZONE 'UTC', (at AT TIME ZONE 'UTC')::date, (at AT TIME ZONE 'UTC')::time,
           CASE WHEN i % 13 <> 0 THEN i % 2 = 0 END,
           CASE WHEN i % 3 <> 0 THEN '10.0.0.0'::inet + (h & 16777215) END,
           md5('session ' || i / 20)::uuid
    FROM generate_series(first_row, first_row + row_count - 1) AS i,
         LATERAL (SELECT hashint8extended(i, 1) AS h) AS hashed,
         LATERAL (SELECT timestamptz '2016-01-01 00:00Z' + (interval '1 month' * (i % months))
                         + interval '1 microsecond' * (hashint8extended(i, 3) & 2199023255551) AS at) AS moment,
         LATERAL (SELECT bench.sentence(h) AS first, bench.sentence(h # i << 20) AS second,
                         bench.sentence(~h) AS third) AS texts;
$$;

-- After the rows: the key, the index a tenant's policy uses, and a table as quiet as one that rests for a while.
CREATE PROCEDURE bench.index_rows(name text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE bench.%I ADD PRIMARY KEY (id)', name);
    EXECUTE format('CREATE INDEX ON bench.%I (org_id)', name);
END
$$;
