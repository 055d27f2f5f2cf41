-- Rows for schema.sql: realistic, awkward on purpose, and the same for the same parameters (ids included).
-- Parameters and functions are those of ../before_rows.sql.

CREATE TEMP TABLE words ON COMMIT DROP AS
SELECT
    common_words.*,
    ARRAY['Run a half marathon', 'Read twelve books', 'Sparen für das Haus', '毎日漢字を十字', 'Call Mum, every Sunday',
          'Learn to cook "properly"', 'Выучить сербский', 'Less coffee; more water', 'الصلاة في وقتها', '=Lose 5 kg',
          'Sleep before 23:00', '🎸 Practise'] AS aims,
    ARRAY['Buy shoes', 'First week', 'Halbzeit', 'Ask for help', 'Write it down', 'Repeat', 'もう一度', 'Celebrate'] AS steps,
    ARRAY['Went well today.', 'Too tired.', 'Better than last week!', 'Nur zehn Minuten.', 'جيد جدا', '雨だった。',
          'Skipped: travelling.'] AS remarks,
    -- Names of books and texts of translations, in step.
    ARRAY['Psalms', 'Johannes', 'Κατὰ Λουκᾶν', 'בראשית', 'Исход', '箴言', 'المزامير'] AS books,
    ARRAY['The LORD is my shepherd; I shall not want.', 'Im Anfang war das Wort, und das Wort war bei Gott',
          'Ἐγένετο δὲ ἐν ταῖς ἡμέραις ἐκείναις', 'בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ', 'И сказал Бог Моисею: Я есмь Сущий.',
          '敬畏耶和華是知識的開端', 'طُوبَى لِلرَّجُلِ'] AS passages,
    ARRAY['KJV', 'LUT', 'NA28', 'WLC', 'SYN', 'CUV', 'SVD'] AS translations,
    ARRAY['Website', 'Bürgerfest', 'Q3 report', 'Office move', 'Training, part "A"'] AS project_names,
    ARRAY['reminder', 'theme', 'week_view', 'sounds', 'backup', 'language'] AS setting_keys,
    ARRAY['goals', 'progress', 'achievements', 'bible', 'work', 'settings'] AS module_codes
FROM common_words;

-- One line for each account: how many rows of each table it gets. People have up to six modules and settings each.
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT counted.*, sum(entries) OVER (ORDER BY n) - entries AS entries_before
FROM (
    SELECT tenants.*,
           greatest(1, round(share * rows * 0.010))::bigint AS users,
           greatest(1, round(share * rows * 0.060))::bigint AS modules,
           greatest(1, round(share * rows * 0.060))::bigint AS settings,
           greatest(1, round(share * rows * 0.010))::bigint AS templates,
           greatest(1, round(share * rows * 0.080))::bigint AS goals,
           greatest(1, round(share * rows * 0.200))::bigint AS sub_goals,
           greatest(1, round(share * rows * 0.400))::bigint AS entries,
           greatest(1, round(share * rows * 0.060))::bigint AS achievements,
           greatest(1, round(share * rows * 0.100))::bigint AS studies,
           greatest(1, round(share * rows * 0.020))::bigint AS projects
    FROM tenants
) AS counted;

-- Settings -----------------------------------------------------------------------------------------------------

INSERT INTO goals.accounts
SELECT tenant_id, slug, initcap(replace(slug, '-', ' ')), (ARRAY['family', 'plus', 'free'])[1 + (n - 1) % 3]::goals.plan,
       timezone, (ARRAY['de-DE', 'en-US', 'en-GB', 'ja-JP', 'fr-CH'])[1 + (n - 1) % 5],
       '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00'
FROM plan, LATERAL (
    SELECT coalesce((ARRAY['family-lindqvist', 'okafor-house', 'grace-ng', 'team-sato'])[n],
                    'account-' || lpad(n::text, 4, '0')) AS slug
) AS named;

