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

-- What tables and columns hold ----------------------------------------------------------------------------------

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

COMMENT ON COLUMN clinic.clinics.id IS 'Of the clinic';
COMMENT ON COLUMN clinic.clinics.slug IS 'Short name for addresses and commands';
COMMENT ON COLUMN clinic.clinics.name IS 'As its clients know it';
COMMENT ON COLUMN clinic.clinics.legal_name IS 'As the register has it; NULL: the same';
COMMENT ON COLUMN clinic.clinics.founded_on IS 'May lie before 1900';
COMMENT ON COLUMN clinic.clinics.country IS 'ISO 3166-1';
COMMENT ON COLUMN clinic.clinics.currency IS 'ISO 4217; all amounts of the clinic are in it';
COMMENT ON COLUMN clinic.clinics.timezone IS 'IANA name; local times of the clinic are its';
COMMENT ON COLUMN clinic.clinics.opens_at IS 'Local time of the clinic';
COMMENT ON COLUMN clinic.clinics.closes_at IS 'Local time of the clinic';
COMMENT ON COLUMN clinic.clinics.open_on_sunday IS 'Whether it opens on Sundays, too';
COMMENT ON COLUMN clinic.clinics.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.clinics.updated_at IS 'When the row was last changed';

COMMENT ON COLUMN clinic.profiles.id IS 'Of the person';
COMMENT ON COLUMN clinic.profiles.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.profiles.full_name IS 'As the person writes it';
COMMENT ON COLUMN clinic.profiles.email IS 'To log in with, unique in a clinic';
COMMENT ON COLUMN clinic.profiles.role IS 'What the person does in the clinic';
COMMENT ON COLUMN clinic.profiles.phone IS 'In any form';
COMMENT ON COLUMN clinic.profiles.licence_number IS 'Of the veterinary chamber; NULL: the person has none';
COMMENT ON COLUMN clinic.profiles.password_hash IS 'Argon2id hash of the password';
COMMENT ON COLUMN clinic.profiles.photo IS 'Thumbnail, BMP';
COMMENT ON COLUMN clinic.profiles.shift_starts IS 'Local time of the clinic';
COMMENT ON COLUMN clinic.profiles.shift_length IS 'NULL: not agreed';
COMMENT ON COLUMN clinic.profiles.hourly_rate IS 'In the clinic''s currency';
COMMENT ON COLUMN clinic.profiles.last_login_at IS 'NULL: never logged in';
COMMENT ON COLUMN clinic.profiles.last_login_ip IS 'Address of that login';
COMMENT ON COLUMN clinic.profiles.active IS 'Whether the person may log in';
COMMENT ON COLUMN clinic.profiles.hired_on IS 'First day of work';
COMMENT ON COLUMN clinic.profiles.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.profiles.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.profiles.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.login_sessions.token_hash IS 'Hash of the session''s token';
COMMENT ON COLUMN clinic.login_sessions.profile_id IS 'Who is logged in';
COMMENT ON COLUMN clinic.login_sessions.ip IS 'Address of the browser';
COMMENT ON COLUMN clinic.login_sessions.user_agent IS 'As the browser calls itself';
COMMENT ON COLUMN clinic.login_sessions.started_at IS 'When the session began';

