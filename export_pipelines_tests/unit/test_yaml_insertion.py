"""New entries in a YAML file; whatever was there stays to the byte."""

from __future__ import annotations

import pytest
import yaml

from export_pipelines.catalog.yaml_insertion import Entries, NoPlace, insert_entries

NEW = {"new": {"type": "text"}}


def inserted(text: str, *path: str, apart: bool = False) -> str:
    return insert_entries(text, [Entries(path=path, lines=["new: {type: text}"], content=NEW, apart=apart)])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a:\n  x: 1\n", "a:\n  x: 1\n  new: {type: text}\n"),
        ("a:\n  x: 1", "a:\n  x: 1\n  new: {type: text}\n"),
        ("a:\n      x: 1 # why\n", "a:\n      x: 1 # why\n      new: {type: text}\n"),
        (
            "a:\n  x: 1\n\n  # not yet\n  # y: 2\n\nb: 1\n",
            "a:\n  x: 1\n  new: {type: text}\n\n  # not yet\n  # y: 2\n\nb: 1\n",
        ),
        (
            "a:\n  x: {p: 1,\n      q: 2}  # two\nb: 1\n",
            "a:\n  x: {p: 1,\n      q: 2}  # two\n  new: {type: text}\nb: 1\n",
        ),
        ("a:\n  x:\n    - 1\n    - 2\nb: 1\n", "a:\n  x:\n    - 1\n    - 2\n  new: {type: text}\nb: 1\n"),
        ("a:\n  x: |\n    one\n    two\nb: 1\n", "a:\n  x: |\n    one\n    two\n  new: {type: text}\nb: 1\n"),
        ("a:\n  x: one\n    two\nb: 1\n", "a:\n  x: one\n    two\n  new: {type: text}\nb: 1\n"),
        ("a:\n  x: 'one\n\n    two'\nb: 1\n", "a:\n  x: 'one\n\n    two'\n  new: {type: text}\nb: 1\n"),
        ("a:\n  x:\nb: 1\n", "a:\n  x:\n  new: {type: text}\nb: 1\n"),
        ("a:\n  x:\n\n# end\n", "a:\n  x:\n  new: {type: text}\n\n# end\n"),
        ("a:\nb: 1\n", "a:\n  new: {type: text}\nb: 1\n"),
        ("b: 1\n", "b: 1\na:\n  new: {type: text}\n"),
        ("a: {}\n", "a: {new: {type: text}}\n"),
        ("a: { x: 1 }  # one\n", "a: { x: 1, new: {type: text} }  # one\n"),
        ("a: {x: 1,  # one\n    y: 2,  # two\n   }\n", "a: {x: 1,  # one\n    y: 2, new: {type: text},  # two\n   }\n"),
        ("{a: {x: 1}, b: 1}\n", "{a: {x: 1, new: {type: text}}, b: 1}\n"),
        ("a:\r\n  x: 1\r\nb: 1\r\n", "a:\r\n  x: 1\r\n  new: {type: text}\r\nb: 1\r\n"),
        ("a: &name\n  x: 1\n", "a: &name\n  x: 1\n  new: {type: text}\n"),
        ("\ufeffa:\n  x: ünï — 木\n", "\ufeffa:\n  x: ünï — 木\n  new: {type: text}\n"),
    ],
)
def test_an_entry_is_the_last_of_its_mapping_and_nothing_else_changes(before: str, after: str) -> None:
    assert inserted(before, "a") == after
    read = yaml.safe_load(after)
    assert read.pop("a") == {**((yaml.safe_load(before) or {}).get("a") or {}), **NEW}
    assert read == {key: value for key, value in yaml.safe_load(before).items() if key != "a"}


def test_several_entries_keep_their_order_and_their_places() -> None:
    entries = [
        Entries(path=("t",), lines=["n:", "  columns:", "    id: {}"], content={}, apart=True),
        Entries(path=("t", "x", "columns"), lines=["b: {}"], content={"b": {}}),
        Entries(path=("t", "x", "columns"), lines=["c: {}"], content={"c": {}}),
        Entries(path=("t", "x", "relations"), lines=["r: {}"], content={"r": {}}),
    ]
    text = "t:\n  x:\n    columns:\n      a: {}\n    tenant: {column: a}\n\nexcluded:\n  y: no\n"
    assert insert_entries(text, entries) == (
        "t:\n  x:\n    columns:\n      a: {}\n      b: {}\n      c: {}\n    tenant: {column: a}\n"
        "    relations:\n      r: {}\n\n  n:\n    columns:\n      id: {}\n\nexcluded:\n  y: no\n"
    )


@pytest.mark.parametrize("text", ["a: &x {p: 1}\nb: *x\n", "a: &x\n  p: 1\nb:\n  <<: *x\n"])
def test_a_mapping_that_is_used_twice_is_no_place(text: str) -> None:
    with pytest.raises(NoPlace):
        inserted(text, "a")
