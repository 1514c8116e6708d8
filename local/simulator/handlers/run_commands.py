"""Managed run commands: put, read, list, delete, and the operations that these start."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, arm
from local.simulator.estate import RunCommand, VirtualMachine
from local.simulator.handlers.virtual_machines import machine_of
from local.simulator.nested import nested
from local.simulator.run_commands import DEFAULT_TIMEOUT, MOST, execute, render
from local.simulator.timing import ticks
from local.simulator.world import World

_UPDATES = 12
"""A bucket for updates of a machine, refilled at four per minute
(https://learn.microsoft.com/azure/virtual-machines/compute-throttling-limits)."""
_UPDATES_A_MINUTE = 4.0


def _bad(code: str, message: str) -> ServiceError:
    return arm(400, code, message)


def _command(call: Call, machine: VirtualMachine) -> RunCommand:
    name = call.parameters["command"]
    command = machine.run_commands.get(name.lower())
    if command is None:
        raise arm(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.Compute/virtualMachines/{machine.name.name}/runCommands/{name}' was not found.",
        )
    return command


def _id(world: World, machine: VirtualMachine, name: str) -> str:
    return f"{machine.name.vm_id(world.scenario.subscription_id)}/runCommands/{name}"


def _render(world: World, call: Call, machine: VirtualMachine, command: RunCommand) -> dict[str, Any]:
    viewed = call.query.get("$expand", "").lower() == "instanceview"
    return render(command, _id(world, machine, command.name), machine.location, viewed=viewed)


def list_run_commands(world: World, call: Call) -> Answer:
    """GET a machine's run commands."""
    machine = machine_of(world, call)
    found = [_render(world, call, machine, command) for command in machine.run_commands.values()]
    return Answer(200, {"value": found})


def get_run_command(world: World, call: Call) -> Answer:
    """GET a run command, with `$expand=instanceView` also the state of its script."""
    machine = machine_of(world, call)
    return Answer(200, _render(world, call, machine, _command(call, machine)))


# Long: one request, from its checks, in the service's order, to the job it starts.
def put_run_command(world: World, call: Call) -> Answer:
    """PUT a run command: its script runs, unless one of that name has the same script already."""
    machine = machine_of(world, call)
    body = call.json()
    given = body.get("properties")
    if not isinstance(given, dict) or not isinstance(body.get("location"), str):
        raise _bad("InvalidParameter", "The body needs a location and properties.")
    script = nested(given, "source", "script")
    if not isinstance(script, str) or not script:
        raise _bad("InvalidParameter", "Parameter source.script is missing.")
    parameters = _parameters(given.get("parameters"))
    if not machine.running:
        raise arm(
            409,
            "OperationNotAllowed",
            f"Cannot modify extensions in the VM '{machine.name.name}' when the VM is not running.",
        )
    _count_update(world, machine)
    name = call.parameters["command"]
    known = machine.run_commands.get(name.lower())
    if known is None and len(machine.run_commands) >= MOST:
        raise _bad(
            "BadRequest",
            f"The maximum number of managed Run commands (max={MOST}, current={len(machine.run_commands)}) has been"
            " exceeded. Delete some of them before adding another.",
        )
    provisioned = world.now + world.durations.draw("runCommand")
    if known is not None and known.script == script and known.provisioning_state != "Deleting":
        # Recorded: it is accepted, but nothing runs; it shows the earlier run.
        command = known
        command.parameters, command.provisioning_state = parameters, "Updating"
        world.agenda.at(provisioned, partial(_provisioned, command))
    else:
        timeout = given.get("timeoutInSeconds")
        command = RunCommand(
            name=known.name if known is not None else name,
            script=script,
            parameters=parameters,
            timeout=timeout if isinstance(timeout, int) else 0,
            asynchronous=given.get("asyncExecution") is True,
            provisioning_state="Creating" if known is None else "Updating",
        )
        machine.run_commands[name.lower()] = command
        if machine.agent_ready:
            world.agenda.at(provisioned, partial(_start, world, call, machine, command))
    shown = render(command, _id(world, machine, command.name), machine.location, viewed=False)
    effect = Effect(_id(world, machine, command.name))
    return Answer(201 if known is None else 200, shown, _headers(world, call, machine), effect)


def _parameters(value: Any) -> list[dict[str, str]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) and isinstance(each.get("value"), str)
        for each in value
    ):
        raise _bad("InvalidParameter", "Parameter parameters is no list of names and values.")
    return [{"name": each["name"], "value": each["value"]} for each in value]


def _provisioned(command: RunCommand) -> None:
    if command.provisioning_state == "Updating":
        command.provisioning_state = "Succeeded"


