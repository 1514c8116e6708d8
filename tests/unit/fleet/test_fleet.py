"""Many databases of one vault, end to end, with Azure's limits enforced."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from local.simulator import SERVICE_LIMITS
from tests.unit.fleet.app import fleet, moment, open_fleet

_MINUTE = timedelta(minutes=1)


def test_a_fleet_is_followed_by_one_listing_a_tick() -> None:
    with open_fleet(fleet(90, backup=170, pageSize=30), tick="PT30S") as app:
        app.back_up()
        app.run()
        assert app.statuses == {"succeeded": 90}
        assert app.count("Backup") == 90
        assert app.refused == 0
        # Three pages of jobs in any tick, however many look for theirs in it.
        assert set(app.by_tick("ListJobs").values()) == {3}
        # Beyond the listings, a job's details at most once.
        assert app.count("GetJob") <= 90
        assert app.count("OperationStatus") == 0


def test_batches_of_one_tick_share_its_listing() -> None:
    with open_fleet(fleet(60, backup=100, pageSize=20), batch=10, tick="PT30S") as app:
        app.back_up()
        app.run()
        assert app.statuses == {"succeeded": 60}
        assert set(app.by_tick("ListJobs").values()) == {3}


def test_fan_out_leaves_room_under_the_write_limit() -> None:
    with open_fleet(fleet(200)) as app:
        app.back_up()
        app.run(until=lambda: app.count("Backup") == 200)
        began = app.simulator.scenario.start_time
        posted = [call for call in app.calls if call["route"] == "Backup"]
        started = [(moment(call["time"]) - began).total_seconds() for call in posted]
        # A twentieth of what is left, and of what comes in, is for others.
        assert sum(at == 0 for at in started) == 190
        assert max(started) == pytest.approx((200 - 190) / 9.5, abs=1)
        assert app.refused == 0


def test_a_fan_out_is_paced_by_what_is_left_of_the_writes() -> None:
    with open_fleet(fleet(300)) as app:
        for number in range(150):
            app.back_up(f"db{number:04}")
        app.host.run_until_idle()
        assert app.count("Backup") == 150
        app.back_up("db*")
        app.host.run_until_idle()
        assert app.count("Backup") == 150 + int(50 * 0.95)
        assert app.refused == 0


def test_a_request_is_not_held_up_by_the_fan_out_of_another() -> None:
    with open_fleet(fleet(600)) as app:
        app.back_up("db*")
        app.run(until=lambda: app.count("Backup") == 300)
        app.back_up("db0599")
        asked = app.clock.now()
        app.run(
            until=lambda: any(
                "db0599" in call["path"].lower() for call in app.calls if call["route"] == "Backup"
            )
        )
        assert app.clock.now() - asked <= timedelta(seconds=10)


def test_requests_that_come_at_once_take_turns_within_the_limits() -> None:
    budgets = {**SERVICE_LIMITS, "writes": {"bucket": 20, "perSecond": 10}}
    with open_fleet(fleet(120, throttling=budgets)) as app:
        for number in range(120):
            app.back_up(f"db{number:04}")
        app.run()
        assert app.statuses == {"succeeded": 120}
        assert app.refused == 0
        # The bucket holds 20, and 10 a second come in: hardly later than the last could be.
        started = [moment(call["time"]) for call in app.calls if call["route"] == "Backup"]
        assert (max(started) - app.simulator.scenario.start_time).total_seconds() <= 10 * 1.1
        # What the vault protects was listed for all of them together.
        assert app.count("ListProtectedItems") == 1


def test_requests_for_single_databases_of_a_large_vault_leave_the_hour_of_listings_alone() -> None:
    with open_fleet(fleet(300, pageSize=30)) as app:
        for number in range(60):
            app.back_up(f"db{number:04}")
            app.run(at_most=30 * timedelta(seconds=1))
        app.run()
        assert app.statuses == {"succeeded": 60}
        assert app.refused == 0
        # Half of the hour in listings of ten pages that are fresh; then as many minutes apart.
        assert app.count("ListProtectedItems") <= 150 + 10 + 30 // 10 * 10


def test_without_the_echo_each_operation_is_asked_once_at_the_pace_of_the_budget() -> None:
    budgets = {**SERVICE_LIMITS, "backupReads": {"perHour": 80}}
    scenario = fleet(70, backup=600, echoActivityId=False, throttling=budgets)
    with open_fleet(scenario, tick="PT1M") as app:
        app.back_up()
        app.run()
        assert app.statuses == {"succeeded": 70}
        assert app.count("Backup") == 70
        assert app.refused == 0
        assert app.count("OperationStatus") == 70


def test_once_most_have_ended_only_what_runs_is_listed() -> None:
    with open_fleet(fleet(90, backup=[200.0, 1.4], pageSize=30), tick="PT30S") as app:
        app.back_up()
        app.run(at_most=45 * _MINUTE)
        late = app.by_tick("ListJobs")
        assert late[4] == 3, "as long as many end, all are listed"
        assert max(late[tick] for tick in range(40, 90)) <= 1, "the ended jobs are not listed for ever"
        assert app.refused == 0
        # None that has ended is missed for being absent from the list.
        assert app.lateness[int(len(app.lateness) * 0.9)] <= 31


def test_details_do_not_take_the_reads_that_listings_need() -> None:
    budgets = {**SERVICE_LIMITS, "backupReads": {"jobsPerHour": 120}}
    with open_fleet(fleet(90, backup=[600, 0.8], pageSize=30, throttling=budgets)) as app:
        app.back_up()
        app.run()
        assert app.statuses == {"succeeded": 90}
        assert app.refused == 0
        # Nobody is unseen for long, to the last: a tick is two minutes at most.
        assert app.lateness[-1] <= 240


def test_outcomes_come_within_a_tick_of_the_end() -> None:
    with open_fleet(fleet(80, backup=[300, 0.8])) as app:
        app.back_up()
        app.run()
        late = app.lateness
        assert len(late) == 80
        assert late[int(0.9 * len(late))] <= 31
        # A job that was shorter than the operation's Retry-After: that, and a tick.
        assert late[-1] <= 60 + 30 + 1


def test_protect_with_first_backup_of_a_whole_vm_asks_the_least() -> None:
    # All protections end together: what follows on them comes without a pace of its own.
    budgets = {**SERVICE_LIMITS, "writes": {"bucket": 50, "perSecond": 10}}
    with open_fleet(fleet(70, protected=False, throttling=budgets)) as app:
        app.request(
            "protect",
            {
                "vmId": app.simulator.vm_id("sqlvm1"),
                "policyName": "HourlyLogBackup",
                "databases": [{"instance": "MSSQLSERVER", "database": "*"}],
                "firstBackup": "now",
            },
        )
        app.run()
        assert app.statuses == {"succeeded": 70}
        assert (app.count("ConfigureBackup"), app.count("Backup")) == (70, 70)
        assert app.refused == 0
        # Those that came a little apart from the rest ask their operation itself.
        assert app.count("OperationStatus") <= 10
        once = app.count() - app.count("ConfigureBackup", "Backup", "GetJob", "ListJobs", "OperationStatus")
        assert once <= 20, "the VM is discovered once"
        assert app.count("GetJob") <= 70


def test_one_backup_that_goes_well_takes_no_call_too_many() -> None:
    with open_fleet(fleet(1, backup=45)) as app:
        app.back_up("db0000")
        app.run()
        asked = [call["route"] for call in app.calls]
        assert asked == ["ListProtectedItems", "Backup", "OperationStatus", "GetJob", "ListRecoveryPoints"]
        posted, polled = moment(app.calls[1]["time"]), moment(app.calls[2]["time"])
        assert polled - posted >= timedelta(seconds=60), "no URL is asked before its Retry-After"


def test_the_message_of_a_poll_stays_as_small_as_the_first() -> None:
    with open_fleet(fleet(1, backup=2 * 3600)) as app:
        app.back_up("db0000")
        sizes = []

        def seen() -> bool:
            for message in app.broker.peek("track"):
                urls = json.loads(message.body)["payload"]["of"]
                names = ("asyncOperationUrl", "locationUrl")
                sizes.append(len(message.body) - sum(len(urls.get(name) or "") for name in names))
            return False

        app.run(until=seen)
        assert len(sizes) > 200
        assert max(sizes) < 4096
        assert max(sizes[2:]) - min(sizes[2:]) <= 4, "but for the digits of the poll's number"


def test_smaller_limits_slow_the_app_down_and_lose_nothing() -> None:
    budgets = {
        **SERVICE_LIMITS,
        "writes": {"bucket": 15, "perSecond": 2},
        "backupReads": {"perHour": 60, "jobsPerHour": 90},
    }
    with open_fleet(fleet(60, backup=600, throttling=budgets)) as app:
        app.back_up()
        app.run()
        assert app.statuses == {"succeeded": 60}
        assert sum(call["route"] == "Backup" and call["status"] == 202 for call in app.calls) == 60
        # A fifth of what is documented: it is found out by being refused, now and then.
        assert app.refused <= 0.15 * app.count()


def test_two_vaults_do_not_share_a_listing() -> None:
    machines = [
        {
            "name": f"sqlvm{vault}",
            "registeredTo": f"vault{vault}",
            "instances": [
                {
                    "name": "MSSQLSERVER",
                    "databases": [{"name": f"db{n}", "protectedBy": "HourlyLogBackup"} for n in range(8)],
                }
            ],
        }
        for vault in (1, 2)
    ]
    scenario = fleet(0, backup=100, vaults=[{"name": "vault1"}, {"name": "vault2"}], virtualMachines=machines)
    with open_fleet(scenario, tick="PT30S") as app:
        app.back_up()
        selector = {"instance": "*", "database": "*"}
        app.request(
            "backup",
            {"vaultId": app.simulator.vault_id("vault2"), "databases": [selector], "backupType": "Full"},
        )
        app.run()
        assert app.statuses == {"succeeded": 16}
        listed = {call["path"].split("/")[8] for call in app.calls if call["route"] == "ListJobs"}
        assert listed == {"vault1", "vault2"}
        assert all(count <= 2 for count in app.by_tick("ListJobs").values())


def test_vaults_of_a_subscription_share_the_hour_evenly() -> None:
    numbers = range(1, 11)
    machines = [
        {
            "name": f"sqlvm{number}",
            "registeredTo": f"vault{number}",
            "instances": [
                {
                    "name": "MSSQLSERVER",
                    "databases": [{"name": f"db{n}", "protectedBy": "HourlyLogBackup"} for n in range(3)],
                }
            ],
        }
        for number in numbers
    ]
    vaults = [{"name": f"vault{number}"} for number in numbers]
    with open_fleet(fleet(0, backup=4000, vaults=vaults, virtualMachines=machines)) as app:
        for number in numbers:
            everything = [{"instance": "*", "database": "*"}]
            vault_id = app.simulator.vault_id(f"vault{number}")
            app.request("backup", {"vaultId": vault_id, "databases": everything, "backupType": "Full"})
        app.run()
        assert app.statuses == {"succeeded": 30}
        # At every 30 seconds the counter of job reads would have been used up after 23 minutes.
        assert app.refused == 0
        assert app.lateness[-1] <= 125
