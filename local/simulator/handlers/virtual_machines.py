"""Virtual machines, as Microsoft.Compute lists them."""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Answer, Call
from local.simulator.errors import arm
from local.simulator.estate import VirtualMachine
from local.simulator.world import World


def _render_machine(world: World, machine: VirtualMachine) -> dict[str, Any]:
    return {
        "name": machine.name.name,
        "id": machine.name.vm_id(world.scenario.subscription_id),
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.location,
        "properties": {
            "vmId": machine.vm_guid,
            "hardwareProfile": {"vmSize": "Standard_DS1_v2"},
            "storageProfile": {
                "osDisk": {
                    "osType": "Windows",
                    "name": f"{machine.name.name}_OsDisk_1",
                    "createOption": "FromImage",
                },
                "dataDisks": [],
            },
            "osProfile": {"computerName": machine.server_name, "adminUsername": "azureuser"},
            "provisioningState": "Succeeded",
        },
    }


def list_machines(world: World, call: Call) -> Answer:
    """GET the virtual machines of the subscription or a resource group."""
    world.check_subscription(call)
    group = call.parameters.get("group")
    machines = [
        machine
        for machine in world.machines.values()
        if group is None or machine.name.resource_group.lower() == group.lower()
    ]
    return Answer(200, {"value": [_render_machine(world, machine) for machine in machines]})


def machine_of(world: World, call: Call) -> VirtualMachine:
    """The virtual machine named in the URL. Raises ServiceError (404)."""
    world.check_subscription(call)
    group, name = call.parameters["group"], call.parameters["machine"]
    machine = world.machines.get(f"{group};{name}".lower())
    if machine is None:
        raise arm(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.Compute/virtualMachines/{name}' under resource group '{group}' was not found.",
        )
    return machine


def get_machine(world: World, call: Call) -> Answer:
    """GET a virtual machine."""
    return Answer(200, _render_machine(world, machine_of(world, call)))
