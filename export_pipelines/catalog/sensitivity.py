"""How delicate a column is, judged by the names of its table and itself and by its type.

Guesses for a first catalog, which people then correct. All rules are the lists of terms below: a term is one or several
words in the singular that stand next to each other in a name, in any of the usual spellings (``api key`` is in
``api_key``, ``apiKeys`` and ``apikey``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from export_pipelines.catalog.inventory import LiveColumn
from export_pipelines.catalog.naming import singular, words_of
from export_pipelines.core.catalog import Classification
from export_pipelines.core.types import Kind, value_type

CREDENTIAL = "credential by its name; never exported"

Words = tuple[str, ...]
Terms = frozenset[Words]


def _terms(*lines: str) -> Terms:
    return frozenset(tuple(map(singular, term.split())) for line in lines for term in line.split(", "))


# Last words that make a name speak about a thing instead of holding it: a token's type is no token.
_ABOUT = _terms(
    "type, kind, status, state, count, format, algorithm, policy, version, scope, provider, length, limit",
    "setting, template, subject, preference, frequency, layout, config, configuration, notification, enabled",
    "required, verified, expiry, strength, model, validation",
)

# Credentials ---------------------------------------------------------------------------------------------------------

_SECRETS = _terms(
    "password, passwd, pwd, pass word, pass phrase, secret, token, salt, credential, otp, totp, hotp, hmac, jwt",
    "api key, private key, access key, secret key, encryption key, encrypted key, signing key, hmac key",
    "master key, ssh key, deploy key, auth key, session key, license key, licence key, recovery key, shared key",
    "service key, host key, webhook key, aes key, rsa key, pgp key, gpg key, webhook signing, webhook signature",
    "csrf, session id, session data, session cookie, session token, seed phrase, recovery phrase, mnemonic",
    "security answer, reset digest, remember digest, activation digest, code verifier, connection string, dsn",
    "keystore",
)
# Short enough to be kept as numbers.
_CODES = _terms(
    "pass code, pin, cvv, cvv2, cvc, cvc2, csc, access code, pin code, security code, recovery code, backup code",
    "verification code, confirmation code, activation code, invitation code, invite code, reset code, login code",
    "auth code, authorization code, unlock code, sms code, door code, gate code, otp",
)
_HASH = _terms("hash")
_HASHES_OF_THINGS = _terms(
    "content, file, commit, blob, image, tree, block, transaction, tx, git, document, body, object, sha, md5",
    "row, geo, checksum, schema, version, source, build",
)
# Words that say nothing by themselves; in a table of credentials they are one.
_CREDENTIAL_TABLES = _terms(
    "api key, access key, private key, ssh key, deploy key, signing key, encryption key, token, secret",
    "credential, password, passcode, otp, recovery code, backup code, access code, vault, env var",
    "environment variable, push subscription",
)
_CARRIERS = _terms(
    "value, key, code, data, content, body, payload, digest, hash, raw, ciphertext, plaintext, material, auth, p256 dh",
)
_CARRIER_WORDS = 2  # `value`, `encrypted_value`; a longer name says what it is by itself
_SESSION_STORES = {(("session",), ("data",)), (("session",), ("payload",))}  # (table, column) of Rails and Laravel
_PUBLIC = _terms("public, pinned")

# Classes -------------------------------------------------------------------------------------------------------------

_PEOPLE = _terms(
    "user, person, customer, patient, contact, employee, member, client, clerk, owner, author, guest, subscriber",
    "student, pupil, teacher, doctor, physician, nurse, lead, candidate, applicant, participant, attendee",
    "profile, staff, driver, passenger, resident, visitor, buyer, seller, borrower, donor, volunteer, recipient",
    "sender, payer, payee, beneficiary, spouse, guardian, friend, holder, cardholder, signer, actor, artist",
    "admin, administrator, agent, manager, worker, player, citizen, witness, caller, invitee, collaborator",
    "reporter, assignee, partner",
)
_SAYS_NOTHING = _terms(
    "display, legal, public, real, short, long, official, common, sort, search, print, new, old, original",
)
_NAMES_OF_PEOPLE = _terms(
    "first name, last name, full name, middle name, given name, family name, maiden name, birth name, nick name",
    "preferred name, surname, forename, user name, shipping name, billing name",
)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Columns whose name has one of the terms, and whose type can hold what the term means."""

    classification: Classification
    kinds: frozenset[Kind]
    terms: Terms


_TEXT = frozenset({Kind.TEXT, Kind.BYTES, Kind.JSON})
_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.NUMERIC, Kind.FLOAT})
_TIMES = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT})
_ANY = frozenset(Kind)

_IDENTIFIER, _SENSITIVE, _PERSONAL = Classification.IDENTIFIER, Classification.SENSITIVE, Classification.PERSONAL