COMMENT ON COLUMN clinic.clients.id IS 'Of the client';
COMMENT ON COLUMN clinic.clients.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.clients.full_name IS 'As the person writes it';
COMMENT ON COLUMN clinic.clients.email IS 'NULL: not known; empty: the client has none';
COMMENT ON COLUMN clinic.clients.phone IS 'In any form';
COMMENT ON COLUMN clinic.clients.address IS 'Of the client''s home, on one line or several';
COMMENT ON COLUMN clinic.clients.city IS 'Where the client lives';
COMMENT ON COLUMN clinic.clients.country IS 'ISO 3166-1';
COMMENT ON COLUMN clinic.clients.birth_date IS 'NULL: not told; may lie before 1900';
COMMENT ON COLUMN clinic.clients.national_id IS 'For the tax office';
COMMENT ON COLUMN clinic.clients.newsletter IS 'NULL: never asked';
COMMENT ON COLUMN clinic.clients.consent_at IS 'When the client agreed to be written to';
COMMENT ON COLUMN clinic.clients.consent_ip IS 'Address of the browser at that moment';
COMMENT ON COLUMN clinic.clients.balance IS 'In the clinic''s currency; negative when the client owes';
COMMENT ON COLUMN clinic.clients.notes IS 'What the staff wrote about the client';
COMMENT ON COLUMN clinic.clients.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.clients.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.clients.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.pets.id IS 'Of the patient';
COMMENT ON COLUMN clinic.pets.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.pets.client_id IS 'Owner';
COMMENT ON COLUMN clinic.pets.name IS 'As the owner calls it';
COMMENT ON COLUMN clinic.pets.species IS 'Kind of animal';
COMMENT ON COLUMN clinic.pets.breed IS 'NULL: not known; empty: none';
COMMENT ON COLUMN clinic.pets.sex IS 'f, m or NULL';
COMMENT ON COLUMN clinic.pets.born_on IS 'NULL: not known; may lie before 1900';
COMMENT ON COLUMN clinic.pets.weight_kg IS 'At the last visit';
COMMENT ON COLUMN clinic.pets.neutered IS 'NULL: not known';
COMMENT ON COLUMN clinic.pets.microchip IS 'ISO 11784, 15 digits';
COMMENT ON COLUMN clinic.pets.allergies IS 'NULL: not asked; empty: none known';
COMMENT ON COLUMN clinic.pets.insurance IS 'Insurer, policy and share that it pays; NULL: not insured';
COMMENT ON COLUMN clinic.pets.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.pets.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.pets.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.medical_records.id IS 'Of the visit';
COMMENT ON COLUMN clinic.medical_records.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.medical_records.pet_id IS 'Patient';
COMMENT ON COLUMN clinic.medical_records.vet_id IS 'Who treated it; NULL: not noted';
COMMENT ON COLUMN clinic.medical_records.visited_at IS 'When the visit began';
COMMENT ON COLUMN clinic.medical_records.local_time IS 'Clock of the clinic at the visit';
COMMENT ON COLUMN clinic.medical_records.diagnosis IS 'In words';
COMMENT ON COLUMN clinic.medical_records.treatment IS 'What was given and done';
COMMENT ON COLUMN clinic.medical_records.notes IS 'What the vet wrote';
COMMENT ON COLUMN clinic.medical_records.vitals IS 'Pulse and other values that were measured';
COMMENT ON COLUMN clinic.medical_records.temperature_celsius IS 'Of the patient';
COMMENT ON COLUMN clinic.medical_records.weight_kg IS 'Of the patient';
COMMENT ON COLUMN clinic.medical_records.confidential IS 'Only the treating vet and managers may read the notes';
COMMENT ON COLUMN clinic.medical_records.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.medical_records.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.medical_records.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.lab_results.id IS 'Of the measurement';
COMMENT ON COLUMN clinic.lab_results.medical_record_id IS 'Visit that it was ordered in';
COMMENT ON COLUMN clinic.lab_results.test_code IS 'Short name of the test';
COMMENT ON COLUMN clinic.lab_results.value IS 'As the analyser printed it, any precision';
COMMENT ON COLUMN clinic.lab_results.unit IS 'Of value and references';
COMMENT ON COLUMN clinic.lab_results.reference_low IS 'Least normal value';
COMMENT ON COLUMN clinic.lab_results.reference_high IS 'Greatest normal value';
COMMENT ON COLUMN clinic.lab_results.abnormal IS 'NULL: not judged';
COMMENT ON COLUMN clinic.lab_results.comment IS 'What the laboratory wrote';
COMMENT ON COLUMN clinic.lab_results.analyser_output IS 'Raw message of the analyser';
COMMENT ON COLUMN clinic.lab_results.sampled_at IS 'When the sample was taken';
COMMENT ON COLUMN clinic.lab_results.created_at IS 'When the row was made';

