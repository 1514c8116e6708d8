"""Writes the parts of the documentation that follow from the code: `python -m docs.generate`.

These are the JSON Schemas in docs/schemas, the examples in docs/events, what the templates in infra load, and in the
Markdown files what stands between a line `<!-- generated: NAME -->` and the next `<!-- end of NAME -->`. Tests compare
all of it with the code.
"""

from __future__ import annotations

import json
import logging
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from azure.functions import FunctionApp
from pydantic import BaseModel

from cli.entities import iso_duration
from cli.served import served_by
from docs import infrastructure
from docs.examples import event_examples
from docs.namespace_template import namespace_template
from shared.bus.topology import TOPOLOGY, Queue
from shared.engine.table import Row
from shared.intake.senders import NOT_IN_EVENTS, QUEUES
from shared.messages.events import (
    AcceptedData,
    GapData,
    OutcomeData,
    RequestRejectedData,
    StartedData,
    Status,
)
from shared.messages.requests import REQUEST_TYPES, Operation
from shared.workflows import TABLE

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMAS: Final = Path("docs/schemas")
EVENTS: Final = Path("docs/events")
SAMPLES: Final = Path("samples")
NAMESPACE: Final = Path("infra/service-bus.json")
INFRASTRUCTURE: Final = Path("infra")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: What `shared.messages.model.parse_duration` takes, as a pattern of ECMA-262.
DURATION: Final = r"^P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$"
#: Media types know no case, and ECMA-262 has no flag for a part of a pattern.
JSON_MEDIA_TYPE: Final = r"^{}/([A-Za-z0-9_.-]+\+)?{}\b".format(
    *("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in ("application", "json"))
)

Schema = dict[str, Any]

# JSON Schemas


def schemas() -> dict[str, Schema]:
    """The schema of each message that other systems send or receive, by file name."""
    found = {
        f"{operation}.requested.v1.json": _request_schema(event_type, model)
        for event_type, (operation, model) in REQUEST_TYPES.items()
    }
    any_operation = "|".join(Operation)
    database = "the database's part of the request"
    for name, model, statuses, says in (
        ("accepted", AcceptedData, ["accepted"], "A request is understood and its databases are known."),
        ("started", StartedData, ["started"], f"The job of {database} is known."),
        (
            "outcome",
            OutcomeData,
            [status.value for status in Status],
            f"How {database} ended, or the request where none of its databases is known.",
        ),
    ):
        pattern = rf"^sqlvmbackup\.({any_operation})\.({'|'.join(statuses)})\.v1$"
        found[f"{name}.v1.json"] = _event_schema(
            name, says, {"pattern": pattern}, model, statuses=statuses, requested=True
        )
    found["gap.v1.json"] = _event_schema(
        "gap",
        "A database, or a whole VM, is not backed up as it should be.",
        {"const": "sqlvmbackup.coverage.gap.v1"},
        GapData,
        statuses=["gap"],
        requested=True,
    )
    found["request.rejected.v1.json"] = _event_schema(
        "request.rejected",
        "A message that is no request at all was refused.",
        {"const": "sqlvmbackup.request.rejected.v1"},
        RequestRejectedData,
        statuses=[Status.REJECTED.value],
        requested=False,
    )
    return found


def _request_schema(event_type: str, model: type[BaseModel]) -> Schema:
    data = _model_schema(model)
    definitions = data.pop("$defs", {})
    identity = {"type": "string", "minLength": 1, "maxLength": 512}
    return {
        "$schema": DIALECT,
        "$id": f"urn:sqlvmbackup:schema:{event_type.removeprefix('sqlvmbackup.')}",
        "title": event_type,
        "description": "A CloudEvents 1.0 event in structured JSON. `source` and `id` together are the"
        " idempotency key. Other extension attributes are allowed and ignored.",
        "type": "object",
        "required": ["specversion", "type", "source", "id", "data"],
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"const": event_type},
            "source": identity,
            "id": identity,
            "time": {"type": ["string", "null"], "format": "date-time"},
            "datacontenttype": {"type": ["string", "null"], "pattern": JSON_MEDIA_TYPE},
            "traceparent": {
                "type": ["string", "null"],
                "description": "W3C Trace Context; ignored where unreadable.",
            },
            "correlationid": {"type": ["string", "null"], "pattern": "^[\\x21-\\x7e]{1,128}$"},
            "data": data,
            "data_base64": {"type": "null", "description": "The data is JSON, in `data`."},
        },
        "$defs": definitions,
    }


