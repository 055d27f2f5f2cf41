-- Rows for schema.sql: realistic, awkward on purpose, and the same for the same parameters (ids included).
-- Parameters and functions are those of ../before_rows.sql.

CREATE TEMP TABLE words ON COMMIT DROP AS
SELECT
    common_words.*,
    ARRAY['Winter appeal', 'Clean water 2030', 'Nothilfe Erdbeben', '子ども食堂', 'Weiße Weihnacht', 'Open day; bring friends',
          'Школьные завтраки', 'Tree "adoption"', 'إغاثة', 'Legacy letters'] AS drives,
    ARRAY['Thank you for being there', 'Wir brauchen Sie', 'Your gift, doubled', 'Ihre Spendenquittung', 'ご支援のお願い',
          '50 % more children at school', ''] AS subjects,
    ARRAY['Dear friend, with your help we can go on.', 'Liebe Freundin, lieber Freund, Ihre Hilfe kommt an.',
          'One hundred letters, one thousand meals.', 'شكرا لكم', 'Спасибо за поддержку!'] AS bodies,
    ARRAY['newsletter', 'appeals', 'events', 'profiling'] AS purposes
FROM common_words;

-- One line for each organisation: how many rows of each table it gets. A contact is asked for up to 16 consents.
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT tenants.*,
       greatest(1, round(share * rows * 0.005))::bigint AS staff,
       greatest(1, round(share * rows * 0.100))::bigint AS contacts,
       greatest(1, round(share * rows * 0.005))::bigint AS campaigns,
       greatest(1, round(share * rows * 0.500))::bigint AS messages,
       greatest(1, round(share * rows * 0.190))::bigint AS donations,
       greatest(1, round(share * rows * 0.200))::bigint AS consents
FROM tenants;

-- People -------------------------------------------------------------------------------------------------------

INSERT INTO outreach.organisations
SELECT tenant_id, slug, initcap(replace(slug, '-', ' ')), CASE WHEN n % 3 <> 0 THEN format('VR %s "B"', 4000 + n) END,
       CASE WHEN n % 4 <> 3 THEN '1889-05-01'::date + (n - 1) * 9001 END, country, currency, timezone,
       '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00'
FROM plan, LATERAL (
    SELECT coalesce((ARRAY['brot-und-wasser', 'hudson-shelters', 'lifeboat-friends', 'midori-no-kai'])[n],
                    'organisation-' || lpad(n::text, 4, '0')) AS slug
) AS named;

INSERT INTO outreach.staff
SELECT pg_temp.id('staff', salt, i), tenant_id, name, format('staff%s@organisation%s.example', i, n),
       (ARRAY['manager', 'fundraiser', 'fundraiser', 'accountant'])[1 + (i - 1) % 4]::outreach.staff_role,
       format('$argon2id$v=19$m=65536,t=3,p=4$%s', md5('password' || salt || '/' || i)),
       CASE WHEN i % 2 = 1 THEN pg_temp.bitmap('photo' || salt || '/' || i) END,
       CASE WHEN i % 3 <> 0 THEN make_time(6 + pg_temp.draw(i, salt, 113, 5), 30, 0.25) END,
       CASE WHEN i % 4 <> 2 THEN '1998-02-28'::date + pg_temp.draw(i, salt, 114, 9000) END,
       made, made + (ends_at - made) * 0.01, CASE WHEN i % 6 = 3 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, staff) AS i, LATERAL (
    SELECT pg_temp.moment(i, staff, salt, 110, span) AS made,
           pg_temp.word(first_names, i, salt, 111) || ' ' || pg_temp.word(last_names, i, salt, 112) AS name
) AS drawn;

INSERT INTO outreach.mail_credentials
SELECT format('appeals@organisation%s.example', n), tenant_id, sha256(('mail' || salt)::bytea) FROM plan;

INSERT INTO outreach.contacts
SELECT pg_temp.id('contact', salt, i), tenant_id,
       CASE WHEN i % 4 <> 0 THEN pg_temp.id('staff', salt, pg_temp.parent(i, contacts, staff, salt, 121)) END, name,
       CASE i % 10 WHEN 3 THEN NULL WHEN 7 THEN ''
           ELSE format('contact%s@example.%s', i, (ARRAY['com', 'org', 'net'])[1 + i % 3]) END,
       CASE WHEN i % 3 <> 0 THEN format('+%s (0) %s', 1 + i % 98, 10000000 + pg_temp.draw(i, salt, 124, 89999999)) END,
       CASE WHEN i % 6 <> 0
           THEN format('%s Church Street%sFlat %s', 1 + i % 200, CASE WHEN i % 6 = 1 THEN E'\r\n' ELSE ', ' END, i % 30) END,
       CASE WHEN i % 9 <> 0 THEN pg_temp.word(cities, i, salt, 125) END, CASE WHEN i % 7 <> 0 THEN country END,
       CASE WHEN i = 1 THEN '1899-12-31' WHEN i % 3 <> 0 THEN '1935-01-01'::date + pg_temp.draw(i, salt, 126, 25000) END,
       CASE WHEN i % 5 <> 0 THEN (ARRAY['de', 'en', 'ar', 'zh-Hant'])[1 + i % 4] END,
       CASE WHEN i % 2 = 0 THEN lpad(pg_temp.draw(i, salt, 127, 999999999)::text, 11, '0') END,
       (ARRAY['website', 'event', 'import', 'referral'])[1 + i % 4]::outreach.contact_source,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '{}' WHEN 2 THEN ARRAY['major donor', 'vegan; "strict"', NULL]
           ELSE ARRAY['größer', E'back\\slash'] END,
       CASE i % 3 WHEN 0 THEN '{}' ELSE jsonb_build_object(
           'interests', jsonb_build_array('water', NULL, '学校'), 'capacity', 2500.50, 'remark',
           pg_temp.word(awkward, i, salt, 128)) END,
       i % 23 = 9, made, made + (ends_at - made) * 0.02
