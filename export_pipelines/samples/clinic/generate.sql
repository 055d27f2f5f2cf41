-- Rows for schema.sql: realistic, awkward on purpose, and the same for the same parameters (ids included).
--
-- Parameters and functions are those of ../before_rows.sql, and one more setting of the transaction:
--   sample.invoice_rows  invoices of all clinics together; empty: a share of sample.rows

-- What there is to draw from -----------------------------------------------------------------------------------

CREATE TEMP TABLE words ON COMMIT DROP AS
SELECT
    common_words.*,
    ARRAY['Bella', 'Luna', 'Max', 'Rocky', 'Молли', 'ポチ', '旺财', 'Simba', '=Cash', '+Plus', '-Minus', '@ttila', '007',
          'Sir "Barks" a Lot', 'D''Artagnan', 'Chloé', 'لولو', '🐾 Paws', 'null', 'TRUE', '1e5', 'Tom; Jerry',
          'Salt, Pepper', 'Œuf', 'Daisy', 'Coco', 'Buddy', 'Nala'] AS pet_names,
    -- Twice as long as the list of species drawn from below, and in step with it.
    ARRAY['Labrador', 'Maine Coon', 'Shih Tzu', 'Netherland Dwarf', 'Cockatiel', '', 'Haflinger', 'Corn snake',
          'mixed', 'Ferret',
          'Xoloitzcuintli', 'Norwegian Forest', 'Jack Russell', 'Löwenkopf', 'African grey', 'Sphynx',
          'Íslenskur hestur', 'Bearded dragon', 'Löwchen', 'Alpaca "Huacaya"'] AS breeds,
    ARRAY['Otitis externa', 'Gastroenteritis', 'Dermatitis, atopic', 'Fracture "greenstick"', 'Obesity', 'Healthy',
          'Dental calculus; grade 2', 'Arthritis', 'Conjunctivitis', 'Parasites'] AS diagnoses,
    ARRAY['Amoxicillin', 'Meloxicam', 'Prednisolone', 'Metronidazole', 'Ivermectin', 'Tramadol', 'Insulin',
          'Carprofen'] AS drugs,
    ARRAY['Vaccination', 'Check-up', 'Surgery', 'Dental cleaning', 'Limping', 'Vomiting since yesterday', 'Nail trim',
          'Follow-up', 'Itching — ears', '=urgent'] AS reasons,
    ARRAY['Consultation', 'Blood panel', 'Chew toy', 'Kibble 12 kg', 'Flea drops', 'X-ray, two views',
          'Bandage 5" wide', 'Shampoo', 'Anæsthesia', 'Collar "M"', 'Vaccine', 'Eye ointment'] AS goods,
    ARRAY['Eats well, sleeps well.', 'Owner reports coughing at night.',
          'Wound healing as expected; remove stitches in ten days.',
          'Weight stable. Next visit in six months.', 'Nervous: muzzle needed.',
          'Given fluids, observed for two hours.'] AS remarks
FROM common_words;

-- One line for each clinic: how many rows of each table it gets.
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT tenants.*, n AS clinic, tenant_id AS clinic_id,
       greatest(1, round(share * rows * 0.004))::bigint AS profiles,
       greatest(1, round(share * rows * 0.025))::bigint AS clients,
       greatest(1, round(share * rows * 0.035))::bigint AS pets,
       greatest(1, round(share * rows * 0.130))::bigint AS medical_records,
       greatest(1, round(share * rows * 0.060))::bigint AS lab_results,
       greatest(1, round(share * rows * 0.070))::bigint AS prescriptions,
       greatest(1, round(share * rows * 0.140))::bigint AS appointments,
       greatest(1, round(share * rows * 0.006))::bigint AS products,
       greatest(1, round(share * rows * 0.010))::bigint AS inventory,
       greatest(1, round(share * coalesce(
           NULLIF(current_setting('sample.invoice_rows'), '')::bigint, rows * 0.120)))::bigint AS invoices,
       greatest(1, round(share * rows * 0.300))::bigint AS invoice_items,
       greatest(1, round(share * rows * 0.100))::bigint AS payments
FROM tenants;

-- People -------------------------------------------------------------------------------------------------------

