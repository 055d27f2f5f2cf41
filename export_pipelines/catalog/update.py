"""Merges what is new in the database into a catalog that people have edited: tables, columns, their relations.

Whatever the file says is a decision and stays, to the letter; a table under ``excluded`` stays out, a relation that
somebody removed does not come back. What the file says of things that have changed or gone is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from export_pipelines.catalog.check import check_drift
from export_pipelines.catalog.findings import Finding, warning
from export_pipelines.catalog.inventory import read_inventory
from export_pipelines.catalog.load import in_lines, load_catalog, parse_catalog, table_entry, yaml_text
from export_pipelines.catalog.naming import slug
from export_pipelines.catalog.reflect import Reflection, reflect
from export_pipelines.catalog.suggestions import with_remarks
from export_pipelines.catalog.yaml_insertion import Entries, NoPlace, insert_entries
from export_pipelines.core.catalog import Catalog, Column, Table, Withheld
from export_pipelines.core.errors import RequestRejected

Place = tuple[str, str]  # (schema, name) in PostgreSQL


@dataclass(frozen=True, kw_only=True)
class Update:
    """A catalog file with what is new, and what a person should look at."""

    text: str
    added: tuple[str, ...]  # what was added, a line each
    findings: tuple[Finding, ...]  # what the file says of things that are gone or have changed
    notes: tuple[str, ...]  # of the proposal, about new tables


def update_catalog(
    connection: psycopg.Connection[Any], path: Path, *, tenant_column: str | None = None, follow_names: bool = False
) -> Update:
    """The file as it should be now; nothing is written. Raises `RequestRejected` naming what cannot be merged."""
    known = load_catalog(path)
    text = path.read_bytes().decode("utf-8")
    live = {(table.schema, table.name) for table in read_inventory(connection, schema=known.schema_)}
    left = {name.removesuffix(".*") for name in known.excluded if name.endswith(".*")}
    schemas = sorted({schema for schema, _ in live} - left, key=lambda schema: (schema != known.schema_, schema))
    reflection = reflect(
        connection,
        name=known.name,
        schemas=schemas,
        tenant_table=known.tenant.table,
        tenant_key=known.tenant.key,
        tenant_column=tenant_column,
        follow_names=follow_names,
    )
    merge = _Merge(known, reflection)
    entries = list(merge.entries())
    try:
        merged = insert_entries(text, entries)
    except NoPlace as error:
        raise RequestRejected(
            f"{path}: {error} is a YAML alias or has one, or is not a mapping; write it out, then try again"
        ) from error
    after = parse_catalog(merged, path) if entries else known
    _refuse_changes(path, known, after)
    gone = (
        warning("is no longer in the database", "remove it from the catalog", table=name)
        for place, name in places_of(known).items()
        if place not in live
    )
    drift = (finding for finding in check_drift(connection, after) if "is new in" not in finding.message)
    return Update(
        text=merged,
        added=tuple(merge.added),
        findings=(*gone, *drift),
        notes=tuple(note for note in reflection.notes if any(table in note for table in merge.new_labels)),
    )


def replace_file(path: Path, text: str) -> None:
    """Write the file whole or not at all, with the rights it had."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(text.encode("utf-8"))
    beside.chmod(path.stat().st_mode & 0o7777)
    beside.replace(path)


def places_of(catalog: Catalog) -> dict[Place, str]:
    """Tables of a catalog, withheld ones too, by their place in PostgreSQL."""
    found = {catalog.relation_name(name): name for name in catalog.tables}
    for name, table in catalog.withheld.items():
        schema, _, relation = (table.source or name).rpartition(".")
        found[schema or catalog.schema_, relation] = name
    return found


