-- Rows for schema.sql: realistic, awkward on purpose, and the same for the same parameters (ids included).
-- Parameters and functions are those of ../before_rows.sql.

CREATE TEMP TABLE words ON COMMIT DROP AS
SELECT
    common_words.*,
    ARRAY['Bookkeeping', 'First aid', 'Español', 'Statistics', 'Баян для начинающих', 'Fire safety', '書道', 'Rhetoric',
          'C++', 'Data protection "GDPR"', 'Gärtnern', 'Project work; part 1', 'العربية'] AS subjects,
    ARRAY['Introduction', 'Words, words, words', 'Exercise', 'Überblick', 'Practice', 'Recap', 'Exam', 'まとめ',
          'Case study: 50 % off', 'Discussion'] AS lesson_titles,
    ARRAY['Clear and well paced.', 'Too fast for me.', 'More exercises, please!', 'Loved the last lesson.',
          'The video did not load on my phone.', 'Sehr gut erklärt.', 'とても良かったです。'] AS opinions,
    ARRAY['Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0', 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X)',
          'curl/8.9.1', ''] AS browsers
FROM common_words;

-- One line for each organisation: how many rows of each table it gets.
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT counted.*, sum(activity_logs) OVER (ORDER BY n) - activity_logs AS logged_before
FROM (
    SELECT tenants.*,
           greatest(1, round(share * rows * 0.050))::bigint AS users,
           greatest(1, round(share * rows * 0.010))::bigint AS courses,
           greatest(1, round(share * rows * 0.060))::bigint AS lessons,
           greatest(1, round(share * rows * 0.150))::bigint AS enrollments,
           greatest(1, round(share * rows * 0.050))::bigint AS certificates,
           greatest(1, round(share * rows * 0.560))::bigint AS activity_logs,
           greatest(1, round(share * rows * 0.120))::bigint AS transactions
    FROM tenants
) AS counted;

-- People -------------------------------------------------------------------------------------------------------

INSERT INTO learning.organisations
SELECT tenant_id, slug, initcap(replace(slug, '-', ' ')),
       (ARRAY['university', 'company', 'school', 'charity'])[1 + (n - 1) % 4]::learning.organisation_kind,
       country, currency, timezone, (ARRAY['de', NULL, 'en-GB', 'ja', ''])[1 + (n - 1) % 5],
       CASE WHEN n % 3 <> 0 THEN 50 * n END, '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00'
FROM plan, LATERAL (
    SELECT coalesce((ARRAY['fernhochschule-koeln', 'harbour-logistics', 'st-mary-s', 'sakura-juku'])[n],
                    'organisation-' || lpad(n::text, 4, '0')) AS slug
) AS named;

-- Who teaches: every tenth, the first among them. Who manages: every fiftieth.
INSERT INTO learning.users
SELECT pg_temp.id('user', salt, i), tenant_id, name, format('person%s@organisation%s.example', i, n),
       CASE WHEN i % 50 = 2 THEN 'manager' WHEN i % 10 = 1 THEN 'teacher' ELSE 'learner' END::learning.user_role,
       CASE WHEN i = 1 THEN '1899-12-31' WHEN i % 6 <> 0 THEN '1950-01-01'::date + pg_temp.draw(i, salt, 113, 21000) END,
       CASE WHEN i % 8 <> 3 THEN (ARRAY['de-DE', 'en-US', 'zh-Hant-TW', 'ar', 'pt-BR'])[1 + i % 5] END,
       pg_temp.zone(i, timezone),
       format('$argon2id$v=19$m=65536,t=3,p=4$%s', md5('password' || salt || '/' || i)),
       CASE WHEN i % 3 = 1 THEN pg_temp.bitmap('avatar' || salt || '/' || i) END,
       CASE i % 7 WHEN 0 THEN pg_temp.word(awkward, i, salt, 114) WHEN 1 THEN '' WHEN 2 THEN 'Learns ' ||
           pg_temp.word(subjects, i, salt, 115) || ' 🎓' END,
       (ARRAY[true, false, NULL])[1 + i % 3], CASE WHEN i % 9 <> 4 THEN made + (ends_at - made) * 0.9 END,
       CASE i % 4 WHEN 0 THEN ('198.51.100.' || i % 255)::inet WHEN 1 THEN '2001:db8::17'::inet END,
       made, made + (ends_at - made) * 0.02, CASE WHEN i % 17 = 9 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, users) AS i, LATERAL (
    SELECT pg_temp.moment(i, users, salt, 110, span) AS made,
           pg_temp.word(first_names, i, salt, 111) || ' ' || pg_temp.word(last_names, i, salt, 112) AS name
) AS drawn;