INSERT INTO clinic.clinics
SELECT clinic_id, slug, initcap(replace(slug, '-', ' ')),
       CASE clinic % 3 WHEN 1 THEN format('%s "Tierärzte" GmbH & Co. KG', initcap(replace(slug, '-', ' ')))
           WHEN 2 THEN '' END,
       CASE WHEN clinic % 4 <> 3 THEN '1889-05-01'::date + (clinic - 1) * 9001 END,
       country, currency, timezone, '07:30', '18:00:00.5', clinic % 2 = 0, '2023-01-01 00:00:00+00',
       '2023-01-01 00:00:00+00'
FROM plan, LATERAL (
    SELECT coalesce(
        (ARRAY['alpine-paws', 'harbour-vets', 'nile-street', 'old-mill', 'sakura-animal-care'])[clinic],
        'clinic-' || lpad(clinic::text, 4, '0')) AS slug
) AS named;

INSERT INTO clinic.profiles
SELECT pg_temp.id('profile', salt, i), clinic_id, name, format('staff%s@clinic%s.example', i, clinic),
       (ARRAY['vet', 'nurse', 'vet', 'receptionist', 'manager'])[1 + (i - 1) % 5]::clinic.staff_role,
       CASE WHEN i % 8 <> 5 THEN format('+49 %s', 30000000 + pg_temp.draw(i, salt, 103, 9999999)) END,
       CASE WHEN i % 5 IN (1, 3) THEN format('V-%s', lpad(i::text, 6, '0')) END,
       format('$argon2id$v=19$m=65536,t=3,p=4$%s', md5('password' || salt || '/' || i)),
       CASE WHEN i % 3 = 1 THEN pg_temp.bitmap('photo' || salt || '/' || i) END,
       CASE WHEN i % 4 <> 0 THEN make_time(6 + pg_temp.draw(i, salt, 104, 12), 30, 0.25) END,
       (ARRAY['8 hours', '4 hours 30 minutes', '1 day 00:00:01.5', NULL])[1 + (i - 1) % 4]::interval,
       CASE WHEN i % 6 <> 0 THEN 15 + pg_temp.draw(i, salt, 105, 800000) / 10000.0 END,
       CASE WHEN i % 5 <> 4 THEN made + (ends_at - made) * 0.9 END,
       CASE i % 5 WHEN 1 THEN ('10.0.0.' || i % 255)::inet WHEN 2 THEN '2001:db8::1'::inet
           WHEN 3 THEN '192.0.2.0/24'::inet END,
       i % 9 <> 0, CASE WHEN i % 7 <> 6 THEN '1998-02-28'::date + pg_temp.draw(i, salt, 106, 9000) END,
       made, made + (ends_at - made) * 0.01, CASE WHEN i % 9 = 0 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, profiles) AS i, LATERAL (
    SELECT pg_temp.moment(i, profiles, salt, 100, span) AS made,
           pg_temp.word(first_names, i, salt, 101) || ' ' || pg_temp.word(last_names, i, salt, 102) AS name
) AS drawn;

INSERT INTO clinic.login_sessions
SELECT md5('session' || salt || '/' || i), pg_temp.id('profile', salt, i), '198.51.100.7', 'Mozilla/5.0', ends_at
FROM plan, generate_series(1, least(profiles, 100)) AS i;

INSERT INTO clinic.clients
SELECT pg_temp.id('client', salt, i), clinic_id, name,
       CASE i % 10 WHEN 3 THEN NULL WHEN 7 THEN ''
           ELSE format('client%s@example.%s', i, (ARRAY['com', 'org', 'net'])[1 + i % 3]) END,
       CASE i % 4 WHEN 0 THEN NULL
           ELSE format('+%s (0) %s', 1 + i % 98, 10000000 + pg_temp.draw(i, salt, 113, 89999999)) END,
       CASE i % 6 WHEN 0 THEN NULL
           ELSE format(E'%s Church Street%sFlat %s', 1 + i % 200, CASE WHEN i % 6 = 1 THEN E'\r\n' ELSE ', ' END,
               i % 30) END,
       CASE WHEN i % 9 <> 8 THEN pg_temp.word(cities, i, salt, 114) END, CASE WHEN i % 7 <> 0 THEN country END,
       CASE WHEN i = 1 THEN '1899-12-31'
           WHEN i % 8 <> 0 THEN '1935-01-01'::date + pg_temp.draw(i, salt, 115, 25000) END,
       CASE WHEN i % 6 <> 4 THEN lpad((pg_temp.draw(i, salt, 116, 999999999))::text, 11, '0') END,
       (ARRAY[true, false, NULL])[1 + i % 3], CASE WHEN i % 3 = 0 THEN made + '00:00:00.000001' END,
       CASE WHEN i % 3 = 0 THEN ('203.0.113.' || i % 255)::inet END,
       CASE WHEN i % 12 = 6 THEN -1 ELSE 1 END * (pg_temp.draw(i, salt, 117, 50000) * (i % 4)) / 100.0,
       CASE WHEN i % 11 = 0 THEN pg_temp.word(awkward, i, salt, 118) END,
       made, made + (ends_at - made) * 0.02, CASE WHEN i % 40 = 0 THEN made + (ends_at - made) * 0.01 END
