"""The script of drills: parsed by a grammar of PowerShell, and run where there is one.

It has a stub for its SQL client then, that answers from memory.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from shared.run_commands.drill_script import Action, ScriptResult, drill_script, parameters
from shared.run_commands.models import RunCommand

_PARSER: Final = Parser(Language(tree_sitter_powershell.language()))
_POWERSHELL: Final = shutil.which("pwsh") or shutil.which("powershell")
#: Of Windows PowerShell 5.1; what stands in a later one alone would end the script before its line.
_COMMANDS: Final = {
    "Add-Type",
    "ConvertTo-Json",
    "ForEach-Object",
    "New-Object",
    "Select-Object",
    "Start-Sleep",
    "Where-Object",
}


def nodes(text: str) -> Iterator[Node]:
    """All nodes of the script's tree."""
    left = [_PARSER.parse(text.encode()).root_node]
    while left:
        node = left.pop()
        left += node.children
        yield node


def texts(kind: str) -> set[str]:
    """The texts of the script's nodes of one kind."""
    found = (node.text for node in nodes(drill_script()) if node.type == kind)
    return {text.decode() for text in found if text is not None}


def test_the_script_is_powershell() -> None:
    assert not any(node.is_error or node.is_missing for node in nodes(drill_script()))
    assert any(node.is_error for node in nodes(drill_script().replace("try {", "try (", 1)))


def test_the_script_runs_nothing_that_it_is_given() -> None:
    own = texts("function_name")
    assert texts("command_name") == _COMMANDS | own, "commands by name alone, each of them known"
    assert not texts("command_invokation_operator"), "nothing is run by & or a dot"
    # Of what is in double quotes, a part is put in: there is one such text, and its variable was decoded.
    assert texts("expandable_string_literal") == {'".\\$server"'}
    assert not texts("expandable_here_string_literal")
    assert not texts("sub_expression")
    assert not {name.lower() for name in texts("member_name")} & {"invokescript", "create", "start", "load"}


def test_the_script_is_windows_powershells() -> None:
    """What else came with PowerShell 7 (`??`, `?:`, `?.`), the grammar takes for an error."""
    assert not {node.type for node in nodes(drill_script())} & {"&&", "||"}


# -- run


@pytest.mark.skipif(_POWERSHELL is None, reason="there is no PowerShell here")
class TestRun:
    """By whatever PowerShell there is, with a SQL client that answers from memory."""

    def test_a_sound_database(self, tmp_path: Path) -> None:
        name = 'drill_it\'s "$(x)"];--ü😀_01234567'
        result, left, asked = run(tmp_path, "check", name, databases=[name, "wages"])
        assert (result.verdict, result.size_mb, result.free_mb) == ("ok", 20480, 181000)
        assert left == {name, "wages"}
        assert all(parameter == name for parameter in asked)

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        name = "drill_orders_01234567"
        errors = [(8939, 16, "ü" * 500), (8928, 16, 'a "b"\n<c>'), (8990, 10, "CHECKDB found 2 errors.")]
        result, left, _ = run(tmp_path, "check", name, databases=[name], errors=errors)
        assert (result.verdict, result.errors, result.numbers) == ("corrupt", 2, (8939, 8928))
        assert result.messages == ("ü" * 120, 'a "b"\n<c>')
        assert left == {name}

    def test_a_thousand_errors_stay_below_4_kb(self, tmp_path: Path) -> None:
        name = "drill_orders_01234567"
        errors = [(8900 + number % 90, 16, "😀" * 200) for number in range(1000)]
        result, _, _ = run(tmp_path, "check", name, databases=[name], errors=errors)
        assert (result.verdict, result.errors, len(result.numbers)) == ("corrupt", 1000, 20)

    def test_the_clean_up(self, tmp_path: Path) -> None:
        name = "drill_orders_01234567"
        result, left, _ = run(tmp_path, "drop", name, databases=[name, "wages"])
        assert (result.verdict, left) == ("ok", {"wages"})
        result, left, _ = run(tmp_path, "drop", name, databases=["wages"])
        assert (result.verdict, left) == ("absent", {"wages"})

    def test_a_clean_up_that_another_session_is_in_the_way_of(self, tmp_path: Path) -> None:
        name = "drill_orders_01234567"
        result, left, _ = run(
            tmp_path, "drop", name, databases=[name], errors=[(3702, 16, "in use")], times=1
        )
        assert (result.verdict, left) == ("ok", set())

    @pytest.mark.parametrize("name", ["wages", "DRILL_orders_01234567", "drill_orders", "xdrill_a_01234567"])
    def test_a_name_that_is_no_drill_databases(self, name: str, tmp_path: Path) -> None:
        result, left, asked = run(tmp_path, "drop", name, databases=[name])
        assert (result.verdict, left, asked) == ("failed", {name}, [])

    def test_a_login_that_is_refused(self, tmp_path: Path) -> None:
        name = "drill_orders_01234567"
        result, _, _ = run(tmp_path, "check", name, databases=[name], refused=(18456, 14, "Login failed."))
        assert (result.verdict, result.numbers) == ("notPermitted", (18456,))


