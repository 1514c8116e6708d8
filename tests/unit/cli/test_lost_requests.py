"""`sqlvmbackup replay send --requests`: whole files of requests, as replays of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from local.broker import Broker
from tests.unit.docs.markdown import ROOT

pytest.importorskip("proton", reason="python-qpid-proton is a development dependency")

REQUESTS = ROOT / "samples/requests.jsonl"


def test_each_request_goes_to_replays_with_its_queue_and_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.amqp import serving_amqp

    lines = [json.loads(line) for line in REQUESTS.read_text(encoding="utf-8").splitlines() if line.strip()]
    with Broker(None) as broker, serving_amqp(broker) as amqp_server:
        monkeypatch.setenv("ServiceBusConnection", amqp_server.connection_string)
        arguments = [
            "replay",
            "send",
            "--requests",
            str(REQUESTS),
            "--namespace",
            f"127.0.0.1:{amqp_server.port}",
        ]
        assert main(arguments) == 0
        assert main(arguments) == 0, "twice is once"
        found = broker.peek("replays", 0, 100)
    assert [json.loads(message.body) for message in found] == lines
    for message, line in zip(found, lines, strict=True):
        operation = line["type"].split(".")[1]
        assert message.application_properties["originalQueue"] == f"{operation}-requests"
        assert message.application_properties["epoch"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "--requests", str(REQUESTS), "--state", "somewhere"], "--namespace"),
        (["list", "--requests", str(REQUESTS), "--namespace", "n"], "send"),
        (["send", "3", "--requests", str(REQUESTS), "--namespace", "n"], "numbers"),
        (["send", "--requests", "nowhere.jsonl", "--namespace", "n"], "nowhere.jsonl"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_line_that_is_no_request_sends_none_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lost.jsonl"
    file.write_text(REQUESTS.read_text(encoding="utf-8") + '{"type": "other"}\n', encoding="utf-8")
    assert main(["replay", "send", "--requests", str(file), "--namespace", "n"]) == 2
    assert "is no request" in capsys.readouterr().err
