"""The Bicep templates against a Bicep grammar, the published schemas, and the code that they deploy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import rights
from docs.generate import function_app, triggers
from functions.blueprints import FUNCTIONS
from shared.bus.topology import SHARED_STEPS, TOPOLOGY
from tests.unit.docs.markdown import code, read, rows, section
from tests.unit.infra.bicep import FILES, INFRA, ROOT, is_expression, load, parsed, resource, resources

SCHEMAS: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests/data/infra/schemas.json").read_text(encoding="utf-8")
)["types"]
FACTS = json.loads((ROOT / "tests/data/infra/platform.json").read_text(encoding="utf-8"))
APP = parsed(INFRA / "modules/app.bicep")
MAIN = parsed(INFRA / "main.bicep")
SETTINGS_PAGE = read("docs/settings.md")
#: Open to whatever a template says.
_FREE = re.compile(r"Tags$|UserAssignedIdentities$|^StringDictionaryProperties$")
_PRIMITIVES = frozenset({"string", "int", "bool", "any", "object", "array", "null"})


def problems(at: str, kind: str, value: Any, path: str) -> Iterator[str]:
    """What is wrong with an object by its schema."""
    schema = SCHEMAS[at][kind]
    if is_expression(value) or not isinstance(value, dict) or _FREE.search(kind):
        return
    given = {name.strip("'"): item for name, item in value.items()}
    for name in sorted({name for name, field in schema.items() if field.get("required")} - set(given)):
        yield f"{path}: {name} is required"
    for name, item in given.items():
        field = schema.get(name)
        if field is None:
            yield f"{path}.{name} is unknown to {at}"
        elif field.get("readOnly"):
            yield f"{path}.{name} can only be read"
        else:
            yield from value_problems(at, field["type"], item, f"{path}.{name}")


def value_problems(at: str, type_: str, value: Any, path: str) -> Iterator[str]:
    if is_expression(value):
        return
    if type_.endswith("[]"):
        for number, item in enumerate(value if isinstance(value, list) else []):
            yield from value_problems(at, type_.removesuffix("[]").strip("()"), item, f"{path}[{number}]")
        return
    choices = [part.strip() for part in type_.split("|")]
    kinds = [choice for choice in choices if choice in SCHEMAS[at]]
    if kinds:
        yield from problems(at, kinds[0], value, path)
    # Where any text is allowed as well, those that are named are still the ones that Azure knows.
    literals = [choice.strip("'") for choice in choices if choice not in _PRIMITIVES]
    # A bare name is a parameter or a variable, which the grammar does not tell from a text.
    written = isinstance(value, str) and "${" not in value and not re.fullmatch(r"[a-z]\w*", value)
    if literals and written and value not in literals:
        yield f"{path} is {value}, and may be {literals}"
    if choices == ["bool"] and not isinstance(value, bool | str):
        yield f"{path} is no bool"


def test_every_template_is_bicep() -> None:
    assert len(FILES) > 10
    for path in FILES:
        assert parsed(path), path


def test_every_resource_is_as_its_published_schema_has_it() -> None:
    found: list[str] = []
    for each in resources():
        assert each.at in SCHEMAS, f"{each.file}: {each.at} is in no schema of tests/data/infra/schemas.json"
        if not each.existing:
            found += problems(each.at, "", {**each.body}, f"{each.file}: {each.symbol}")
    assert found == []


def test_what_the_templates_load_is_as_the_published_schemas_have_it() -> None:
    topology = load("topology.json")
    found: list[str] = []
    for key, at, kind in (
        ("queues", "Microsoft.ServiceBus/namespaces/queues@2024-01-01", "SBQueueProperties"),
        ("topics", "Microsoft.ServiceBus/namespaces/topics@2024-01-01", "SBTopicProperties"),
        (
            "subscriptions",
            "Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01",
            "SBSubscriptionProperties",
        ),
    ):
        for entry in topology[key]:
            found += problems(at, kind, entry["properties"], entry["name"])
    at = "Microsoft.Insights/metricAlerts@2018-03-01"
    for rule in (*load("alerts.json")["namespace"], *load("alerts.json")["vault"]):
        for criterion in rule["criteria"]:
            found += problems(at, "MetricCriteria", criterion, rule["name"])
    assert found == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lockDurations": "PT5M"}, "unknown"),
        ({"accessedAt": "now"}, "can only be read"),
        ({"status": "Enabled"}, "may be"),
    ],
)
def test_a_property_that_there_is_not_is_found(change: dict[str, str], problem: str) -> None:
    at = "Microsoft.ServiceBus/namespaces/queues@2024-01-01"
    (found,) = problems(at, "SBQueueProperties", change, "queue")
    assert problem in found


def test_the_plain_template_uses_a_version_that_knows_its_properties() -> None:
    template = json.loads((INFRA / "service-bus.json").read_text(encoding="utf-8"))
    found: list[str] = []
    for each in template["resources"]:
        at = f"{each['type']}@{each['apiVersion']}"
        kind = SCHEMAS[at][""]["properties"]["type"].split(" | ")[0]
        found += problems(at, kind, each["properties"], each["name"])
    assert found == []


# Queues, topic, subscriptions


def test_the_namespace_has_the_queues_of_the_app_and_no_other() -> None:
    topology = load("topology.json")
    assert [queue["name"] for queue in topology["queues"]] == [queue.name for queue in TOPOLOGY.queues]
    assert [topic["name"] for topic in topology["topics"]] == [topic.name for topic in TOPOLOGY.topics]
    service_bus = parsed(INFRA / "modules/service-bus.bicep")
    assert {"lastQueues", "queues", "topics", "subscriptions"} <= set(service_bus["resources"])
    for queue in topology["queues"]:
        assert queue["properties"]["requiresDuplicateDetection"] is True, queue["name"]
        assert queue["workflows"], queue["name"]
        # What others forward to is created before them.
        forwards_to = queue["properties"].get("forwardDeadLetteredMessagesTo")
        last = {
            other["name"]
            for other in topology["queues"]
            if "forwardDeadLetteredMessagesTo" not in other["properties"]
        }
        assert forwards_to is None or forwards_to in last


def test_the_watchdog_watches_every_app_that_has_a_timer_and_what_only_a_running_app_leaves() -> None:
    (watchdog,) = (rule for rule in load("alerts.json")["app"] if rule["name"] == "watchdog")
    timers = {name for name, trigger in triggers(function_app()).items() if trigger.startswith("timer ")}
    assert set(watchdog["workflows"]) == {
        workflow for workflow in FUNCTIONS if timers & set(FUNCTIONS[workflow])
    }
    # A host that finds no function logs as well, and so does one that starts again and again.
    assert "AppRequests | where Success == true" in watchdog["query"]
    assert "AppTraces | where Message contains '[action='" in watchdog["query"]


def test_an_alert_names_queues_that_there_are_and_metrics_that_azure_has() -> None:
    entities = {queue.name for queue in TOPOLOGY.queues} | {topic.name for topic in TOPOLOGY.topics}
    for scope in ("namespace", "vault"):
        for rule in load("alerts.json")[scope]:
            for criterion in rule["criteria"]:
                metric = FACTS["metrics"][scope][criterion["metricName"]]
                assert criterion["timeAggregation"] in metric["aggregations"], rule["name"]
                for dimension in criterion.get("dimensions", ()):
                    assert dimension["name"] in metric["dimensions"], rule["name"]
                    if dimension["name"] == "EntityName":
                        assert set(dimension["values"]) <= entities | {"-NamespaceOnlyMetric-"}, rule["name"]


def test_the_workbook_shows_every_saved_query_and_only_metrics_that_azure_has() -> None:
    workbook = load("workbook.json")
    tables = {
        each["name"]: each["content"]["query"]
        for each in workbook["items"]
        if each["content"].get("version") == "KqlItem/1.0"
    }
    assert list(tables) == [query["name"] for query in load("queries.json")]
    for name, query in tables.items():
        of_apps = re.findall(r"\bApp[A-Z]\w+(?=\n)", query)
        assert query.count("AppRoleName =~ '{app}'") == len(of_apps), f"{name}: of every app in the workspace"
    (field,) = (each for item in workbook["items"] for each in item["content"].get("parameters", ()))
    assert f"'{{{field['name']}}}'" in tables["request-story"]
    #: of Azure Monitor, as workbooks number it
    aggregations = {1: "Total", 2: "Minimum", 3: "Maximum", 4: "Average", 7: "Count"}
    drawn = [each for item in workbook["items"] for each in item["content"].get("metrics", ())]
    assert drawn
    for each in drawn:
        namespace, _, name = each["metric"].partition("--")
        metric = FACTS["metrics"]["namespace"][name]
        assert namespace == each["namespace"] == "microsoft.servicebus/namespaces"
        assert aggregations[each["aggregation"]] in metric["aggregations"], name
        assert set(each.get("splitBy", ())) <= set(metric["dimensions"])


def test_the_template_fills_in_what_the_workbook_leaves_open() -> None:
    left_open = set(re.findall(r"\{(\w+)\}", json.dumps(load("workbook.json")))) - {"request"}
    filled = set(re.findall(r"'\{(\w+)\}'", (INFRA / "modules/workbook.bicep").read_text(encoding="utf-8")))
    assert left_open == filled == {"app", "namespaceId", "workspaceId"}


@pytest.mark.parametrize(
    "query", load("queries.json") + load("alerts.json")["app"], ids=lambda each: each["name"]
)
def test_a_query_names_columns_that_its_tables_have(query: dict[str, str]) -> None:
    text = query["query"]
    tables = [name for name in FACTS["tables"] if re.search(rf"\b{name}\b", text)]
    assert tables
    known = {column for name in tables for column in FACTS["tables"][name]}
    used = set(re.findall(r"\b[A-Z][A-Za-z]+\b", re.sub(r"'[^']*'", "''", text)))
    assert used - set(tables) <= known


# Rights


def test_every_role_of_the_code_is_created_and_assigned() -> None:
    assert {role["name"] for role in load("roles.json")} == {role.name for role in rights.ROLES}
    access = (INFRA / "modules/access.bicep").read_text(encoding="utf-8")
    for scope in rights.Scope:
        assert f"role.scope == '{scope.value}'" in access
    published = {action.lower() for action in FACTS["actions"]}
    for role in load("roles.json"):
        assert role["actions"], role["name"]
        assert not [action for action in role["actions"] if action.lower() not in published], role["name"]


def test_built_in_roles_are_those_that_azure_has() -> None:
    assert sorted(load("built-in-roles.json").values()) == sorted(
        FACTS["builtInRoles"][name]
        for name in (
            "Azure Service Bus Data Owner",
            "Storage Blob Data Owner",
            "Storage Table Data Contributor",
            "Monitoring Metrics Publisher",
        )
    )


def test_nothing_admits_a_key() -> None:
    assert resource("Microsoft.Storage/storageAccounts").body["properties"]["allowSharedKeyAccess"] is False
    assert resource("Microsoft.ServiceBus/namespaces").body["properties"]["disableLocalAuth"] is True
    assert resource("Microsoft.Insights/components").body["properties"]["DisableLocalAuth"] is True
    workspace = resource("Microsoft.OperationalInsights/workspaces").body["properties"]
    assert workspace["features"]["disableLocalAuth"] is True
    assert "listKeys" not in "".join(path.read_text(encoding="utf-8") for path in FILES)


# The app


def test_every_setting_of_the_app_is_set() -> None:
    own = {code(row[0])[0] for row in rows(section(SETTINGS_PAGE, "The app's settings"))}
    given = APP["variables"]["given"]["value"]
    # TIME_SCALE is for a simulator.
    assert set(load("settings.json")) | (own & set(given)) == own - {"TIME_SCALE"}
    sample = json.loads(read("local.settings.sample.json"))["Values"]
    assert all(sample[name] == value for name, value in load("settings.json").items())


def test_every_setting_that_the_templates_give_is_documented_and_allowed_on_the_plan() -> None:
    named = {name for row in rows(SETTINGS_PAGE) for cell in row for name in code(cell)}
    variables = APP["variables"]
    given = {*variables["given"]["value"], *variables["traced"]["value"], *load("settings.json")}
    assert given <= named
    assert not given & set(FACTS["neverOnFlexConsumption"])


def test_an_identity_based_connection_has_all_of_its_parts() -> None:
    given = set(APP["variables"]["given"]["value"])
    assert {
        f"ServiceBusConnection__{part}" for part in ("fullyQualifiedNamespace", "credential", "clientId")
    } <= given
    assert {"AzureWebJobsStorage__credential", "AzureWebJobsStorage__clientId"} <= given


def test_the_tracker_is_kept_ready_and_the_instances_are_pinned() -> None:
    scale = resource("Microsoft.Web/sites").body["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    assert scale["maximumInstanceCount"] == "maximumInstanceCount"
    (tracker,) = APP["variables"]["trackers"]["value"]
    prefix, _, function = tracker["name"].partition(":")
    assert prefix == "function"
    assert function in FUNCTIONS["every"]


def test_the_workflows_that_a_deployment_may_choose_are_those_of_the_app() -> None:
    workflows = load("workflows.json")
    assert set(workflows["all"]) == set(FUNCTIONS) - {"every"}
    assert set(workflows["restoring"]) < set(workflows["all"])


# azd


def services() -> dict[str, dict[str, str]]:
    """What azure.yaml says of each service."""
    of_all = read("azure.yaml").partition("\nservices:\n")[2]
    blocks = re.findall(r"^  (\w+):\n((?:    .*\n)+)", of_all, flags=re.MULTILINE)
    return {name: dict(re.findall(r"^    (\w+): (.+)$", block, flags=re.MULTILINE)) for name, block in blocks}


def separated() -> dict[str, list[str]]:
    """The workflows of each of two apps, by its key."""
    restoring = load("workflows.json")["restoring"]
    meant = {
        "restoring": restoring,
        "backingUp": [name for name in load("workflows.json")["all"] if name not in restoring],
    }
    return {each["key"]: meant[each["workflows"]] for each in MAIN["variables"]["separated"]["value"]}


def test_azd_finds_each_app_by_the_name_of_its_service() -> None:
    assert list(services()) == list(separated())
    (alone,) = MAIN["variables"]["together"]["value"]
    assert alone["key"] == "app"
    tags = resource("Microsoft.Web/sites").body["tags"]["function"]["parameters"]
    assert {"'azd-service-name'": "key"} in tags.values()


def test_azd_publishes_the_second_app_where_the_templates_create_one() -> None:
    published = services()
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    variable = given["separateDuties"]["value"].strip("${}")
    assert "condition" not in published["app"]
    # Where the variable is not set there is no second app, as the parameter's default has it.
    assert published["restore"].pop("condition") == f"${{{variable}=false}}"
    assert MAIN["parameters"]["separateDuties"]["default"] is False
    # One package: a setting says which functions it has.
    assert (
        published["restore"] == published["app"] == {"project": ".", "language": "python", "host": "function"}
    )


def test_azure_yaml_has_no_key_that_azd_does_not_know() -> None:
    # Its schema takes any key: https://github.com/Azure/azure-dev/blob/main/schemas/v1.0/azure.yaml.json
    known = {
        "name",
        "requiredVersions",
        "azd",
        "infra",
        "provider",
        "path",
        "module",
        "services",
        *services(),
    }
    known |= {"project", "language", "host", "condition"}
    assert set(re.findall(r"^\s*(\w+):", read("azure.yaml"), flags=re.MULTILINE)) <= known


@pytest.mark.parametrize("key", separated())
def test_an_app_with_separated_duties_has_its_own_functions_and_the_queues_that_they_read(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = separated()[key]
    monkeypatch.setenv("WORKFLOWS", ",".join(workflows))
    found = triggers(function_app())
    own = {name for workflow in ("every", *workflows) for name in FUNCTIONS[workflow]}
    assert set(found) == own | {SHARED_STEPS[name] for name in workflows if name in SHARED_STEPS}
    created = {
        queue["name"] for queue in load("topology.json")["queues"] if set(queue["workflows"]) & set(workflows)
    }
    read_by_it = {queue for queue in found.values() if not queue.startswith("timer ")}
    assert created - read_by_it == {"parked-messages"}, "a queue that no function reads"
    assert read_by_it <= created, "a function whose queue is not there"
    others = {name for other, its in separated().items() if other != key for name in its}
    foreign = {name for other in others for name in FUNCTIONS[other]} - {
        SHARED_STEPS.get(name) for name in workflows
    }
    assert not foreign & set(found)


def test_two_apps_have_every_function_between_them_and_only_one_may_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of: dict[str, set[str]] = {}
    for key, workflows in separated().items():
        monkeypatch.setenv("WORKFLOWS", ",".join(workflows))
        of[key] = set(triggers(function_app()))
    monkeypatch.delenv("WORKFLOWS")
    assert set.union(*of.values()) == set(triggers(function_app()))
    assert set.intersection(*of.values()) == set(FUNCTIONS["every"])
    may = {
        key: {action for role in rights.needed(workflows) for action in role.actions}
        for key, workflows in separated().items()
    }
    assert [key for key in may if any("/restore/action" in action for action in may[key])] == ["restore"]
    assert [key for key in may if any("/backup/action" in action for action in may[key])] == ["app"]


def test_every_parameter_that_azd_gives_is_declared_and_documented() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    assert set(given) <= set(MAIN["parameters"])
    required = {name for name, found in MAIN["parameters"].items() if found["default"] is None}
    assert required <= set(given)
    page = read("docs/deploy.md")
    for value in given.values():
        (variable,) = re.findall(r"\$\{(\w+)\}", value["value"])
        assert f"`{variable}`" in page or variable in ("AZURE_ENV_NAME", "AZURE_LOCATION")
    told = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]+) \|", page, flags=re.MULTILINE))
    assert told.keys() == MAIN["parameters"].keys()
    for name, found in MAIN["parameters"].items():
        default = found.get("default")
        if default is None or name == "workflows":
            assert told[name] == ("all" if name == "workflows" else "required"), name
        else:
            shown = json.dumps(default).strip('"')
            assert told[name].strip("`") == ("none" if shown in ("[]", "{}") else shown), name


def test_modules_get_the_parameters_that_they_declare() -> None:
    for path in FILES:
        for symbol, module in parsed(path).get("modules", {}).items():
            body = module["config"]
            while "params" not in body:
                body = body["config"]
            target = (path.parent / module["detail"]["path"]).resolve()
            declared = parsed(target)["parameters"]
            needed = {name for name, found in declared.items() if found["default"] is None}
            assert needed <= set(body["params"]) <= set(declared), f"{path.name}: {symbol}"


def test_what_the_templates_load_is_there() -> None:
    for path in FILES:
        for name in re.findall(r"load(?:Json|Text)Content\('([^']+)'\)", path.read_text(encoding="utf-8")):
            assert (path.parent / name).is_file(), f"{path.name} loads {name}"


def test_azure_yaml_is_not_deployed() -> None:
    assert "/azure.yaml" in Path(ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()


#: What Bicep itself names (https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions).
_OF_BICEP = frozenset(
    """
    array bool cidrSubnet concat contains empty endsWith environment filter flatten guid if int intersection items join
    last length loadJsonContent loadTextContent map object param null replace resourceGroup resourceId split string
    subscription
    subscriptionResourceId take tenant toLower toObject true false union uniqueString var for in output module resource
    existing targetScope
    """.split()  # noqa: SIM905
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_in_a_template_is_declared_and_every_declaration_used(path: Path) -> None:
    text = re.sub(r"^\s*//.*$|^@description\(.*\)$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = parsed(path)
    declared = {
        name for kind in ("parameters", "variables", "resources", "modules") for name in found.get(kind, {})
    }
    loops = set(re.findall(r"\bfor (\w+) in\b", text)) | set(re.findall(r"(\w+) =>", text))
    loops |= {name for pair in re.findall(r"\bfor \((\w+), (\w+)\)", text) for name in pair}
    interpolated = " ".join(re.findall(r"\$\{([^}]*)\}", text))
    bare = re.sub(r"'(?:[^'\\]|\\.)*'", "''", text)
    # Names that stand for a value: not after a dot, and neither a key nor a declaration.
    used = set(re.findall(r"(?<![\w.@?])([a-zA-Z_]\w*)\b(?!\s*:(?!\s*\{))", re.sub(r"\b\w+:\s", " ", bare)))
    used |= set(re.findall(r"(?<![\w.])([a-zA-Z_]\w*)", interpolated))
    values = used - loops - _OF_BICEP - declared
    declarations = set(re.findall(r"^(?:param|var|resource|module|output) (\w+)", text, flags=re.MULTILINE))
    decorators = set(re.findall(r"^@(\w+)", text, flags=re.MULTILINE))
    assert values <= declarations | decorators, f"{path.name}: not declared"
    for name in [*found.get("parameters", {}), *found.get("variables", {})]:
        mentions = re.findall(rf"(?<![\w.'])({name})\b", text)
        assert len(mentions) > 1, f"{path.name}: {name} is not used"
