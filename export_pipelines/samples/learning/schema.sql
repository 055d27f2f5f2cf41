-- Online learning, many organisations in one database: tables, indexes, row-level security and the exporter's rights.
-- Rows are made by generate.sql. Runs once, in one transaction, as a role that may create schemas and roles.

CREATE SCHEMA learning;
COMMENT ON SCHEMA learning IS 'Online learning: people, courses, progress, activity and payments';

CREATE TYPE learning.organisation_kind AS ENUM ('school', 'company', 'university', 'charity');
CREATE TYPE learning.user_role AS ENUM ('learner', 'teacher', 'manager');
CREATE TYPE learning.course_level AS ENUM ('beginner', 'intermediate', 'advanced');
CREATE TYPE learning.lesson_kind AS ENUM ('video', 'text', 'quiz');
CREATE TYPE learning.enrollment_status AS ENUM ('active', 'completed', 'dropped');
CREATE TYPE learning.transaction_kind AS ENUM ('purchase', 'refund', 'subscription', 'scholarship');
CREATE TYPE learning.activity AS ENUM (
    'login', 'lesson opened', 'lesson finished', 'quiz answered', 'note written', 'file downloaded');

-- People --------------------------------------------------------------------------------------------------------------

CREATE TABLE learning.organisations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug       text NOT NULL UNIQUE,
    name       text NOT NULL,
    kind       learning.organisation_kind NOT NULL,
    country    char(2) NOT NULL,
    currency   char(3) NOT NULL,
    timezone   text NOT NULL,
    language   text,
    seats      integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE learning.users (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organisation_id   uuid NOT NULL REFERENCES learning.organisations,
    full_name         text NOT NULL,
    email             text NOT NULL,
    role              learning.user_role NOT NULL DEFAULT 'learner',
    birth_date        date,
    locale            varchar(35),
    timezone          text NOT NULL,
    password_hash     text NOT NULL,
    avatar            bytea,
    biography         text,
    marketing_consent boolean,
    last_seen_at      timestamptz,
    last_seen_ip      inet,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz,
    UNIQUE (organisation_id, email)
);

CREATE TABLE learning.login_sessions (
    token_hash text PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES learning.users,
    ip         inet,
    user_agent text,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- Teaching ------------------------------------------------------------------------------------------------------------

CREATE TABLE learning.courses (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organisation_id uuid NOT NULL REFERENCES learning.organisations,
    author_id       uuid REFERENCES learning.users,
    code            varchar(16) NOT NULL,
    title           text NOT NULL,
    language        text NOT NULL,
    level           learning.course_level NOT NULL,
    price           numeric(10,2),
    duration        interval,
    tags            text[] NOT NULL DEFAULT '{}',
    syllabus        jsonb NOT NULL DEFAULT '{}',
    published_on    date,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    UNIQUE (organisation_id, code)
);

CREATE TABLE learning.lessons (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    course_id  uuid NOT NULL REFERENCES learning.courses,
    position   integer NOT NULL,
    title      text NOT NULL,
    kind       learning.lesson_kind NOT NULL,
    minutes    smallint,
    pass_mark  numeric(5,2),
    content    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (course_id, position)
);

-- Learning ------------------------------------------------------------------------------------------------------------

CREATE TABLE learning.enrollments (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organisation_id uuid NOT NULL REFERENCES learning.organisations,
    user_id         uuid NOT NULL REFERENCES learning.users,
    course_id       uuid NOT NULL REFERENCES learning.courses,
    status          learning.enrollment_status NOT NULL DEFAULT 'active',
    progress        numeric(5,2) NOT NULL DEFAULT 0,
    score           numeric,
    started_local   timestamp,
    due_on          date,
    completed_at    timestamptz,
    feedback        text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz
);

CREATE TABLE learning.certificates (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    enrollment_id uuid NOT NULL REFERENCES learning.enrollments,
    serial        bigint NOT NULL UNIQUE,
    grade         varchar(20),
    issued_on     date NOT NULL,
    valid_for     interval,
    signature     bytea,
    remark        text,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE learning.activity_logs (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES learning.users,
    lesson_id   uuid REFERENCES learning.lessons,
    action      learning.activity NOT NULL,
    detail      jsonb,
    time_spent  interval,
    ip          inet,
    user_agent  text,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    local_time  timestamp NOT NULL
);

-- Billing -------------------------------------------------------------------------------------------------------------

CREATE TABLE learning.transactions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organisation_id uuid NOT NULL REFERENCES learning.organisations,
    number          bigint GENERATED BY DEFAULT AS IDENTITY,
    user_id         uuid NOT NULL REFERENCES learning.users,
    course_id       uuid REFERENCES learning.courses,
    kind            learning.transaction_kind NOT NULL,
    amount          numeric(12,2) NOT NULL,
    currency        char(3) NOT NULL,
    tax_rate        numeric(6,4) NOT NULL DEFAULT 0,
    method          text,
    reference       text,
    occurred_at     timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organisation_id, number)
);