FROM plan, words, generate_series(1, clients) AS i, LATERAL (
    SELECT pg_temp.moment(i, clients, salt, 110, span) AS made,
           pg_temp.word(first_names, i, salt, 111) || ' ' || pg_temp.word(last_names, i, salt, 112) AS name
) AS drawn;

-- Medical ------------------------------------------------------------------------------------------------------

-- The first patient of every clinic is a tortoise, born in 1887 and taken over from a card index.
INSERT INTO clinic.pets
SELECT pg_temp.id('pet', salt, i), clinic_id, pg_temp.id('client', salt, pg_temp.parent(i, pets, clients, salt, 121)),
       CASE i WHEN 1 THEN 'Methuselah' ELSE pg_temp.word(pet_names, i, salt, 122) END,
       CASE i WHEN 1 THEN 'reptile'
           ELSE (ARRAY['dog', 'cat', 'dog', 'rabbit', 'bird', 'cat', 'horse', 'reptile', 'dog', 'other'])[1 + i % 10]
       END::clinic.species,
       CASE WHEN i = 1 THEN 'Hermann''s tortoise'
           WHEN i % 9 <> 0 THEN breeds[1 + i % 10 + 10 * pg_temp.draw(i, salt, 123, 2)] END,
       (ARRAY['f', 'm', NULL, 'f', 'm'])[1 + i % 5],
       CASE WHEN i = 1 THEN '1887-03-04' WHEN i % 13 <> 0 THEN made::date - pg_temp.draw(i, salt, 124, 5000) END,
       CASE WHEN i % 14 <> 0 THEN pg_temp.draw(i, salt, 125, 600000) / 9999::float8 END,
       (ARRAY[true, false, true, NULL])[1 + i % 4],
       CASE WHEN i % 3 <> 0 THEN '985' || lpad(pg_temp.draw(i, salt, 126, 999999999)::text, 12, '0') END,
       CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN ARRAY['penicillin', 'nuts, "mixed"', NULL, 'ポーレン']
           WHEN 2 THEN ARRAY['dust; mites', E'back\\slash'] ELSE '{}' END,
       CASE WHEN i % 5 = 0
           THEN jsonb_build_object('insurer', 'Žofie & Söhne', 'policy', 9007199254740993 + i, 'share', 0.80,
               'until', NULL) END,
       CASE i WHEN 1 THEN '1999-12-31 23:59:59.999999+00' ELSE made END, made + (ends_at - made) * 0.03,
       CASE WHEN i % 50 = 0 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, pets) AS i,
     LATERAL (SELECT pg_temp.moment(i, pets, salt, 120, span) AS made) AS drawn;

