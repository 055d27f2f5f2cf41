"""What `catalog init` proposes for small foreign databases: paths to the tenant, relations, classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import Reflection, reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Catalog, Relation
from export_pipelines.core.errors import RequestRejected
from export_pipelines_tests.host import CASES, Host


@pytest.fixture(scope="module", params=["postgres", "debian_postgres"])
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """On both servers: a transaction each test rolls back."""
    server = request.getfixturevalue(request.param)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        yield connection


def proposed(connection: psycopg.Connection[Any], script: str, **options: Any) -> Reflection:
    """For a case by its name, or for SQL; its tables are gone again afterwards."""
    file = CASES / f"{script}.sql"
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE SCHEMA cases; SET LOCAL search_path = cases, public")
        text = file.read_text() if script.isidentifier() else script
        connection.execute(re.sub(r"^(begin|commit);|commit;\s*$", "", text, flags=re.MULTILINE).encode())
        return reflect(connection, name="any", schemas=["cases"], **options)


# Paths ------------------------------------------------------------------------------------------------------------


def test_a_unique_reverse_path_comes_before_an_optional_one(connection: psycopg.Connection[Any]) -> None:
    found = proposed(connection, "reverse_fk", tenant_table="organisation")
    tables = found.catalog.tables
    assert tables["settings"].tenant.through == "organisation"
    assert tables["settings"].relations["organisation"] == Relation(
        columns=("id",), references="organisation", referenced_columns=("settings_id",), virtual=True
    )
    assert tables["profile"].tenant.through == "member"
    assert any("cases.settings reaches the tenant as the row that cases.organisation (sett" in n for n in found.notes)


TENANT = "CREATE TABLE tenant (id int PRIMARY KEY);"


@pytest.mark.parametrize(
    ("sql", "through", "note"),
    [
        (  # a foreign key that must be there comes before all, however long
            """
            CREATE TABLE near (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
            CREATE TABLE middle (id int PRIMARY KEY, near_id int NOT NULL REFERENCES near);
            CREATE TABLE x (id int PRIMARY KEY, middle_id int NOT NULL REFERENCES middle);
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int NOT NULL UNIQUE REFERENCES x);
            """,
            "middle",
            None,
        ),
        (  # a reverse one that may be NULL is better than nothing, and said to be optional
            """
            CREATE TABLE x (id int PRIMARY KEY);
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int UNIQUE REFERENCES x);
            """,
            "y",
            "cases.x reaches the tenant only through a column that may be NULL (by way of cases.y (x_id))",
        ),
        (  # several rows may refer to one: of which tenant it is, is not clear
            """
            CREATE TABLE x (id int PRIMARY KEY);
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int NOT NULL REFERENCES x);
            """,
            None,
            None,
        ),
        (  # unique only for some rows, which does not count
            """
            CREATE TABLE x (id int PRIMARY KEY);
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int NOT NULL REFERENCES x);
            CREATE UNIQUE INDEX ON y (x_id) WHERE tenant_id > 5;
            """,
            None,
            None,
        ),
        (  # a composite one, unique by a part of it
            """
            CREATE TABLE x (a int, b int, PRIMARY KEY (a, b));
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, xa int NOT NULL UNIQUE, xb int NOT NULL,
                            FOREIGN KEY (xa, xb) REFERENCES x);
            """,
            "y",
            "cases.x reaches the tenant as the row that cases.y (xa, xb) refers to",
        ),
        (  # every row has the one, not every row the other
            """
            CREATE TABLE near (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
            CREATE TABLE x (id int PRIMARY KEY, tenant_id int REFERENCES tenant, near_id int NOT NULL REFERENCES near);
            """,
            "near",
            None,
        ),
        (  # a longer path is better than one that ends at a column that may be NULL
            """
            CREATE TABLE near (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
            CREATE TABLE middle (id int PRIMARY KEY, near_id int NOT NULL REFERENCES near);
            CREATE TABLE gap (id int PRIMARY KEY, tenant_id int REFERENCES tenant);
            CREATE TABLE x (id int PRIMARY KEY, gap_id int NOT NULL REFERENCES gap,
                            middle_id int NOT NULL REFERENCES middle);
            """,
            "middle",
            None,
        ),
        (  # over two reverse steps
            """
            CREATE TABLE x (id int PRIMARY KEY);
            CREATE TABLE w (id int PRIMARY KEY, x_id int NOT NULL UNIQUE REFERENCES x);
            CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, w_id int NOT NULL UNIQUE REFERENCES w);
            """,
            "w",
            "cases.x reaches the tenant as the row that cases.w (x_id) refers to",
        ),
    ],
)
def test_the_best_path_is_chosen_and_its_gaps_are_noted(
    connection: psycopg.Connection[Any], sql: str, through: str | None, note: str | None
) -> None:
    found = proposed(connection, TENANT + sql, tenant_table="tenant")
    assert (found.catalog.tables["x"].tenant.through if "x" in found.catalog.tables else None) == through
    about_x = [line for line in found.notes if line.startswith("cases.x ")]
    assert bool(about_x) is (note is not None)
    assert note is None or any(note in line for line in about_x)


def test_a_tenant_column_that_may_be_null_yields_to_a_path_that_may_not(connection: psycopg.Connection[Any]) -> None:
    sql = f"""{TENANT} CREATE TABLE near (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
              CREATE TABLE x (tenant_id int REFERENCES tenant, near_id int NOT NULL REFERENCES near);"""
    found = proposed(connection, sql, tenant_table="tenant")
    assert found.catalog.tables["x"].tenant.through == "near"
    assert "cases.x.tenant_id may be NULL; took the path through near_id, which may not" in found.notes
    named = proposed(connection, sql, tenant_table="tenant", tenant_column="tenant_id")
    assert named.catalog.tables["x"].tenant.column == "tenant_id"
    assert any("cases.x.tenant_id may be NULL; such rows belong to no tenant" in note for note in named.notes)


def test_settings_of_every_tenant_leave(case_host: Callable[..., Host]) -> None:
    host = case_host("reverse_fk")
    host.propose_catalog("reverse", "--tenant-table", "public.organisation")
    host.apply_policies()
    host.run("catalog", "check", "--admin-url", host.admin_url)
    for tenant in ("1", "2"):
        manifest = host.export(tenant, "--format", "csv", tables="settings,profile", to=f"of_{tenant}")
        assert [table["rows"] for table in manifest["tables"]] == [1, 1]


# Foreign keys of partitions ---------------------------------------------------------------------------------------


PARTITIONED = (
    TENANT
    + """
    CREATE TABLE customer (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
    CREATE TABLE payment (customer_id int NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE p1 PARTITION OF payment FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
    CREATE TABLE p2 PARTITION OF payment FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (at);
    CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
    ALTER TABLE p1 ADD FOREIGN KEY (customer_id) REFERENCES customer;
    """
)


@pytest.mark.parametrize(
    ("sql", "through"),
    [
        (PARTITIONED, None),
        (PARTITIONED + "ALTER TABLE p2a ADD FOREIGN KEY (customer_id) REFERENCES customer;", "customer"),
        (PARTITIONED + "ALTER TABLE p2 ADD FOREIGN KEY (customer_id) REFERENCES customer;", "customer"),
        (PARTITIONED + "ALTER TABLE payment ADD FOREIGN KEY (customer_id) REFERENCES customer;", "customer"),
        (PARTITIONED + "ALTER TABLE p2a ADD FOREIGN KEY (customer_id) REFERENCES tenant;", None),
        ("partition_fk", "customer"),
    ],
    ids=["missing in one", "in all", "in a part above", "in the table", "another one", "case"],
)
def test_a_foreign_key_of_all_partitions_is_the_tables(
    connection: psycopg.Connection[Any], sql: str, through: str | None
) -> None:
    catalog = proposed(connection, sql, tenant_table="tenant").catalog
    if through is None:
        assert "payment" in catalog.excluded
    else:
        payment = catalog.tables["payment"]
        assert payment.tenant.through == through
        assert [(name, relation.virtual) for name, relation in payment.relations.items()] == [("customer", False)]


# Relations that only names suggest --------------------------------------------------------------------------------


def accepted(text: str) -> str:
    """The file after a person took every suggestion: without comment signs, and with ``export: true``."""
    lines = [line for line in text.splitlines() if not line.startswith("  # Commented out")]
    taken = re.sub(r"^( +)# ", r"\1", "\n".join(lines), flags=re.MULTILINE)
    return re.sub(r"export: false(?=\n    reason:.*rests on names)", "export: true", taken)


def read(text: str, folder: Path) -> Catalog:
    path = folder / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return load_catalog(path)


PROJECT = Relation(columns=("project_id",), references="projects", referenced_columns=("id",), virtual=True)


def without_rows(case: str) -> str:
    """A case's tables, empty."""
    return re.sub(r"insert into .*", "", (CASES / f"{case}.sql").read_text())


def test_a_relation_by_name_is_taken_if_all_its_values_are_found(connection: psycopg.Connection[Any]) -> None:
    found = proposed(connection, "rails_nofk", tenant_table="accounts")
    assert found.catalog.tables["builds"].tenant.through == "project"
    assert found.catalog.tables["builds"].relations["project"] == PROJECT
    assert any("cases.builds.project_id → cases.projects; check that they are right" in note for note in found.notes)
    text = dump_catalog(found.catalog, suggested=found.suggested, remarks=found.remarks)
    assert "virtual: true}  # by name; all 1 values are found" in text


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        ("", "no row has a value yet"),
        ("INSERT INTO builds VALUES (1, 1, ''), (2, 9, ''), (3, 8, '')", "2 of 3 values refer to nothing"),
    ],
)
def test_a_table_that_only_names_lead_from_is_withheld_and_one_word_takes_it_in(
    connection: psycopg.Connection[Any], tmp_path: Path, rows: str, counted: str
) -> None:
    sql = without_rows("rails_nofk") + "INSERT INTO accounts VALUES (1); INSERT INTO projects VALUES (1, 1);" + rows
    found = proposed(connection, sql, tenant_table="accounts")
    assert "builds" not in found.catalog.tables
    assert f"foreign keys ({counted})" in found.catalog.withheld["builds"].reason
    assert found.catalog.excluded["builds"] == found.catalog.withheld["builds"].reason
    text = dump_catalog(found.catalog, suggested=found.suggested, remarks=found.remarks)
    assert read(text, tmp_path) == found.catalog
    taken = read(accepted(text), tmp_path)
    assert taken.tables["builds"].tenant.through == "project"
    assert taken.tables["builds"].relations["project"] == PROJECT
    followed = proposed(connection, sql, tenant_table="accounts", follow_names=True).catalog
    assert taken.tables["builds"].model_copy(update={"reason": None}) == followed.tables["builds"]
    assert (taken.withheld, taken.excluded) == (followed.withheld, followed.excluded) == ({}, {})


def test_a_table_taken_in_before_what_it_refers_to_says_which_word_is_missing(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    sql = f"""{TENANT} CREATE TABLE projects (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
              CREATE TABLE builds (id int PRIMARY KEY, project_id int NOT NULL);
              CREATE TABLE steps (id int PRIMARY KEY, build_id int NOT NULL);"""
    found = proposed(connection, sql, tenant_table="tenant")
    text = dump_catalog(found.catalog)
    head, steps = text.split("\n  steps:\n")
    with pytest.raises(RequestRejected, match=r"'builds' has `export: false`; set it to true as well"):
        read(f"{head}\n  steps:\n{steps.replace('export: false', 'export: true')}", tmp_path)


def test_only_lists_that_hold_nothing_of_anybody_are_proposed_as_shared(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    found = proposed(
        connection,
        TENANT
        + """
        CREATE TABLE thing (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE currencies (code text PRIMARY KEY, made_by int);
        CREATE TABLE countries (id int PRIMARY KEY, name text, currency text REFERENCES currencies);
        CREATE TABLE people (id int PRIMARY KEY, email text);
        CREATE TABLE badges (id int PRIMARY KEY, person_id int NOT NULL REFERENCES people);
        CREATE TABLE uploads (id int PRIMARY KEY, path text, owner uuid);
        CREATE TABLE visits (id int PRIMARY KEY, visitor_id uuid);
        CREATE TABLE files (id int PRIMARY KEY, name text);
        CREATE TABLE attachments (id int PRIMARY KEY, record_type text, record_id int, file_id int REFERENCES files);
        """,
        tenant_table="tenant",
    )
    assert {name for name, table in found.catalog.withheld.items() if (table.model_extra or {}).get("tenant")} == {
        "currencies",
        "countries",
    }
    text = dump_catalog(found.catalog)
    head, countries = text.split("  countries:\n    export: false")
    head, currencies = (f"{head}  countries:\n    export: true{countries}").split("  currencies:\n    export: false")
    taken = read(f"{head}  currencies:\n    export: true{currencies}", tmp_path)
    assert {name for name, table in taken.tables.items() if table.tenant.shared} == {"currencies", "countries"}
    assert "(record_type, record_id), which no relation can follow" in found.catalog.withheld["attachments"].reason


def test_a_relation_beside_others_is_suggested_in_its_place(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    found = proposed(
        connection,
        TENANT
        + """
        CREATE TABLE projects (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE notes (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, project_id int);
        CREATE TABLE "Pages" (id int PRIMARY KEY, tenant_id int NOT NULL, "noteId" int);
        CREATE TABLE lines (page_id int NOT NULL REFERENCES "Pages", id int PRIMARY KEY);
        """,
        tenant_table="tenant",
    )
    text = dump_catalog(found.catalog, suggested=found.suggested)
    assert read(text, tmp_path) == found.catalog
    taken = read(accepted(text), tmp_path)
    assert set(taken.tables["notes"].relations) == {"tenant", "project"}
    assert taken.tables["pages"].relations["note"].references == "notes"
    assert taken.excluded == found.catalog.excluded == {}


def test_accepting_a_suggestion_renames_nothing(connection: psycopg.Connection[Any], tmp_path: Path) -> None:
    found = proposed(
        connection,
        TENANT
        + """
        CREATE TABLE pages (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE item (id int PRIMARY KEY, page_id int NOT NULL);
        CREATE TABLE "Item" (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, page_id int REFERENCES item,
                             "pageId" int NOT NULL REFERENCES pages);
        """,
        tenant_table="tenant",
    )
    assert found.catalog.tables["item_2"].source == "cases.Item"
    text = dump_catalog(found.catalog, suggested=found.suggested)
    assert read(text, tmp_path) == found.catalog
    taken = read(accepted(text), tmp_path)
    assert set(taken.tables) == {"item", "item_2", "pages", "tenant"}
    targets = {name: relation.references for name, relation in taken.tables["item_2"].relations.items()}
    assert targets == {"page": "pages", "page_2": "item", "tenant": "tenant"}


@pytest.mark.parametrize(
    ("column", "target", "follows"),
    [
        ("project_id bigint", "projects (id bigint PRIMARY KEY", True),
        ("project_id int", "projects (id bigint PRIMARY KEY", True),
        ('"projectId" text', '"Project" (id text PRIMARY KEY', True),
        ('"ProjectId" varchar(30)', '"Projects" ("Id" text PRIMARY KEY', True),
        ("projectid int", "projects (id int PRIMARY KEY", True),
        ("parent_project_id int", "projects (id int PRIMARY KEY", True),
        ("external_project_id int", "projects (id int PRIMARY KEY", False),
        ("made_in int, project_id int", "projects (id int, made_in int, PRIMARY KEY (made_in, id)", True),
        ("project_id int", "projects (id int, made_in int, PRIMARY KEY (made_in, id)", False),
        ("project_id bigint", "project (id bigint PRIMARY KEY", True),
        ("project_uuid uuid", "projects (id int PRIMARY KEY, uuid uuid NOT NULL UNIQUE", True),
        ("project_id int", "projects (project_id int PRIMARY KEY", True),
        ("category_id int", "categories (id int PRIMARY KEY", True),
        ("project_id text", "projects (id bigint PRIMARY KEY", False),  # types differ
        ("project_id int", "projects (id int NOT NULL", False),  # not unique
        ("project_id int", "projects (id int UNIQUE", False),  # may be NULL
        ("project_id int, project_type text", "projects (id int PRIMARY KEY", False),  # polymorphic
        ("project int", "projects (id int PRIMARY KEY", False),
        ("owner_id int", "projects (id int PRIMARY KEY", False),
    ],
)
def test_names_suggest_a_relation_only_where_types_and_keys_agree(
    connection: psycopg.Connection[Any], column: str, target: str, follows: bool
) -> None:
    sql = (
        f"{TENANT} CREATE TABLE {target}, tenant_id int NOT NULL REFERENCES tenant); CREATE TABLE x (no int, {column});"
    )
    found = proposed(connection, sql, tenant_table="tenant")
    assert ("rests on names" in found.catalog.withheld["x"].reason) is follows
    assert ("through" in (found.catalog.withheld["x"].model_extra or {}).get("tenant", ())) is follows


def test_a_django_table_is_found_by_its_app_and_two_of_a_name_are_not(connection: psycopg.Connection[Any]) -> None:
    found = proposed(
        connection,
        TENANT
        + """
        CREATE TABLE shop_product (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE shop_review (id int PRIMARY KEY, product_id int NOT NULL);
        CREATE TABLE page (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE pages (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE line (id int PRIMARY KEY, page_id int NOT NULL);
        """,
        tenant_table="tenant",
    )
    assert found.catalog.withheld["shop_review"].model_extra["tenant"] == {"through": "product"}  # type: ignore[index]
    assert "tenant" not in (found.catalog.withheld["line"].model_extra or {})


# The tenant -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["CustomerId", "customerid", "customer_id", "customerID", "Customer_Id"])
@pytest.mark.parametrize("key", ["", " REFERENCES customers"])
def test_a_tenant_column_is_recognised_in_every_spelling(
    connection: psycopg.Connection[Any], column: str, key: str
) -> None:
    found = proposed(
        connection,
        f"""
        CREATE TABLE customers (id bigint PRIMARY KEY);
        CREATE TABLE a (id int PRIMARY KEY, "{column}" bigint NOT NULL{key});
        CREATE TABLE b (id int PRIMARY KEY, customer_id int NOT NULL{key});
        """,
    )
    assert found.catalog.tenant.table == "cases.customers"
    assert {name: table.tenant.column for name, table in found.catalog.tables.items()} == {
        "a": column,
        "b": "customer_id",
        "customers": "id",
    }


def test_a_british_spelling_is_a_tenant_too(connection: psycopg.Connection[Any]) -> None:
    sql = """CREATE TABLE "Organisation" (id uuid PRIMARY KEY); CREATE TABLE a ("organisationId" uuid NOT NULL);"""
    assert proposed(connection, sql).catalog.tables["a"].tenant.column == "organisationId"


def test_without_a_usual_name_the_most_referenced_tables_are_named(connection: psycopg.Connection[Any]) -> None:
    sql = """CREATE TABLE planets (id int PRIMARY KEY); CREATE TABLE moons (id int PRIMARY KEY, planet_id int NOT NULL);
             CREATE TABLE craters (id int PRIMARY KEY, moon_id int REFERENCES moons, planet_id int);"""
    named = r"referred to are cases\.planets \(2 times\), cases\.moons \(1 times\)"
    with pytest.raises(RequestRejected, match=named):
        proposed(connection, sql)


def test_of_two_tables_by_a_usual_name_the_more_referenced_is_taken(connection: psycopg.Connection[Any]) -> None:
    sql = """CREATE TABLE accounts (id int PRIMARY KEY); CREATE TABLE organizations (id int PRIMARY KEY);
             CREATE TABLE a (organization_id int NOT NULL); CREATE TABLE b (organization_id int, account_id int);
          """
    assert proposed(connection, sql).catalog.tenant.table == "cases.organizations"


def test_rows_without_a_tenant_are_a_decision_in_the_file(connection: psycopg.Connection[Any], tmp_path: Path) -> None:
    found = proposed(connection, "shared_null", tenant_table="organizations")
    text = dump_catalog(found.catalog, suggested=found.suggested, remarks=found.remarks)
    assert "tenant: {column: organization_id, null_is_shared: false}  # rows with NULL in organization_id" in text
    assert read(text, tmp_path) == found.catalog
    assert read(text.replace("null_is_shared: false", "null_is_shared: true"), tmp_path).null_is_shared("roles")


@pytest.mark.parametrize(
    ("expression", "setting"),
    [
        ("tenant_id = current_setting('app.tenant_id')::int", "app.tenant_id"),
        ("tenant_id = nullif(current_setting('app.current_tenant', true), '')::int", "app.current_tenant"),
        ("tenant_id::text = (SELECT current_setting('rls.who', true))", "rls.who"),
        ("owner = current_setting('app.user_id', true)", "export.tenant_id"),
        ("current_setting('request.jwt.claims', true)::jsonb ->> 'sub' = owner", "export.tenant_id"),
        ("true", "export.tenant_id"),
    ],
)
def test_the_setting_of_the_applications_own_policies_is_the_catalogs(
    connection: psycopg.Connection[Any], expression: str, setting: str
) -> None:
    sql = f"""{TENANT} CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant, owner text);
              CREATE POLICY app ON x USING ({expression}); ALTER TABLE x ENABLE ROW LEVEL SECURITY;"""
    found = proposed(connection, sql, tenant_table="tenant")
    assert found.catalog.tenant.setting == setting
    assert any("`tenant.setting`" in note for note in found.notes) is (setting != "export.tenant_id")


@pytest.mark.parametrize("mode", ["PERMISSIVE", "RESTRICTIVE"])
def test_a_setting_that_policies_need_and_the_catalog_lacks_is_named(
    connection: psycopg.Connection[Any], mode: str
) -> None:
    missing = ", true" if mode == "RESTRICTIVE" else ""
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"""CREATE SCHEMA cases; SET LOCAL search_path = cases; {TENANT}
                CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant);
                INSERT INTO tenant VALUES (1); INSERT INTO x VALUES (1);
                CREATE POLICY app ON x AS {mode}
                    USING (tenant_id = current_setting('app.firm_{mode.lower()}'{missing})::int);
                ALTER TABLE x ENABLE ROW LEVEL SECURITY;""".encode()
        )
        catalog = reflect(connection, name="any", schemas=["cases"], tenant_table="tenant").catalog
        tenant = catalog.tenant.model_copy(update={"setting": "export.tenant_id"})
        catalog = catalog.model_copy(update={"tenant": tenant, "reader_role": "reader_of_settings"})
        apply_rls(connection, catalog)
        found = [str(finding) for finding in check(connection, catalog)]
        assert any(f"set `tenant.setting: app.firm_{mode.lower()}` if it holds the tenant" in line for line in found)


# Keys and deleted rows --------------------------------------------------------------------------------------------


def test_of_two_unique_keys_the_one_that_foreign_keys_refer_to_is_the_primary_key(
    connection: psycopg.Connection[Any],
) -> None:
    sql = f"""{TENANT} CREATE TABLE x (code int NOT NULL UNIQUE, number int NOT NULL UNIQUE,
                                       tenant_id int NOT NULL REFERENCES tenant);
              CREATE TABLE y (x_number int NOT NULL REFERENCES x (number));"""
    tables = proposed(connection, sql, tenant_table="tenant").catalog.tables
    assert tables["x"].primary_key == ("number",)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("deleted_at timestamptz NOT NULL DEFAULT 'infinity'", "infinity"),
        ("deleted_at timestamptz DEFAULT 'infinity'", "infinity"),
        ("deleted_at timestamptz NOT NULL DEFAULT '9999-12-31 00:00:00+00'", "9999-12-31T00:00:00Z"),
        ("deleted_at timestamp NOT NULL DEFAULT '9999-12-31'", "9999-12-31T00:00:00"),
        ("deleted_on date NOT NULL DEFAULT '9999-12-31'", "9999-12-31"),
        ("deleted_at bigint NOT NULL DEFAULT 0", 0),
        ("deleted smallint NOT NULL DEFAULT 0", 0),
        ("deleted char(1) NOT NULL DEFAULT 'N'", "N"),
        ('"isDeleted" boolean NOT NULL DEFAULT false', False),
        ("discarded_at timestamp", None),
        ("deleted_at timestamptz NOT NULL DEFAULT now()", "none"),
        ("deleted_at timestamptz NOT NULL", "none"),
        ("removed int NOT NULL DEFAULT 0", "none"),
    ],
)
def test_the_value_of_rows_that_are_not_deleted_is_the_columns_constant_default(
    connection: psycopg.Connection[Any], column: str, expected: object
) -> None:
    sql = f"{TENANT} CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant, {column});"
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL timezone = 'UTC'")
        table = proposed(connection, sql, tenant_table="tenant").catalog.tables["x"]
    assert (table.alive_when if table.deleted_column else "none") == expected


# Classes ----------------------------------------------------------------------------------------------------------


def test_credentials_by_table_and_column_name_are_excluded(connection: psycopg.Connection[Any]) -> None:
    tables = proposed(connection, "api_keys", tenant_table="organizations").catalog.tables
    excluded = {
        f"{name}.{key}" for name, table in tables.items() for key, column in table.columns.items() if column.exclude
    }
    assert excluded == {
        "api_keys.value",
        "organizations.hmac_key",
        *(
            f"gateways.{name}"
            for name in ("access_code", "pin_code", "cvv", "session_id", "ssh_key", "webhook_signing")
        ),
    }
    classes = {key: column.classification for key, column in tables["gateways"].columns.items()}
    assert {classes[key].value for key in ("username", "emails", "bcc_emails", "sex")} == {"personal"}
    assert {classes[key].value for key in ("company_name", "email_settings", "id")} == {"internal"}
