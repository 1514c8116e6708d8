"""Vaults and VMs as people name them: by ARM id, by the names that `az` takes, or by the environment."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from cli.errors import FAILED, CommandError
from cli.parsing import did_you_mean
from shared.arm.ids import InvalidResourceIdError, VaultId, VirtualMachineId
from shared.names import enumeration, name_key

VAULT: Final = "SQLVMBACKUP_VAULT"
_SUBSCRIPTION: Final = "AZURE_SUBSCRIPTION_ID"
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EXAMPLE: Final = (
    "--vault /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.RecoveryServices/vaults/NAME, or"
    f" -g GROUP -v NAME --subscription SUBSCRIPTION, or set {VAULT} to the id"
)


def find_places(options: argparse.Namespace) -> None:
    """Replace the vault and VMs in the options with full ARM ids. Raises CommandError."""
    options.vault = vault_path(options, os.environ)
    for name in ("vm", "to_vm"):
        given = getattr(options, name, None)
        if given is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        text = given.strip().rstrip("/")
        if not text:
            raise CommandError(f"{flag}: expected the name or the full ARM id of a VM, not {given!r}.")
        setattr(options, name, text if "/" in text else _by_name(text, flag, options))


def vault_path(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """The full ARM id of the vault that the options, or else the environment, name. Raises CommandError."""
    by_name = {
        "-g": options.resource_group,
        "-v": options.vault_name,
        "--subscription": options.subscription,
    }
    named = [flag for flag, value in by_name.items() if value is not None]
    if options.vault is not None:
        if named:
            raise CommandError(
                f"--vault is the whole id of the vault: it does not go with {', '.join(named)}."
            )
        return _checked(options.vault, "--vault")
    if not named:
        if environment.get(VAULT, "").strip():
            return _checked(environment[VAULT], VAULT)
        raise CommandError(f"no vault is named: give {_EXAMPLE}.")
    missing = [flag for flag in ("-g", "-v") if by_name[flag] is None]
    if missing:
        whole = {"-g": "-g GROUP (its resource group)", "-v": "-v NAME (its name)"}
        raise CommandError(
            f"of the vault {' and '.join(whole[flag] for flag in missing)} is missing: a vault is given as"
            " -g GROUP -v NAME."
        )
    try:
        return VaultId(
            subscription_id(options.subscription, environment), options.resource_group, options.vault_name
        ).path
    except InvalidResourceIdError as error:
        raise CommandError(f"-g, -v: {error}.") from error


def several_places(
    vaults: Sequence[str],
    subscriptions: Sequence[str],
    *,
    group: str | None,
    name: str | None,
    environment: Mapping[str, str],
) -> tuple[list[VaultId], list[str]]:
    """The vaults that are named, and the subscriptions whose vaults are all meant. Raises CommandError.

    Args:
        vaults: full ARM ids.
        subscriptions: ids or names; with `group` and `name` at most one, that of the vault so named.
        group: the resource group of a vault.
        name: the vault's name.
        environment: names a vault where nothing else does.
    """
    if group is not None or name is not None or not (vaults or subscriptions):
        if vaults:
            flag = "-g" if group is not None else "-v"
            raise CommandError(f"--vault is the whole id of a vault: it does not go with {flag}.")
        if len(subscriptions) > 1:
            raise CommandError(
                "--subscription: a vault given by -g and -v is in one of them; give that alone."
            )
        one = argparse.Namespace(
            vault=None,
            resource_group=group,
            vault_name=name,
            subscription=subscriptions[0] if subscriptions else None,
        )
        return [VaultId.parse(vault_path(one, environment))], []
    ids = [subscription_id(text, environment).lower() for text in subscriptions]
    return [VaultId.parse(_checked(text, "--vault")) for text in vaults], list(dict.fromkeys(ids))


def _checked(text: str, flag: str) -> str:
    path = text.strip().rstrip("/")
    try:
        return VaultId.parse(path).path
    except InvalidResourceIdError as error:
        hint = "" if "/" in path else f" By its name, a vault is given as -g GROUP -v {path}."
        raise CommandError(f"{flag}: {error}.{hint}") from error


def subscription_id(given: str | None, environment: Mapping[str, str]) -> str:
    """The subscription's id: from the option, the environment, its vault or `az`. Raises CommandError."""
    text = (given or environment.get(_SUBSCRIPTION, "")).strip()
    if _GUID.fullmatch(text):
        return text
    if not text and environment.get(VAULT, "").strip():
        return VaultId.parse(_checked(environment[VAULT], VAULT)).subscription_id
    known = _subscriptions_of_az(environment)
    if not text:
        default = next((one["id"] for one in known if one.get("isDefault")), None)
        if default is None:
            raise CommandError(
                f"no subscription is named: give --subscription ID, set {_SUBSCRIPTION} or {VAULT}, or log in with"
                " `az login`."
            )
        return str(default)
    found = [str(one["id"]) for one in known if name_key(str(one.get("name", ""))) == name_key(text)]
    if len(found) == 1:
        return found[0]
    names = enumeration(str(one.get("name")) for one in known)
    where = "several subscriptions are called so; give its id" if found else f"`az` knows: {names}"
    raise CommandError(
        f"--subscription: expected the id of a subscription, or a name; {where} (given: {text})."
    )


def _subscriptions_of_az(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """The subscriptions that `az login` saved: https://learn.microsoft.com/cli/azure/azure-cli-configuration#cli-configuration-file."""
    directory = Path(environment.get("AZURE_CONFIG_DIR") or Path("~/.azure").expanduser())
    try:
        profile = json.loads((directory / "azureProfile.json").read_text(encoding="utf-8-sig"))
        return [one for one in profile["subscriptions"] if isinstance(one, dict) and "id" in one]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _by_name(name: str, flag: str, options: argparse.Namespace) -> str:
    """The ARM id of the VM that the vault knows by this name. Raises CommandError."""
    from cli.azure import azure
    from cli.embedded import settings_of_a_run

    vault_id = VaultId.parse(options.vault)
    with azure(settings_of_a_run(os.environ, getattr(options, "arm_endpoint", None))) as collaborators:
        registered, unusable = collaborators.azure.list_registered_containers(vault_id)
        known = _machines(*(one.virtual_machine_id for one in registered))
        known |= _machines(*(one.virtual_machine_id for one in unusable))
        found = _called(name, known)
        if not found:
            offered = collaborators.azure.list_protectable_containers(vault_id)
            known |= _machines(*(one.virtual_machine_id for one in offered))
            found = _called(name, known)
    if len(found) == 1:
        return found[0].path
    if found:
        raise CommandError(
            f"{flag}: several VMs of vault {vault_id.name} are called {name}; give the id of one:"
            f" {enumeration(str(one) for one in found)}."
        )
    meant = get_close_matches(name.lower(), [one.name.lower() for one in known.values()], n=1)
    raise CommandError(
        f"{flag}: vault {vault_id.name} knows no VM {name}; it knows:"
        f" {enumeration(one.name for one in known.values())}."
        f"{did_you_mean(meant)} A VM that is new to it is given by its full id.",
        status=FAILED,
    )


def _machines(*ids: VirtualMachineId | None) -> dict[str, VirtualMachineId]:
    return {str(one).lower(): one for one in ids if one is not None}


def _called(name: str, known: Mapping[str, VirtualMachineId]) -> list[VirtualMachineId]:
    return [one for one in known.values() if name_key(one.name) == name_key(name)]
