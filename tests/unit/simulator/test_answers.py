"""What a client reads off answers: counts, moments, filters, rules; each as the simulated past has it."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.azure_backup.wire import parse_duration, parse_time
from tests.unit.simulator.driver import POLICY, Answer, Driver, estate

ORDERS = {"name": "orders", "historyDays": 3}


def moment(text: str) -> datetime:
    found = parse_time(text)
    assert found is not None
    return found


def test_an_item_counts_its_recovery_points_and_names_the_oldest_and_the_newest_moment() -> None:
    driver = Driver(estate(ORDERS))
    for _ in range(2):
        item = driver.get(driver.item())["properties"]
        points = driver.points()
        times = [point["properties"]["recoveryPointTimeInUTC"] for point in points[:-1]]
        extended = item["extendedInfo"]
        assert (extended["recoveryPointCount"], extended["oldestRecoveryPoint"]) == (len(times), min(times))
        newest = max(*times, *(span["endTime"] for span in driver.ranges()))
        assert item["lastRecoveryPoint"] == newest
        assert min(times) < newest
        assert times == sorted(times, reverse=True)
        driver.backup()


def test_log_ranges_are_listed_the_newest_first() -> None:
    driver = Driver({**estate(ORDERS), "scheduledBackups": True})
    stop = {"policyId": "", "protectionState": "ProtectionStopped"}
    driver.put(driver.item(), 75, **stop)
    driver.wait(hours=3)
    driver.protect()
    driver.backup()
    driver.wait(hours=3)
    starts = [span["startTime"] for span in driver.ranges()]
    assert len(starts) > 1
    assert starts == sorted(starts, reverse=True)


def test_an_operation_without_a_job_ends_when_it_ended() -> None:
    driver = Driver(estate(ORDERS))
    url = "/backupFabrics/Azure/refreshContainers?$filter=backupManagementType eq 'AzureWorkload'"
    operation = driver.call("POST", url).headers["azure-asyncoperation"]
    assert driver.get(operation)["endTime"] == "0001-01-01T00:00:00"
    driver.wait(300)
    status = driver.get(operation)
    assert moment(status["endTime"]) - moment(status["startTime"]) == timedelta(seconds=20)


def test_a_job_says_how_far_it_is_and_how_long_it_took() -> None:
    driver = Driver({**estate(ORDERS), "durations": {"backup": 1000}})
    answer = driver.backup(wait=250)
    running = driver.job(answer)
    assert running["extendedInfo"]["progressPercentage"] == 25.0
    assert parse_duration(running["duration"]) == timedelta(seconds=250)
    assert "endTime" not in running
    driver.wait(hours=1)
    ended = driver.job(answer)
    assert parse_duration(ended["duration"]) == timedelta(seconds=1000)
    assert moment(ended["endTime"]) - moment(ended["startTime"]) == timedelta(seconds=1000)
    assert "progressPercentage" not in ended["extendedInfo"]


def test_the_jobs_of_the_schedule_are_nobodys_and_can_be_cancelled() -> None:
    driver = Driver({**estate(ORDERS), "scheduledBackups": True, "durations": {"backup": 600}})
    # The policy's fulls are taken at 18:00.
    driver.wait(60, hours=10)
    planned = [job["properties"] for job in driver.get("/backupJobs?$filter=status eq 'InProgress'")["value"]]
    assert [job["operation"] for job in planned] == ["Backup (Full)"]
    assert [(job["isUserTriggered"], job["actionsInfo"]) for job in planned] == [(False, ["Cancellable"])]


@pytest.mark.parametrize(
    ("since", "found"),
    [("12:15:00 AM", 1), ("11:59:00 AM", 1), ("12:05:00 PM", 1), ("12:15:00 PM", 0), ("01:05:00 PM", 0)],
)
def test_a_filter_tells_noon_from_midnight(since: str, found: int) -> None:
    driver = Driver({**estate(ORDERS), "startTime": "2026-01-05T12:10:00Z"})
    driver.backup()
    url = f"/backupJobs?$filter=startTime eq '2026-01-05 {since}' and endTime eq '2026-01-06 12:00:00 AM'"
    assert len(driver.get(url)["value"]) == found


@pytest.mark.parametrize(("year", "status"), [("2023-05", 400), ("2024-05", 202)])
def test_a_machine_with_stopped_databases_is_unregistered_since_2024(year: str, status: int) -> None:
    driver = Driver({**estate(ORDERS), "serviceVersion": year})
    driver.put(driver.item(), policyId="", protectionState="ProtectionStopped")
    assert driver.call("DELETE", driver.container()).status == status


def test_vaults_are_listed_by_their_resource_group() -> None:
    driver = Driver(
        {"vaults": [{"name": "vault1"}, {"name": "vault2"}, {"name": "vault3", "resourceGroup": "other"}]}
    )
    subscription = f"/subscriptions/{driver.simulator.subscription_id}"
    path = "providers/Microsoft.RecoveryServices/vaults"

    def names(scope: str) -> list[str]:
        return [vault["name"] for vault in driver.get(f"{scope}/{path}")["value"]]

    assert names(subscription) == ["vault1", "vault2", "vault3"]
    assert names(f"{subscription}/resourceGroups/RG-BACKUP") == ["vault1", "vault2"]
    assert names(f"{subscription}/resourceGroups/other") == ["vault3"]


def test_the_counts_of_jobs_are_those_of_a_day() -> None:
    entries = Driver(estate(ORDERS)).get("/usages")["value"]
    assert {entry["name"]["value"] for entry in entries if entry.get("quotaPeriod") == "P1D"} == {
        "InProgressJobsCount",
        "FailedJobsCount",
    }


def full_policy(driver: Driver) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties of the vault's policy, and its part about full backups."""
    properties = driver.get(f"/backupPolicies/{POLICY}")["properties"]
    return properties, next(
        part for part in properties["subProtectionPolicy"] if part["policyType"] == "Full"
    )