INSERT INTO learning.login_sessions
SELECT md5('session' || salt || '/' || i), pg_temp.id('user', salt, i), '198.51.100.7', 'Mozilla/5.0', ends_at
FROM plan, generate_series(1, least(users, 100)) AS i;

-- Teaching -----------------------------------------------------------------------------------------------------

-- The price of a course, in hundredths; every fifth is free.
CREATE FUNCTION pg_temp.price(course bigint, salt bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE WHEN course % 5 <> 4 THEN 990 + 500 * pg_temp.draw(course, salt, 121, 60) END;

INSERT INTO learning.courses
SELECT pg_temp.id('course', salt, i), tenant_id,
       CASE WHEN i % 4 <> 0 THEN pg_temp.id('user', salt, pg_temp.parent(i, courses, users, salt, 122)) END,
       'C-' || lpad(i::text, 5, '0'), pg_temp.word(subjects, i, salt, 123) || ' ' || i,
       (ARRAY['de', 'en', 'es', 'ja'])[1 + i % 4],
       (ARRAY['beginner', 'beginner', 'intermediate', 'advanced'])[1 + i % 4]::learning.course_level,
       pg_temp.price(i, salt) / 100.0,
       CASE WHEN i % 3 <> 0 THEN (ARRAY['6 hours', '12 days', '1 mon 2 days 03:30:00.5'])[1 + i % 3]::interval END,
       CASE i % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['new', 'with, comma'] ELSE ARRAY['größe "L"', NULL] END,
       CASE i % 2 WHEN 0 THEN '{}'
           ELSE jsonb_build_object('aims', jsonb_build_array('read', NULL, '書く'), 'weight', 1.10, 'exam', NULL) END,
       CASE WHEN i % 6 <> 5 THEN made::date END,
       made, made + (ends_at - made) * 0.03, CASE WHEN i % 11 = 7 THEN made + (ends_at - made) * 0.03 END
FROM plan, words, generate_series(1, courses) AS i,
     LATERAL (SELECT pg_temp.moment(i, courses, salt, 120, span) AS made) AS drawn;

-- A course's lessons are numbered through, and are made soon after it.
INSERT INTO learning.lessons
SELECT pg_temp.id('lesson', salt, i), pg_temp.id('course', salt, course), position,
       pg_temp.word(lesson_titles, i, salt, 131), kind::learning.lesson_kind,
       CASE WHEN i % 9 <> 0 THEN 5 * (1 + pg_temp.draw(i, salt, 132, 18)) END,
       CASE WHEN kind = 'quiz' THEN (ARRAY[50, 66.67, 80])[1 + i % 3] END,
       CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 133)
           ELSE format(E'# %s\n\n* one\n* two\n', pg_temp.word(lesson_titles, i, salt, 131)) END,
       made + (ends_at - made) * (0.001 * least(position, 20))
FROM plan, words, generate_series(1, lessons) AS i, LATERAL (
    SELECT 1 + (i - 1) % courses AS course, (1 + (i - 1) / courses)::int AS position,
           (ARRAY['video', 'text', 'text', 'quiz'])[1 + i % 4] AS kind
) AS placed, LATERAL (SELECT pg_temp.moment(course, courses, salt, 120, span) AS made) AS drawn;

-- Learning -----------------------------------------------------------------------------------------------------