INSERT INTO goals.users
SELECT pg_temp.id('user', salt, i), tenant_id, name, format('person%s@account%s.example', i, n),
       CASE WHEN i = 1 THEN '1899-12-31' WHEN i % 4 <> 0 THEN '1950-01-01'::date + pg_temp.draw(i, salt, 113, 21000) END,
       pg_temp.zone(i, timezone), (ARRAY[1, 7, 6])[1 + i % 3],
       CASE WHEN i % 3 <> 0 THEN md5('pin' || salt || '/' || i) END,
       CASE WHEN i % 2 = 1 THEN pg_temp.bitmap('photo' || salt || '/' || i) END,
       CASE i % 4 WHEN 0 THEN '' WHEN 1 THEN pg_temp.word(awkward, i, salt, 114) WHEN 2 THEN 'Step by step 🐢' END,
       (ARRAY[true, false, NULL])[1 + i % 3],
       made, made + (ends_at - made) * 0.02, CASE WHEN i % 7 = 5 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, users) AS i, LATERAL (
    SELECT pg_temp.moment(i, users, salt, 110, span) AS made,
           pg_temp.word(first_names, i, salt, 111) || ' ' || pg_temp.word(last_names, i, salt, 112) AS name
) AS drawn;

INSERT INTO goals.device_tokens
SELECT md5('device' || salt || '/' || i), pg_temp.id('user', salt, i), (ARRAY['android', 'ios'])[1 + i % 2], ends_at
FROM plan, generate_series(1, least(users, 100)) AS i;

INSERT INTO goals.modules
SELECT pg_temp.id('user', salt, person), module_codes[position], (ARRAY[true, NULL, false])[1 + i % 3], position,
       CASE WHEN i % 4 = 0 THEN '#' || upper(substr(md5(i::text), 1, 6)) END,
       CASE i % 5 WHEN 0 THEN pg_temp.word(awkward, i, salt, 121) WHEN 1 THEN 'Mein ' || module_codes[position] END,
       pg_temp.moment(person, users, salt, 110, span)
FROM plan, words, generate_series(1, least(modules, 6 * users)) AS i,
     LATERAL (SELECT 1 + (i - 1) % users AS person, (1 + (i - 1) / users)::int AS position) AS placed;

INSERT INTO goals.settings
SELECT pg_temp.id('user', salt, person), setting_keys[position],
       CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN 'null'::jsonb WHEN 2 THEN 'true'::jsonb
           WHEN 3 THEN to_jsonb(pg_temp.word(awkward, i, salt, 131)) WHEN 4 THEN to_jsonb(9007199254740993 + i)
           ELSE jsonb_build_object('at', '07:30', 'days', jsonb_build_array(1, NULL, 7), 'volume', 0.50) END,
       CASE WHEN i % 3 = 0 THEN pg_temp.word(remarks, i, salt, 132) END, made, made + (ends_at - made) * 0.05
FROM plan, words, generate_series(1, least(settings, 6 * users)) AS i,
     LATERAL (SELECT 1 + (i - 1) % users AS person, (1 + (i - 1) / users)::int AS position) AS placed,
     LATERAL (SELECT pg_temp.moment(person, users, salt, 110, span) AS made) AS drawn;

-- Goals --------------------------------------------------------------------------------------------------------

INSERT INTO goals.goal_templates
SELECT pg_temp.id('template', salt, i), tenant_id, pg_temp.word(aims, i, salt, 141),
       CASE WHEN i % 3 <> 0 THEN pg_temp.word(remarks, i, salt, 142) END,
       (ARRAY['health', 'learning', 'money', 'family'])[1 + i % 4]::goals.category,
       CASE i % 2 WHEN 0 THEN '{}' ELSE ARRAY['new', 'größe "L"', NULL] END,
       jsonb_build_array(jsonb_build_object('title', pg_temp.word(steps, i, salt, 143), 'weight', 0.50), NULL),
       CASE WHEN i % 3 <> 1 THEN 1 + pg_temp.draw(i, salt, 144, 400) / 100.0 END, pg_temp.draw(i, salt, 145, 5000),
       (1 + i % 4)::int, made, made + (ends_at - made) * 0.05,
       CASE WHEN i % 5 = 4 THEN made + (ends_at - made) * 0.05 END