def _start(world: World, call: Call, machine: VirtualMachine, command: RunCommand) -> None:
    """The agent receives the script and runs it."""
    if machine.run_commands.get(command.name.lower()) is not command:
        return
    command.state, command.start = "Running", world.now
    if command.asynchronous:
        command.provisioning_state = "Succeeded"
    given = {each["name"]: each["value"] for each in command.parameters}
    length = world.durations.draw("check" if given.get("action") == "check" else "script")
    limit = timedelta(seconds=command.timeout or DEFAULT_TIMEOUT)
    if "scriptNeverEnds" in call.faults or length > limit:
        world.agenda.at(world.now + limit, partial(_end, world, machine, command, "TimedOut"))
        return
    if (fault := call.faults.get("scriptFailure")) is not None:
        message = fault.message or "Execution failed: command terminated with exit status=127"
        world.agenda.at(
            world.now + length,
            partial(_end, world, machine, command, "Failed", exit_code=127, message=message),
        )
        return
    if "scriptMisleads" in call.faults:
        # Recorded for a handler that could not begin: state Running and exit code 0, with an end time.
        text = "Execution failed: failed to get configuration"
        world.agenda.at(world.now + length, partial(_end, world, machine, command, "Running", message=text))
        return
    world.agenda.at(world.now + length, partial(_complete, world, machine, command))


def _complete(world: World, machine: VirtualMachine, command: RunCommand) -> None:
    if machine.run_commands.get(command.name.lower()) is not command or command.end is not None:
        return
    command.output = execute(machine, command, world.now)
    _end(world, machine, command, "Succeeded")


def _end(
    world: World,
    machine: VirtualMachine,
    command: RunCommand,
    state: str,
    *,
    exit_code: int = 0,
    message: str = "",
) -> None:
    if machine.run_commands.get(command.name.lower()) is not command or command.end is not None:
        return
    command.state, command.end, command.exit_code, command.message = state, world.now, exit_code, message
    if command.provisioning_state != "Deleting":
        command.provisioning_state = "Succeeded"


def delete_run_command(world: World, call: Call) -> Answer:
    """DELETE a run command; if it is running, it is stopped."""
    machine = machine_of(world, call)
    name = call.parameters["command"]
    command = machine.run_commands.get(name.lower())
    if command is None:
        return Answer(204)
    _count_update(world, machine)
    headers = _headers(world, call, machine)
    headers["Location"] = headers["Azure-AsyncOperation"] + "&monitor=true"
    if command.provisioning_state != "Deleting" and "deleteFails" not in call.faults:
        command.provisioning_state = "Deleting"
        world.agenda.at(
            world.now + world.durations.draw("runCommand"), partial(_gone, machine, name.lower(), command)
        )
    return Answer(202, None, headers, Effect(_id(world, machine, command.name)))


def _gone(machine: VirtualMachine, key: str, command: RunCommand) -> None:
    if machine.run_commands.get(key) is command:
        del machine.run_commands[key]


def _headers(world: World, call: Call, machine: VirtualMachine) -> dict[str, str]:
    operation = world.ids.guid()
    path = (
        f"/subscriptions/{world.scenario.subscription_id}/providers/Microsoft.Compute/locations/{machine.location}"
        f"/operations/{operation}"
    )
    world.compute_operations[operation] = (world.now, world.now + world.durations.draw("runCommand"))
    query = f"p={world.ids.guid()}&api-version={call.api_version}{world.signer.sign(path, ticks(world.now))}"
    return {
        "Azure-AsyncOperation": f"{call.request.origin}{path}?{query}",
        "Azure-AsyncNotification": "Enabled",
        "x-ms-ratelimit-remaining-resource": "Microsoft.Compute/UpdateVMSubscriptionMaximum;1499,"
        f"Microsoft.Compute/UpdateVMResource;{int(machine.updates_left)}",
    }


def _count_update(world: World, machine: VirtualMachine) -> None:
    """Count an update of the machine. Raises ServiceError (429) if its bucket is empty."""
    now = world.now
    if machine.updates_at is not None:
        minutes = (now - machine.updates_at).total_seconds() / 60
        machine.updates_left = min(_UPDATES, machine.updates_left + minutes * _UPDATES_A_MINUTE)
    machine.updates_at = now
    if machine.updates_left < 1:
        raise arm(
            429,
            "OperationNotAllowed",
            "The server rejected the request because too many requests have been received for this virtual machine.",
            **{"Retry-After": "60"},
        )
    machine.updates_left -= 1


def compute_operation(world: World, call: Call) -> Answer:
    """GET the operation of a put or a delete."""
    world.check_subscription(call)
    found = world.compute_operations.get(call.parameters["operation"])
    if found is None:
        raise arm(404, "NotFound", "The operation was not found.")
    start, end = found
    body: dict[str, Any] = {
        "startTime": _offset(start),
        "status": "InProgress",
        "name": call.parameters["operation"],
    }
    if world.now >= end:
        body |= {"endTime": _offset(end), "status": "Succeeded"}
    return Answer(200, body)


def _offset(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0+00:00"
