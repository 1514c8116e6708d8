"""P6: from a fresh interpreter to the imported app, and to the first step done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.estate import estate
from bench.p5_step import backup_task, step_body
from bench.remote import RemoteSimulator
from bench.report import Finding, Row, Spread

_ROOT = Path(__file__).resolve().parent.parent
_PEERS = "azure.functions, azure.durable_functions, azure.mgmt.recoveryservicesbackup, azure.identity, azure.servicebus"
_IMPORT = "import time; t=time.perf_counter(); {}; print(time.perf_counter()-t)"
_FIRST_STEP = """
import time; t = time.perf_counter()
import sys, function_app
from datetime import UTC, datetime, timedelta
from shared import composition
from shared.engine.run import handle
from shared.engine.message import Delivery
from shared.workflows import TABLE
class Nowhere:
    def send(self, messages): pass
runtime = composition.build({"ARM_ENDPOINT": sys.argv[1]}, bus=Nowhere())
now = datetime.now(UTC)
body = sys.stdin.buffer.read()
handle(TABLE.rows["trigger_backup"], Delivery(queue="trigger-backup", body=body, message_id="1", taken=now), runtime)
print(time.perf_counter() - t)
"""
_PEER_FIRST_CALL = """
import time; t = time.perf_counter()
import sys
{imports}
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient, models as m
class Token(SansIOHTTPPolicy):
    def on_request(self, request): request.http_request.headers["Authorization"] = "Bearer local-simulator"
client = RecoveryServicesBackupClient(object(), "00000000-0000-0000-0000-000000000001", base_url=sys.argv[1], authentication_policy=Token())
client.backups.trigger("vault1", "rg-backup", "Azure", "VMAppContainer;compute;rg-sql;sqlvm1", "SQLDataBase;mssqlserver;" + sys.argv[2], m.BackupRequestResource(properties=m.AzureWorkloadBackupRequest(backup_type="Full")))
print(time.perf_counter() - t)
"""


def measure(*, quick: bool) -> Finding:
    runs = 3 if quick else 9
    ours, theirs, bare, first, peer_first = [], [], [], [], []
    with RemoteSimulator(estate(4 * runs, protected=True, budgets=False, backup=600), real=True) as remote:
        # In turn, so that other load on the machine affects all alike.
        for run in range(runs + 1):
            ours.append(_python(_IMPORT.format("import function_app")))
            theirs.append(_python(_IMPORT.format(f"import {_PEERS}")))
            bare.append(_python(_IMPORT.format("import azure.functions")))
            body = step_body("trigger_backup", backup_task(f"db{2 * run:04}"), sender="select_items")
            first.append(_python(_FIRST_STEP, remote.url, stdin=body))
            script = _PEER_FIRST_CALL.format(imports=f"import {_PEERS}")
            peer_first.append(_python(script, remote.url, f"db{2 * run + 1:04}"))
    # The first run of each filled the caches.
    mine, peer, floor = (Spread(tuple(values[1:])) for values in (ours, theirs, bare))
    step, call = Spread(tuple(first[1:])), Spread(tuple(peer_first[1:]))
    share = mine.median / peer.median
    finding = Finding(name="p6", title="cold start")
    finding.figures = {
        "import": mine.as_json(),
        "peers": peer.as_json(),
        "azureFunctionsAlone": floor.as_json(),
        "firstStep": step.as_json(),
        "peersFirstCall": call.as_json(),
    }
    finding.rows = [
        Row(
            measure="P6",
            what="import function_app",
            goal="<= 0.6 of peers",
            value=f"{mine.text(2, ' s')} = {share:.2f}",
            reached=share <= 0.6,
            peer=f"durable+mgmt+identity+servicebus: {peer.text(2, ' s')}",
            ratio=1 / share,
        ),
        Row(
            measure="P6",
            what="... until the first step is done",
            goal="none",
            value=step.text(2, " s"),
            reached=None,
            peer=f"{call.text(2, ' s')}",
            ratio=call.median / step.median,
        ),
    ]
    return finding


def _python(code: str, *arguments: str, stdin: bytes = b"") -> float:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        check=True,
        env=environment,
    )
    return float(done.stdout.split()[-1])