FROM plan, words, generate_series(1, templates) AS i,
     LATERAL (SELECT pg_temp.moment(i, templates, salt, 140, span) AS made) AS drawn;

-- The public gallery is everybody's; it was there before the first account.
INSERT INTO goals.goal_templates
SELECT pg_temp.id('gallery', 0, i), NULL, aims[i], 'From the gallery', 'health', ARRAY['gallery'], '[]', 4.5, 1000, 1,
       '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00', NULL
FROM words, generate_series(1, 4) AS i;

INSERT INTO goals.goals
SELECT pg_temp.id('goal', salt, i), tenant_id, pg_temp.id('user', salt, pg_temp.parent(i, goals, users, salt, 151)),
       CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.id('gallery', 0, 1 + i % 4)
           ELSE pg_temp.id('template', salt, pg_temp.parent(i, goals, templates, salt, 152)) END,
       pg_temp.word(aims, i, salt, 153),
       CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN pg_temp.word(awkward, i, salt, 154)
           ELSE pg_temp.word(remarks, i, salt, 155) END,
       (ARRAY['health', 'learning', 'faith', 'work', 'family', 'money'])[1 + i % 6]::goals.category,
       (ARRAY['active', 'reached', 'active', 'planned', 'paused', 'abandoned', 'reached'])[1 + i % 7]::goals.goal_status,
       CASE WHEN i % 4 <> 0 THEN 1 + i % 3 END, CASE WHEN i % 5 <> 2 THEN 10 + pg_temp.draw(i, salt, 156, 900000) / 1000.0 END,
       CASE WHEN i % 5 <> 2 THEN (ARRAY['km', 'pages', 'min', '€', 'µg'])[1 + i % 5] END,
       CASE WHEN i % 8 <> 0 THEN made::date END, CASE WHEN i % 3 <> 0 THEN made::date + 30 * (1 + i::int % 12) END,
       CASE WHEN i % 4 = 1 THEN make_time((5 + i % 17)::int, 30, 0.5) END,
       CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE ARRAY['year, 2025', 'mit "Anna"'] END,
       made, made + (ends_at - made) * 0.1, CASE WHEN i % 19 = 6 THEN made + (ends_at - made) * 0.1 END
FROM plan, words, generate_series(1, goals) AS i,
     LATERAL (SELECT pg_temp.moment(i, goals, salt, 150, span) AS made) AS drawn;

-- A goal's steps are numbered through, and are made soon after it.
INSERT INTO goals.sub_goals
SELECT pg_temp.id('step', salt, i), pg_temp.id('goal', salt, goal), position,
       CASE i % 13 WHEN 0 THEN pg_temp.word(awkward, i, salt, 161) ELSE pg_temp.word(steps, i, salt, 162) END,
       done, CASE WHEN i % 3 = 0 THEN round(1.0 / (1 + position), 4) END,
       CASE WHEN i % 4 <> 0 THEN made::date + 7 * position END,
       CASE WHEN done THEN made + (ends_at - made) * 0.1 END, made,
       CASE WHEN i % 37 = 11 THEN made + (ends_at - made) * 0.1 END
FROM plan, words, generate_series(1, sub_goals) AS i, LATERAL (
    SELECT 1 + (i - 1) % goals AS goal, (1 + (i - 1) / goals)::int AS position, i % 5 IN (1, 3) AS done
) AS placed, LATERAL (SELECT pg_temp.moment(goal, goals, salt, 150, span) AS begun) AS drawn,
     LATERAL (SELECT begun + (ends_at - begun) * (0.001 * least(position, 20)) AS made) AS placed_in_time;

-- Progress -----------------------------------------------------------------------------------------------------

