"""The types of Azure's resources as Microsoft packs them into its MCP server, in the form of the tests' schemas.json.

`python -m tests.node.published_types` writes those of the templates anew (`make test-node` installs what it needs).
Types that the package does not hold stay as they are: the file says where they come from.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.unit.infra.bicep import ROOT, is_expression, load, resources

JsonObject = dict[str, Any]

PROGRAM = ROOT / ".venv-node/node_modules/@azure/mcp-linux-x64/dist/azmcp"
KNOWN = ROOT / "tests/data/infra/schemas.json"
#: What the templates load for a type, beside what they spell out: a kind of object and what is given of it.
_LOADED = {
    "Microsoft.ServiceBus/namespaces/queues": ("SBQueueProperties", "queues"),
    "Microsoft.ServiceBus/namespaces/topics": ("SBTopicProperties", "topics"),
    "Microsoft.ServiceBus/namespaces/topics/subscriptions": ("SBSubscriptionProperties", "subscriptions"),
}


def published(type_: str, name: str = "") -> tuple[str, dict[str, JsonObject]] | None:
    """Type and version, and every kind of object of it by name; `""` is the resource. None where it is not packed.

    Where what a resource has depends on its name, it is the one called `name`.
    """
    done = subprocess.run(
        [PROGRAM, "bicepschema", "get", "--resource-type", type_],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "AZURE_MCP_COLLECT_TELEMETRY": "false"},
    )
    if done.returncode != 0:
        return None
    found: dict[str, JsonObject] = {}
    at = ""
    for each in json.loads(done.stdout)["results"]["BicepSchemaResult"]:
        if each["$type"] == "Resource":
            body = each["bodyType"]
            forms = [_fields(form) for form in body.get("elements", ())] or [_fields(body)]
            at = each["name"]
            found[""] = next((form for form in forms if form["name"]["type"] == name), forms[0])
        elif each["$type"] == "Object":
            found[each["name"]] = _fields(each)
    return at, found


def _fields(kind: Mapping[str, Any]) -> JsonObject:
    fields = {}
    for each in kind.get("properties", ()):
        flags = each.get("flags", "")
        fields[each["name"]] = {
            "type": each["type"],
            **({"required": True} if "Required" in flags else {}),
            **({"readOnly": True} if "ReadOnly" in flags else {}),
        }
    return fields


def kept(kinds: Mapping[str, JsonObject], name: str, given: Any) -> Iterator[str]:
    """The kinds of object on the way to what a template gives, `name` first."""
    yield name
    for field, value in given.items() if isinstance(given, dict) and not is_expression(given) else ():
        type_ = kinds[name].get(field.strip("'"), {"type": ""})["type"]
        values = value if isinstance(value, list) and not is_expression(value) else [value]
        for part in type_.split("|"):
            kind = part.strip().removesuffix("[]").strip("()")
            if kind in kinds:
                for each in values:
                    yield from kept(kinds, kind, each)


def used() -> list[str]:
    """The types and versions of the templates."""
    return sorted({each.at for each in resources()})


def of_the_templates(at: str) -> dict[str, JsonObject] | None:
    """Of a type those kinds of object that the templates use; None where the package does not hold that version."""
    bodies = [{} if each.existing else each.body for each in resources() if each.at == at]
    type_, _, _ = at.partition("@")
    found = published(type_, next((str(body["name"]) for body in bodies if "name" in body), ""))
    if found is None or found[0] != at:
        return None
    kinds = found[1]
    names = {name for body in bodies for name in kept(kinds, "", body)}
    if (loaded := _LOADED.get(type_)) is not None:
        kind, key = loaded
        names |= {
            name for entry in load("topology.json")[key] for name in kept(kinds, kind, entry["properties"])
        }
    return {name: kinds[name] for name in sorted(names)}


def main() -> None:
    """Write what the package holds of each type that the templates use."""
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    for at in used():
        packed = of_the_templates(at)
        if packed is not None:
            known["types"][at] = packed
        elif at not in known["types"]:
            raise SystemExit(f"{at} is not in the package: add it to {KNOWN} by hand, with its source")
    known["types"] = dict(sorted(known["types"].items()))
    Path(KNOWN).write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
