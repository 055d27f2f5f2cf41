-- Rows for schema.sql: realistic, awkward on purpose, and the same for the same parameters (ids included).
-- Parameters and functions are those of ../before_rows.sql.

CREATE TEMP TABLE words ON COMMIT DROP AS
SELECT
    common_words.*,
    ARRAY['Support desk', 'Invoice reader', 'Übersetzer', '要約くん', 'Release notes', 'Data "janitor"', 'Помощник',
          'Lead scout; EMEA', 'مساعد المبيعات', 'SQL explainer', '🤖 Helper'] AS agent_names,
    ARRAY['small-2024-06', 'large-2025-01', 'vision-1', 'code-7b-instruct'] AS models,
    ARRAY['Summarise this thread.', 'Write a reply, friendly but firm.', 'Translate to Polish: "Guten Tag"',
          '请把它改短一点', 'What is the refund policy?', 'Plot sales by month', 'اكتب رسالة شكر', 'Why is this query slow?',
          'Thanks 🙏'] AS prompts,
    ARRAY['rate_limited', 'tool_timeout', 'context_too_long', 'bad_json', 'payment_required'] AS codes,
    ARRAY['Mozilla/5.0 (Windows NT 10.0; Win64; x64)', 'Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6)',
          'agents-python/2.3', ''] AS browsers
FROM common_words;

-- One line for each workspace: how many rows of each table it gets.
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT counted.*, sum(user_activity) OVER (ORDER BY n) - user_activity AS active_before,
       sum(error_logs) OVER (ORDER BY n) - error_logs AS failed_before
FROM (
    SELECT tenants.*,
           greatest(1, round(share * rows * 0.020))::bigint AS users,
           greatest(1, round(share * rows * 0.010))::bigint AS agents,
           greatest(1, round(share * rows * 0.250))::bigint AS measurements,
           greatest(1, round(share * rows * 0.120))::bigint AS user_sessions,
           greatest(1, round(share * rows * 0.350))::bigint AS user_activity,
           greatest(1, round(share * rows * 0.200))::bigint AS credit_entries,
           greatest(1, round(share * rows * 0.050))::bigint AS error_logs
    FROM tenants
) AS counted;

-- People -------------------------------------------------------------------------------------------------------

INSERT INTO agents.workspaces
SELECT tenant_id, slug, initcap(replace(slug, '-', ' ')),
       (ARRAY['enterprise', 'team', 'free', 'business'])[1 + (n - 1) % 4]::agents.plan, timezone,
       CASE WHEN n % 3 <> 1 THEN 1000.0001 * n END, (ARRAY['eu', 'us', 'uk', 'jp'])[1 + (n - 1) % 4],
       '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00'
FROM plan, LATERAL (
    SELECT coalesce((ARRAY['nordwind-versand', 'brooklyn-legal', 'thames-energy', 'kyoto-robotics'])[n],
                    'workspace-' || lpad(n::text, 4, '0')) AS slug
) AS named;

INSERT INTO agents.users
SELECT pg_temp.id('user', salt, i), tenant_id, name, format('user%s@workspace%s.example', i, n),
       (ARRAY['admin', 'builder', 'viewer', 'viewer'])[1 + (i - 1) % 4]::agents.member_role, pg_temp.zone(i, timezone),
       CASE WHEN i % 2 = 0 THEN upper(substr(md5('mfa' || salt || '/' || i), 1, 16)) END,
       CASE WHEN i % 3 = 1 THEN pg_temp.bitmap('avatar' || salt || '/' || i) END,
       CASE i % 3 WHEN 0 THEN '{}'
           ELSE jsonb_build_object('theme', 'dark', 'signature', pg_temp.word(awkward, i, salt, 113), 'beta', NULL) END,
       (ARRAY[true, false, NULL])[1 + i % 3], CASE WHEN i % 7 <> 5 THEN made + (ends_at - made) * 0.95 END,
       made, made + (ends_at - made) * 0.02, CASE WHEN i % 13 = 8 THEN made + (ends_at - made) * 0.02 END
FROM plan, words, generate_series(1, users) AS i, LATERAL (
    SELECT pg_temp.moment(i, users, salt, 110, span) AS made,
           pg_temp.word(first_names, i, salt, 111) || ' ' || pg_temp.word(last_names, i, salt, 112) AS name
) AS drawn;

INSERT INTO agents.api_keys
SELECT md5('key' || salt || '/' || i), pg_temp.id('user', salt, i), ARRAY['read', 'run'], ends_at
FROM plan, generate_series(1, least(users, 100)) AS i;

-- Agents -------------------------------------------------------------------------------------------------------