def _event_schema(
    name: str, says: str, kind: Schema, model: type[BaseModel], *, statuses: list[str], requested: bool
) -> Schema:
    data = _published(_model_schema(model))
    definitions = data.pop("$defs", {})
    data["properties"]["status"] = _one_of(statuses)
    if requested:
        data["properties"]["operation"] = _one_of([operation.value for operation in Operation])
    identity = {"type": "string", "minLength": 1}
    return {
        "$schema": DIALECT,
        "$id": f"urn:sqlvmbackup:schema:{name}.v1",
        "title": f"sqlvmbackup {name}.v1",
        "description": f"{says} Fields may be added within v1: ignore those you do not know.",
        "type": "object",
        "required": [
            "specversion",
            "id",
            "source",
            "type",
            "time",
            "datacontenttype",
            *(["causationid"] if requested else []),
            "data",
        ],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": identity,
            "source": identity,
            "type": {"type": "string", **kind},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "subject": identity,
            "traceparent": identity,
            "correlationid": identity,
            "causationid": identity,
            "data": data,
        },
        "$defs": definitions,
    }


def _one_of(values: list[str]) -> Schema:
    return {"const": values[0]} if len(values) == 1 else {"type": "string", "enum": values}


def _model_schema(model: type[BaseModel]) -> Schema:
    schema: Schema = _without_titles(model.model_json_schema(by_alias=True))
    for part in (schema, *schema.get("$defs", {}).values()):
        names = part.get("properties", {}).keys()
        if {"instance", "availabilityGroup", "database"} <= names and part.get(
            "additionalProperties"
        ) is False:
            # The models check this in code.
            part.setdefault("oneOf", [{"required": ["instance"]}, {"required": ["availabilityGroup"]}])
    return schema


def _without_titles(schema: Any) -> Any:
    """Leaves out titles that only repeat a name, and adds the pattern of durations."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    return {**kept, "pattern": DURATION} if kept.get("format") == "duration" else kept


def _published(schema: Schema) -> Schema:
    """The schema of an event as published: without null fields, and open to new fields."""
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("additionalProperties", None)
        part.pop("oneOf", None)
        required = part.get("required", [])
        for name, field in part.get("properties", {}).items():
            choices = [choice for choice in field.get("anyOf", ()) if choice != {"type": "null"}]
            if "anyOf" in field and len(choices) < len(field["anyOf"]):
                required = [other for other in required if other != name]
                rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
                part["properties"][name] = (
                    {**choices[0], **rest} if len(choices) == 1 else {**rest, "anyOf": choices}
                )
        if "required" in part:
            part["required"] = required
    return schema


# The workflows


def function_app() -> FunctionApp:
    """The app as the platform loads it. A new one each time, since an app can list its functions only once."""
    app = runpy.run_path(str(ROOT / "function_app.py"))["app"]
    if not isinstance(app, FunctionApp):
        raise TypeError(f"function_app.py has no Function App but {app!r}")
    return app


def triggers(of: FunctionApp) -> dict[str, str]:
    """The trigger of each function of an app: its queue, or its timer's schedule."""
    found = {}
    for function in of.get_functions():
        name, trigger = function.get_function_name(), function.get_trigger()
        if name is None or trigger is None:
            raise ValueError(f"a function of the app has no name or no trigger: {name}")
        properties = trigger.get_dict_repr()
        found[name] = properties.get("queueName") or f"timer {properties['schedule']}"
    return found


