"""The embedded default alone: requests per second of the simulator, cycles per second of the broker."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlsplit

import requests

from bench.estate import VAULT, estate
from bench.remote import RemoteSimulator
from bench.report import Finding, Row, Spread
from local.broker import Broker
from local.simulator import FIXED_TOKEN
from shared.bus import OutgoingMessage

_RUNS = 5


def measure(*, quick: bool) -> Finding:
    polls = 400 if quick else 1000
    with RemoteSimulator(estate(2000, protected=True, budgets=False, backup=36000), real=True) as remote:
        one = requests.Session()
        one.headers["Authorization"] = f"Bearer {FIXED_TOKEN}"
        one.trust_env = False
        item = f"{remote.url}{VAULT}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg-sql;sqlvm1"
        request = {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}}
        for number in range(20):
            path = (
                f"{item}/protectedItems/SQLDataBase;mssqlserver;db{number:04}/backup?api-version=2024-04-01"
            )
            one.post(path, json=request).raise_for_status()
        listed = one.get(f"{remote.url}{VAULT}/backupJobs?api-version=2024-04-01").json()["value"]
        jobs = [f"{remote.url}{entry['id']}?api-version=2024-04-01" for entry in listed]
        pages = Spread(tuple(_listing(one, remote.url) for _ in range(_RUNS)))
        polling = Spread(tuple(_polls(jobs, polls) for _ in range(_RUNS)))
        one.close()
    cycles = Spread(tuple(_cycles(None, polls) for _ in range(_RUNS)))
    with TemporaryDirectory() as directory:
        kept = Spread(tuple(_cycles(Path(directory) / f"{n}.db", polls) for n in range(_RUNS)))
    finding = Finding(name="embedded", title="the embedded default")
    finding.figures = {
        "pagesPerSecond": pages.as_json(),
        "pollsPerSecond": polling.as_json(),
        "brokerCyclesInMemory": cycles.as_json(),
        "brokerCyclesOnDisk": kept.as_json(),
    }
    finding.rows = [
        Row(
            measure="sim",
            what="job polls/s, one process, 4 clients",
            goal=">= 500",
            value=polling.text(0),
            reached=polling.median >= 500,
        ),
        Row(
            measure="sim",
            what="pages of 200 items/s (2,000 items)",
            goal="none",
            value=pages.text(0),
            reached=None,
        ),
        Row(
            measure="broker",
            what="cycles of send, receive, complete /s: in memory, on disk",
            goal="none",
            value=f"{cycles.text(0)}, {kept.text(0)}",
            reached=None,
        ),
    ]
    return finding


def _listing(session: requests.Session, url: str) -> float:
    link = f"{url}{VAULT}/backupProtectedItems?api-version=2024-04-01&$filter=backupManagementType eq 'AzureWorkload'"
    count = items = 0
    began = time.perf_counter()
    while link:
        body = session.get(link).json()
        items += len(body["value"])
        count += 1
        link = body.get("nextLink")
    elapsed = time.perf_counter() - began
    assert items == 2000, items
    return count / elapsed


def _polls(jobs: list[str], count: int) -> float:
    def client(number: int) -> None:
        parts = urlsplit(jobs[0])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        for index in range(count // 4):
            target = urlsplit(jobs[(index + number) % len(jobs)])
            connection.request(
                "GET",
                f"{quote(target.path)}?{target.query}",
                headers={"Authorization": f"Bearer {FIXED_TOKEN}"},
            )
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    return count / (time.perf_counter() - began)


def _cycles(path: Path | None, count: int) -> float:
    with Broker(path) as broker:
        body = b"x" * 1500
        began = time.perf_counter()
        for number in range(count):
            broker.send("track", [OutgoingMessage(entity="track", body=body, message_id=str(number))])
            for message in broker.receive("track", 1):
                broker.complete("track", message.lock_token)
        return count / (time.perf_counter() - began)