INSERT INTO clinic.medical_records
SELECT pg_temp.id('record', salt, i), clinic_id,
       pg_temp.id('pet', salt, pg_temp.parent(i, medical_records, pets, salt, 131)),
       CASE WHEN i % 17 <> 0
           THEN pg_temp.id('profile', salt, pg_temp.parent(i, medical_records, profiles, salt, 132)) END,
       made - '20 minutes'::interval, (made - '20 minutes'::interval) AT TIME ZONE timezone,
       CASE WHEN i % 8 <> 0 THEN pg_temp.word(diagnoses, i, salt, 133) END,
       CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN ''
           ELSE pg_temp.word(drugs, i, salt, 134) || ', ' || i % 14 + 1 || ' days' END,
       CASE i % 5 WHEN 3 THEN awkward[1 + i / 5 % cardinality(awkward)]
           WHEN 4 THEN NULL ELSE pg_temp.word(remarks, i, salt, 135) END,
       CASE WHEN i % 4 <> 0
           THEN format('{"pulse": %s, "glucose": %s.50, "mucosa": {"colour": "rosé", "crt": null},'
                       ' "notes": ["\"calm\"", "line\nbreak"]}',
                       60 + pg_temp.draw(i, salt, 136, 120), 3 + i % 9)::jsonb END,
       CASE WHEN i % 10 <> 0 THEN (36 + pg_temp.draw(i, salt, 137, 500) / 100.0)::real END,
       CASE WHEN i % 3 <> 0 THEN pg_temp.draw(i, salt, 138, 600000) / 9999::float8 END,
       i % 31 = 0, made, made + (ends_at - made) * 0.01, CASE WHEN i % 97 = 0 THEN made + (ends_at - made) * 0.01 END
FROM plan, words, generate_series(1, medical_records) AS i,
     LATERAL (SELECT pg_temp.moment(i, medical_records, salt, 130, span) AS made) AS drawn;

INSERT INTO clinic.lab_results
SELECT pg_temp.id('result', salt, i),
       pg_temp.id('record', salt, pg_temp.parent(i, lab_results, medical_records, salt, 141)),
       (ARRAY['GLU', 'CREA', 'ALT', 'WBC', 'K+', '=Na', 'T4'])[1 + i % 7],
       CASE i % 29 WHEN 0 THEN NULL WHEN 1 THEN 0.000000000000000000012345
           WHEN 2 THEN 98765432109876543210987654321.123456789
           WHEN 3 THEN -0.10 ELSE pg_temp.draw(i, salt, 142, 100000) / 1000.0 END,
       (ARRAY['mmol/l', 'µmol/l', 'U/l', '10³/µl', '', NULL])[1 + i % 6],
       CASE WHEN i % 4 <> 0 THEN 3.1 END, CASE WHEN i % 4 <> 0 THEN 6.9999 END,
       (ARRAY[true, false, false, NULL])[1 + i % 4],
       CASE WHEN i % 23 = 0 THEN pg_temp.word(awkward, i, salt, 143) END,
       CASE WHEN i % 3 = 0
           THEN jsonb_build_object('run', i, 'flags', jsonb_build_array('H', NULL, 'µ'), 'raw', 1.10) END,
       CASE WHEN i % 12 <> 0 THEN made - '2 hours'::interval END, made
FROM plan, words, generate_series(1, lab_results) AS i,
     LATERAL (SELECT pg_temp.moment(i, lab_results, salt, 140, span) AS made) AS drawn;

INSERT INTO clinic.prescriptions
SELECT pg_temp.id('prescription', salt, i), clinic_id,
       -- The pet of the record, by the same draw that gave the record its pet.
       pg_temp.id('pet', salt, pg_temp.parent(record, medical_records, pets, salt, 131)),
       CASE WHEN i % 15 <> 0 THEN pg_temp.id('record', salt, record) END,
       pg_temp.word(drugs, i, salt, 152), 0.0001 + pg_temp.draw(i, salt, 153, 5000000) / 10000.0,
       (ARRAY['8 hours', '12 hours', '1 day', '1 mon', '1 year 2 mons 3 days 04:05:06.789'])[1 + i % 5]::interval,
       made::date, CASE WHEN i % 6 <> 0 THEN made::date + i::int % 60 END, i % 4,
       CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 154) ELSE 'With food' END,
       i % 8 = 5, made, made + (ends_at - made) * 0.01
FROM plan, words, generate_series(1, prescriptions) AS i, LATERAL (
    SELECT pg_temp.moment(i, prescriptions, salt, 150, span) AS made,
           pg_temp.parent(i, prescriptions, medical_records, salt, 151) AS record
) AS drawn;