COMMENT ON COLUMN clinic.prescriptions.id IS 'Of the prescription';
COMMENT ON COLUMN clinic.prescriptions.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.prescriptions.pet_id IS 'Patient';
COMMENT ON COLUMN clinic.prescriptions.medical_record_id IS 'Visit that it was written in; NULL: without one';
COMMENT ON COLUMN clinic.prescriptions.drug IS 'Active ingredient';
COMMENT ON COLUMN clinic.prescriptions.dose_mg IS 'Of one dose';
COMMENT ON COLUMN clinic.prescriptions.every IS 'Time between two doses';
COMMENT ON COLUMN clinic.prescriptions.starts_on IS 'Day of the first dose';
COMMENT ON COLUMN clinic.prescriptions.ends_on IS 'Day of the last dose; NULL: until further notice';
COMMENT ON COLUMN clinic.prescriptions.refills IS 'How often it may be given out again';
COMMENT ON COLUMN clinic.prescriptions.instructions IS 'For the owner';
COMMENT ON COLUMN clinic.prescriptions.controlled IS 'Whether the law on narcotics applies';
COMMENT ON COLUMN clinic.prescriptions.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.prescriptions.updated_at IS 'When the row was last changed';

COMMENT ON COLUMN clinic.appointments.id IS 'Of the appointment';
COMMENT ON COLUMN clinic.appointments.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.appointments.pet_id IS 'Patient';
COMMENT ON COLUMN clinic.appointments.vet_id IS 'Who will treat it; NULL: whoever is free';
COMMENT ON COLUMN clinic.appointments.status IS 'Where it stands';
COMMENT ON COLUMN clinic.appointments.starts_at IS 'NULL: on the waiting list';
COMMENT ON COLUMN clinic.appointments.duration IS 'Planned length';
COMMENT ON COLUMN clinic.appointments.room IS 'Where; NULL: not settled';
COMMENT ON COLUMN clinic.appointments.reason IS 'What the owner said';
COMMENT ON COLUMN clinic.appointments.reminder_sent IS 'Whether the owner was reminded';
COMMENT ON COLUMN clinic.appointments.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.appointments.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.appointments.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.products.id IS 'Of the product';
COMMENT ON COLUMN clinic.products.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.products.sku IS 'Article number, unique in a clinic';
COMMENT ON COLUMN clinic.products.name IS 'As printed on bills';
COMMENT ON COLUMN clinic.products.category IS 'What sort of product it is';
COMMENT ON COLUMN clinic.products.unit_price IS 'In the clinic''s currency, without tax';
COMMENT ON COLUMN clinic.products.tax_rate IS 'Fraction: 0.1900 is 19 %';
COMMENT ON COLUMN clinic.products.prescription_only IS 'Whether it needs a prescription';
COMMENT ON COLUMN clinic.products.tags IS 'Words to find it by';
COMMENT ON COLUMN clinic.products.attributes IS 'Weight, article codes and parts';
COMMENT ON COLUMN clinic.products.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.products.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.products.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.inventory.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.inventory.sku IS 'Article number of the product';
COMMENT ON COLUMN clinic.inventory.lot IS 'Number of the producer''s batch';
COMMENT ON COLUMN clinic.inventory.quantity IS 'Units in stock';
COMMENT ON COLUMN clinic.inventory.unit_cost IS 'Purchase price of one unit, any precision';
COMMENT ON COLUMN clinic.inventory.reorder_level IS 'Units below which to order; NULL: never';
COMMENT ON COLUMN clinic.inventory.location IS 'Where it lies';
COMMENT ON COLUMN clinic.inventory.expires_on IS 'NULL: does not expire';
COMMENT ON COLUMN clinic.inventory.counted_at IS 'Last stocktaking';
COMMENT ON COLUMN clinic.inventory.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.inventory.updated_at IS 'When the row was last changed';