INSERT INTO agents.agents
SELECT pg_temp.id('agent', salt, i), tenant_id,
       CASE WHEN i % 5 <> 0 THEN pg_temp.id('user', salt, pg_temp.parent(i, agents, users, salt, 121)) END,
       pg_temp.word(agent_names, i, salt, 122) || ' ' || i,
       (ARRAY['active', 'active', 'draft', 'paused', 'retired'])[1 + i % 5]::agents.agent_status,
       pg_temp.word(models, i, salt, 123), CASE WHEN i % 3 <> 0 THEN (pg_temp.draw(i, salt, 124, 20) / 10.0)::real END,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 125)
           ELSE E'You are polite.\nAnswer in the language of the question.' END,
       CASE i % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['search', 'mail, calendar'] ELSE ARRAY['sql "read only"', NULL] END,
       jsonb_build_object('max_tokens', 9007199254740993 + i, 'stop', jsonb_build_array(E'\n', 'Ende'), 'top_p', 0.90),
       CASE WHEN i % 4 = 1 THEN make_time((6 + i % 6)::int, 30, 0.25) END,
       made, made + (ends_at - made) * 0.04, CASE WHEN i % 9 = 4 THEN made + (ends_at - made) * 0.5 END
FROM plan, words, generate_series(1, agents) AS i,
     LATERAL (SELECT pg_temp.moment(i, agents, salt, 120, span) AS made) AS drawn;

-- Hours without a request have no latency and no opinion.
INSERT INTO agents.agent_performance
SELECT pg_temp.id('measurement', salt, i),
       pg_temp.id('agent', salt, pg_temp.parent(i, measurements, agents, salt, 131)), 1 + i % 3,
       date_trunc('hour', made), requests, succeeded, requests * 700::bigint + pg_temp.draw(i, salt, 133, 5000),
       CASE WHEN succeeded > 0 THEN 180 + pg_temp.draw(i, salt, 134, 900000) / 999::float8 END,
       CASE WHEN succeeded > 0 THEN (900 + pg_temp.draw(i, salt, 135, 9000) / 7.0)::real END,
       CASE WHEN succeeded > 0 AND i % 4 <> 0 THEN 0.5 + pg_temp.draw(i, salt, 136, 500) / 1000.0 END,
       CASE i % 11 WHEN 0 THEN NULL WHEN 1 THEN 0.00000000000000012345 ELSE requests / 700.0 END,
       CASE i % 2 WHEN 0 THEN ARRAY[pg_temp.word(models, i, salt, 137)] ELSE '{}' END,
       CASE WHEN i % 23 = 0 THEN pg_temp.word(awkward, i, salt, 138) END, date_trunc('hour', made) + '1 hour'::interval
FROM plan, words, generate_series(1, measurements) AS i, LATERAL (
    SELECT least(pg_temp.moment(i, measurements, salt, 130, span), ends_at - '2 hours'::interval) AS made,
           pg_temp.draw(i, salt, 132, 40) AS requests
) AS drawn, LATERAL (SELECT requests - requests / (4 + i % 9)::int AS succeeded) AS answered;

-- Use ----------------------------------------------------------------------------------------------------------

INSERT INTO agents.user_sessions
SELECT pg_temp.id('session', salt, i), tenant_id, pg_temp.id('user', salt, person), made,
       made AT TIME ZONE pg_temp.zone(person, timezone),
       CASE WHEN i % 10 <> 0 THEN least(made + length, ends_at - '1 microsecond'::interval) END,
       CASE WHEN i % 10 <> 0 THEN length END,
       CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '2001:db8:0:7::1'::inet ELSE ('198.51.100.' || i % 255)::inet END,
       CASE WHEN i % 6 <> 1 THEN pg_temp.word(browsers, i, salt, 143) END,
       CASE WHEN i % 3 = 0
           THEN jsonb_build_object('screen', '2560×1440', 'languages', jsonb_build_array('de', NULL), 'dpr', 1.50) END,
       made
FROM plan, words, generate_series(1, user_sessions) AS i, LATERAL (
    SELECT pg_temp.moment(i, user_sessions, salt, 140, span) AS made,
           pg_temp.parent(i, user_sessions, users, salt, 141) AS person,
           make_interval(secs => pg_temp.draw(i, salt, 142, 7200000) / 1000.0) AS length
) AS drawn;

-- Who did it is who began the session, by the same draw; programs have none.
INSERT INTO agents.user_activity
SELECT active_before + i, tenant_id, pg_temp.id('user', salt, pg_temp.parent(session, user_sessions, users, salt, 141)),
       CASE WHEN i % 9 <> 0 THEN pg_temp.id('session', salt, session) END,
       CASE WHEN i % 5 <> 0 THEN pg_temp.id('agent', salt, pg_temp.parent(i, user_activity, agents, salt, 152)) END,
       event::agents.event,
       CASE event WHEN 'prompt' THEN CASE i % 4 WHEN 0 THEN awkward[1 + i / 8 % cardinality(awkward)]
               ELSE pg_temp.word(prompts, i, salt, 153) END
           WHEN 'feedback' THEN '' END,
       CASE i % 4 WHEN 1 THEN jsonb_build_object('tokens', i % 4000, 'tool', NULL, 'ratio', 0.10)
           WHEN 2 THEN '[]'::jsonb END, made
FROM plan, words, generate_series(1, user_activity) AS i, LATERAL (
    SELECT pg_temp.moment(i, user_activity, salt, 150, span) AS made,
           pg_temp.parent(i, user_activity, user_sessions, salt, 151) AS session,
           (ARRAY['prompt', 'answer read', 'prompt', 'tool call', 'prompt', 'feedback', 'prompt', 'file upload',
                  'prompt', 'settings changed'])[1 + i % 10] AS event
) AS drawn;