INSERT INTO clinic.appointments
SELECT pg_temp.id('appointment', salt, i), clinic_id,
       pg_temp.id('pet', salt, pg_temp.parent(i, appointments, pets, salt, 161)),
       CASE WHEN i % 11 <> 0 THEN pg_temp.id('profile', salt, pg_temp.parent(i, appointments, profiles, salt, 162)) END,
       CASE WHEN i % 60 = 0 THEN 'requested' WHEN i > appointments * 0.99 THEN 'booked'
           ELSE (ARRAY['done', 'done', 'done', 'cancelled', 'done', 'no-show', 'checked in']
               )[1 + i % 7] END::clinic.appointment_status,
       CASE WHEN i % 60 <> 0 THEN date_trunc('day', made) + make_interval(
           days => 1 + pg_temp.draw(i, salt, 163, 30), hours => 7 + pg_temp.draw(i, salt, 164, 10),
           mins => 15 * (i % 4)::int) END,
       make_interval(mins => (ARRAY[15, 20, 30, 45, 90])[1 + i % 5]),
       (ARRAY['1', '2', 'X-ray', 'Raum "Süd"', NULL])[1 + i % 5],
       CASE WHEN i % 43 = 0 THEN pg_temp.word(awkward, i, salt, 165) ELSE pg_temp.word(reasons, i, salt, 166) END,
       i % 3 = 0, made, made + (ends_at - made) * 0.03, CASE WHEN i % 71 = 0 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, appointments) AS i,
     LATERAL (SELECT pg_temp.moment(i, appointments, salt, 160, span) AS made) AS drawn;

-- Stock --------------------------------------------------------------------------------------------------------