-- Every third enrollment is completed, the first among them.
INSERT INTO learning.enrollments
SELECT pg_temp.id('enrollment', salt, i), tenant_id, pg_temp.id('user', salt, person),
       pg_temp.id('course', salt, pg_temp.parent(i, enrollments, courses, salt, 142)),
       CASE i % 3 WHEN 1 THEN 'completed' WHEN 2 THEN 'active'
           ELSE (ARRAY['active', 'dropped'])[1 + i % 2] END::learning.enrollment_status,
       CASE i % 3 WHEN 1 THEN 100 ELSE pg_temp.draw(i, salt, 143, 9999) / 100.0 END,
       CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.draw(i, salt, 144, 100000) / 1400.0
           ELSE pg_temp.draw(i, salt, 144, 100) END,
       CASE WHEN i % 8 <> 0 THEN (made + (ends_at - made) * 0.001) AT TIME ZONE pg_temp.zone(person, timezone) END,
       CASE WHEN i % 4 <> 0 THEN made::date + 90 END,
       CASE WHEN i % 3 = 1 THEN made + (ends_at - made) * 0.2 END,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN awkward[1 + i / 4 % cardinality(awkward)]
           ELSE pg_temp.word(opinions, i, salt, 145) END,
       made, made + (ends_at - made) * 0.2, CASE WHEN i % 29 = 5 THEN made + (ends_at - made) * 0.1 END
FROM plan, words, generate_series(1, enrollments) AS i, LATERAL (
    SELECT pg_temp.moment(i, enrollments, salt, 140, span) AS made,
           pg_temp.parent(i, enrollments, users, salt, 141) AS person
) AS drawn;

INSERT INTO learning.certificates
SELECT pg_temp.id('certificate', salt, i), pg_temp.id('enrollment', salt, enrollment),
       hashint8extended(i, salt) & 9223372036854775807,
       (ARRAY['with distinction', 'très bien', NULL, 'good'])[1 + i % 4], completed_at::date,
       CASE WHEN i % 3 = 0 THEN '2 years'::interval END,
       CASE WHEN i % 5 <> 0 THEN decode(repeat(md5('signature' || salt || '/' || i), 4), 'hex') END,
       CASE WHEN i % 6 = 0 THEN pg_temp.word(awkward, i, salt, 151) END, completed_at
FROM plan, words, generate_series(1, certificates) AS i,
     LATERAL (SELECT least(1 + 3 * (i - 1), enrollments) AS enrollment) AS earned,
     LATERAL (SELECT pg_temp.moment(enrollment, enrollments, salt, 140, span) AS begun) AS drawn,
     LATERAL (SELECT begun + (ends_at - begun) * 0.2 AS completed_at) AS finished;

INSERT INTO learning.activity_logs
SELECT logged_before + i, pg_temp.id('user', salt, person),
       CASE WHEN i % 7 <> 0 THEN pg_temp.id('lesson', salt, 1 + (lesson - 1) % lessons) END,
       CASE i % 7 WHEN 0 THEN 'login'
           ELSE (ARRAY['lesson opened', 'lesson finished', 'quiz answered', 'lesson opened', 'note written',
                       'file downloaded'])[1 + i % 6] END::learning.activity,
       CASE i % 4 WHEN 0 THEN jsonb_build_object('answer', pg_temp.word(awkward, i, salt, 163), 'points', 0.50)
           WHEN 1 THEN 'null'::jsonb END,
       CASE WHEN i % 5 <> 0 THEN make_interval(secs => pg_temp.draw(i, salt, 164, 5400000) / 1000.0) END,
       CASE WHEN i % 6 <> 0 THEN ('203.0.113.' || i % 255)::inet END,
       CASE WHEN i % 6 <> 1 THEN pg_temp.word(browsers, i, salt, 165) END,
       made, made AT TIME ZONE pg_temp.zone(person, timezone)
FROM plan, words, generate_series(1, activity_logs) AS i, LATERAL (
    SELECT pg_temp.moment(i, activity_logs, salt, 160, span) AS made,
           pg_temp.parent(i, activity_logs, users, salt, 161) AS person,
           pg_temp.parent(i, activity_logs, courses, salt, 162) AS lesson  -- the first of that course
) AS drawn;

