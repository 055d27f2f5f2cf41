"""``catalog init|update|check|rls|show``: what can be exported."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.table import Table as Grid

from export_pipelines.catalog.check import check
from export_pipelines.catalog.findings import Finding
from export_pipelines.catalog.load import dump_catalog
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls, login_sql, rls_sql
from export_pipelines.catalog.rls_removal import kept_roles, removal_sql, remove_rls
from export_pipelines.catalog.update import replace_file, update_catalog
from export_pipelines.commands import output
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.embedded.workplace import prepared
from export_pipelines.pipeline.assembly import catalog_path, open_catalog
from export_pipelines.pipeline.extract.catalog_trial import try_exports
from export_pipelines.settings import Settings, load_settings
from export_pipelines.sources.engines import choose_engine
from export_pipelines.sources.session import administering
from export_pipelines.sources.stream import translated

app = typer.Typer(no_args_is_help=True, help="What can be exported: make, check and protect the catalog.")

AdminUrl = Annotated[
    str | None,
    typer.Option(
        "--admin-url", envvar="EXPORT_ADMIN_URL", help="PostgreSQL URL of an administrator; default: the source's."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CatalogFile = Annotated[Path | None, typer.Option("--catalog", help="Catalog file; default: EXPORT_CATALOG.")]


@app.command()
def init(
    name: Annotated[str, typer.Option(help="Name of the catalog.")] = "app",
    schema: Annotated[
        list[str] | None, typer.Option(help="Schema to reflect; repeat for several. Default: all.")
    ] = None,
    tenant_table: Annotated[str | None, typer.Option(help="schema.name of the table with one row a tenant.")] = None,
    tenant_key: Annotated[str | None, typer.Option(help="Its key column.")] = None,
    tenant_column: Annotated[str | None, typer.Option(help="Column of other tables that holds the tenant.")] = None,
    follow_names: Annotated[
        bool,
        typer.Option(
            "--follow-names",
            help="Also take relations that only names of columns suggest (project_id), as virtual ones; "
            "default: leave them as comments.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: print.")] = None,
    admin_url: AdminUrl = None,
) -> None:
    """Write a catalog from the live database; proposals are yours to change."""
    with output.reported():
        if out is not None and out.exists():
            raise RequestRejected(f"{out} exists; choose another file or remove it", field="--out")
        with administering(_admin_url(load_settings(), admin_url)) as connection:
            reflection = reflect(
                connection,
                name=name,
                schemas=schema,
                tenant_table=tenant_table,
                tenant_key=tenant_key,
                tenant_column=tenant_column,
                follow_names=follow_names,
            )
        text = dump_catalog(reflection.catalog, suggested=reflection.suggested, remarks=reflection.remarks)
        if out is None:
            typer.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
            tables, excluded = len(reflection.catalog.tables), len(reflection.catalog.excluded)
            output.say(
                f"{out}: {tables} tables, {excluded} excluded with a reason. Read it, then `catalog rls --apply`."
            )
        for note in reflection.notes:
            output.err.print(output.plain(f"note: {note}"))


@app.command()
def update(
    catalog: CatalogFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the changes; leave the file as it is.")] = False,
    tenant_column: Annotated[str | None, typer.Option(help="As for `init`.")] = None,
    follow_names: Annotated[bool, typer.Option("--follow-names", help="As for `init`.")] = False,
    admin_url: AdminUrl = None,
) -> None:
    """Add what is new in the database to the catalog; whatever the file says stays as it is written."""
    with output.reported():
        settings = _settings(catalog)
        path = catalog_path(settings)
        with administering(_admin_url(settings, admin_url)) as connection:
            made = update_catalog(connection, path, tenant_column=tenant_column, follow_names=follow_names)
        before = path.read_bytes().decode("utf-8")
        if dry_run:
            lines = (before.splitlines(keepends=True), made.text.splitlines(keepends=True))
            typer.echo("".join(difflib.unified_diff(*lines, str(path), str(path))), nl=False)
        elif made.text != before:
            replace_file(path, made.text)
        for line in made.added:
            output.err.print(output.plain(f"{'would add' if dry_run else 'added'}: {line}"))
        for told in (*map(str, made.findings), *(f"note: {note}" for note in made.notes)):
            output.err.print(output.plain(told))
        if not made.added:
            output.err.print("nothing is new")


@app.command("check")
def check_command(
    catalog: CatalogFile = None,
    admin_url: AdminUrl = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count all rows of large tables too, however long it takes.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Count no rows: leave out the rows that belong to no tenant or to two.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the catalog with the live database and try its exports.

    Exits with 3 for errors, 2 for a bad catalog, 4 when the database does not answer; warnings leave it at 0.
    """
    with output.reported(as_json=as_json):
        if exact and fast:
            raise RequestRejected("--exact counts all rows and --fast none; choose one of them", field="--exact")
        settings = _settings(catalog)
        known = open_catalog(settings)
        with _admin(settings, admin_url) as url:
            with administering(url, known) as connection, translated(url):
                findings = check(connection, known, role=known.reader_role, count_rows=not fast, exact=exact)
            findings = sorted([*findings, *_tried(settings, known, findings, url)], key=lambda finding: finding.level)
        errors = [finding for finding in findings if finding.level == "error"]
        if as_json:
            output.say_json({"catalog": known.name, "findings": [vars(finding) for finding in findings]})
        else:
            for finding in findings:
                output.say(str(finding))
            for name, table in known.tables.items():
                if table.tenant.null_is_shared:
                    output.say(f"note: {name}: rows with NULL in {table.tenant.column} are exported with every tenant")
            output.say(f"{known.name}: {len(errors)} errors, {len(findings) - len(errors)} warnings")
        if errors:
            raise typer.Exit(output.INTEGRITY)


