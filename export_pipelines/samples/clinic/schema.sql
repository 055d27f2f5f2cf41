-- Veterinary clinics, many in one database: tables, indexes, row-level security and the exporter's rights.
-- Rows are made by generate.sql. Runs once, in one transaction, as a role that may create schemas and roles.

CREATE SCHEMA clinic;
COMMENT ON SCHEMA clinic IS 'Veterinary clinics: patients, visits, billing, stock and staff';

CREATE TYPE clinic.species AS ENUM ('dog', 'cat', 'rabbit', 'bird', 'horse', 'reptile', 'other');
CREATE TYPE clinic.staff_role AS ENUM ('vet', 'nurse', 'receptionist', 'manager');
CREATE TYPE clinic.appointment_status AS ENUM ('requested', 'booked', 'checked in', 'done', 'cancelled', 'no-show');
CREATE TYPE clinic.invoice_status AS ENUM ('draft', 'sent', 'partly paid', 'paid', 'void');
CREATE TYPE clinic.payment_method AS ENUM ('cash', 'card', 'transfer', 'insurance');
CREATE TYPE clinic.product_category AS ENUM ('medicine', 'food', 'service', 'accessory');

-- People -------------------------------------------------------------------------------------------------------

CREATE TABLE clinic.clinics (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug           text NOT NULL UNIQUE,
    name           text NOT NULL,
    legal_name     varchar(120),
    founded_on     date,
    country        char(2) NOT NULL,
    currency       char(3) NOT NULL,
    timezone       text NOT NULL,
    opens_at       time NOT NULL,
    closes_at      time NOT NULL,
    open_on_sunday boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clinic.profiles (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id      uuid NOT NULL REFERENCES clinic.clinics,
    full_name      text NOT NULL,
    email          text NOT NULL,
    role           clinic.staff_role NOT NULL,
    phone          varchar(32),
    licence_number varchar(20),
    password_hash  text NOT NULL,
    photo          bytea,
    shift_starts   time,
    shift_length   interval,
    hourly_rate    numeric(10, 4),
    last_login_at  timestamptz,
    last_login_ip  inet,
    active         boolean NOT NULL DEFAULT true,
    hired_on       date,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz,
    UNIQUE (clinic_id, email)
);

CREATE TABLE clinic.login_sessions (
    token_hash text PRIMARY KEY,
    profile_id uuid NOT NULL REFERENCES clinic.profiles,
    ip         inet,
    user_agent text,
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clinic.clients (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id   uuid NOT NULL REFERENCES clinic.clinics,
    full_name   text NOT NULL,
    email       text,
    phone       varchar(32),
    address     text,
    city        text,
    country     char(2),
    birth_date  date,
    national_id text,
    newsletter  boolean,
    consent_at  timestamptz,
    consent_ip  inet,
    balance     numeric(12, 2) NOT NULL DEFAULT 0,
    notes       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

-- Medical ------------------------------------------------------------------------------------------------------

CREATE TABLE clinic.pets (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id  uuid NOT NULL REFERENCES clinic.clinics,
    client_id  uuid NOT NULL REFERENCES clinic.clients,
    name       text NOT NULL,
    species    clinic.species NOT NULL,
    breed      text,
    sex        char(1),
    born_on    date,
    weight_kg  double precision,
    neutered   boolean,
    microchip  varchar(15),
    allergies  text[],
    insurance  jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE TABLE clinic.medical_records (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id           uuid NOT NULL REFERENCES clinic.clinics,
    pet_id              uuid NOT NULL REFERENCES clinic.pets,
    vet_id              uuid REFERENCES clinic.profiles,
    visited_at          timestamptz NOT NULL,
    local_time          timestamp NOT NULL,
    diagnosis           text,
    treatment           text,
    notes               text,
    vitals              jsonb,
    temperature_celsius real,
    weight_kg           double precision,
    confidential        boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz
);

CREATE TABLE clinic.lab_results (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    medical_record_id uuid NOT NULL REFERENCES clinic.medical_records,
    test_code         varchar(20) NOT NULL,
    value             numeric,
    unit              text,
    reference_low     numeric(10, 4),
    reference_high    numeric(10, 4),
    abnormal          boolean,
    comment           text,
    analyser_output   jsonb,
    sampled_at        timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clinic.prescriptions (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id         uuid NOT NULL REFERENCES clinic.clinics,
    pet_id            uuid NOT NULL REFERENCES clinic.pets,
    medical_record_id uuid REFERENCES clinic.medical_records,
    drug              text NOT NULL,
    dose_mg           numeric(10, 4) NOT NULL,
    every             interval NOT NULL,
    starts_on         date NOT NULL,
    ends_on           date,
    refills           smallint NOT NULL DEFAULT 0,
    instructions      text,
    controlled        boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clinic.appointments (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id     uuid NOT NULL REFERENCES clinic.clinics,
    pet_id        uuid NOT NULL REFERENCES clinic.pets,
    vet_id        uuid REFERENCES clinic.profiles,
    status        clinic.appointment_status NOT NULL DEFAULT 'requested',
    starts_at     timestamptz,
    duration      interval NOT NULL DEFAULT '20 minutes',
    room          varchar(20),
    reason        text NOT NULL,
    reminder_sent boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);

-- Stock --------------------------------------------------------------------------------------------------------

CREATE TABLE clinic.products (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id         uuid NOT NULL REFERENCES clinic.clinics,
    sku               varchar(24) NOT NULL,
    name              text NOT NULL,
    category          clinic.product_category NOT NULL,
    unit_price        numeric(12, 2) NOT NULL,
    tax_rate          numeric(10, 4) NOT NULL,
    prescription_only boolean NOT NULL DEFAULT false,
    tags              text[] NOT NULL DEFAULT '{}',
    attributes        jsonb NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz,
    UNIQUE (clinic_id, sku)
);

CREATE TABLE clinic.inventory (
    clinic_id     uuid NOT NULL REFERENCES clinic.clinics,
    sku           varchar(24) NOT NULL,
    lot           varchar(20) NOT NULL,
    quantity      numeric(10, 4) NOT NULL,
    unit_cost     numeric,
    reorder_level integer,
    location      text,
    expires_on    date,
    counted_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (clinic_id, sku, lot),
    FOREIGN KEY (clinic_id, sku) REFERENCES clinic.products (clinic_id, sku)
);

-- Billing ------------------------------------------------------------------------------------------------------

CREATE TABLE clinic.invoices (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id  uuid NOT NULL REFERENCES clinic.clinics,
    number     bigint GENERATED BY DEFAULT AS IDENTITY,
    client_id  uuid NOT NULL REFERENCES clinic.clients,
    status     clinic.invoice_status NOT NULL DEFAULT 'draft',
    currency   char(3) NOT NULL,
    subtotal   numeric(12, 2) NOT NULL,
    tax        numeric(12, 2) NOT NULL,
    total      numeric(12, 2) NOT NULL,
    insured    boolean NOT NULL DEFAULT false,
    issued_on  date NOT NULL,
    due_on     date,
    reference  text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (clinic_id, number)
);

CREATE TABLE clinic.invoice_items (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    invoice_id  uuid NOT NULL REFERENCES clinic.invoices,
    line        integer NOT NULL,
    product_id  uuid REFERENCES clinic.products,
    description text NOT NULL,
    quantity    numeric(10, 4) NOT NULL,
    unit_price  numeric(12, 2) NOT NULL,
    line_total  numeric(12, 2) NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (invoice_id, line)
);

CREATE TABLE clinic.payments (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    clinic_id         uuid NOT NULL REFERENCES clinic.clinics,
    invoice_id        uuid NOT NULL REFERENCES clinic.invoices,
    method            clinic.payment_method NOT NULL,
    amount            numeric(12, 2) NOT NULL,
    currency          char(3) NOT NULL,
    terminal_sequence bigint,
    reference         text,
    paid_at           timestamptz NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);

-- Indexes: a tenant's period in one range scan, and every foreign key ----------------------------------------------

CREATE INDEX ON clinic.profiles (clinic_id, created_at);
CREATE INDEX ON clinic.login_sessions (profile_id);
CREATE INDEX ON clinic.clients (clinic_id, created_at);
CREATE INDEX ON clinic.pets (clinic_id, created_at);
CREATE INDEX ON clinic.pets (client_id);
CREATE INDEX ON clinic.medical_records (clinic_id, created_at);
CREATE INDEX ON clinic.medical_records (pet_id);
CREATE INDEX ON clinic.medical_records (vet_id);
CREATE INDEX ON clinic.lab_results (medical_record_id, created_at);
CREATE INDEX ON clinic.lab_results (created_at);
CREATE INDEX ON clinic.prescriptions (clinic_id, created_at);
CREATE INDEX ON clinic.prescriptions (pet_id);
CREATE INDEX ON clinic.prescriptions (medical_record_id);
CREATE INDEX ON clinic.appointments (clinic_id, created_at);
CREATE INDEX ON clinic.appointments (clinic_id, starts_at);
CREATE INDEX ON clinic.appointments (pet_id);
CREATE INDEX ON clinic.appointments (vet_id);
CREATE INDEX ON clinic.products (clinic_id, created_at);
CREATE INDEX ON clinic.inventory (clinic_id, created_at);
CREATE INDEX ON clinic.invoices (clinic_id, created_at);
CREATE INDEX ON clinic.invoices (client_id);
CREATE INDEX ON clinic.invoice_items (created_at);
CREATE INDEX ON clinic.invoice_items (product_id);
CREATE INDEX ON clinic.payments (clinic_id, created_at);
CREATE INDEX ON clinic.payments (invoice_id);

-- What the names do not say ------------------------------------------------------------------------------------

COMMENT ON TABLE clinic.clinics IS 'Clinics: the tenants';
COMMENT ON TABLE clinic.profiles IS 'Staff of a clinic';
COMMENT ON TABLE clinic.login_sessions IS 'Open sessions of the application';
COMMENT ON TABLE clinic.clients IS 'Owners of the pets';
COMMENT ON TABLE clinic.pets IS 'Patients';
COMMENT ON TABLE clinic.medical_records IS 'One visit of one pet';
COMMENT ON TABLE clinic.lab_results IS 'Measurements ordered during a visit';
COMMENT ON TABLE clinic.prescriptions IS 'Medicine prescribed for a pet';
COMMENT ON TABLE clinic.appointments IS 'Booked and requested visits';
COMMENT ON TABLE clinic.products IS 'What a clinic sells: medicine, food, services';
COMMENT ON TABLE clinic.inventory IS 'Stock of a product by lot';
COMMENT ON TABLE clinic.invoices IS 'Bills to clients';
COMMENT ON TABLE clinic.invoice_items IS 'Lines of an invoice';
COMMENT ON TABLE clinic.payments IS 'Money received; never changed afterwards, refunds are negative';

COMMENT ON COLUMN clinic.clinics.slug IS 'Short name for addresses and commands';
COMMENT ON COLUMN clinic.clinics.founded_on IS 'May lie before 1900';
COMMENT ON COLUMN clinic.profiles.photo IS 'Thumbnail, BMP';
COMMENT ON COLUMN clinic.profiles.shift_starts IS 'Local time of the clinic';
COMMENT ON COLUMN clinic.profiles.hourly_rate IS 'In the clinic''s currency';
COMMENT ON COLUMN clinic.clients.newsletter IS 'NULL: never asked';
COMMENT ON COLUMN clinic.clients.balance IS 'In the clinic''s currency; negative when the client owes';
COMMENT ON COLUMN clinic.pets.sex IS 'f, m or NULL';
COMMENT ON COLUMN clinic.pets.microchip IS 'ISO 11784, 15 digits';
COMMENT ON COLUMN clinic.pets.allergies IS 'NULL: not asked; empty: none known';
COMMENT ON COLUMN clinic.medical_records.local_time IS 'Clock of the clinic at the visit';
COMMENT ON COLUMN clinic.medical_records.confidential IS 'Only the treating vet and managers may read the notes';
COMMENT ON COLUMN clinic.lab_results.value IS 'As the analyser printed it, any precision';
COMMENT ON COLUMN clinic.lab_results.analyser_output IS 'Raw message of the analyser';
COMMENT ON COLUMN clinic.prescriptions.every IS 'Time between two doses';
COMMENT ON COLUMN clinic.appointments.starts_at IS 'NULL: on the waiting list';
COMMENT ON COLUMN clinic.products.sku IS 'Article number, unique in a clinic';
COMMENT ON COLUMN clinic.products.tax_rate IS 'Fraction: 0.1900 is 19 %';
COMMENT ON COLUMN clinic.inventory.unit_cost IS 'Purchase price of one unit, any precision';
COMMENT ON COLUMN clinic.invoices.number IS 'Printed on the bill, unique in a clinic';
COMMENT ON COLUMN clinic.invoice_items.line IS 'Position on the bill, from 1';
COMMENT ON COLUMN clinic.payments.terminal_sequence IS 'Of the card terminal, 63 bits';

-- Who reads what: every exported column and no other, one clinic or nothing (../isolation.sql) ------------------------

SELECT pg_temp.let_read('clinic', 'clinics', ARRAY['login_sessions', 'profiles.password_hash', 'clients.national_id']);
SELECT pg_temp.keep_apart('clinic', ARRAY['clinics'], 'id');
SELECT pg_temp.keep_apart('clinic', ARRAY['profiles', 'clients', 'pets', 'medical_records', 'prescriptions',
                                          'appointments', 'products', 'inventory', 'invoices', 'payments'],
                          'clinic_id');
SELECT pg_temp.keep_apart_through('clinic', 'invoice_items', 'invoice_id', 'invoices', 'clinic_id');
SELECT pg_temp.keep_apart_through('clinic', 'lab_results', 'medical_record_id', 'medical_records', 'clinic_id');