FROM plan, words, generate_series(1, contacts) AS i, LATERAL (
    SELECT pg_temp.moment(i, contacts, salt, 120, span) AS made,
           pg_temp.word(first_names, i, salt, 122) || ' ' || pg_temp.word(last_names, i, salt, 123) AS name
) AS drawn;

-- Outreach -----------------------------------------------------------------------------------------------------

-- How the messages of a campaign go out.
CREATE FUNCTION pg_temp.channel(campaign bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN (ARRAY['email', 'email', 'sms', 'email', 'letter', 'phone'])[1 + campaign % 6];

INSERT INTO outreach.campaigns
SELECT pg_temp.id('campaign', salt, i), tenant_id,
       CASE WHEN i % 4 <> 3 THEN pg_temp.id('staff', salt, pg_temp.parent(i, campaigns, staff, salt, 131)) END,
       pg_temp.word(drives, i, salt, 132) || ' ' || i, pg_temp.channel(i)::outreach.channel,
       (ARRAY['finished', 'running', 'finished', 'cancelled', 'draft'])[1 + i % 5]::outreach.campaign_status,
       CASE WHEN i % 3 <> 0 THEN 5000 + 1000 * pg_temp.draw(i, salt, 133, 100) + 0.50 END,
       jsonb_build_object('source', 'event', 'min_gift', 10.00, 'not', NULL, 'tags', '[]'::jsonb),
       CASE i % 2 WHEN 0 THEN '{}' ELSE ARRAY['xmas, early', 'größe "L"'] END,
       date_trunc('hour', made AT TIME ZONE timezone), CASE WHEN i % 3 <> 1 THEN made::date + 60 END,
       made, made + (ends_at - made) * 0.05, CASE WHEN i % 7 = 4 THEN made + (ends_at - made) * 0.05 END
FROM plan, words, generate_series(1, campaigns) AS i,
     LATERAL (SELECT pg_temp.moment(i, campaigns, salt, 130, span) AS made) AS drawn;

INSERT INTO outreach.messages
SELECT pg_temp.id('message', salt, i), pg_temp.id('campaign', salt, campaign),
       pg_temp.id('contact', salt, pg_temp.parent(i, messages, contacts, salt, 142)),
       status::outreach.message_status,
       CASE WHEN pg_temp.channel(campaign) = 'email' THEN pg_temp.word(subjects, i, salt, 143) END,
       CASE i % 6 WHEN 0 THEN awkward[1 + i / 6 % cardinality(awkward)] ELSE pg_temp.word(bodies, i, salt, 144) END,
       CASE status WHEN 'queued' THEN 0 WHEN 'bounced' THEN 3 ELSE 1 END,
       CASE WHEN i % 4 <> 0 THEN pg_temp.draw(i, salt, 145, 90000) / 1e6 END,
       CASE WHEN status <> 'queued' THEN hashint8extended(i, salt) & 9223372036854775807 END,
       CASE WHEN status <> 'queued' THEN made + (ends_at - made) * 0.0001 END,
       CASE WHEN status IN ('opened', 'answered') THEN made + (ends_at - made) * 0.0001 + delay END,
       CASE WHEN status IN ('opened', 'answered') THEN delay END, made
FROM plan, words, generate_series(1, messages) AS i, LATERAL (
    SELECT pg_temp.moment(i, messages, salt, 140, span) AS made,
           pg_temp.parent(i, messages, campaigns, salt, 141) AS campaign,
           (ARRAY['delivered', 'opened', 'sent', 'opened', 'bounced', 'delivered', 'answered', 'queued'])[1 + i % 8]
               AS status
) AS drawn, LATERAL (
    SELECT (ends_at - made) * 0.01 * (pg_temp.draw(i, salt, 146, 1000000) / 1e6)::float8 AS delay
) AS read;

-- Money and law ------------------------------------------------------------------------------------------------

-- Every 40th gives back what the one before it brought.
INSERT INTO outreach.donations
SELECT pg_temp.id('donation', salt, i), tenant_id, i,
       pg_temp.id('contact', salt, pg_temp.parent(cause, donations, contacts, salt, 151)),
       CASE WHEN cause % 5 <> 0 THEN pg_temp.id('campaign', salt, pg_temp.parent(cause, donations, campaigns, salt, 152)) END,
       CASE WHEN i <> cause THEN -amount ELSE amount END, CASE WHEN foreign_money THEN 'SEK' ELSE currency END,
       CASE WHEN i % 3 <> 0 THEN round(amount * 0.0137 + 0.25, 4) END, CASE WHEN foreign_money THEN 1 / 11.3 END,
       (ARRAY['card', 'transfer', 'direct debit', 'cash'])[1 + cause % 4]::outreach.payment_method, cause % 3 = 0,
       (ARRAY[true, false, NULL])[1 + cause % 3],
       CASE i % 7 WHEN 0 THEN pg_temp.word(awkward, i, salt, 154) WHEN 1 THEN '' WHEN 2 THEN 'In memory of Zoë 🕊' END,
       made, CASE WHEN i % 4 = 1 THEN made::date END, made
FROM plan, words, generate_series(1, donations) AS i, LATERAL (
    SELECT i - CASE WHEN i % 40 = 0 THEN 1 ELSE 0 END AS cause, pg_temp.moment(i, donations, salt, 150, span) AS made
) AS drawn, LATERAL (
    SELECT cause % 13 = 5 AS foreign_money,
           CASE cause % 50 WHEN 7 THEN 1000000.01 ELSE 5 + 5 * pg_temp.draw(cause, salt, 153, 40) END AS amount
) AS given;

INSERT INTO outreach.consents
SELECT pg_temp.id('contact', salt, person), (ARRAY['email', 'sms', 'letter', 'phone'])[1 + (place - 1) % 4]::outreach.channel,
       purposes[1 + (place - 1) / 4 % 4], (ARRAY[true, true, false, NULL])[1 + i % 4],
       CASE i % 11 WHEN 0 THEN pg_temp.word(awkward, i, salt, 161) ELSE 'I agree to be written to, until I say stop.' END,
       CASE WHEN i % 3 <> 0 THEN sha256(('form' || salt || '/' || i)::bytea) END,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '2001:db8::5'::inet ELSE ('203.0.113.' || i % 255)::inet END,
       CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN tstzrange(made, NULL) ELSE tstzrange(made, made + '2 years'::interval, '[]') END,
       made, CASE WHEN i % 9 = 4 THEN made + (ends_at - made) * 0.3 END, made
FROM plan, words, generate_series(1, least(consents, 16 * contacts)) AS i, LATERAL (
    SELECT 1 + (i - 1) % contacts AS person, (1 + (i - 1) / contacts)::int AS place
) AS placed, LATERAL (SELECT pg_temp.moment(person, contacts, salt, 120, span) AS known) AS drawn,
     LATERAL (SELECT known + (ends_at - known) * (0.01 * place) AS made) AS asked;

-- The canary ---------------------------------------------------------------------------------------------------

INSERT INTO outreach.organisations (id, slug, name, country, currency, timezone, created_at, updated_at)
SELECT tenant_id, 'canary', marker, 'DE', 'EUR', 'UTC', made, made FROM planted WHERE i = 1;

INSERT INTO outreach.staff (id, organisation_id, full_name, email, role, password_hash, created_at, updated_at)
SELECT pg_temp.id('staff', salt, i), tenant_id, marker, i || '@canary.example', 'manager', '', made, made FROM planted;

INSERT INTO outreach.contacts (id, organisation_id, full_name, source, created_at, updated_at)
SELECT pg_temp.id('contact', salt, i), tenant_id, marker, 'import', made, made FROM planted;

INSERT INTO outreach.campaigns (id, organisation_id, name, channel, starts_local, created_at, updated_at)
SELECT pg_temp.id('campaign', salt, i), tenant_id, marker, 'letter', made AT TIME ZONE 'UTC', made, made FROM planted;

INSERT INTO outreach.messages (id, campaign_id, contact_id, body, created_at)
SELECT pg_temp.id('message', salt, i), pg_temp.id('campaign', salt, i), pg_temp.id('contact', salt, i), marker, made
FROM planted;

INSERT INTO outreach.donations
    (id, organisation_id, number, contact_id, amount, currency, method, note, donated_at, created_at)
SELECT pg_temp.id('donation', salt, i), tenant_id, i, pg_temp.id('contact', salt, i), 0, 'EUR', 'cash', marker, made, made
FROM planted;

INSERT INTO outreach.consents (contact_id, channel, purpose, wording, given_at, created_at)
SELECT pg_temp.id('contact', salt, i), 'email', 'newsletter', marker, made, made FROM planted;