def diagram() -> str:
    """The workflows as a Mermaid flowchart."""
    lines = [
        "```mermaid",
        "flowchart TB",
        '  systems(["other systems"]) -- "CloudEvents" --> events[("events")] --> receive_event',
        '  operators(["CLI, pipelines, portal"])',
        '  replay(["sqlvmbackup replay"]) --> replays[("replays")] --> receive_replay',
        '  receive_replay -- "a request" --> workflows(["the first step, or the step it was at"])',
        '  timer(["timer"]) --> plan_backups & plan_coverage & plan_drills',
    ]
    for operation, queue in QUEUES.items():
        node, receiver = _node(queue), f"receive_{operation}_request"
        allowed = '-. "if allowed" .->' if operation is Operation.RESTORE else "-->"
        first = TABLE.first[operation.value]
        if operation not in NOT_IN_EVENTS:
            lines.append(f"  receive_event {allowed} {first}")
        lines.append(f'  operators --> {node}[("{queue}")] --> {receiver} --> {first}')
    lines.append(f'  plan_backups -. "scheduled" .-> {TABLE.first[Operation.BACKUP.value]}')
    lines.append(f'  plan_coverage -. "scheduled" .-> {TABLE.first[Operation.COVERAGE.value]}')
    lines.append(f'  plan_drills -. "scheduled" .-> {TABLE.first[Operation.DRILL.value]}')
    for operation in Operation:
        lines.append(f"  subgraph {operation}")
        for step in _steps_of(operation):
            mark = " ⟲" if step.tracked or step.polls_itself else ""
            lines.append(f'    {step.name}["{step.name}{mark}<br/>{step.does}"]')
        lines.append("  end")
    for step in TABLE.rows.values():
        for following in step.follows:
            arrow = (
                _FANNED.get(following, '== "one per database" ==>')
                if following in step.fans_out_to
                else "-->"
            )
            lines.append(f"  {step.name} {arrow} {following}")
        if step.begins is not None:
            lines.append(f'  {step.name} -. "its outcome: the next drill" .-> {step.begins}')
    track = TABLE.rows["track"]
    lines.append(f'  track_queue[("{track.queue}")] --> track["track<br/>{track.does}"]')
    tracking = {row.workflow for row in TABLE.rows.values() if row.tracked}
    lines += [f'  {operation} -. "⟲" .-> track_queue' for operation in Operation if operation in tracking]
    resumed = sorted({row.workflow for row in TABLE.rows.values() if row.after_operation is not None})
    lines += [f'  track -. "ended without a job: the next step" .-> {workflow}' for workflow in resumed]
    lines += [
        '  track -. "not ended: polled again later" .-> track_queue',
        '  track -- "job ended: its outcome" --> outcomes{{"topic job-outcomes"}}',
        '  every(["dead letters of every queue"]) --> dead[("dead-letters")] --> report_dead_letter',
        '  report_dead_letter -- "its outcome" --> outcomes',
        '  report_dead_letter -- "the original" --> parked[("parked-messages")]',
        "```",
    ]
    return "\n".join(lines)


#: What a fan-out to a step sends one message for, unless that is a database.
_PER: Final = {"survey_vault": "vault or VM"}
_FANNED: Final = {name: f'== "one per {what}" ==>' for name, what in _PER.items()}


def _node(queue: str) -> str:
    return queue.replace("-", "_")


def _steps_of(operation: Operation) -> list[Row]:
    return [step for step in TABLE.rows.values() if step.workflow == operation]


def steps_table() -> str:
    """Each step with what it does and what follows."""
    rows = []
    for step in TABLE.rows.values():
        tracked = ""
        if step.tracked:
            tracked = (
                f"a job, `{step.job.operation}`" if step.job is not None else f"`{step.after_operation}`"
            )
        elif step.polls_itself:
            tracked = "itself, until a run command has ended"
        follows = [
            f"`{name}`"
            + (f", one message per {_PER.get(name, 'database')}" if name in step.fans_out_to else "")
            for name in step.follows
        ]
        if step.begins is not None:
            follows.append(f"`{step.begins}`, for the next drill")
        if step.name == "track":
            follows = ["itself again, the step after the operation, or an outcome"]
        rows.append((f"`{step.name}`", step.workflow, step.does, tracked, "; ".join(follows)))
    heads = ("step", "workflow", "does", "after its operation ⟲", "otherwise followed by")
    return table(heads, rows)


# The namespace