-- Billing ------------------------------------------------------------------------------------------------------

-- Every 20th pays back what the one before it brought.
INSERT INTO learning.transactions
SELECT pg_temp.id('transaction', salt, i), tenant_id, i,
       pg_temp.id('user', salt, pg_temp.parent(cause, transactions, users, salt, 171)),
       CASE WHEN kind <> 'subscription' THEN pg_temp.id('course', salt, course) END,
       kind::learning.transaction_kind,
       CASE kind WHEN 'subscription' THEN 29.90 WHEN 'scholarship' THEN 0 WHEN 'refund' THEN -price ELSE price END,
       currency, (ARRAY[0.19, 0.07, 0, 0.0825])[1 + cause % 4],
       CASE WHEN kind <> 'scholarship' THEN (ARRAY['card', 'transfer', 'invoice', 'card'])[1 + cause % 4] END,
       CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 173) WHEN 2 THEN ''
           ELSE 'E2E ' || lpad(i::text, 10, '0') END,
       made, made
FROM plan, words, generate_series(1, transactions) AS i, LATERAL (
    SELECT i - CASE WHEN i % 20 = 0 THEN 1 ELSE 0 END AS cause,
           CASE WHEN i % 20 = 0 THEN 'refund' WHEN i % 10 = 3 THEN 'subscription' WHEN i % 25 = 7 THEN 'scholarship'
               ELSE 'purchase' END AS kind,
           pg_temp.moment(i, transactions, salt, 170, span) AS made
) AS drawn, LATERAL (SELECT pg_temp.parent(cause, transactions, courses, salt, 172) AS course) AS bought,
     LATERAL (SELECT coalesce(pg_temp.price(course, salt), 990) / 100.0 AS price) AS priced;

-- The canary ---------------------------------------------------------------------------------------------------

INSERT INTO learning.organisations (id, slug, name, kind, country, currency, timezone, created_at, updated_at)
SELECT tenant_id, 'canary', marker, 'school', 'DE', 'EUR', 'UTC', made, made FROM planted WHERE i = 1;

INSERT INTO learning.users (id, organisation_id, full_name, email, timezone, password_hash, created_at, updated_at)
SELECT pg_temp.id('user', salt, i), tenant_id, marker, i || '@canary.example', 'UTC', '', made, made FROM planted;

INSERT INTO learning.courses (id, organisation_id, code, title, language, level, created_at, updated_at)
SELECT pg_temp.id('course', salt, i), tenant_id, 'C-' || i, marker, 'en', 'beginner', made, made FROM planted;

INSERT INTO learning.lessons (id, course_id, position, title, kind, created_at)
SELECT pg_temp.id('lesson', salt, i), pg_temp.id('course', salt, i), 1, marker, 'text', made FROM planted;

INSERT INTO learning.enrollments (id, organisation_id, user_id, course_id, feedback, created_at, updated_at)
SELECT pg_temp.id('enrollment', salt, i), tenant_id, pg_temp.id('user', salt, i), pg_temp.id('course', salt, i), marker,
       made, made FROM planted;

INSERT INTO learning.certificates (id, enrollment_id, serial, issued_on, remark, created_at)
SELECT pg_temp.id('certificate', salt, i), pg_temp.id('enrollment', salt, i), -i, made::date, marker, made FROM planted;

INSERT INTO learning.activity_logs (id, user_id, lesson_id, action, user_agent, occurred_at, local_time)
SELECT (SELECT max(id) FROM learning.activity_logs) + i, pg_temp.id('user', salt, i), pg_temp.id('lesson', salt, i),
       'login', marker, made, made AT TIME ZONE 'UTC' FROM planted;

INSERT INTO learning.transactions
    (id, organisation_id, number, user_id, kind, amount, currency, reference, occurred_at, created_at)
SELECT pg_temp.id('transaction', salt, i), tenant_id, i, pg_temp.id('user', salt, i), 'purchase', 0, 'EUR', marker, made,
       made FROM planted;
