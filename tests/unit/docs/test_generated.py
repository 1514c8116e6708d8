"""The generated parts of the documentation are those that the code gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from azure.functions import FunctionApp

from docs.generate import (
    EVENTS,
    NAMESPACE,
    ROOT,
    SCHEMAS,
    diagram,
    function_app,
    generated,
    service_bus_template,
    triggers,
)
from functions.blueprints import blueprint
from shared.bus.topology import ALL_OUTCOMES, PARKED_MESSAGES, TOPOLOGY
from shared.workflows import TABLE

FILES = generated()
TRIGGERS = triggers(function_app())


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_generated_file_is_current(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path], "run: python -m docs.generate"


@pytest.mark.parametrize("folder", [SCHEMAS, EVENTS], ids=str)
def test_no_schema_or_example_is_left_over(folder: Path) -> None:
    assert {path.relative_to(ROOT) for path in (ROOT / folder).iterdir()} == {
        path for path in FILES if path.parent == folder
    }


def test_every_queue_triggers_one_function_but_the_parked_messages() -> None:
    queues = [trigger for trigger in TRIGGERS.values() if not trigger.startswith("timer ")]
    assert sorted(queues) == sorted({queue.name for queue in TOPOLOGY.queues} - {PARKED_MESSAGES})


def created(workflows: set[str]) -> set[str]:
    """The queues that the template creates for an app that serves these workflows."""
    found = set()
    for resource in service_bus_template()["resources"]:
        asked = set(re.findall(r"'workflows'\), '(\w+)'", resource.get("condition", "")))
        if resource["type"].endswith("/queues") and (not asked or asked & workflows):
            found.add(re.findall(r"'/(.+)'", resource["name"])[0])
    return found


@pytest.mark.parametrize(
    "workflows",
    [{"protect"}, {"backup"}, {"restore"}, {"coverage"}, {"protect", "backup", "restore", "coverage"}],
)
def test_the_template_creates_the_queues_that_trigger_the_app_and_no_others(workflows: set[str]) -> None:
    app = FunctionApp()
    app.register_functions(blueprint({"WORKFLOWS": ",".join(workflows)}))
    queues = {trigger for trigger in triggers(app).values() if not trigger.startswith("timer ")}
    assert created(workflows) == queues | {PARKED_MESSAGES}


def test_the_template_creates_what_others_forward_to_first() -> None:
    resources = json.loads((ROOT / NAMESPACE).read_text(encoding="utf-8"))["resources"]
    forwarding = [r for r in resources if "forwardDeadLetteredMessagesTo" in r.get("properties", {})]
    assert forwarding
    for resource in forwarding:
        target = resource["properties"]["forwardDeadLetteredMessagesTo"]
        assert any(f"'{target}'" in name for name in resource["dependsOn"])


def test_nothing_of_the_app_consumes_the_outcomes() -> None:
    (topic,) = TOPOLOGY.topics
    assert [subscription.name for subscription in topic.subscriptions] == [ALL_OUTCOMES]
    assert topic.name not in TRIGGERS.values()


def test_every_step_is_triggered_by_its_own_queue() -> None:
    assert {name: TRIGGERS.get(name) for name in TABLE.rows} == {
        step.name: step.queue for step in TABLE.rows.values()
    }


def test_what_follows_a_step_is_a_step_and_every_step_is_reached() -> None:
    followed = (
        {name for step in TABLE.rows.values() for name in step.follows}
        | set(TABLE.first.values())
        | {"track"}
    )
    assert followed == set(TABLE.rows)
    assert {step.name for step in TABLE.rows.values() if step.tracked} == {
        step.name for step in TABLE.rows.values() if step.after_operation is not None or step.job is not None
    }


def test_the_diagram_shows_every_function_and_every_queue_that_is_no_steps_own() -> None:
    drawn = diagram()
    for name in TRIGGERS:
        assert name in drawn
    for queue in {queue.name for queue in TOPOLOGY.queues} - {step.queue for step in TABLE.rows.values()}:
        assert f'[("{queue}")]' in drawn