COMMENT ON COLUMN clinic.invoices.id IS 'Of the invoice';
COMMENT ON COLUMN clinic.invoices.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.invoices.number IS 'Printed on the bill, unique in a clinic';
COMMENT ON COLUMN clinic.invoices.client_id IS 'Who has to pay';
COMMENT ON COLUMN clinic.invoices.status IS 'Where it stands';
COMMENT ON COLUMN clinic.invoices.currency IS 'ISO 4217';
COMMENT ON COLUMN clinic.invoices.subtotal IS 'Sum of the lines';
COMMENT ON COLUMN clinic.invoices.tax IS 'On the subtotal';
COMMENT ON COLUMN clinic.invoices.total IS 'Subtotal and tax';
COMMENT ON COLUMN clinic.invoices.insured IS 'Whether an insurer pays a part';
COMMENT ON COLUMN clinic.invoices.issued_on IS 'Date on the bill';
COMMENT ON COLUMN clinic.invoices.due_on IS 'Last day to pay; NULL: at once';
COMMENT ON COLUMN clinic.invoices.reference IS 'To be repeated with the payment';
COMMENT ON COLUMN clinic.invoices.created_at IS 'When the row was made';
COMMENT ON COLUMN clinic.invoices.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN clinic.invoices.deleted_at IS 'When the row was deleted in the application; NULL: it is not';

COMMENT ON COLUMN clinic.invoice_items.id IS 'Of the line';
COMMENT ON COLUMN clinic.invoice_items.invoice_id IS 'Invoice that it is on';
COMMENT ON COLUMN clinic.invoice_items.line IS 'Position on the bill, from 1';
COMMENT ON COLUMN clinic.invoice_items.product_id IS 'What was sold; NULL: described in words only';
COMMENT ON COLUMN clinic.invoice_items.description IS 'As printed on the bill';
COMMENT ON COLUMN clinic.invoice_items.quantity IS 'Units sold';
COMMENT ON COLUMN clinic.invoice_items.unit_price IS 'Of one unit, without tax';
COMMENT ON COLUMN clinic.invoice_items.line_total IS 'Quantity times unit price';
COMMENT ON COLUMN clinic.invoice_items.created_at IS 'When the row was made';

COMMENT ON COLUMN clinic.payments.id IS 'Of the payment';
COMMENT ON COLUMN clinic.payments.clinic_id IS 'Clinic that it belongs to';
COMMENT ON COLUMN clinic.payments.invoice_id IS 'Invoice that it pays';
COMMENT ON COLUMN clinic.payments.method IS 'How it was paid';
COMMENT ON COLUMN clinic.payments.amount IS 'In the currency beside it; negative when paid back';
COMMENT ON COLUMN clinic.payments.currency IS 'ISO 4217';
COMMENT ON COLUMN clinic.payments.terminal_sequence IS 'Of the card terminal, 63 bits';
COMMENT ON COLUMN clinic.payments.reference IS 'As the bank repeats it';
COMMENT ON COLUMN clinic.payments.paid_at IS 'When the money came';
COMMENT ON COLUMN clinic.payments.created_at IS 'When the row was made';

-- Who reads what: every exported column and no other, one clinic or nothing (../isolation.sql) ------------------------

SELECT pg_temp.let_read('clinic', 'clinics', ARRAY['login_sessions', 'profiles.password_hash', 'clients.national_id']);
SELECT pg_temp.keep_apart('clinic', ARRAY['clinics'], 'id');
SELECT pg_temp.keep_apart('clinic', ARRAY['profiles', 'clients', 'pets', 'medical_records', 'prescriptions',
                                          'appointments', 'products', 'inventory', 'invoices', 'payments'],
                          'clinic_id');
SELECT pg_temp.keep_apart_through('clinic', 'invoice_items', 'invoice_id', 'invoices', 'clinic_id');
SELECT pg_temp.keep_apart_through('clinic', 'lab_results', 'medical_record_id', 'medical_records', 'clinic_id');