-- Indexes: a tenant's period in one range scan, and every foreign key -------------------------------------------------

CREATE INDEX ON learning.users (organisation_id, created_at);
CREATE INDEX ON learning.login_sessions (user_id);
CREATE INDEX ON learning.courses (organisation_id, created_at);
CREATE INDEX ON learning.courses (author_id);
CREATE INDEX ON learning.enrollments (organisation_id, created_at);
CREATE INDEX ON learning.enrollments (user_id);
CREATE INDEX ON learning.enrollments (course_id);
CREATE INDEX ON learning.certificates (enrollment_id, created_at);
CREATE INDEX ON learning.certificates (created_at);
CREATE INDEX ON learning.activity_logs (user_id, occurred_at);
CREATE INDEX ON learning.activity_logs (occurred_at);
CREATE INDEX ON learning.activity_logs (lesson_id);
CREATE INDEX ON learning.transactions (organisation_id, occurred_at);
CREATE INDEX ON learning.transactions (user_id);
CREATE INDEX ON learning.transactions (course_id);

-- What tables and columns hold ----------------------------------------------------------------------------------------

COMMENT ON TABLE learning.organisations IS 'Organisations that teach: the tenants';
COMMENT ON TABLE learning.users IS 'People of an organisation: learners, teachers and managers';
COMMENT ON TABLE learning.login_sessions IS 'Open sessions of the application';
COMMENT ON TABLE learning.courses IS 'What can be learned';
COMMENT ON TABLE learning.lessons IS 'Parts of a course';
COMMENT ON TABLE learning.enrollments IS 'A person in a course';
COMMENT ON TABLE learning.certificates IS 'Proof of a completed course';
COMMENT ON TABLE learning.activity_logs IS 'What people did, line by line; never changed afterwards';
COMMENT ON TABLE learning.transactions IS 'Money paid and paid back; never changed afterwards, refunds are negative';

COMMENT ON COLUMN learning.organisations.id IS 'Of the organisation';
COMMENT ON COLUMN learning.organisations.slug IS 'Short name for addresses and commands';
COMMENT ON COLUMN learning.organisations.name IS 'As its people know it';
COMMENT ON COLUMN learning.organisations.kind IS 'What sort of organisation it is';
COMMENT ON COLUMN learning.organisations.country IS 'ISO 3166-1';
COMMENT ON COLUMN learning.organisations.currency IS 'ISO 4217; all amounts of the organisation are in it';
COMMENT ON COLUMN learning.organisations.timezone IS 'IANA name; local times of the organisation are its';
COMMENT ON COLUMN learning.organisations.language IS 'BCP 47 tag of the pages; NULL: that of the browser';
COMMENT ON COLUMN learning.organisations.seats IS 'People it pays for; NULL: any number';
COMMENT ON COLUMN learning.organisations.created_at IS 'When the row was made';
COMMENT ON COLUMN learning.organisations.updated_at IS 'When the row was last changed';