# In order of weight: the first rule that fits wins.
_RULES = (
    _Rule(
        classification=_IDENTIFIER,
        kinds=_TEXT | _NUMBERS,
        terms=_terms(
            "national id, tax id, tax number, social security, card number, account number, bank account",
            "routing number, insurance number, personal number, identity number, identity card",
            "medical record number, sort code, registration number, license number, licence number",
            "license plate, number plate, vat number, vat id, ssn, nin, nino, nhs, mrn, passport, iban, tin, ein",
            "cpf, cnpj, curp, nif, dni, pesel, bsn, imei",
        ),
    ),
    _Rule(classification=_IDENTIFIER, kinds=_TEXT, terms=_terms("bic, vat, license, licence, swift code")),
    _Rule(
        classification=_SENSITIVE,
        kinds=_ANY,
        terms=_terms(
            "diagnosis, medical, medication, allergy, symptom, religion, religious, ethnicity, ethnic",
            "disability, blood type, blood group, blood pressure, pregnant, pregnancy, hiv, criminal, conviction",
            "political, sexual, biometric, genetic, prescription, salary, wage, smoker",
        ),
    ),
    _Rule(classification=_SENSITIVE, kinds=_TEXT, terms=_terms("note, health, treatment")),
    _Rule(
        classification=_PERSONAL,
        kinds=_TEXT | _NUMBERS,
        terms=_terms(
            "phone, mobile, telephone, cell phone, phone number, tel, fax, msisdn, whatsapp, post code, zip",
            "zip code, postal, age, latitude, longitude, lat, lng, lon, geo location, sex, gender, ip, income",
            "nationality, marital status",
        ),
    ),
    _Rule(classification=_PERSONAL, kinds=_TEXT | _TIMES, terms=_terms("birth, birth day, birth date, dob, death")),
    _Rule(
        classification=_PERSONAL,
        kinds=_TEXT,
        terms=_NAMES_OF_PEOPLE
        | _terms(
            "email, e mail, mail, bcc, address, street, city, photo, picture, avatar, selfie, biography, bio",
            "login, user agent, user meta data, user data, personal data, person data, profile data",
        ),
    ),
)
# Whole names that mean something by the table they are in: (class, tables, columns).
_BY_TABLE = (
    (_IDENTIFIER, _terms("payment, charge, transaction, credit card, debit card, payment card"), _terms("card, pan")),
    (
        _IDENTIFIER,
        _terms("card, bank account, passport, identity document, identity card, insurance, driver license"),
        _terms("number, no, pan"),
    ),
    (_PERSONAL, _terms("card, bank account, payment method"), _terms("holder, owner, owner name, holder name")),
    (_PERSONAL, _terms("identity, profile"), _terms("data, identity data, meta data, raw data")),
)
# Names that hold a term above and mean another thing.
_OTHERWISE = _terms(
    "credit note, debit note, delivery note, promissory note, bank note, foot note, release note, patch note",
    "health check, health status, mac address, mail server, contract address, wallet address, mail box",
    "memory address, max age, min age",
)


def is_credential(table: str, column: LiveColumn) -> bool:
    """Whether the names speak of a secret and the type can hold one; a count of tokens is none."""
    words, owner, value = words_of(column.name), words_of(table), value_type(column.type)
    pointer = words[-1:] == ("id",) and value.pg_type == "uuid"
    if pointer or _ends(words, _ABOUT) or _says(words, _PUBLIC):
        return False
    if value.kind is Kind.INTEGER:
        return _ends(words, _CODES)
    if value.kind not in _TEXT:
        return False
    return (
        _says(words, _SECRETS)
        or _ends(words, _CODES)
        or (_says(words, _HASH) and not _says(owner + words, _HASHES_OF_THINGS))
        or (len(words) <= _CARRIER_WORDS and _ends(words, _CARRIERS) and _says(owner, _CREDENTIAL_TABLES))
        or (owner, words) in _SESSION_STORES
    )


def classify(table: str, column: LiveColumn) -> Classification:
    """The class that the names suggest; rather too delicate than too open."""
    words, kind = words_of(column.name), value_type(column.type).kind
    if _says(words, _OTHERWISE):
        return Classification.INTERNAL
    for rule in _RULES:
        if kind in rule.kinds and _fits(words, rule):
            return rule.classification
    for classification, tables, columns in _BY_TABLE:
        if (
            kind in _TEXT | _NUMBERS
            and _says(words_of(table), tables)
            and (words in columns or ("".join(words),) in columns)
        ):
            return classification
    if words[-1:] == ("name",) and kind in _TEXT and _of_people(words[:-1], words_of(table)):
        return Classification.PERSONAL
    return Classification.INTERNAL


def _fits(words: Words, rule: _Rule) -> bool:
    if "id" in words or words == ("uuid",):  # `address_id` points at an address, `tax_id` is the id itself
        return _says(words, (term for term in rule.terms if "id" in term))
    if _ends(words, _ABOUT) and rule.classification is not _SENSITIVE:
        return _ends(words, rule.terms)
    return _says(words, rule.terms)


def _of_people(qualifiers: Words, table: Words) -> bool:
    """``customer_name`` and ``users.display_name`` are a person's, ``company_name`` and ``products.name`` are not."""
    telling = tuple(word for word in qualifiers if (word,) not in _SAYS_NOTHING)
    return _says(telling or table, _PEOPLE)


def _says(words: Words, terms: Iterable[Words]) -> bool:
    """Whether one of the terms is in the name, its words apart or written as one."""
    found = {words[i : i + n] for n in range(1, len(words) + 1) for i in range(len(words) - n + 1)}
    return any(term in found or ("".join(term),) in found for term in terms)


def _ends(words: Words, terms: Terms) -> bool:
    return any(words[-len(term) :] == term or words[-1:] == ("".join(term),) for term in terms)