def queues_table() -> str:
    """The queues, the topic and its subscriptions by workflow, with properties named as in Azure Resource Manager."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for queue in TOPOLOGY.queues:
        alike.setdefault(_queue_properties(queue), []).append(f"`{queue.name}`")
    rows = [(", ".join(names), *properties) for properties, names in alike.items()]
    for topic in TOPOLOGY.topics:
        window = _duration(topic.duplicate_detection_window)
        rows.append((f"topic `{topic.name}`", "every", window, "", "", "", ""))
        for subscription in topic.subscriptions:
            lock, life = _duration(subscription.lock_duration), _duration(subscription.time_to_live)
            deliveries = str(subscription.max_delivery_count)
            rows.append((f"its subscription `{subscription.name}`", "every", "", lock, deliveries, life, ""))
    heads = (
        "queues",
        "workflow",
        "`duplicateDetectionHistoryTimeWindow`",
        "`lockDuration`",
        "`maxDeliveryCount`",
        "`defaultMessageTimeToLive`",
        "`forwardDeadLetteredMessagesTo`",
    )
    return table(heads, rows)


def _queue_properties(queue: Queue) -> tuple[str, ...]:
    return (
        "every" if len(served_by(queue.name)) == len(Operation) else ", ".join(served_by(queue.name)),
        _duration(queue.duplicate_detection_window),
        _duration(queue.lock_duration),
        str(queue.max_delivery_count),
        "",
        f"`{queue.forward_dead_letters_to}`" if queue.forward_dead_letters_to else "",
    )


def _duration(value: timedelta) -> str:
    return f"`{iso_duration(value)}`"


def service_bus_template() -> dict[str, Any]:
    """The template of the namespace."""
    return namespace_template(
        TOPOLOGY,
        workflows=[operation.value for operation in Operation],
        served=served_by,
    )


def infrastructure_data() -> dict[str, Any]:
    """What the Bicep templates load, by file name."""
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    queries = json.loads((ROOT / INFRASTRUCTURE / "queries.json").read_text(encoding="utf-8"))
    return {
        "topology.json": infrastructure.topology_data(TOPOLOGY, served_by),
        "roles.json": infrastructure.roles_data(),
        "built-in-roles.json": infrastructure.built_in_roles_data(),
        "settings.json": infrastructure.settings_data(sample),
        "workflows.json": infrastructure.workflows_data(),
        "workbook.json": infrastructure.workbook_data(queries),
    }


def roles_table() -> str:
    """The custom roles."""
    return table(("role", "workflow", "scope", "lets the app"), infrastructure.roles_rows())


def actions_table() -> str:
    """The actions of each custom role."""
    return table(("role", "actions"), infrastructure.actions_rows())


def costs_table() -> str:
    """What backups cost, from the published results of the benchmark."""
    published = json.loads((ROOT / "bench/results/reference.json").read_text(encoding="utf-8"))
    (p10,) = (finding for finding in published["findings"] if finding["name"] == "p10")
    rows = ((row["what"], row["value"], row["peer"]) for row in p10["rows"])
    return table(("", "this app", "beside it"), rows)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(heads)]
    lines.append(["---"] * len(lines[0]))
    lines += [list(row) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Examples


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _fenced(value: object) -> str:
    return f"```json\n{_json(value)}\n```"


def examples() -> dict[Path, str]:
    """An example of each kind of event, by file."""
    return {
        EVENTS / f"{name.replace(' ', '-')}.json": _json(json.loads(event.to_json())) + "\n"
        for name, event in event_examples().items()
    }


def _sample(name: str) -> Callable[[], str]:
    return lambda: _fenced(json.loads((ROOT / SAMPLES / name).read_text()))


def _event(name: str) -> Callable[[], str]:
    return lambda: _fenced(json.loads(event_examples()[name].to_json()))


# The files


def licences_table() -> str:
    """The licence of every deployed package, as the package states it."""
    rows = ["| package | version | licence |", "| --- | --- | --- |"]
    locked = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", locked, flags=re.MULTILINE):
        # `json` gives every field as text or list, absent ones left out.
        stated = metadata.metadata(name).json
        approved = [
            text.rsplit(" :: ", 1)[-1]
            for text in stated.get("classifier", [])
            if text.startswith("License :: OSI Approved")
        ]
        licence = (
            stated.get("license_expression") or ", ".join(approved) or stated.get("license", "not stated")
        )
        rows.append(f"| {name} | {version} | {str(licence).splitlines()[0]} |")
    return "\n".join(rows)


BLOCKS: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "docs/cost.md": {"costs": costs_table},
    "docs/supply-chain.md": {"licences": licences_table},
    "docs/architecture.md": {"diagram": diagram, "steps": steps_table},
    "docs/operations.md": {"queues": queues_table, "roles": roles_table, "actions": actions_table},
    "docs/messages.md": {
        "backup request": _sample("backup.json"),
        "outcome of a backup": _event("backup succeeded"),
    },
}


def generated() -> dict[Path, str]:
    """The whole text of every file that is generated or has generated parts, by its path in the project."""
    files = {
        SCHEMAS / name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }
    files |= examples()
    files[NAMESPACE] = json.dumps(service_bus_template(), indent=2) + "\n"
    for name, data in infrastructure_data().items():
        files[INFRASTRUCTURE / name] = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    for name, parts in BLOCKS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, make in parts.items():
            text = _filled(text, part, make(), where=name)
        files[Path(name)] = text
    return files


def _filled(text: str, part: str, content: str, *, where: str) -> str:
    start, end = f"<!-- generated: {part} -->", f"<!-- end of {part} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{where} has no place for {part!r}: expected {start} and {end}")
    return f"{before}{start}\n{content}\n{end}{after}"


def main() -> None:
    """Write the files that have changed, and print their names."""
    logging.disable(logging.WARNING)  # the library's, of an app that has no HTTP trigger
    files = generated()
    for folder in (SCHEMAS, EVENTS):
        for stray in set((ROOT / folder).glob("*.json")) - {ROOT / path for path in files}:
            stray.unlink()
    for path, text in files.items():
        target = ROOT / path
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
