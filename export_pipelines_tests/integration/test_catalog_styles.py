"""What share of a stranger's tables `catalog init` finds in the styles of four frameworks, exact and untouched by hand.

The databases (`cases/style_*.sql`) are as the frameworks make them. What belongs to whom is said here once more by
hand; `docs/catalog.md` states the shares.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.catalog.rls_removal import remove_rls
from export_pipelines.core.catalog import Catalog
from export_pipelines_tests.host import CASES, create_database

PAGE = Path(__file__).parents[2] / "docs" / "catalog.md"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Style:
    """A framework's database, and for each table of a tenant the SQL of a row's tenant."""

    server: str
    tenants: tuple[str, str, str]
    owners: Mapping[str, str]  # by name in PostgreSQL; the row is ``t``; NULL: everybody's, or nobody's
    missed: Mapping[str, str] = field(
        default_factory=dict
    )  # table → what its reason says; no relation leads from there to the tenant


_OF_TASK = "(SELECT p.account_id FROM tasks k JOIN projects p ON p.id = k.project_id WHERE k.id = t.task_id)"
_OF_USER = "(SELECT u.account_id FROM users u WHERE u.id = t.user_id)"
_OF_INVOICE = "(SELECT c.account_id FROM invoices i JOIN customers c ON c.id = i.customer_id WHERE i.id = t.invoice_id)"
_PROJECT_OF_TASK = '(SELECT p."organizationId" FROM "Task" k JOIN "Project" p ON p."id" = k."projectId" WHERE k."id" = '
_OF_DOCUMENT = (
    "(SELECT p.organization_id FROM documents d JOIN projects p ON p.id = d.project_id WHERE d.id = t.document_id)"
)

STYLES = {
    "rails": Style(
        server="postgres",
        tenants=("1", "2", "3"),
        owners={
            "accounts": "id",
            "users": "account_id",
            "api_tokens": _OF_USER,
            "customers": "account_id",
            "projects": "account_id",
            "tasks": "(SELECT p.account_id FROM projects p WHERE p.id = t.project_id)",
            "time_entries": _OF_TASK,
            "labels": "account_id",
            "labels_tasks": _OF_TASK,
            "comments": """CASE commentable_type
                WHEN 'Project' THEN (SELECT p.account_id FROM projects p WHERE p.id = t.commentable_id)
                ELSE (SELECT p.account_id FROM tasks k JOIN projects p ON p.id = k.project_id
                      WHERE k.id = t.commentable_id) END""",
            "invoices": "(SELECT c.account_id FROM customers c WHERE c.id = t.customer_id)",
            "invoice_lines": _OF_INVOICE,
            "payments": _OF_INVOICE,
            "refunds": """(SELECT c.account_id FROM payments p JOIN invoices i ON i.id = p.invoice_id
                           JOIN customers c ON c.id = i.customer_id WHERE p.id = t.payment_id)""",
            "active_storage_attachments": "(SELECT p.account_id FROM projects p WHERE p.id = t.record_id)",
            "active_storage_blobs": """(SELECT p.account_id FROM active_storage_attachments a
                                        JOIN projects p ON p.id = a.record_id WHERE a.blob_id = t.id)""",
        },
        missed={
            "active_storage_attachments": "several tables (record_type, record_id)",
            "active_storage_blobs": "no path to the tenant",
        },
    ),
    "prisma": Style(
        server="postgres",
        tenants=("clorga", "clorgb", "clorgc"),
        owners={
            "Organization": '"id"',
            **dict.fromkeys(("Membership", "ApiKey", "Project", "Label", "Invoice", "AuditLog"), '"organizationId"'),
            "Task": '(SELECT p."organizationId" FROM "Project" p WHERE p."id" = t."projectId")',
            "_LabelToTask": f'{_PROJECT_OF_TASK} t."B")',
            "Comment": f'{_PROJECT_OF_TASK} t."taskId")',
            "Reaction": f'(SELECT {_PROJECT_OF_TASK} c."taskId") FROM "Comment" c WHERE c."id" = t."commentId")',
            "InvoiceLine": '(SELECT i."organizationId" FROM "Invoice" i WHERE i."id" = t."invoiceId")',
        },
    ),
    "supabase": Style(
        server="debian_postgres",
        tenants=tuple(f"10000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)),  # type: ignore[arg-type]
        owners={
            "organizations": "id",
            **dict.fromkeys(
                ("organization_members", "invites", "subscriptions", "projects", "tags", "webhooks"),
                "organization_id",
            ),
            "documents": "(SELECT p.organization_id FROM projects p WHERE p.id = t.project_id)",
            "document_versions": _OF_DOCUMENT,
            "comments": _OF_DOCUMENT,
            "document_tags": _OF_DOCUMENT,
            "comment_reactions": """(SELECT p.organization_id FROM comments c JOIN documents d ON d.id = c.document_id
                                     JOIN projects p ON p.id = d.project_id WHERE c.id = t.comment_id)""",
        },
    ),
    "odoo": Style(
        server="postgres",
        tenants=("1", "2", "3"),
        owners={
            "res_company": "id",
            **dict.fromkeys(
                ("res_partner", "res_users", "product_template", "sale_order", "account_move", "account_move_line"),
                "company_id",
            ),
            "ir_attachment": "company_id",
            "res_company_users_rel": "cid",
            "res_groups_users_rel": "(SELECT u.company_id FROM res_users u WHERE u.id = t.uid)",
            "product_product": "(SELECT p.company_id FROM product_template p WHERE p.id = t.product_tmpl_id)",
            "sale_order_line": "(SELECT o.company_id FROM sale_order o WHERE o.id = t.order_id)",
            "sale_order_tag_rel": "(SELECT o.company_id FROM sale_order o WHERE o.id = t.order_id)",
            "mail_message": "(SELECT o.company_id FROM sale_order o WHERE o.id = t.res_id)",
        },
        missed={"mail_message": "several tables (model, res_id)"},
    ),
}


def is_exact(connection: psycopg.Connection[tuple[object, ...]], catalog: Catalog, name: str, style: Style) -> bool:
    """Whether the reader sees, as each tenant, the tenant's rows of the table and no other."""
    table = sql.Identifier(*catalog.relation_name(name))
    owner = sql.SQL(style.owners[catalog.relation_name(name)[1]])  # type: ignore[arg-type]
    columns = sql.SQL(", ").join(sql.Identifier("t", column) for column in catalog.tables[name].exported_columns)
    seen = sql.SQL("SELECT row({})::text FROM {} AS t ORDER BY 1").format(columns, table)
    truth = sql.SQL("SELECT row({})::text FROM {} AS t WHERE ({})::text = %s ORDER BY 1").format(columns, table, owner)
    for tenant in style.tenants:
        expected = connection.execute(truth, [tenant]).fetchall()
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(catalog.reader_role)))
            connection.execute("SELECT set_config(%s, %s, true)", [catalog.tenant.setting, tenant])
            if not expected or connection.execute(seen).fetchall() != expected:
                return False
    return True


