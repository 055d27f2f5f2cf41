"""Options that are declared once: what becomes of them in a command, and that all commands of orders have them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.commands.expanding import OptionGroup, expanded
from export_pipelines.commands.ordering import (
    DeliveryOptions,
    EncryptionOptions,
    OrderOptions,
    PackageOptions,
    PeriodOptions,
    SelectionOptions,
    SplitOptions,
)
from export_pipelines.formats.registry import all_formats


@dataclass(frozen=True, kw_only=True)
class Paint(OptionGroup):
    panel: ClassVar[str] = "Paint"

    colour: Annotated[str | None, typer.Option(help="Colour of the toy.", show_default="red")] = None
    coat: Annotated[list[int] | None, typer.Option(help="Thickness of a coat.")] = None


@dataclass(frozen=True, kw_only=True)
class Toy(OptionGroup):
    paint: Paint = field(default_factory=Paint)
    wheels: Annotated[int, typer.Option(help="Number of wheels.")] = 4


def ran(command: Any, *words: str) -> str:
    program = typer.Typer()
    program.command()(command)
    done = CliRunner().invoke(program, words)
    return f"{done.exit_code} {done.output.strip()}"


def shown(toy: Toy, name: Annotated[str, typer.Option()] = "toy") -> None:
    """A toy."""
    typer.echo(f"{name} {toy.paint.colour} {toy.paint.coat} {toy.wheels}")


def test_a_command_gets_the_groups_that_its_options_were_expanded_from() -> None:
    command = expanded()(shown)
    assert ran(command) == "0 toy None None 4"
    words = ("--colour", "blue", "--coat", "1", "--coat", "2", "--wheels", "3", "--name", "car")
    assert ran(command, *words) == "0 car blue [1, 2] 3"
    assert ran(command, "--wheels", "many").startswith("2 ")


def test_the_help_shows_groups_as_panels_with_the_defaults_of_the_command() -> None:
    assert "Paint" in ran(expanded()(shown), "--help")
    assert "red" in ran(expanded()(shown), "--help")
    assert "(pink)" in ran(expanded(defaults={"colour": "pink"})(shown), "--help")
    changing = ran(expanded(changes=True)(shown), "--help")
    assert ("Colour of the toy" in changing, "red" in changing) == (True, False)


def test_a_command_may_leave_options_out_and_require_others() -> None:
    command = expanded(required=("colour",), without=("wheels",))(shown)
    assert ran(command, "--colour", "blue") == "0 toy blue None 4"
    assert ran(command).startswith("2 ")
    assert "No such option" in ran(command, "--colour", "blue", "--wheels", "3")


@pytest.mark.parametrize("named", [{"required": ("lid",)}, {"without": ("lid",)}, {"defaults": {"lid": "on"}}])
def test_an_option_that_no_group_has_is_refused_where_the_command_is_declared(named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="shown has no option lid"):
        expanded(**named)(shown)


def test_a_field_that_is_no_option_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bare(OptionGroup):
        wheels: int = 4

    def command(bare: Any) -> None: ...

    command.__annotations__["bare"] = Bare
    with pytest.raises(TypeError, match=r"no Annotated type with a typer\.Option"):
        expanded()(command)


# The commands of orders -------------------------------------------------------------------------------------------

ALL = (SelectionOptions, PeriodOptions, PackageOptions, SplitOptions, EncryptionOptions, DeliveryOptions)
RECURRING = tuple(group for group in ALL if group is not PeriodOptions)
PRODUCT = (PackageOptions, EncryptionOptions, DeliveryOptions)
COMMANDS = {
    "export": ALL,
    "estimate": ALL,
    "schedules create": RECURRING,
    "schedules update": RECURRING,
    "convert": (*PRODUCT, SplitOptions),
    "bulk": PRODUCT,
}
OWN = {("schedules create", "name"), ("schedules update", "name")}  # of the schedule


def parameters(path: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    for word in path.split():
        command = command.get_command(None, word)
    return {parameter.name: parameter for parameter in command.params}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_of_orders_has_the_same_options_in_the_same_words(path: str) -> None:
    reference, found = parameters("export"), parameters(path)
    for group in COMMANDS[path]:
        for option in fields(group):
            if (path, option.name) in OWN:
                continue
            assert option.name in found, f"{path} lacks {option.name}"
            for what in ("opts", "secondary_opts", "help", "multiple", "param_type_name", "rich_help_panel"):
                mine, its = getattr(found[option.name], what), getattr(reference[option.name], what)
                assert str(mine) == str(its), f"{path} {option.name} {what}"


def test_no_group_of_an_order_is_missing_here() -> None:
    """Every option that `export` takes is of a group above, or its own."""
    declared = {option.name for group in ALL for option in fields(group)}
    assert set(parameters("export")) - declared == {"tenant", "output_", "as_json"}
    assert declared <= set(parameters("export"))


def test_the_help_names_every_format() -> None:
    assert [name for name in all_formats() if name not in parameters("export")["format_"].help] == []


def test_options_have_a_default_so_that_a_group_can_be_left_out() -> None:
    assert OrderOptions() == OrderOptions(selection=SelectionOptions(), period=PeriodOptions())