class _Merge:
    """What of a proposal the file does not have, under the names of the file."""

    def __init__(self, known: Catalog, reflection: Reflection) -> None:
        self._known, self._found = known, reflection.catalog
        self._remarks = reflection.remarks
        self.added: list[str] = []
        proposed = places_of(self._found)
        places = places_of(known)
        taken = {*known.tables, *known.withheld}
        self._names: dict[str, str] = {}  # the proposal's name of a table → the file's
        self._new: list[str] = []  # the proposal's names
        for place, name in proposed.items():
            if place in places:
                self._names[name] = places[place]
            elif not self._is_excluded(place):
                self._names[name] = slug(name, taken=taken)
                taken.add(self._names[name])
                self._new.append(name)
        self.new_labels = [".".join(place) for place, name in proposed.items() if name in self._new]

    def entries(self) -> Iterator[Entries]:
        exported = self._exported()
        for name in sorted(self._new):
            yield self._table(name, exported)
        for name, file_name in self._names.items():
            if name not in self._new:
                yield from self._columns(name, file_name)
                yield from self._relations(name, file_name, exported)
        excluded = self._excluded()
        if excluded:
            yield _entries(("excluded",), excluded)

    def _excluded(self) -> dict[str, str]:
        described = {self._found.withheld_as(name) for name in self._found.withheld}
        further = {
            name: reason
            for name, reason in self._found.excluded.items()
            if name not in described and name not in self._known.excluded and not name.endswith(".*")
        }
        self.added.extend(f"excluded {name}: {reason}" for name, reason in further.items())
        return further

    def _is_excluded(self, place: Place) -> bool:
        schema, relation = place
        names = {f"{schema}.{relation}", f"{schema}.*", *([relation] if schema == self._known.schema_ else [])}
        return bool(names & self._known.excluded.keys())

    def _exported(self) -> set[str]:
        """The file's names of tables that are exported afterwards: a new one whose way leads through a table that is
        not exported cannot be."""
        exported = {*self._known.tables, *(self._names[name] for name in self._new if name in self._found.tables)}
        while True:
            cut = {
                self._names[name]
                for name in self._new
                if name in self._found.tables
                and (through := self._found.tables[name].tenant.through) is not None
                and self._names.get(self._found.tables[name].relations[through].references) not in exported
            } & exported
            if not cut:
                return exported
            exported -= cut

    def _table(self, name: str, exported: set[str]) -> Entries:
        file_name = self._names[name]
        table: Table | Withheld = self._found.tables.get(name) or self._found.withheld[name]
        entry = table.model_dump(exclude_defaults=True, mode="json")
        relations: dict[str, Any] = entry.pop("relations", {})
        kept = {
            key: {**line, "references": self._names[line["references"]]}
            for key, line in relations.items()
            if self._names.get(line["references"]) in exported | {file_name}
        }
        for line in kept.values():
            if self._nested(line["references"], line.get("nest_as")):
                line.pop("nest_as")
        entry |= {"relations": kept} if kept else {}
        if file_name != name and "source" not in entry:
            entry["source"] = ".".join(self._found.relation_name(name))
        if isinstance(table, Table) and file_name not in exported:
            reason = "its way to the tenant leads through a table with `export: false`; set both to true"
            entry = {"export": False, "reason": reason, **entry, "relations": relations}
        made = Withheld.model_validate(entry) if entry.get("export") is False else Table.model_validate(entry)
        withheld = isinstance(made, Withheld)
        self.added.append(f"table {file_name}{f', withheld: {made.reason}' if withheld else ''}")
        lines = [f"  {line}\n" for line in yaml_text({file_name: table_entry(made)}).splitlines()]
        remarks = {(file_name, here, there): text for (_, here, there), text in self._of(name).items()}
        commented = [line[2:].rstrip("\n") for line in with_remarks(lines, remarks)]
        return Entries(path=("tables",), lines=commented, content={file_name: table_entry(made)}, apart=True)

    def _of(self, name: str) -> dict[tuple[str, str, str], str]:
        return {
            (table, here, self._names.get(there, there)): text
            for (table, here, there), text in self._remarks.items()
            if table == name
        }

    def _nested(self, parent: str, field: str | None) -> bool:
        """Whether records of the parent have something of that name already."""
        if field is None or parent not in self._known.tables:
            return False
        others = {
            relation.nest_as
            for table in self._known.tables.values()
            for relation in table.relations.values()
            if relation.references == parent
        }
        return field in others or field in self._known.tables[parent].columns

    def _columns(self, name: str, file_name: str) -> Iterator[Entries]:
        columns = self._columns_of(self._found, name)
        known = self._columns_of(self._known, file_name)
        further = {key: column for key, column in columns.items() if key not in known}
        for key, column in further.items():
            self.added.append(f"column {file_name}.{key}{f', excluded: {column.exclude}' if column.exclude else ''}")
        if further:
            shown = {key: column.model_dump(exclude_defaults=True, mode="json") for key, column in further.items()}
            yield _entries(("tables", file_name, "columns"), in_lines(shown))

    def _columns_of(self, catalog: Catalog, name: str) -> Mapping[str, Column]:
        return (catalog.tables.get(name) or catalog.withheld[name]).columns

    def _relations(self, name: str, file_name: str, exported: set[str]) -> Iterator[Entries]:
        """Those of which a column or the other table is new."""
        if name not in self._found.tables or file_name not in self._known.tables:
            return
        known = self._known.tables[file_name]
        further: dict[str, Any] = {}
        for key, relation in self._found.tables[name].relations.items():
            there = self._names.get(relation.references)
            fresh = relation.references in self._new or not set(relation.columns) <= set(known.columns)
            if there in exported and fresh:
                line = relation.model_copy(update={"references": there, "nest_as": None})
                made = slug(key, taken={*known.relations, *further})
                further[made] = line.model_dump(exclude_defaults=True, mode="json")
                self.added.append(f"relation {file_name}.{made}")
        if further:
            yield _entries(("tables", file_name, "relations"), in_lines(further))


def _entries(path: tuple[str, ...], content: Mapping[str, Any]) -> Entries:
    return Entries(path=path, lines=yaml_text(content).splitlines(), content=content)


def _refuse_changes(path: Path, before: Catalog, after: Catalog) -> None:
    """A last look: whatever the file said, it still says."""
    old, new = (c.model_dump(by_alias=True, mode="json", exclude_unset=True) for c in (before, after))
    if not _within(old, new):
        raise RequestRejected(f"{path} cannot be merged without changing what it says; add what is new by hand")


def _within(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _within(value, new[key]) for key, value in old.items())
    return bool(old == new)