-- The price of a product, in hundredths.
CREATE FUNCTION pg_temp.price(product bigint, salt bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 95 + 5 * pg_temp.draw(product, salt, 171, 4000);

INSERT INTO clinic.products
SELECT pg_temp.id('product', salt, i), clinic_id, 'SKU-' || lpad(i::text, 6, '0'),
       pg_temp.word(goods, i, salt, 172) || ' #' || i,
       (ARRAY['medicine', 'food', 'service', 'accessory'])[1 + i % 4]::clinic.product_category,
       pg_temp.price(i, salt) / 100.0, (ARRAY[0.19, 0.07, 0, 0.0825])[1 + i % 4], i % 4 = 0,
       CASE i % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['new', 'sale, 10 %'] ELSE ARRAY['größe "L"'] END,
       CASE i % 2 WHEN 0 THEN '{}'
           ELSE jsonb_build_object('weight_g', i * 10, 'ean', '400' || lpad(i::text, 10, '0'), 'parts',
               '[]'::jsonb) END,
       made, made + (ends_at - made) * 0.04, CASE WHEN i % 11 = 7 THEN made + (ends_at - made) * 0.03 END
FROM plan, words, generate_series(1, products) AS i,
     LATERAL (SELECT pg_temp.moment(i, products, salt, 170, span) AS made) AS drawn;

INSERT INTO clinic.inventory
SELECT clinic_id, 'SKU-' || lpad(pg_temp.parent(i, inventory, products, salt, 181)::text, 6, '0'),
       'L' || lpad(i::text, 7, '0'),
       pg_temp.draw(i, salt, 182, 9000000) / 10000.0,
       CASE WHEN i % 7 <> 0 THEN pg_temp.draw(i, salt, 183, 100000) / 700.0 END,
       CASE WHEN i % 5 <> 0 THEN (i % 50)::int END,
       (ARRAY['Shelf A', 'Kühlschrank', 'cellar; left', '', NULL])[1 + i % 5],
       CASE WHEN i % 6 <> 0 THEN made::date + pg_temp.draw(i, salt, 184, 1500) END,
       CASE WHEN i % 4 <> 0 THEN made + (ends_at - made) * 0.01 END, made, made + (ends_at - made) * 0.01
FROM plan, generate_series(1, inventory) AS i,
     LATERAL (SELECT pg_temp.moment(i, inventory, salt, 180, span) AS made) AS drawn;

-- Billing ------------------------------------------------------------------------------------------------------

-- Lines first, because an invoice's total is the sum of them. Every invoice gets one before any gets a second.
CREATE TEMP TABLE lines ON COMMIT DROP AS
SELECT clinic, i, invoice, row_number() OVER (PARTITION BY clinic, invoice ORDER BY i) AS line, product, quantity,
       pg_temp.price(product, salt) / 100.0 AS unit_price,
       round(quantity * pg_temp.price(product, salt) / 100.0, 2) AS line_total
FROM plan, generate_series(1, invoice_items) AS i, LATERAL (
    SELECT CASE WHEN i <= invoices THEN i ELSE 1 + pg_temp.draw(i, salt, 191, invoices) END AS invoice
) AS billed, LATERAL (
    SELECT pg_temp.parent(invoice, invoices, products, salt + i, 192) AS product,
           CASE i % 9 WHEN 0 THEN 0.25 WHEN 4 THEN 2.5 ELSE (1 + i % 3)::numeric END AS quantity
) AS bought;

-- Who pays: four invoices in five, at the usual proportions. Every 40th payment gives half of the one before it back.
CREATE TEMP TABLE receipts ON COMMIT DROP AS
SELECT clinic, i, i % 40 = 0 AS refund, nth % 10 = 0 AS partial,
       1 + (nth - 1) * invoices / (payments - payments / 40) AS invoice
FROM plan, generate_series(1, payments) AS i, LATERAL (SELECT i - i / 40 AS nth) AS counted;

CREATE TEMP TABLE bills ON COMMIT DROP AS
SELECT plan.clinic, i, pg_temp.moment(i, invoices, salt, 200, span) AS made, subtotal,
       round(subtotal * 0.19, 2) AS tax, settled
FROM plan CROSS JOIN generate_series(1, invoices) AS i
LEFT JOIN (SELECT clinic, invoice, sum(line_total) AS lines_total FROM lines GROUP BY clinic, invoice) AS summed
    ON summed.clinic = plan.clinic AND summed.invoice = i
LEFT JOIN (SELECT clinic, invoice, bool_and(NOT partial) AS settled FROM receipts GROUP BY clinic, invoice) AS paid
    ON paid.clinic = plan.clinic AND paid.invoice = i,
LATERAL (SELECT coalesce(lines_total, pg_temp.draw(i, salt, 201, 50000) / 100.0) AS subtotal) AS summed_or_drawn;

INSERT INTO clinic.invoices
SELECT pg_temp.id('invoice', salt, i), clinic_id, i,
       pg_temp.id('client', salt, pg_temp.parent(i, invoices, clients, salt, 202)),
       CASE WHEN settled THEN 'paid' WHEN NOT settled THEN 'partly paid'
           ELSE (ARRAY['sent', 'draft', 'sent', 'void'])[1 + i % 4]
       END::clinic.invoice_status,
       currency, subtotal, tax, subtotal + tax, i % 5 = 0, made::date, CASE WHEN i % 7 <> 0 THEN made::date + 30 END,
       CASE i % 13 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN pg_temp.word(awkward, i, salt, 203)
           ELSE 'R-' || lpad(i::text, 8, '0') END,
       made, made + (ends_at - made) * 0.01, CASE WHEN i % 200 = 0 THEN made + (ends_at - made) * 0.01 END
FROM bills JOIN plan USING (clinic), words
ORDER BY clinic, i;

INSERT INTO clinic.invoice_items
SELECT pg_temp.id('line', salt, lines.i), pg_temp.id('invoice', salt, invoice), line,
       CASE WHEN lines.i % 30 <> 0 THEN pg_temp.id('product', salt, product) END,
       CASE WHEN lines.i % 30 <> 0 THEN pg_temp.word(goods, product, salt, 172)
           ELSE pg_temp.word(awkward, lines.i, salt, 193) END,
       quantity, unit_price, line_total, pg_temp.moment(invoice, invoices, salt, 200, span)
FROM lines JOIN plan USING (clinic), words
ORDER BY clinic, invoice, line;

INSERT INTO clinic.payments
SELECT pg_temp.id('payment', salt, receipts.i), clinic_id, pg_temp.id('invoice', salt, invoice),
       (ARRAY['card', 'cash', 'card', 'transfer', 'insurance'])[1 + receipts.i % 5]::clinic.payment_method,
       CASE WHEN refund THEN -round(amount / 2, 2) ELSE amount END, currency,
       CASE WHEN receipts.i % 5 IN (0, 2) THEN hashint8extended(receipts.i, salt) & 9223372036854775807 END,
       CASE receipts.i % 8 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, receipts.i, salt, 212)
           ELSE 'SEPA ' || receipts.i END,
       paid_at, paid_at
