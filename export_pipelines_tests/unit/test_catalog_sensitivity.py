"""What names of tables and columns say about delicate data; names as Rails, Django, Laravel and Prisma have them."""

from __future__ import annotations

import pytest

from export_pipelines.catalog.inventory import LiveColumn
from export_pipelines.catalog.sensitivity import classify, is_credential
from export_pipelines.core.catalog import Classification

CREDENTIALS = """
organizations.hmac_key  api_keys.value  gateways.access_code  gateways.pin_code  gateways.cvv  gateways.session_id
gateways.webhook_signing  gateways.ssh_key  users.encrypted_password  users.reset_password_token  users.otp_secret
users.password_digest  users.remember_digest  users.confirmation_token  users.unlock_token  users.passwordHash
users.password_salt  users.two_factor_recovery_codes:jsonb  users.two_factor_secret  users.remember_token
users.otp_backup_codes:text[]  User.passwordHash  Account.refresh_token  Account.access_token  Account.id_token
Session.sessionToken  VerificationToken.token  auth_user.password  authtoken_token.key  django_session.session_key
django_session.session_data  sessions.data  sessions.payload  personal_access_tokens.token:character_varying(64)
oauth_clients.secret  oauth_applications.client_secret  webhooks.signing_key  webhooks.secret  devices.push_token
integrations.credentials:jsonb  integrations.apiKey  integrations.private_key:bytea  servers.sshKeys:text[]
stores.door_code  licenses.license_key  users.totp_seed  wallets.mnemonic  wallets.seed_phrase  users.security_answer
cards.cvc:smallint  cards.pin:integer  logins.otp:integer  invitations.invite_code  connections.connection_string
secrets.data  tokens.digest  recovery_codes.code  api_credentials.encrypted_value  accounts.pwd  resets.jwt
users.api_key:uuid  users.hash  users.token  payments.token  ApiKey.hashedKey  authtoken_token.key  env_vars.value
push_subscriptions.auth  push_subscriptions.p256dh  vault.data:bytea  Session.sessionToken
"""

NO_CREDENTIALS = """
users.tokens_used:bigint  posts.hashtag  staff.secretary  settings.key  settings.value  products.code  countries.code
oauth.token_type  oauth.token_expires_at:timestamp_with_time_zone  users.password_changed_at:timestamp_with_time_zone
users.password_reset_required:boolean  keys.public_key  deploy_keys.public_key  commits.hash  files.content_hash
files.sha256_hash  builds.commit_hash  products.pinned  chats.session_id:uuid  chats.session_id:bigint
visits.session_count:integer  monkeys.monkey  orders.discount_code  maps.map_key  translations.key  posts.content
licenses.license_type  users.pinterest  cards.card_type  password_policies.password_policy  tokens.name
"""

PERSONAL = """
gateways.bcc_emails:text[]  gateways.emails:text[]  gateways.username  gateways.sex  users.email  users.contactEmail
users.user_name  users.first_name  users.firstName  users.lastname  users.full_name  users.display_name  users.name
customers.name  patients.legal_name  orders.customer_name  orders.recipient_name  cards.cardholder_name  people.name
auth_user.last_name  users.phone  users.phoneNumber  users.mobile:bigint  users.birth_date:date  users.dob:date
addresses.street  addresses.zipcode  addresses.zip_code  addresses.zip:integer  addresses.postalCode  users.home_address
users.city  users.avatar  users.ip_address:inet  logins.current_sign_in_ip:inet  users.latitude:numeric(9,6)
users.gender:integer  users.age:smallint  users.marital_status  users.nickname  visits.user_agent  users.bio
employees.photo:bytea  res_partner.name  auth.raw_user_meta_data:jsonb  identities.identity_data:jsonb
bank_accounts.holder
"""

IDENTIFIERS = """
gateways.tax_id:integer  users.ssn  users.ssn:integer  users.passport_number  accounts.iban  accounts.bic
users.nationalId  cards.card_number  accounts.account_number:bigint  companies.vat_number  drivers.driver_license
users.socialSecurityNumber  patients.mrn  payments.card  payments.card:jsonb  credit_cards.pan  cards.number
bank_accounts.number  passports.number
"""

SENSITIVE = """
patients.diagnosis  patients.diagnoses:jsonb  patients.medical_history  visits.notes  users.note  patients.blood_type
patients.allergies:text[]  employees.salary:numeric(10,2)  users.religion  users.disability:boolean
patients.healthNotes  patients.medication_status
"""

HARMLESS = """
board.card  boards.pan  invoices.number  payments.number  payments.card_brand  account_move.name  settings.data:jsonb
users.id:uuid  users.address_id:bigint  users.uuid:uuid  orders.amount:numeric  gateways.company_name
gateways.email_settings:text[]  products.name  organizations.name  roles.display_name  files.file_name  hosts.hostname
plans.planName  tables.table_name  cash.banknotes:integer  cash.banknotes  cash.note_amount:numeric(12,2)
pages.footnote  pages.footnotes  invoices.credit_note_number  shipments.delivery_note  versions.release_notes
users.email_verified:boolean  users.email_confirmed_at:timestamp_with_time_zone  users.emails_count:integer
users.phone_type  mails.mail_server  emails.email_template  services.health_check  invoices.vat_rate:numeric(4,2)
messages.message  pages.page:integer  teams.shipping_method  packages.package  users.stage  cache.max_age:integer
contracts.contract_address  ships.relationship  zips.zipped:boolean  events.event_name  categories.parent_name
"""


def cases(*lists: tuple[str, object]) -> list[tuple[str, str, str, object]]:
    """(table, column, type, expected) of names written ``table.column:type``, spaces in types as underscores."""
    found = []
    for names, expected in lists:
        for written in names.split():
            place, _, type_ = written.partition(":")
            table, _, column = place.partition(".")
            found.append((table, column, type_.replace("_", " ") or "text", expected))
    return found


def live(name: str, type_: str) -> LiveColumn:
    return LiveColumn(name=name, type=type_, declared_type=type_, not_null=False, comment=None)


@pytest.mark.parametrize(("table", "column", "type_", "secret"), cases((CREDENTIALS, True), (NO_CREDENTIALS, False)))
def test_a_credential_is_known_by_table_column_and_type(table: str, column: str, type_: str, secret: bool) -> None:
    assert is_credential(table, live(column, type_)) is secret


@pytest.mark.parametrize(
    ("table", "column", "type_", "expected"),
    cases(
        (PERSONAL, Classification.PERSONAL),
        (IDENTIFIERS, Classification.IDENTIFIER),
        (SENSITIVE, Classification.SENSITIVE),
        (HARMLESS, Classification.INTERNAL),
    ),
)
def test_a_class_is_suggested_by_table_column_and_type(
    table: str, column: str, type_: str, expected: Classification
) -> None:
    assert classify(table, live(column, type_)) is expected


@pytest.mark.parametrize(
    ("table", "column", "type_", "expected"), cases((PERSONAL + IDENTIFIERS + SENSITIVE + HARMLESS, None))
)
def test_what_is_only_delicate_is_no_credential(table: str, column: str, type_: str, expected: None) -> None:
    assert not is_credential(table, live(column, type_)), expected