COMMENT ON COLUMN learning.users.id IS 'Of the person';
COMMENT ON COLUMN learning.users.organisation_id IS 'Organisation that the person belongs to';
COMMENT ON COLUMN learning.users.full_name IS 'As the person writes it';
COMMENT ON COLUMN learning.users.email IS 'To log in with and to be written to, unique in an organisation';
COMMENT ON COLUMN learning.users.role IS 'What the person may do';
COMMENT ON COLUMN learning.users.birth_date IS 'NULL: not told; may lie before 1900';
COMMENT ON COLUMN learning.users.locale IS 'BCP 47 tag that dates and numbers are shown in';
COMMENT ON COLUMN learning.users.timezone IS 'IANA name of the person''s own zone';
COMMENT ON COLUMN learning.users.password_hash IS 'Argon2id hash of the password';
COMMENT ON COLUMN learning.users.avatar IS 'Picture, BMP';
COMMENT ON COLUMN learning.users.biography IS 'What the person tells the others';
COMMENT ON COLUMN learning.users.marketing_consent IS 'NULL: never asked';
COMMENT ON COLUMN learning.users.last_seen_at IS 'Last request of the person';
COMMENT ON COLUMN learning.users.last_seen_ip IS 'Address of that request';
COMMENT ON COLUMN learning.users.created_at IS 'When the row was made';
COMMENT ON COLUMN learning.users.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN learning.users.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN learning.login_sessions.token_hash IS 'Hash of the session''s token';
COMMENT ON COLUMN learning.login_sessions.user_id IS 'Who is logged in';
COMMENT ON COLUMN learning.login_sessions.ip IS 'Address of the browser';
COMMENT ON COLUMN learning.login_sessions.user_agent IS 'As the browser calls itself';
COMMENT ON COLUMN learning.login_sessions.started_at IS 'When the session began';

COMMENT ON COLUMN learning.courses.id IS 'Of the course';
COMMENT ON COLUMN learning.courses.organisation_id IS 'Organisation that offers the course';
COMMENT ON COLUMN learning.courses.author_id IS 'Who wrote it; NULL: bought from elsewhere';
COMMENT ON COLUMN learning.courses.code IS 'Number in the catalogue, unique in an organisation';
COMMENT ON COLUMN learning.courses.title IS 'Shown in the catalogue';
COMMENT ON COLUMN learning.courses.language IS 'BCP 47 tag of what is taught in';
COMMENT ON COLUMN learning.courses.level IS 'For whom it is';
COMMENT ON COLUMN learning.courses.price IS 'In the organisation''s currency; NULL: free of charge';
COMMENT ON COLUMN learning.courses.duration IS 'Time that the author reckons with';
COMMENT ON COLUMN learning.courses.tags IS 'Words to find it by';
COMMENT ON COLUMN learning.courses.syllabus IS 'Aims, prerequisites and reading list';
COMMENT ON COLUMN learning.courses.published_on IS 'NULL: a draft';
COMMENT ON COLUMN learning.courses.created_at IS 'When the row was made';
COMMENT ON COLUMN learning.courses.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN learning.courses.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN learning.lessons.id IS 'Of the lesson';
COMMENT ON COLUMN learning.lessons.course_id IS 'Course that it is part of';
COMMENT ON COLUMN learning.lessons.position IS 'Place in the course, from 1';
COMMENT ON COLUMN learning.lessons.title IS 'Shown in the course';
COMMENT ON COLUMN learning.lessons.kind IS 'What the learner does';
COMMENT ON COLUMN learning.lessons.minutes IS 'Reckoned time; NULL: open end';
COMMENT ON COLUMN learning.lessons.pass_mark IS 'Points of 100 that a quiz is passed with; NULL: no quiz';
COMMENT ON COLUMN learning.lessons.content IS 'Text of the lesson, Markdown';
COMMENT ON COLUMN learning.lessons.created_at IS 'When the row was made';