def run(
    directory: Path,
    action: Action,
    database: str,
    *,
    databases: list[str],
    errors: list[tuple[int, int, str]] | None = None,
    times: int = 9,
    refused: tuple[int, int, str] | None = None,
) -> tuple[ScriptResult, set[str], list[str]]:
    """What the script said, which databases are left, and with which parameter SQL Server was asked each time."""
    assert _POWERSHELL is not None
    given = parameters(attempt="a-1", action=action, instance="SQL2019", database=database)
    state = {"databases": databases, "errors": errors or [], "times": times, "refused": refused}
    (directory / "state.json").write_text(json.dumps(state), encoding="ascii")
    (directory / "stub.cs").write_text(_STUB, encoding="ascii")
    (directory / "stubbed.ps1").write_text(_STUBBED, encoding="ascii")
    text = drill_script().replace("Data.SqlClient.", "Stub.")
    (directory / "drill.ps1").write_text(text, encoding="ascii")
    arguments = [part for name, value in given.items() for part in (f"-{name}", value)]
    done = subprocess.run(
        [_POWERSHELL, "-NoProfile", "-NonInteractive", "-File", str(directory / "stubbed.ps1"), *arguments],
        capture_output=True,
        timeout=100,
        check=True,
    )
    output, _, told = done.stdout.decode("ascii").partition("== ")
    assert len(output) < 4096
    view = {"executionState": "Succeeded", "output": output}
    command = RunCommand.from_wire({"name": "c", "properties": {"instanceView": view}})
    line = command.line("a-1")
    assert line is not None, output
    after: dict[str, Any] = json.loads(base64.b64decode(told.replace("\r", "").replace("\n", "")))
    return ScriptResult.read(line), set(after["databases"]), list(after["asked"])


#: Runs the script beside the stub, then prints what is left.
_STUBBED: Final = r"""
param([string]$attempt, [string]$action, [string]$instance, [string]$database)
$ErrorActionPreference = 'Stop'
Add-Type -TypeDefinition ([IO.File]::ReadAllText((Join-Path $PSScriptRoot 'stub.cs')))
$state = [IO.File]::ReadAllText((Join-Path $PSScriptRoot 'state.json')) | ConvertFrom-Json
foreach ($each in $state.databases) { [void][Stub.Server]::Databases.Add([string]$each) }
foreach ($each in $state.errors) { [Stub.Server]::Fail([int]$each[0], [byte]$each[1], [string]$each[2]) }
[Stub.Server]::Times = [int]$state.times
if ($state.refused) {
    [Stub.Server]::Refuse([int]$state.refused[0], [byte]$state.refused[1], [string]$state.refused[2])
}
& (Join-Path $PSScriptRoot 'drill.ps1') -attempt $attempt -action $action -instance $instance -database $database
$after = @{ databases = @([Stub.Server]::Databases); asked = @([Stub.Server]::Asked) }
$bytes = [Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $after -Compress))
'== ' + [Convert]::ToBase64String($bytes)
"""

#: What the script uses of the SQL client, in C# 5, which Windows PowerShell compiles.
_STUB: Final = r"""
using System;
using System.Collections.Generic;

namespace Stub
{
    public class SqlError
    {
        public int Number { get; set; }
        public byte Class { get; set; }
        public string Message { get; set; }
    }

    public class SqlException : Exception
    {
        public SqlException(SqlError[] errors) : base(errors[0].Message) { Errors = errors; }
        public SqlError[] Errors { get; private set; }
        public int Number { get { return Errors[0].Number; } }
    }

    public static class Server
    {
        public static List<string> Databases = new List<string>();
        public static List<string> Asked = new List<string>();
        public static List<SqlError> Errors = new List<SqlError>();
        public static SqlError Refused;
        public static int Times;

        public static SqlError Error(int number, byte severity, string message)
        {
            return new SqlError { Number = number, Class = severity, Message = message };
        }

        public static void Fail(int number, byte severity, string message)
        {
            Errors.Add(Error(number, severity, message));
        }

        public static void Refuse(int number, byte severity, string message)
        {
            Refused = Error(number, severity, message);
        }
    }

    public class SqlConnectionStringBuilder : Dictionary<string, object>
    {
        public string ConnectionString { get { return (string)this["Data Source"]; } }
    }

    public class SqlConnection
    {
        private readonly string source;
        public SqlConnection(string source) { this.source = source; }
        public void Open()
        {
            if (source != ".\\SQL2019") throw new ArgumentException("not the instance: " + source);
            if (Server.Refused != null) throw new SqlException(new[] { Server.Refused });
        }
        public void Close() { }
        public SqlCommand CreateCommand() { return new SqlCommand(); }
    }

    public class SqlParameter { public object Value { get; set; } }

    public class SqlParameterCollection
    {
        public SqlParameter Last;
        public SqlParameter Add(string name, object type, int size)
        {
            if (name != "@db" || size <= 128) throw new ArgumentException(name);
            Last = new SqlParameter();
            return Last;
        }
    }

    public class SqlCommand
    {
        public SqlCommand() { Parameters = new SqlParameterCollection(); CommandTimeout = 30; }
        public string CommandText { get; set; }
        public int CommandTimeout { get; set; }
        public SqlParameterCollection Parameters { get; private set; }

        private string Name()
        {
            if (CommandTimeout != 0) throw new InvalidOperationException("it has a time limit");
            if (Parameters.Last.Value.GetType() != typeof(string)) throw new InvalidCastException("not a string");
            Server.Asked.Add((string)Parameters.Last.Value);
            return (string)Parameters.Last.Value;
        }

        public object ExecuteScalar()
        {
            string name = Name();
            if (CommandText.Contains("COUNT(*)")) return Server.Databases.Contains(name) ? 1 : 0;
            return CommandText.Contains("available_bytes") ? 181000L : 20480L;
        }

        public int ExecuteNonQuery()
        {
            string name = Name();
            if (Server.Errors.Count > 0 && Server.Times-- > 0) throw new SqlException(Server.Errors.ToArray());
            if (CommandText.Contains("DROP DATABASE")) Server.Databases.Remove(name);
            else if (!CommandText.Contains("DBCC CHECKDB")) throw new InvalidOperationException(CommandText);
            return -1;
        }
    }
}
"""
