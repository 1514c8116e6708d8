"""P10: what 1,000 backups use of Azure, counted, and what that costs compared with the alternatives.

The prices are second-hand and dated, because Microsoft's pages fill theirs in by script. Replace them with today's:
every figure here is a count times a price.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.app import App
from bench.estate import fleet_of_jobs
from bench.report import Finding, Row

_POLL: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Prices:
    """US dollars; East US.

    Flex Consumption on demand, from modal.com/blog/azure-function-pricing-guide (2025-05-22): each execution is
    billed for a second at least. Service Bus Standard beyond the 13 million operations of its base price. Logic Apps
    Consumption: a built-in action and a standard connector (a gist of 2020-07 that quotes the page).
    """

    million_executions: float = 0.40
    gigabyte_second: float = 0.000026
    instance_gigabytes: float = 2.0
    least_seconds: float = 1.0
    million_operations: float = 0.80
    built_in_action: float = 0.000025
    connector_action: float = 0.000125


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The operations that are billed."""

    executions: int
    operations: int = 0
    built_in: int = 0
    connectors: int = 0

    def dollars(self, prices: Prices) -> float:
        """The cost in US dollars, without free grants."""
        an_execution = (
            prices.million_executions / 1e6
            + prices.gigabyte_second * prices.instance_gigabytes * prices.least_seconds
        )
        return (
            self.executions * an_execution
            + self.operations * prices.million_operations / 1e6
            + self.built_in * prices.built_in_action
            + self.connectors * prices.connector_action
        )


def measure(*, quick: bool) -> Finding:
    jobs = 100 if quick else 1000
    prices = Prices()
    together, calls, polls = _together(jobs)
    sample = 20 if quick else 100
    apart, calls_apart = _apart(sample)
    share = jobs / sample
    apart = Counts(executions=round(apart.executions * share), operations=round(apart.operations * share))
    # A Durable monitor: each look is an activity and two episodes of its orchestrator; without its task hub.
    durable = Counts(executions=3 * polls + 2 * jobs)
    # A Logic App: a delay, a condition and a call of Azure Resource Manager for each look.
    logic = Counts(executions=0, built_in=2 * polls + 2 * jobs, connectors=polls + jobs)
    finding = Finding(name="p10", title="what backups cost")
    finding.figures = {
        "jobs": jobs,
        "prices": asdict(prices),
        "looksOfSinglePolls": polls,
        "armCalls": calls,
        "armCallsApart": round(calls_apart * share),
        **{
            name: {**asdict(counts), "dollars": counts.dollars(prices)}
            for name, counts in (
                ("together", together),
                ("apart", apart),
                ("durable", durable),
                ("logic", logic),
            )
        },
    }
    ratio = durable.dollars(prices) / together.dollars(prices)
    finding.rows = [
        Row(
            measure="P10",
            what=f"{jobs} backups by one request",
            goal="<= 1/5 of Durable",
            value=_told(together, prices, calls),
            reached=ratio >= 5,
            peer=f"Durable monitor every 30 s: {durable.executions} executions, ${durable.dollars(prices):.2f}",
            ratio=ratio,
        ),
        Row(
            measure="P10",
            what=f"{jobs} backups, a request for each, one at a time",
            goal="none",
            value=_told(apart, prices, round(calls_apart * share)),
            reached=None,
            peer=(
                f"Logic App every 30 s: {logic.built_in + logic.connectors} actions, ${logic.dollars(prices):.2f};"
                " a script on a VM: the VM"
            ),
            ratio=logic.dollars(prices) / apart.dollars(prices),
        ),
    ]
    return finding


def _told(counts: Counts, prices: Prices, calls: int) -> str:
    return (
        f"{counts.executions} executions, {counts.operations} broker operations, {calls} ARM calls:"
        f" ${counts.dollars(prices):.2f}"
    )


def _together(jobs: int) -> tuple[Counts, int, int]:
    with App(fleet_of_jobs(jobs)) as app:
        app.back_up_all()
        app.run()
        lengths = [_seconds(outcome.event) for outcome in app.outcomes]
        return (
            _counted(app),
            len(app.simulator.access_entries),
            sum(math.ceil(each / _POLL) for each in lengths),
        )


def _apart(jobs: int) -> tuple[Counts, int]:
    """One job in flight at a time, which shares its executions with no other."""
    with App(fleet_of_jobs(jobs, seed=2)) as app:
        for number in range(jobs):
            app.back_up(f"db{number:04}")
            app.run()
        return _counted(app), len(app.simulator.access_entries)


def _counted(app: App) -> Counts:
    """Executions, and operations of the broker: each message is sent, received and completed."""
    return Counts(executions=app.executions, operations=3 * app.steps + len(app.outcomes))


def _seconds(event: dict[str, Any]) -> float:
    return float(event["data"].get("durationSeconds") or 0)
