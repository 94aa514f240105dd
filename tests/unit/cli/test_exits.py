"""Every error of the library has its exit code, and is said in one line or one JSON object."""

from __future__ import annotations

import json

import pytest
import typer

from mqtool import errors
from mqtool_cli import main, output
from mqtool_cli.exits import ReaderGone, Undecided, code_of

TABLE = [
    (errors.MqtoolError("x"), 1),
    (errors.ConfigurationError("x"), 2),
    (errors.TopologyError(errors.Problem("x")), 65),
    (errors.MessageError("x"), 65),
    (errors.Busy("q", "full", 1.0), 75),
    (errors.Unroutable("", "q"), 1),
    (errors.Unconfirmed("id", "x"), 69),
    (errors.BrokerError("x"), 1),
    (errors.Unavailable("x"), 69),
    (errors.AccessRefused("x"), 77),
    (errors.NotFound("x"), 1),
    (errors.Conflict("x"), 4),
    (errors.ChannelLost("x"), 69),
]


@pytest.mark.parametrize(("error", "code"), [*TABLE, (Undecided("x"), 4), (ValueError("x"), 1)])
def test_the_table(error, code):
    assert code_of(error) == code


def test_every_error_of_the_library_is_in_this_table():
    defined = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert {type(error) for error, _ in TABLE} == defined


@pytest.fixture
def failing(monkeypatch):
    """Makes ``mqtool schema`` raise."""

    def fail_with(error: BaseException) -> None:
        app = typer.Typer(name="mqtool", rich_markup_mode=None, pretty_exceptions_enable=False)
        app.callback()(main.options)

        @app.command()
        def schema() -> None:
            raise error

        monkeypatch.setattr(main, "app", app)

    return fail_with


def test_an_error_is_one_line(failing, capsys):
    failing(errors.Busy("emails", "full", 2.5))
    assert main.run(["schema"]) == 75
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("mqtool: emails is busy: the queue is at its bound")


def test_an_error_as_json_has_what_a_program_needs(failing, capsys):
    failing(errors.Busy("emails", "full", 2.5))
    assert main.run(["--output", "json", "schema"]) == 75
    error = json.loads(capsys.readouterr().err)["error"]
    assert error.pop("message").startswith("emails is busy")
    assert error == {"type": "Busy", "exit_code": 75, "queue": "emails", "reason": "full", "retry_after": 2.5}


def test_every_problem_of_a_file_is_a_line_of_its_own(failing, capsys):
    failing(errors.TopologyError([errors.Problem("first", "t.yml", 1, 2), errors.Problem("second\x1b[2J", "t.yml", 3)]))
    assert main.run(["schema"]) == 65
    assert capsys.readouterr().err == "mqtool: t.yml:1:2: first\nmqtool: t.yml:3: second\\x1b[2J\n"


def test_a_defect_is_said_in_one_line_and_shown_for_debugging(failing, capsys):
    failing(ZeroDivisionError("division by zero"))
    assert main.run(["schema"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("mqtool: internal error: ZeroDivisionError: division by zero; ")
    assert "Traceback" not in err
    assert main.run(["--debug", "schema"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ReaderGone(), 141), (typer.Exit(3), 3)])
def test_ends_that_are_no_errors_say_nothing(failing, capsys, monkeypatch, error, code):
    monkeypatch.setattr(output, "leave_stdout", lambda: None)
    failing(error)
    assert main.run(["schema"]) == code
    assert capsys.readouterr() == ("", "")
