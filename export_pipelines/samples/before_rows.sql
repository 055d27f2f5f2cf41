-- What each generate.sql builds on: settings, indexes out of the way, functions to draw with, names, tenants, canary.
--
-- Parameters, as settings of the transaction:
--   sample.schema         schema of the sample
--   sample.tenants        tenants
--   sample.rows           rows of all tables together, about; tenants and excluded tables come on top
--   sample.seed           other seed, other rows
--   sample.until          first day without rows; history begins on 2023-01-01
--   sample.canary_tenant, sample.canary_marker   as in catalog.yaml
--
-- Nothing is random: a value is a hash of (seed, tenant, column, row number). A child picks its parent among those
-- that already existed, so no row is older than what it refers to and no key leaves its tenant.

SELECT set_config('TimeZone', 'UTC', true), set_config('jit', 'off', true),
       set_config('synchronous_commit', 'off', true),
       set_config('work_mem', '64MB', true), set_config('maintenance_work_mem', '128MB', true);

-- Foreign keys and indexes stand aside: built and checked once, in bulk, they cost half of what they do row by row.
CREATE TEMP TABLE set_aside ON COMMIT DROP AS
SELECT 2 AS place, format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS remove,
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS restore
FROM pg_constraint
WHERE contype = 'f' AND connamespace = current_setting('sample.schema')::regnamespace
UNION ALL
SELECT 1, format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = current_setting('sample.schema')::regnamespace
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);

DO $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT remove FROM set_aside ORDER BY place DESC, remove COLLATE "C" LOOP
        EXECUTE command;
    END LOOP;
END
$$;

-- Drawing (a volatility that is too strict would keep the planner from inlining these) -----------------------------

-- A number from 0 to n - 1 for row i; each column of each table has its own stream.
CREATE FUNCTION pg_temp.draw(i bigint, salt bigint, stream int, n bigint) RETURNS int LANGUAGE sql IMMUTABLE
RETURN ((hashint8extended(i, salt + 20011 * stream) & 9223372036854775807) % n)::int;

-- One of a list of texts.
CREATE FUNCTION pg_temp.word(words text[], i bigint, salt bigint, stream int) RETURNS text LANGUAGE sql IMMUTABLE
RETURN words[1 + pg_temp.draw(i, salt, stream, cardinality(words))];

-- The id of row i of a table, a version 4 UUID in form.
CREATE FUNCTION pg_temp.id(kind text, salt bigint, i bigint) RETURNS uuid LANGUAGE sql STABLE
RETURN overlay(overlay(md5(kind || salt || '/' || i) PLACING '4' FROM 13) PLACING 'a' FROM 17)::uuid;

-- When row i of n was made: spread evenly, ascending, within the span of all rows.
CREATE FUNCTION pg_temp.moment(i bigint, n bigint, salt bigint, stream int, span interval) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN '2023-01-01 00:00:00+00'::timestamptz + span
    * ((i - 1 + pg_temp.draw(i, salt, stream, 1000000) / 1e6) / n)::float8;

-- The number of a parent row that is not younger than child i of n.
CREATE FUNCTION pg_temp.parent(i bigint, n bigint, parents bigint, salt bigint, stream int) RETURNS bigint
LANGUAGE sql IMMUTABLE
RETURN 1 + pg_temp.draw(i, salt, stream, greatest(1, (i - 1) * parents / n));

-- A picture: 8 × 8 pixels as BMP, header and 192 bytes.
CREATE FUNCTION pg_temp.bitmap(seed text) RETURNS bytea LANGUAGE sql IMMUTABLE
RETURN decode('424df600000000000000360000002800000008000000080000000100'
              '1800000000000c000000130b0000130b00000000000000000000', 'hex') || decode(repeat(md5(seed), 12), 'hex');