FROM receipts JOIN bills ON bills.clinic = receipts.clinic AND bills.i = receipts.invoice
JOIN plan ON plan.clinic = receipts.clinic, words, LATERAL (
    SELECT CASE WHEN partial THEN round((subtotal + tax) / 2, 2) ELSE subtotal + tax END AS amount,
           -- Within 30 days, a refund after its payment, and never later than the last day with rows.
           made + least('30 days', ends_at - made)
               * (CASE WHEN refund THEN 0.7 + 0.3 * late ELSE 0.7 * late END) AS paid_at
    FROM (SELECT pg_temp.draw(receipts.i, salt, 211, 1000000) / 1e6::float8 AS late) AS drawn
) AS paid
ORDER BY receipts.clinic, receipts.i;

-- The canary ---------------------------------------------------------------------------------------------------

INSERT INTO clinic.clinics (id, slug, name, country, currency, timezone, opens_at, closes_at, created_at, updated_at)
SELECT tenant_id, 'canary', marker, 'DE', 'EUR', 'UTC', '00:00', '23:59', made, made FROM planted WHERE i = 1;

INSERT INTO clinic.profiles (id, clinic_id, full_name, email, role, password_hash, created_at, updated_at)
SELECT pg_temp.id('profile', salt, i), tenant_id, marker, i || '@canary.example', 'vet', '', made, made FROM planted;

INSERT INTO clinic.clients (id, clinic_id, full_name, created_at, updated_at)
SELECT pg_temp.id('client', salt, i), tenant_id, marker, made, made FROM planted;

INSERT INTO clinic.pets (id, clinic_id, client_id, name, species, created_at, updated_at)
SELECT pg_temp.id('pet', salt, i), tenant_id, pg_temp.id('client', salt, i), marker, 'bird', made, made FROM planted;

INSERT INTO clinic.medical_records (id, clinic_id, pet_id, visited_at, local_time, notes, created_at, updated_at)
SELECT pg_temp.id('record', salt, i), tenant_id, pg_temp.id('pet', salt, i), made, made AT TIME ZONE 'UTC', marker,
       made, made FROM planted;

INSERT INTO clinic.lab_results (id, medical_record_id, test_code, comment, created_at)
SELECT pg_temp.id('result', salt, i), pg_temp.id('record', salt, i), 'GLU', marker, made FROM planted;

INSERT INTO clinic.prescriptions
    (id, clinic_id, pet_id, drug, dose_mg, every, starts_on, instructions, created_at, updated_at)
SELECT pg_temp.id('prescription', salt, i), tenant_id, pg_temp.id('pet', salt, i), 'Air', 1, '1 day', made::date, marker,
       made, made FROM planted;

INSERT INTO clinic.appointments (id, clinic_id, pet_id, starts_at, reason, created_at, updated_at)
SELECT pg_temp.id('appointment', salt, i), tenant_id, pg_temp.id('pet', salt, i), made, marker, made, made FROM planted;

INSERT INTO clinic.products (id, clinic_id, sku, name, category, unit_price, tax_rate, created_at, updated_at)
SELECT pg_temp.id('product', salt, i), tenant_id, 'SKU-' || i, marker, 'service', 0, 0, made, made FROM planted;

INSERT INTO clinic.inventory (clinic_id, sku, lot, quantity, location, created_at, updated_at)
SELECT tenant_id, 'SKU-' || i, 'L1', 0, marker, made, made FROM planted;

INSERT INTO clinic.invoices
    (id, clinic_id, number, client_id, currency, subtotal, tax, total, issued_on, reference, created_at, updated_at)
SELECT pg_temp.id('invoice', salt, i), tenant_id, i, pg_temp.id('client', salt, i), 'EUR', 0, 0, 0, made::date, marker,
       made, made FROM planted;

INSERT INTO clinic.invoice_items (id, invoice_id, line, description, quantity, unit_price, line_total, created_at)
SELECT pg_temp.id('line', salt, i), pg_temp.id('invoice', salt, i), 1, marker, 0, 0, 0, made FROM planted;

INSERT INTO clinic.payments (id, clinic_id, invoice_id, method, amount, currency, reference, paid_at, created_at)
SELECT pg_temp.id('payment', salt, i), tenant_id, pg_temp.id('invoice', salt, i), 'cash', 0, 'EUR', marker, made, made
FROM planted;