@pytest.mark.parametrize("schedule", ["daily with days", "weekly without days", "monthly"])
def test_a_schedule_names_days_exactly_where_it_is_weekly(schedule: str) -> None:
    driver = Driver(estate(ORDERS))
    properties, full = full_policy(driver)
    full["schedulePolicy"]["scheduleRunFrequency"] = schedule.split(maxsplit=1)[0].capitalize()
    full["schedulePolicy"].pop("scheduleRunDays", None)
    if "with days" in schedule:
        full["schedulePolicy"]["scheduleRunDays"] = ["Monday"]
    assert driver.call("PUT", "/backupPolicies/Odd", {"properties": properties}).status == 400


@pytest.mark.parametrize(("rule", "count"), [("Daily", 400), ("Weekly", 60), ("Monthly", 24), ("Yearly", 3)])
def test_a_recovery_point_names_the_rule_that_keeps_it_longest(rule: str, count: int) -> None:
    driver = Driver(estate({"name": "orders", "protectedBy": None}))
    properties, full = full_policy(driver)
    time = full["schedulePolicy"]["scheduleRunTimes"]
    units = {"Daily": "Days", "Weekly": "Weeks", "Monthly": "Months", "Yearly": "Years"}
    by_week = {
        "retentionScheduleFormatType": "Weekly",
        "retentionScheduleWeekly": {"daysOfTheWeek": ["Sunday"], "weeksOfTheMonth": ["First"]},
    }
    more: dict[str, dict[str, Any]] = {
        "Daily": {},
        "Weekly": {"daysOfTheWeek": ["Sunday"]},
        "Monthly": by_week,
        "Yearly": {**by_week, "monthsOfYear": ["January"]},
    }
    full["retentionPolicy"] = {"retentionPolicyType": "LongTermRetentionPolicy"}
    for name in dict.fromkeys(("Daily", rule)):
        length = {"count": count if name == rule else 30, "durationType": units[name]}
        full["retentionPolicy"][f"{name.lower()}Schedule"] = {
            "retentionTimes": time,
            "retentionDuration": length,
            **more[name],
        }
    properties["subProtectionPolicy"] = [
        part for part in properties["subProtectionPolicy"] if part["policyType"] != "Differential"
    ]
    assert driver.call("PUT", "/backupPolicies/Kept", {"properties": properties}).status == 200
    driver.protect(policy="Kept")
    driver.backup(kind="Full")
    point = driver.points()[0]["properties"]
    tier = point["recoveryPointProperties"]
    assert tier["ruleName"] == rule
    kept = moment(tier["expiryTime"]) - moment(point["recoveryPointTimeInUTC"])
    assert kept >= timedelta(days=365)