-- The zone that person i lives in: mostly the tenant's.
CREATE FUNCTION pg_temp.zone(i bigint, timezone text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE i % 5 WHEN 2 THEN 'Asia/Kathmandu' WHEN 4 THEN 'America/St_Johns' ELSE timezone END;

-- What all samples draw from -----------------------------------------------------------------------------------

CREATE TEMP TABLE common_words ON COMMIT DROP AS
SELECT
    ARRAY['Ada', 'Zoë', 'José', 'Anaïs', 'Łukasz', 'Søren', 'Jürgen', 'İpek', 'Nguyễn', 'Siobhán', 'Мария', 'Дмитрий',
          'Ελένη', 'محمد', 'فاطمة', 'יעל', '小明', '花子', '민준', 'प्रिया', 'สมชาย', 'თამარ', 'Sofia', 'Kwame', 'Noah',
          'Emma', 'Mia', 'Liam', 'Olu', 'Grace'] AS first_names,
    ARRAY['O''Brien', 'García Márquez', 'Müller-Lüdenscheidt', 'van der Berg', 'Null', 'Sørensen', 'Ивана', 'الحسن',
          'כהן', '李', '佐藤', '김', 'शर्मा', 'Papadopoulos', 'Smith', 'Jones, Jr.', 'Nowak', 'Silva', 'Haddad', 'Okafor',
          'Dubois', 'Rossi', 'Kowalczyk', 'Lindqvist', 'Ng', 'True'] AS last_names,
    ARRAY['Lisboa', 'Köln', 'Zürich', '東京', 'القاهرة', 'São Paulo', 'Kraków', 'Αθήνα', 'New York', 'Reykjavík',
          ''] AS cities,
    -- What breaks exporters and spreadsheets, and must come through unchanged.
    ARRAY[
        '',
        '  spaces on both sides  ',
        E'first line\nsecond line',
        E'Windows line\r\nends here\r\n',
        E'carriage\rreturn',
        E'tab\tseparated\tvalues',
        '=SUM(A1:A9)',
        '=HYPERLINK("http://example.com/?x="&A1,"lab report")',
        '+49 30 901820',
        '-2 kg since the last visit',
        '@owner: please call back',
        E'\t=1+1',
        'She said "sit", and it sat',
        'semicolon; comma, pipe | done',
        'Robert''); DROP TABLE pets;--',
        E'C:\\scans\\new\\table.tif',
        '\N',
        '\.',
        'NULL',
        'NaN',
        '0049170000000',
        '12345678901234567890',
        '1e5',
        '2024-02-30',
        'مرحبا بالعالم (قطة) 123',
        E'שלום \u202Edetrevni\u202C עולם',
        '猫は元気です。고양이 แมว बिल्ली კატა ድመት',
        '🐕‍🦺 👩🏽‍⚕️ 🏴‍☠️ 🇺🇳',
        E'Zoe\u0308 is written apart, Zo\u00EB in one',
        E'\uFEFFbegins with a byte order mark',
        E'no\u00A0break, zero\u200Bwidth, line\u2028separator',
        '𠮷野家 𝔘𝔫𝔦𝔠𝔬𝔡𝔢',
        '<b>bold</b> & "quoted" ]]> <!-- comment -->',
        '{"json": ["inside", null]}',
        '{{FILE_URL}} %s %(name)s ${HOME} $1',
        '_x000D_ is no line end',
        E'bell \u0007 and escape \u001B[31mred',
        repeat('A long history, told at length. ', 300)
    ] AS awkward;

-- One line for each tenant: who it is and its share of the rows. The first is the largest (1, 1/2, …).
CREATE TEMP TABLE tenants ON COMMIT DROP AS
WITH parameters AS (
    SELECT current_setting('sample.tenants')::int AS tenants, current_setting('sample.rows')::bigint AS rows,
           current_setting('sample.seed')::bigint AS seed,
           current_setting('sample.until')::date::timestamptz - '2023-01-01 00:00:00+00'::timestamptz AS span
)
SELECT n, format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid AS tenant_id,
       seed * 1000003 + n AS salt, span, '2023-01-01 00:00:00+00'::timestamptz + span AS ends_at,
       1.0 / n / sum(1.0 / n) OVER () AS share, rows,
       (ARRAY['EUR', 'USD', 'GBP', 'JPY', 'CHF'])[1 + (n - 1) % 5] AS currency,
       (ARRAY['DE', 'US', 'GB', 'JP', 'CH'])[1 + (n - 1) % 5] AS country,
       (ARRAY['Europe/Berlin', 'America/New_York', 'Europe/London', 'Asia/Tokyo', 'Europe/Zurich']
       )[1 + (n - 1) % 5] AS timezone
FROM parameters, generate_series(1, tenants) AS n;

-- A tenant that nobody may export gets a row in every table for each of these months, so that an export of any period
-- would show its marker if tenants were mixed.
CREATE TEMP TABLE planted ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY made) AS i, made, -1::bigint AS salt,
       current_setting('sample.canary_tenant')::uuid AS tenant_id, current_setting('sample.canary_marker') AS marker
FROM generate_series('2023-01-01 12:00:00+00', (SELECT ends_at - '1 minute'::interval FROM tenants LIMIT 1),
                     '1 month'::interval) AS made;