COMMENT ON COLUMN learning.enrollments.id IS 'Of the enrollment';
COMMENT ON COLUMN learning.enrollments.organisation_id IS 'Organisation of person and course';
COMMENT ON COLUMN learning.enrollments.user_id IS 'Who learns';
COMMENT ON COLUMN learning.enrollments.course_id IS 'What is learned';
COMMENT ON COLUMN learning.enrollments.status IS 'Where the person stands';
COMMENT ON COLUMN learning.enrollments.progress IS 'Finished share in per cent';
COMMENT ON COLUMN learning.enrollments.score IS 'Mean of all quizzes at full precision; NULL: none answered';
COMMENT ON COLUMN learning.enrollments.started_local IS 'Clock of the person at the first lesson; NULL: not begun';
COMMENT ON COLUMN learning.enrollments.due_on IS 'Agreed last day';
COMMENT ON COLUMN learning.enrollments.completed_at IS 'When the last lesson was finished';
COMMENT ON COLUMN learning.enrollments.feedback IS 'What the person says about the course';
COMMENT ON COLUMN learning.enrollments.created_at IS 'When the row was made';
COMMENT ON COLUMN learning.enrollments.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN learning.enrollments.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN learning.certificates.id IS 'Of the certificate';
COMMENT ON COLUMN learning.certificates.enrollment_id IS 'What was completed';
COMMENT ON COLUMN learning.certificates.serial IS 'Printed on the certificate, 63 bits';
COMMENT ON COLUMN learning.certificates.grade IS 'In words; NULL: passed without one';
COMMENT ON COLUMN learning.certificates.issued_on IS 'Date on the certificate';
COMMENT ON COLUMN learning.certificates.valid_for IS 'NULL: for good';
COMMENT ON COLUMN learning.certificates.signature IS 'Ed25519 signature of the issuer';
COMMENT ON COLUMN learning.certificates.remark IS 'Printed below the grade';
COMMENT ON COLUMN learning.certificates.created_at IS 'When the row was made';

COMMENT ON COLUMN learning.activity_logs.id IS 'Number of the line';
COMMENT ON COLUMN learning.activity_logs.user_id IS 'Who did it';
COMMENT ON COLUMN learning.activity_logs.lesson_id IS 'Where; NULL: outside of lessons';
COMMENT ON COLUMN learning.activity_logs.action IS 'What was done';
COMMENT ON COLUMN learning.activity_logs.detail IS 'What the action came with';
COMMENT ON COLUMN learning.activity_logs.time_spent IS 'NULL: not measured';
COMMENT ON COLUMN learning.activity_logs.ip IS 'Address of the browser';
COMMENT ON COLUMN learning.activity_logs.user_agent IS 'As the browser calls itself';
COMMENT ON COLUMN learning.activity_logs.occurred_at IS 'When it was done';
COMMENT ON COLUMN learning.activity_logs.local_time IS 'Clock of the person at that moment';

COMMENT ON COLUMN learning.transactions.id IS 'Of the transaction';
COMMENT ON COLUMN learning.transactions.organisation_id IS 'Organisation that was paid';
COMMENT ON COLUMN learning.transactions.number IS 'Printed on the receipt, unique in an organisation';
COMMENT ON COLUMN learning.transactions.user_id IS 'Who paid';
COMMENT ON COLUMN learning.transactions.course_id IS 'What for; NULL: a subscription';
COMMENT ON COLUMN learning.transactions.kind IS 'Why money moved';
COMMENT ON COLUMN learning.transactions.amount IS 'In the currency beside it; negative when paid back';
COMMENT ON COLUMN learning.transactions.currency IS 'ISO 4217';
COMMENT ON COLUMN learning.transactions.tax_rate IS 'Fraction: 0.1900 is 19 %';
COMMENT ON COLUMN learning.transactions.method IS 'Card, transfer, invoice; NULL: scholarship';
COMMENT ON COLUMN learning.transactions.reference IS 'As the bank repeats it';
COMMENT ON COLUMN learning.transactions.occurred_at IS 'When the money moved';
COMMENT ON COLUMN learning.transactions.created_at IS 'When the row was made';

-- Who reads what: every exported column and no other, one tenant or nothing (../isolation.sql) ------------------------

SELECT pg_temp.let_read('learning', 'organisations', ARRAY['login_sessions', 'users.password_hash']);
SELECT pg_temp.keep_apart('learning', ARRAY['organisations'], 'id');
SELECT pg_temp.keep_apart('learning', ARRAY['users', 'courses', 'enrollments', 'transactions'], 'organisation_id');
SELECT pg_temp.keep_apart_through('learning', 'lessons', 'course_id', 'courses', 'organisation_id');
SELECT pg_temp.keep_apart_through('learning', 'certificates', 'enrollment_id', 'enrollments', 'organisation_id');
SELECT pg_temp.keep_apart_through('learning', 'activity_logs', 'user_id', 'users', 'organisation_id');