def _tried(settings: Settings, catalog: Catalog, findings: list[Finding], admin_url: str) -> list[Finding]:
    """What exports of the tables without other errors would fail with; as the service's own login, if it is set."""
    errors = [finding for finding in findings if finding.level == "error"]
    if any(finding.table is None for finding in errors):
        return []
    names = [name for name in catalog.tables if name not in {finding.table for finding in errors}]
    url = settings.require_source_url() if settings.source_url is not None else admin_url
    return try_exports(url, catalog, names, choose_engine(settings.decoder))


@app.command()
def rls(
    catalog: CatalogFile = None,
    admin_url: AdminUrl = None,
    apply: Annotated[bool, typer.Option("--apply", help="Run it, in one transaction.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Undo what --apply did: policies, rights, roles. With --apply, run that.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also FORCE, which forbids COPY FROM and pg_dump to a table's owner.")
    ] = False,
    login: Annotated[str | None, typer.Option(help="Also print the SQL for a login role of that name.")] = None,
) -> None:
    """Print the SQL that makes the reader role and its policies, or removes them; with --apply, run it."""
    with output.reported():
        if remove and (force or login):
            raise RequestRejected("--remove takes neither --force nor --login", field="--remove")
        settings = _settings(catalog)
        known = open_catalog(settings)
        with _admin(settings, admin_url) as url, administering(url) as connection:
            if remove:
                _remove(connection, known, apply=apply)
                return
            if not apply:
                statements = [*rls_sql(connection, known, force=force), *(login_sql(known, login) if login else [])]
                typer.echo("\n".join(f"{statement};" for statement in statements))
                return
            apply_rls(connection, known, force=force)
        output.say(f"{known.name}: policies are in place. The login of EXPORT_SOURCE_URL needs the two roles:")
        made = f"{login_sql(known, login)[0]} PASSWORD '…';" if login else ""
        typer.echo(made or f"GRANT {known.reader_role}, {known.directory_role} TO your_login;")


def _remove(connection: psycopg.Connection[Any], catalog: Catalog, *, apply: bool) -> None:
    kept = kept_roles(connection, catalog)
    if apply:
        statements = remove_rls(connection, catalog)
        output.say(f"{catalog.name}: {len(statements)} statements run; the database is as it was before --apply")
    else:
        typer.echo("\n".join(f"{statement};" for statement in removal_sql(connection, catalog)))
    for role, reason in kept.items():
        output.err.print(output.plain(f"note: role {role} stays: {reason}"))


@app.command()
def show(
    table: Annotated[str | None, typer.Argument(help="Only this table, with its columns.")] = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """List tables, or the columns of one."""
    with output.reported(as_json=as_json):
        known = open_catalog(_settings(catalog))
        if as_json:
            shown = known.table(table) if table else known
            output.say_json(shown.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        else:
            output.out.print(_columns(known, table) if table else _tables(known))


def _tables(catalog: Catalog) -> Grid:
    title = output.plain(catalog.title or catalog.name)
    grid = Grid("table", "columns", "tenant", "time", "partition", "description", title=title)
    for name, table in catalog.tables.items():
        path = table.tenant.column or (f"through {table.tenant.through}" if table.tenant.through else "shared")
        grid.add_row(
            name,
            str(len(table.exported_columns)),
            output.plain(path),
            output.plain(table.time_column or ""),
            table.partition.grain,
            output.plain(table.description or ""),
        )
    for name, reason in catalog.excluded.items():
        grid.add_row(output.plain(name), "", "", "", "", output.plain(f"excluded: {reason}"), style="dim")
    return grid


def _columns(catalog: Catalog, name: str) -> Grid:
    grid = Grid("column", "type", "null", "class", "description", title=name)
    for column, spec in catalog.table(name).columns.items():
        fate = (
            f"excluded: {spec.exclude}" if spec.exclude else f"masked: {spec.mask}" if spec.mask else spec.description
        )
        null = "yes" if spec.nullable else "no"
        words = (output.plain(column), output.plain(spec.type), null, spec.classification, output.plain(fate or ""))
        grid.add_row(*words, style="dim" if spec.exclude else None)
    return grid


def _settings(catalog: Path | None) -> Settings:
    settings = load_settings()
    return settings.model_copy(update={"catalog": catalog}) if catalog else settings


def _admin_url(settings: Settings, given: str | None) -> str:
    return given or settings.require_source_url()


@contextmanager
def _admin(settings: Settings, given: str | None) -> Iterator[str]:
    """The administrator's URL; without any URL, the embedded server's."""
    if given is not None or settings.source_url is not None:
        yield _admin_url(settings, given)
        return
    with prepared(settings) as workplace:
        yield workplace.admin_url or settings.require_source_url()