@pytest.mark.parametrize("name", STYLES)
def test_the_share_of_tables_found_exactly(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    style = STYLES[name]
    url = create_database(request.getfixturevalue(style.server), f"style_{name}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((CASES / f"style_{name}.sql").read_bytes())
        found = reflect(connection, name=name)
        path = tmp_path / "catalog.yaml"
        path.write_text(dump_catalog(found.catalog, suggested=found.suggested, remarks=found.remarks), encoding="utf-8")
        reader = f"style_{os.getpid()}_{next(_numbers)}_reader"
        catalog = load_catalog(path).model_copy(update={"reader_role": reader})
        apply_rls(connection, catalog)
        assert [str(finding) for finding in check(connection, catalog) if finding.level == "error"] == []
        tables = {catalog.relation_name(key)[1]: key for key, table in catalog.tables.items()}
        exact = {
            place for place in style.owners if place in tables and is_exact(connection, catalog, tables[place], style)
        }
        remove_rls(connection, catalog)
    assert style.owners.keys() - exact == style.missed.keys()
    for place, reason in style.missed.items():
        assert reason in catalog.withheld[place].reason
    assert f"| {len(exact)} of {len(style.owners)} |" in next(
        line for line in PAGE.read_text().splitlines() if line.lower().startswith(f"| {name}")
    )


def test_together_they_are_most_of_the_tables() -> None:
    owned = sum(len(style.owners) for style in STYLES.values())
    missed = sum(len(style.missed) for style in STYLES.values())
    assert f"{owned - missed} of {owned} tables" in PAGE.read_text()
