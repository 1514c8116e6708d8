"""No sequence of legal and illegal calls makes the simulator answer 500 or lose state."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.simulator.driver import POLICY, Answer, Driver

MACHINES = st.sampled_from(["sqlvm1", "sqlvm2", "empty", "asleep", "nosuch"])
DATABASES = st.sampled_from(["orders", "billing", "master", "nosuch", "copy", GROUPED := "sales"])
KINDS = st.sampled_from(["Full", "Differential", "Log", "CopyOnlyFull", "SnapshotFull", "Everything"])
TERMINAL = {"Completed", "CompletedWithWarnings", "Failed", "Cancelled"}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


class Estate(RuleBasedStateMachine):
    """Calls every route of the app, in and out of turn, and holds the answers against what was done."""

    @initialize(seed=st.integers(0, 3))
    def start(self, seed: int) -> None:
        instances = [{"databases": [{"name": name} for name in ("master", "orders", "billing")]}]
        machines = [
            {"name": "sqlvm1", "instances": instances},
            {"name": "sqlvm2", "instances": instances, "registeredTo": "vault1"},
            {"name": "empty"},
            {"name": "asleep", "running": False, "instances": instances},
        ]
        group = {"name": "ag1", "virtualMachines": ["sqlvm1", "sqlvm2"], "databases": [{"name": GROUPED}]}
        estate = {"virtualMachines": machines, "availabilityGroups": [group]}
        self.driver = Driver({"seed": seed, "pageSize": 3, **estate})
        listed = self.driver.get("/backupProtectableItems?$filter=friendlyName eq 'ag1'")["value"]
        self.group = listed[0]["id"].split("/protectableItems/")[0]
        self.ended: dict[str, str] = {}
        self.jobs: set[str] = set()
        self.polls: list[str] = []
        self.points: dict[str, set[str]] = {}
        self.effects = 0

    # ---- what every answer must be

    def check(self, answer: Answer) -> Answer:
        assert answer.status < 500, answer.body
        if answer.status >= 400:
            assert answer.body["error"]["code"]
            assert answer.body["error"]["message"]
        if answer.status == 202 and "location" in answer.headers:
            self.polls.append(answer.headers["location"])
            if "azure-asyncoperation" in answer.headers:
                self.polls.append(answer.headers["azure-asyncoperation"])
        return answer

    def change(self, method: str, path: str, body: Any = None) -> Answer:
        answer = self.check(self.driver.call(method, path, body))
        effects = len(self.driver.simulator.ledger_entries)
        done = answer.status in (200, 201, 202)
        assert effects == self.effects + done, "the ledger holds what took effect, and nothing else"
        self.effects = effects
        return answer

    def item(self, machine: str, database: str) -> str:
        if database == GROUPED:
            return f"{self.group}/protectedItems/SQLDataBase;ag1;{database}"
        return self.driver.item(database, machine)

    # ---- legal and illegal calls

    @rule(seconds=st.sampled_from([1, 20, 75, 180, 600, 3600, 40_000, 1_300_000]))
    def wait(self, seconds: int) -> None:
        self.driver.clock.advance(timedelta(seconds=seconds))

    @rule()
    def refresh(self) -> None:
        sql = "$filter=backupManagementType eq 'AzureWorkload'"
        self.change("POST", f"/backupFabrics/Azure/refreshContainers?{sql}")

    @rule(machine=MACHINES, kind=st.sampled_from(["Register", "Reregister", "Rehydrate"]))
    def register(self, machine: str, kind: str) -> None:
        subscription = self.driver.simulator.subscription_id
        group = f"/subscriptions/{subscription}/resourceGroups/rg-sql"
        source = f"{group}/providers/Microsoft.Compute/virtualMachines/{machine}"
        properties = {
            "backupManagementType": "AzureWorkload",
            "containerType": "VMAppContainer",
            "workloadType": "SQLDataBase",
            "sourceResourceId": source,
            "operationType": kind,
        }
        self.change("PUT", self.driver.container(machine), {"properties": properties})

    @rule(machine=MACHINES)
    def unregister(self, machine: str) -> None:
        self.change("DELETE", self.driver.container(machine))

    @rule(machine=MACHINES)
    def inquire(self, machine: str) -> None:
        self.change("POST", f"{self.driver.container(machine)}/inquire")

    @rule(machine=MACHINES, database=DATABASES, policy=st.sampled_from([POLICY, POLICY.lower(), "nosuch"]))
    def protect(self, machine: str, database: str, policy: str) -> None:
        self.change(
            "PUT", self.item(machine, database), {"properties": {"policyId": self.driver.policy_id(policy)}}
        )

    @rule(
        machine=MACHINES, database=DATABASES, state=st.sampled_from(["ProtectionStopped", "BackupsSuspended"])
    )
    def stop(self, machine: str, database: str, state: str) -> None:
        self.change(
            "PUT", self.item(machine, database), {"properties": {"policyId": "", "protectionState": state}}
        )

    @rule(machine=MACHINES, database=DATABASES)
    def undelete(self, machine: str, database: str) -> None:
        body = {"properties": {"policyId": "", "protectionState": "ProtectionStopped", "isRehydrate": True}}
        self.change("PUT", self.item(machine, database), body)

    @rule(machine=MACHINES, database=DATABASES)
    def delete(self, machine: str, database: str) -> None:
        self.change("DELETE", self.item(machine, database))

    @rule(machine=MACHINES, database=DATABASES, kind=KINDS)
    def backup(self, machine: str, database: str, kind: str) -> None:
        body = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": kind}}
        self.change("POST", f"{self.item(machine, database)}/backup", body)

    @rule(
        source=MACHINES,
        onto=MACHINES,
        database=DATABASES,
        overwrite=st.booleans(),
        how=st.sampled_from(["original", "alternate", "files"]),
        which=st.integers(0, 3),
    )
    def restore(self, source: str, onto: str, database: str, overwrite: bool, how: str, which: int) -> None:
        listed = self.check(self.driver.call("GET", f"{self.item(source, database)}/recoveryPoints"))
        nothing: list[Any] = [{"name": "1", "properties": {}}]
        points = listed.body["value"] if listed.status == 200 else nothing
        point: Any = points[which % len(points)]
        properties: dict[str, Any] = {
            "objectType": "AzureWorkloadSQLRestoreRequest",
            "recoveryType": "OriginalLocation" if how == "original" else "AlternateLocation",
            "targetInfo": {
                "overwriteOption": "Overwrite" if overwrite else "FailOnConflict",
                "containerId": f"{self.driver.vault}{self.driver.container(onto)}",
                "databaseName": f"MSSQLSERVER/{GROUPED if which == 3 else 'copy'}",
                "targetDirectoryForFileRestore": "C:\\restored",
            },
        }
        if how == "files":
            properties["recoveryMode"] = "FileRecovery"
        if ranges := point["properties"].get("timeRanges"):
            properties |= {
                "objectType": "AzureWorkloadSQLPointInTimeRestoreRequest",
                "pointInTime": ranges[0]["endTime"],
            }
        path = f"{self.item(source, database)}/recoveryPoints/{point['name']}/restore"
        self.change("POST", path, {"properties": properties})

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        known = sorted(self.jobs) or ["00000000-0000-0000-0000-000000000000"]
        self.change("POST", f"/backupJobs/{known[which % len(known)]}/cancel")

    @rule(junk=JUNK, place=st.sampled_from(["container", "item", "backup", "restore", "policy", "intent"]))
    def junk(self, junk: Any, place: str) -> None:
        item = self.item("sqlvm2", "orders")
        paths = {
            "container": ("PUT", self.driver.container("sqlvm1")),
            "item": ("PUT", item),
            "backup": ("POST", f"{item}/backup"),
            "restore": ("POST", f"{item}/recoveryPoints/DefaultRangeRecoveryPoint/restore"),
            "policy": ("PUT", "/backupPolicies/junk"),
            "intent": ("PUT", "/backupFabrics/Azure/backupProtectionIntent/junk"),
        }
        method, path = paths[place]
        for body in (junk, {"properties": junk}):
            answer = self.check(self.driver.call(method, path, raw=json.dumps(body).encode()))
            assert 400 <= answer.status < 500

    @rule(which=st.integers(0, 200))
    def poll(self, which: int) -> None:
        if self.polls:
            url = self.polls[which % len(self.polls)]
            answer = self.check(self.driver.call("GET", url))
            assert answer.status != 404, "an operation that was started can be asked after"

    # ---- nothing is lost

    @invariant()
    def jobs_stay_and_keep_their_end(self) -> None:
        if not hasattr(self, "driver"):
            return
        listed: dict[str, str] = {}
        link = "/backupJobs"
        while link:
            page = self.driver.get(link)
            listed |= {job["name"]: job["properties"]["status"] for job in page["value"]}
            link = page.get("nextLink", "")
        assert self.jobs <= listed.keys()
        assert all(listed[job] == status for job, status in self.ended.items())
        self.jobs = set(listed)
        self.ended = {job: status for job, status in listed.items() if status in TERMINAL}
        started = [entry["jobId"] for entry in self.driver.simulator.ledger_entries if entry["jobId"]]
        assert set(started) <= self.jobs

    @invariant()
    def items_are_in_one_list_only(self) -> None:
        if not hasattr(self, "driver"):
            return

        def ids(path: str) -> set[str]:
            found: list[str] = []
            link = path
            while link:
                page = self.driver.get(link)
                found += [entry["id"].lower() for entry in page["value"]]
                link = page.get("nextLink", "")
            assert len(found) == len(set(found)), "a list holds nothing twice"
            return set(found)

        protected = ids("/backupProtectedItems")
        protectable = {
            name.replace("/protectableitems/", "/protecteditems/") for name in ids("/backupProtectableItems")
        }
        assert not protected & protectable
        for item in protected:
            answer = self.check(self.driver.call("GET", item))
            assert answer.status == 200
            extended = answer.body["properties"]["extendedInfo"]
            points = self.driver.get(f"{item}/recoveryPoints?$filter=includeSoftDeletedRP eq 'True'")
            if "nextLink" not in points:
                assert extended["recoveryPointCount"] == len(points["value"]) - 1


Estate.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestEstate = Estate.TestCase