def test_a_number_of_a_policy_or_a_vault_is_no_boolean() -> None:
    """JSON's `true` is no 32-bit integer to the service (REST specification, RetentionDuration.count)."""
    driver = Driver(estate(ORDERS))
    for schedule, unit in (
        ("weeklySchedule", "Weeks"),
        ("monthlySchedule", "Months"),
        ("yearlySchedule", "Years"),
    ):
        for count, status in ((True, 400), (1, 200)):
            properties, full = full_policy(driver)
            times = full["schedulePolicy"]["scheduleRunTimes"]
            full["retentionPolicy"][schedule] = {
                "daysOfTheWeek": ["Sunday"],
                "retentionTimes": times,
                "retentionDuration": {"count": count, "durationType": unit},
            }
            answer = driver.call("PUT", "/backupPolicies/Counted", {"properties": properties})
            assert answer.status == status, (schedule, count)
    properties, _ = full_policy(driver)
    properties["subProtectionPolicy"][1]["schedulePolicy"]["scheduleFrequencyInMins"] = True
    assert driver.call("PUT", "/backupPolicies/Counted", {"properties": properties}).status == 400
    days = {"softDeleteRetentionPeriodInDays": True}
    assert driver.call("PATCH", "/backupconfig/vaultconfig", {"properties": days}).status == 400


def test_the_signature_of_a_url_is_of_its_moment() -> None:
    driver = Driver({**estate(ORDERS), "startTime": "2026-01-05T08:00:00.123457Z"})
    url = driver.backup(wait=0).headers["location"]
    (ticks,) = re.findall(r"&t=(\d+)", url)
    made = datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(ticks) // 10)
    assert made == datetime(2026, 1, 5, 8, 0, 0, 123457, tzinfo=UTC)


def test_a_throttled_call_says_five_seconds_where_the_fault_says_none() -> None:
    driver = Driver({**estate(ORDERS), "faults": [{"route": "GetVault", "fault": "throttle", "nth": 1}]})
    answer: Answer = driver.call("GET", "")
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")


