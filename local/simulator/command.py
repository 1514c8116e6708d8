"""`sqlvmbackup simulator`: the simulator alone, for any client."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import textwrap
import threading
from pathlib import Path

from local.simulator.faults import FAULTS
from local.simulator.route_names import ROUTES
from local.simulator.scenario import Scenario, ScenarioError
from local.simulator.server import SimulatorServer
from local.simulator.simulator import Simulator


def _table(title: str, rows: dict[str, str]) -> str:
    width = max(len(name) for name in rows) + 2
    lines = [title]
    for name, text in rows.items():
        lines += textwrap.wrap(
            text,
            100,
            initial_indent=f"  {name:<{width}}",
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    epilog = "\n\n".join(
        [
            "example:\n"
            "  sqlvmbackup simulator --port 8080 --scenario estate.json --ledger ledger.jsonl --time-scale 0.01\n\n"
            "  with this in estate.json, the first backup loses its answer after it has taken effect:\n"
            '  {"faults": [{"route": "Backup", "nth": 1, "fault": "dropAfterEffect"}]}\n\n'
            "Without TLS it takes the bearer token 'local-simulator', and any its token endpoint has issued.",
            _table("routes (of faults, ledger and access log):", ROUTES),
            _table("faults (each with a route or *, and nth, probability, times, pathContains):", FAULTS),
        ]
    )
    parser = argparse.ArgumentParser(
        prog="sqlvmbackup simulator",
        description="Serve the Azure Backup simulator on loopback until it is interrupted.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port", type=_port, required=True, metavar="P", help="port to listen on; 0 picks one"
    )
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help="JSON file with the estate; default: two VMs"
    )
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="a JSON line per mutation that took effect"
    )
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="a JSON line per HTTP request")
    parser.add_argument(
        "--time-scale",
        type=_scale,
        default=1.0,
        metavar="X",
        help="real seconds per simulated second (default 1; 0.01 is a hundred times as fast)",
    )
    parser.add_argument(
        "--tls", type=Path, metavar="DIR", help="speak https; the certificate to trust goes to DIR/cert.pem"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"a time scale is a positive number, not {text!r}")
    return value


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM (exit status 0); 2 for unusable options, files or a taken port."""
    options = _parser().parse_args(arguments)
    try:
        scenario = Scenario.load(options.scenario) if options.scenario is not None else Scenario()
        simulator = Simulator(
            scenario,
            time_scale=options.time_scale,
            ledger=options.ledger,
            access_log=options.access_log,
        )
    except ScenarioError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:
        print(f"The file {error.filename} cannot be written: {error.strerror}.", file=sys.stderr)  # noqa: T201
        return 2
    server = SimulatorServer(simulator, port=options.port, tls_directory=options.tls)
    try:
        server.start()
    except OSError as error:
        simulator.close()
        where = error.filename or f"port {options.port}"
        print(f"The simulator cannot use {where}: {error.strerror}.", file=sys.stderr)  # noqa: T201
        return 2
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    print(f"Azure Backup simulator ready at {server.url}", flush=True)  # noqa: T201
    if options.time_scale != 1:
        # Without this, the app waits by another clock, and everything seems to hang.
        hint = (
            f"Set ARM_ENDPOINT={server.url} and TIME_SCALE={options.time_scale:g} for commands that use it."
        )
        print(hint, file=sys.stderr, flush=True)  # noqa: T201
    # Windows does not interrupt a wait without a time-out.
    while not ended.wait(1):
        pass
    server.stop()
    return 0