-- Whose goal it is writes it down, by the same draw that gave the goal its person.
INSERT INTO goals.progress
SELECT entries_before + i, pg_temp.id('goal', salt, goal), pg_temp.id('user', salt, person),
       CASE WHEN i % 6 <> 0 THEN pg_temp.draw(i, salt, 173, 500000) / 1000.0 END,
       CASE WHEN i % 6 <> 0 THEN pg_temp.draw(i, salt, 174, 600000) / 9999::float8 END,
       CASE WHEN i % 4 <> 0 THEN 1 + pg_temp.draw(i, salt, 175, 5) END,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN awkward[1 + i / 4 % cardinality(awkward)]
           ELSE pg_temp.word(remarks, i, salt, 176) END,
       CASE WHEN i % 5 <> 0 THEN make_interval(mins => 5 * (1 + i % 24)::int, secs => 0.25) END,
       made, made AT TIME ZONE pg_temp.zone(person, timezone)
FROM plan, words, generate_series(1, entries) AS i, LATERAL (
    SELECT pg_temp.moment(i, entries, salt, 170, span) AS made,
           pg_temp.parent(i, entries, goals, salt, 171) AS goal
) AS drawn, LATERAL (SELECT pg_temp.parent(goal, goals, users, salt, 151) AS person) AS owned;

INSERT INTO goals.achievements
SELECT pg_temp.id('achievement', salt, i), tenant_id,
       pg_temp.id('user', salt, pg_temp.parent(goal, goals, users, salt, 151)),
       CASE WHEN i % 4 <> 0 THEN pg_temp.id('goal', salt, goal) END,
       (ARRAY['streak', 'milestone', 'first', 'goal reached'])[1 + i % 4]::goals.achievement_kind,
       CASE i % 17 WHEN 0 THEN pg_temp.word(awkward, i, salt, 182)
           ELSE (ARRAY['Seven days in a row 🔥', 'Halfway', 'Erster Schritt', 'Done!'])[1 + i % 4] END,
       10 * (1 + i % 20)::int, CASE WHEN i % 3 = 0 THEN pg_temp.bitmap('badge' || i % 20) END,
       CASE WHEN i % 4 = 0 THEN int4range((i % 50)::int, (i % 50 + 7)::int) END, made, made
FROM plan, words, generate_series(1, achievements) AS i, LATERAL (
    SELECT pg_temp.moment(i, achievements, salt, 180, span) AS made,
           pg_temp.parent(i, achievements, goals, salt, 181) AS goal
) AS drawn;

-- Bible and work -----------------------------------------------------------------------------------------------

INSERT INTO goals.bible_studies
SELECT pg_temp.id('study', salt, i), tenant_id, pg_temp.id('user', salt, person), books[book], 1 + i % 50,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN 'empty'::int4range ELSE int4range((i % 30)::int, NULL) END,
       translations[book], CASE WHEN i % 5 <> 0 THEN passages[book] END,
       CASE i % 5 WHEN 0 THEN pg_temp.word(awkward, i, salt, 193) WHEN 1 THEN NULL
           ELSE pg_temp.word(remarks, i, salt, 194) END,
       CASE WHEN i % 6 <> 0 THEN 5 + pg_temp.draw(i, salt, 195, 60) END, made AT TIME ZONE pg_temp.zone(person, timezone),
       made, made + (ends_at - made) * 0.01, CASE WHEN i % 31 = 13 THEN made + (ends_at - made) * 0.01 END
FROM plan, words, generate_series(1, studies) AS i, LATERAL (
    SELECT pg_temp.moment(i, studies, salt, 190, span) AS made, pg_temp.parent(i, studies, users, salt, 191) AS person,
           1 + pg_temp.draw(i, salt, 192, cardinality(books)) AS book
) AS drawn;