def test_a_token_is_issued_by_the_tenant_it_was_asked_of() -> None:
    client = {"clientId": "11111111-2222-3333-4444-555555555555", "clientSecret": "right"}
    driver = Driver({"servicePrincipals": [client]})
    form = (
        f"grant_type=client_credentials&client_id={client['clientId']}&client_secret=right"
        "&scope=https://management.azure.com/.default"
    )
    url = f"http://x/{driver.simulator.tenant_id}/oauth2/v2.0/token"
    token = driver.call("POST", url, raw=form.encode(), headers={"authorization": ""}).body["access_token"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert driver.simulator.tenant_id in claims["iss"]
    assert claims["tid"] == driver.simulator.tenant_id


def test_lists_hold_what_single_reads_do_but_for_what_the_service_leaves_out() -> None:
    driver = Driver(estate(ORDERS))
    driver.backup()
    driver.restore(driver.points()[0]["name"], recoveryType="OriginalLocation")

    def listed_and_single(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        entry = driver.get(path)["value"][0]
        return entry, driver.get(entry["id"].replace("/Subscriptions/", "/subscriptions/"))

    left_out: dict[str, set[str]] = {
        "/backupJobs": {"extendedInfo"},
        "/backupProtectedItems": {"extendedInfo", "lastRecoveryPoint"},
        f"{driver.item()}/recoveryPoints": {
            "extendedInfo",
            "recoveryPointTierDetails",
            "recoveryPointMoveReadinessInfo",
            "recoveryPointProperties",
        },
        "/backupPolicies": set(),
        "/backupProtectionContainers": set(),
    }
    for path, names in left_out.items():
        entry, single = listed_and_single(path)
        for name in names:
            single["properties"].pop(name, None)
            entry["properties"].pop(name, None) if "recoveryPoint" in name else None
        assert entry == single, path


def test_a_job_is_known_again_by_the_request_id_of_the_call_that_made_it() -> None:
    driver = Driver(estate(ORDERS))
    request_id = "5f0c5f2e-0000-4000-8000-000000000001"
    body = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
    driver.call("POST", f"{driver.item()}/backup", body, headers={"x-ms-client-request-id": request_id})
    driver.backup(kind="Differential")
    activities = [job["properties"]["activityId"] for job in driver.get("/backupJobs")["value"]]
    assert activities.count(request_id) == 1
    assert len(set(activities)) == len(activities)


def test_the_tasks_of_a_job_know_fewer_states_than_the_job() -> None:
    warning = {
        "route": "Backup",
        "fault": "jobWarning",
        "nth": 1,
        "code": "UserErrorSlow",
        "message": "Slow.",
    }
    driver = Driver({**estate(ORDERS), "faults": [warning]})

    def states(job: dict[str, Any]) -> tuple[str, list[str]]:
        return job["status"], [task["status"] for task in job["extendedInfo"]["tasksList"]]

    assert states(driver.job(driver.backup())) == ("CompletedWithWarnings", ["Completed"])
    answer = driver.backup(wait=30)
    job_id = driver.get(answer.headers["azure-asyncoperation"])["properties"]["jobId"]
    assert driver.call("POST", f"/backupJobs/{job_id}/cancel").status == 202
    assert states(driver.job(answer)) == ("Cancelling", ["InProgress"])
    driver.wait(300)
    assert states(driver.job(answer)) == ("Cancelled", ["Cancelled"])


def test_a_machine_that_is_registered_again_says_when() -> None:
    driver = Driver(estate(ORDERS))
    before = driver.get(driver.container())["properties"]["lastUpdatedTime"]
    driver.wait(hours=5)
    driver.register(kind="Reregister")
    updated = moment(driver.get(driver.container())["properties"]["lastUpdatedTime"])
    assert timedelta(hours=5) <= updated - moment(before) <= timedelta(hours=5, minutes=5)


def test_a_machine_that_is_gone_leaves_a_container_that_says_so() -> None:
    for deleted, health in ((True, "Deleted"), (False, "Healthy")):
        (container,) = Driver(estate(ORDERS, deleted=deleted)).get("/backupProtectionContainers")["value"]
        assert container["properties"]["healthStatus"] == health


def test_an_instance_counts_its_databases_protected_or_not() -> None:
    """As in the recorded lists, where the counts of databases are 0."""
    driver = Driver(estate(ORDERS, {"name": "billing", "protectedBy": None}))
    counts = {
        entry["properties"]["friendlyName"]: (
            entry["properties"]["subinquireditemcount"],
            entry["properties"]["subprotectableitemcount"],
        )
        for entry in driver.get("/backupProtectableItems")["value"]
    }
    assert counts == {"MSSQLSERVER": (2, 2), "billing": (0, 0)}


@pytest.mark.parametrize(("state", "editable"), [("alwaysOn", False), (True, True), (False, True)])
def test_a_vault_says_whether_soft_delete_can_be_changed(state: object, editable: bool) -> None:
    driver = Driver({"vaults": [{"softDelete": state}]})
    config = driver.get("/backupconfig/vaultconfig")["properties"]
    assert config["isSoftDeleteFeatureStateEditable"] is editable


def test_recovery_points_and_log_ranges_are_of_the_time_that_is_asked_for() -> None:
    """The fields that `az backup recoverypoint list --start-date --end-date` sends."""
    driver = Driver({**estate({"name": "orders", "historyDays": 6}), "scheduledBackups": True})
    stop = {"policyId": "", "protectionState": "ProtectionStopped"}
    driver.put(driver.item(), 75, **stop)
    driver.wait(days=3)
    driver.protect()
    driver.wait(days=3)

    def listed(query: str = "") -> tuple[list[str], list[tuple[str, str]]]:
        points = driver.points(query=query)
        times = [point["properties"]["recoveryPointTimeInUTC"] for point in points[:-1]]
        ranges = points[-1]["properties"]["timeRanges"]
        return times, [(span["startTime"], span["endTime"]) for span in ranges]

    times, (new, old) = listed()
    middle = "2026-01-07"
    assert old[1] < middle < new[0]
    since, until = f"startDate eq '{middle} 12:00:00 AM'", f"endDate eq '{middle} 12:00:00 AM'"
    assert listed(f"?$filter={since}") == ([time for time in times if time > middle], [new])
    assert listed(f"?$filter={until}") == ([time for time in times if time < middle], [old])
    assert listed(f"?$filter={since} and endDate eq '2026-01-07 11:00:00 PM'") == ([], [])


def test_one_job_can_be_filtered_for() -> None:
    driver = Driver(estate(ORDERS))
    driver.backup()
    driver.backup(kind="Differential")
    newest, oldest = (job["name"] for job in driver.get("/backupJobs")["value"])
    for name in (newest, oldest.upper()):
        (found,) = driver.get(f"/backupJobs?$filter=jobID eq '{name}'")["value"]
        assert found["name"] == name.lower()


def test_moments_have_the_seven_digits_of_dotnet() -> None:
    """Such as `2021-05-11T06:33:16.9642384Z`, which is recorded."""
    for start, digits in (("08:00:00.964238Z", 7), ("08:00:00Z", 0)):
        driver = Driver({**estate(ORDERS), "startTime": f"2026-01-05T{start}"})
        driver.backup(wait=0)
        (job,) = driver.get("/backupJobs")["value"]
        fraction = re.fullmatch(r"2026-01-05T08:00:00(?:\.(\d+))?Z", job["properties"]["startTime"])
        assert fraction is not None
        assert (fraction[1] or "").startswith(start[9:].removesuffix("Z"))
        assert len(fraction[1] or "") == digits