-- Operation ----------------------------------------------------------------------------------------------------

INSERT INTO agents.credit_consumption
SELECT pg_temp.id('credit', salt, i), tenant_id, i,
       CASE WHEN i % 7 <> 0 THEN pg_temp.id('user', salt, pg_temp.parent(i, credit_entries, users, salt, 161)) END,
       CASE WHEN kind <> 'top-up' THEN pg_temp.id('agent', salt, pg_temp.parent(i, credit_entries, agents, salt, 162)) END,
       kind::agents.credit_kind,
       CASE WHEN kind = 'top-up' THEN -1000 WHEN i % 17 = 0 THEN 0.000000000000000000012345
           ELSE pg_temp.draw(i, salt, 163, 100000) / 7000.0 END,
       CASE WHEN i % 3 <> 0 THEN 0.00000125 END,
       CASE i % 8 WHEN 0 THEN NULL WHEN 1 THEN pg_temp.word(awkward, i, salt, 164) ELSE 'req_' || md5(i::text) END,
       made, made
FROM plan, words, generate_series(1, credit_entries) AS i, LATERAL (
    SELECT pg_temp.moment(i, credit_entries, salt, 160, span) AS made,
           CASE WHEN i % 50 = 1 THEN 'top-up'
               ELSE (ARRAY['prompt', 'completion', 'completion', 'embedding', 'tool'])[1 + i % 5] END AS kind
) AS drawn;

INSERT INTO agents.error_logs
SELECT failed_before + i, tenant_id,
       CASE WHEN i % 6 <> 0 THEN pg_temp.id('agent', salt, pg_temp.parent(i, error_logs, agents, salt, 171)) END,
       CASE WHEN i % 4 <> 0 THEN pg_temp.id('user', salt, pg_temp.parent(i, error_logs, users, salt, 172)) END,
       (ARRAY['error', 'warning', 'error', 'info', 'critical'])[1 + i % 5]::agents.severity, code,
       CASE i % 5 WHEN 0 THEN pg_temp.word(awkward, i, salt, 174) ELSE 'The tool did not answer: ' || code END,
       CASE WHEN i % 3 <> 0 THEN format(E'Traceback:\n  File "agent.py", line %s\n\tcall(%L)', i % 900, code) END,
       CASE WHEN i % 4 <> 1 THEN jsonb_build_object('attempt', i % 4, 'input', pg_temp.word(prompts, i, salt, 175)) END,
       CASE WHEN i % 8 <> 3 THEN sha256(code::bytea) END,
       CASE WHEN i % 3 = 1 THEN made + (ends_at - made) * 0.1 END, made
FROM plan, words, generate_series(1, error_logs) AS i, LATERAL (
    SELECT pg_temp.moment(i, error_logs, salt, 170, span) AS made, pg_temp.word(codes, i, salt, 173) AS code
) AS drawn;

-- The canary ---------------------------------------------------------------------------------------------------

INSERT INTO agents.workspaces (id, slug, name, plan, timezone, data_region, created_at, updated_at)
SELECT tenant_id, 'canary', marker, 'free', 'UTC', 'eu', made, made FROM planted WHERE i = 1;

INSERT INTO agents.users (id, workspace_id, full_name, email, timezone, created_at, updated_at)
SELECT pg_temp.id('user', salt, i), tenant_id, marker, i || '@canary.example', 'UTC', made, made FROM planted;

INSERT INTO agents.agents (id, workspace_id, name, model, created_at, updated_at)
SELECT pg_temp.id('agent', salt, i), tenant_id, marker, 'none', made, made FROM planted;

INSERT INTO agents.agent_performance
    (id, agent_id, worker, measured_at, requests, succeeded, tokens, note, created_at)
SELECT pg_temp.id('measurement', salt, i), pg_temp.id('agent', salt, i), 1, made, 0, 0, 0, marker, made FROM planted;

INSERT INTO agents.user_sessions (id, workspace_id, user_id, started_at, started_local, user_agent, created_at)
SELECT pg_temp.id('session', salt, i), tenant_id, pg_temp.id('user', salt, i), made, made AT TIME ZONE 'UTC', marker, made
FROM planted;

INSERT INTO agents.user_activity (id, workspace_id, user_id, event, message, occurred_at)
SELECT (SELECT max(id) FROM agents.user_activity) + i, tenant_id, pg_temp.id('user', salt, i), 'prompt', marker, made
FROM planted;

INSERT INTO agents.credit_consumption (id, workspace_id, number, kind, credits, reference, consumed_at, created_at)
SELECT pg_temp.id('credit', salt, i), tenant_id, i, 'prompt', 0, marker, made, made FROM planted;

INSERT INTO agents.error_logs (id, workspace_id, severity, code, message, occurred_at)
SELECT (SELECT max(id) FROM agents.error_logs) + i, tenant_id, 'info', 'none', marker, made FROM planted;