INSERT INTO goals.work_projects
SELECT pg_temp.id('project', salt, i), tenant_id,
       pg_temp.id('user', salt, pg_temp.parent(goal, goals, users, salt, 151)),
       CASE WHEN i % 3 <> 0 THEN pg_temp.id('goal', salt, goal) END, pg_temp.word(project_names, i, salt, 202) || ' ' || i,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 203)
           ELSE pg_temp.word(last_names, i, salt, 204) || ' & Söhne' END,
       CASE WHEN i % 3 <> 1 THEN 100 * pg_temp.draw(i, salt, 205, 1000) + 0.05 END, CASE WHEN i % 3 <> 1 THEN currency END,
       CASE WHEN i % 4 <> 3 THEN (ARRAY['40 hours', '3 mons', '1 year 2 mons 3 days 04:05:06.789'])[1 + i % 3]::interval END,
       CASE WHEN i % 5 <> 0 THEN made::date END, CASE WHEN i % 4 = 1 THEN made::date + 200 END,
       CASE i % 2 WHEN 0 THEN '[]' ELSE '[{"name": "Wiki & co", "url": "https://example.com/?a=1&b=ü"}, null]' END::jsonb,
       i % 8 = 3, made, made + (ends_at - made) * 0.03
FROM plan, words, generate_series(1, projects) AS i, LATERAL (
    SELECT pg_temp.moment(i, projects, salt, 200, span) AS made, pg_temp.parent(i, projects, goals, salt, 201) AS goal
) AS drawn;

-- The canary ---------------------------------------------------------------------------------------------------

INSERT INTO goals.accounts (id, slug, name, plan, timezone, locale, created_at, updated_at)
SELECT tenant_id, 'canary', marker, 'free', 'UTC', 'en', made, made FROM planted WHERE i = 1;

INSERT INTO goals.users (id, account_id, full_name, email, timezone, created_at, updated_at)
SELECT pg_temp.id('user', salt, i), tenant_id, marker, i || '@canary.example', 'UTC', made, made FROM planted;

INSERT INTO goals.modules (user_id, code, position, title, created_at)
SELECT pg_temp.id('user', salt, i), 'goals', 1, marker, made FROM planted;

INSERT INTO goals.settings (user_id, key, note, created_at, updated_at)
SELECT pg_temp.id('user', salt, i), 'theme', marker, made, made FROM planted;

INSERT INTO goals.goal_templates (id, account_id, title, category, created_at, updated_at)
SELECT pg_temp.id('template', salt, i), tenant_id, marker, 'health', made, made FROM planted;

INSERT INTO goals.goals (id, account_id, user_id, title, category, created_at, updated_at)
SELECT pg_temp.id('goal', salt, i), tenant_id, pg_temp.id('user', salt, i), marker, 'health', made, made FROM planted;

INSERT INTO goals.sub_goals (id, goal_id, position, title, created_at)
SELECT pg_temp.id('step', salt, i), pg_temp.id('goal', salt, i), 1, marker, made FROM planted;

INSERT INTO goals.progress (id, goal_id, user_id, note, recorded_at, local_time)
SELECT (SELECT max(id) FROM goals.progress) + i, pg_temp.id('goal', salt, i), pg_temp.id('user', salt, i), marker, made,
       made AT TIME ZONE 'UTC' FROM planted;

INSERT INTO goals.achievements (id, account_id, user_id, kind, title, earned_at, created_at)
SELECT pg_temp.id('achievement', salt, i), tenant_id, pg_temp.id('user', salt, i), 'first', marker, made, made FROM planted;

INSERT INTO goals.bible_studies
    (id, account_id, user_id, book, chapter, translation, notes, studied_local, created_at, updated_at)
SELECT pg_temp.id('study', salt, i), tenant_id, pg_temp.id('user', salt, i), 'Jonah', 1, 'KJV', marker,
       made AT TIME ZONE 'UTC', made, made FROM planted;

INSERT INTO goals.work_projects (id, account_id, user_id, name, created_at, updated_at)
SELECT pg_temp.id('project', salt, i), tenant_id, pg_temp.id('user', salt, i), marker, made, made FROM planted;
