"""The operations of Azure Backup for SQL Server in Azure VMs.

Each method is one call (a listing: one per page) of the Recovery Services backup REST API
(https://learn.microsoft.com/rest/api/backup/, https://learn.microsoft.com/rest/api/recoveryservices/).
Every method raises what `shared.arm.client.ArmClient` raises, and `ArmProtocolError` for a body of an unexpected form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError

from shared.arm.budget import RequestBudget
from shared.arm.client import RESOURCE_GRAPH, ArmClient, ArmResponse
from shared.arm.errors import CALL_NOT_FOUND, PARENT_NOT_FOUND, ArmProtocolError, ArmStatusError
from shared.arm.ids import (
    ContainerId,
    InvalidResourceIdError,
    ProtectedItemId,
    RecoveryPointId,
    ResourceId,
    VaultId,
    VirtualMachineId,
    check_new_policy_name,
    check_subscription_id,
    decoded_name,
    quote_segment,
)
from shared.arm.redaction import printable, redact
from shared.azure_backup import bodies
from shared.azure_backup.bodies import PROTECTED_SQL, SQL, WORKLOAD
from shared.azure_backup.listings import LONGEST_NAME, Listing, Unusable, UnusableCode, unusable_entries
from shared.azure_backup.models import (
    Container,
    Job,
    OperationResult,
    OperationStatus,
    Policy,
    ProtectableContainer,
    ProtectableItem,
    ProtectedItem,
    ProtectionIntent,
    RecoveryPoint,
    ResourceGuardProxy,
    StartedOperation,
    Vault,
    WireModel,
    WorkloadItem,
)
from shared.azure_backup.wire import filter_time, odata_filter, uuid_text
from shared.run_commands.operations import RunCommands
from shared.telemetry.log import logger

__all__ = ["BACKUP_API_VERSION", "VAULTS_API_VERSION", "AzureBackup"]

#: the API version that the specification's AzureWorkload examples use
BACKUP_API_VERSION = "2024-04-01"
VAULTS_API_VERSION = "2024-04-01"

_FABRIC = "Azure"
_PROTECTED_INSTANCE = "azurevmworkloadsqlinstance"
#: `protectionLevel` of a database whose instance is protected
_UNDER_INSTANCE = "databaseunderinstance"

_UNREADABLE = "is listed in a form that this app cannot read"

_JOB_ID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_]{0,127}")
_NOTHING_SAID = "{}"

_GRAPH_PAGE: Final = 1000
_MOST_GRAPH_PAGES: Final = 200
#: Resource Graph pages only queries that project the id and have a stable order.
_SQL_MACHINES: Final = (
    "resources | where type =~ 'microsoft.sqlvirtualmachine/sqlvirtualmachines'"
    " | project id, name, virtualMachineId = properties.virtualMachineResourceId | order by id asc"
)

_M = TypeVar("_M", bound=WireModel)
_log = logger(__name__)
#: A job may start while the request is on its way, and our idea of the service's clock may be hours off.
_AHEAD = timedelta(days=1)


class _UnreadableError(ValueError):
    """An answer has an unexpected form; the text names the fields."""


class AzureBackup:
    """Azure Backup through an ARM client. Safe to share between threads, as the client is."""

    def __init__(self, arm: ArmClient) -> None:
        self._arm = arm
        #: the run commands of VMs, through the same client
        self.run_commands = RunCommands(arm)

    @property
    def budget(self) -> RequestBudget:
        """The request budgets that are left, as the service last reported them."""
        return self._arm.budget

    def authenticate(self) -> None:
        """Get a token for the calls to come. Raises TokenError."""
        self._arm.authenticate()

    def close(self) -> None:
        """Close the connections to Azure Resource Manager."""
        self._arm.close()

    # Vaults

    def get_vault(self, vault: VaultId) -> Vault | None:
        """The vault; None where the vault, its resource group or its subscription does not exist."""
        try:
            return self._get(Vault, "get the vault", vault.url_path, params=_version(VAULTS_API_VERSION))
        except ArmStatusError as error:
            if error.status == 404 and error.code.lower() in PARENT_NOT_FOUND:
                return None
            raise

    def list_vaults(self, subscription_id: str) -> Listing[Vault]:
        """All vaults of a subscription."""
        path = f"/subscriptions/{check_subscription_id(subscription_id)}/providers/Microsoft.RecoveryServices/vaults"
        return self._listing(Vault, "list vaults", path, params=_version(VAULTS_API_VERSION))

    def list_sql_virtual_machines(self, subscription_id: str) -> Listing[VirtualMachineId]:
        """The VMs of a subscription that are known to run SQL Server, from Resource Graph.

        Resource Graph lists VMs that are registered with the SQL IaaS Agent extension. Those that this identity may
        not read are missing without a sign.
        """
        check_subscription_id(subscription_id)
        usable: dict[VirtualMachineId, None] = {}
        unusable: list[Unusable] = []
        rows = self._resource_graph("list SQL virtual machines", _SQL_MACHINES, subscription_id)
        for position, row in enumerate(rows, 1):
            machine = row.get("virtualMachineId")
            try:
                usable[VirtualMachineId.listed(machine if isinstance(machine, str) else "")] = None
            except InvalidResourceIdError as error:
                unusable += unusable_entries(
                    row, "NotAddressable", _not_addressable(error), position=position
                )
        return Listing(list(usable), unusable)

    def _resource_graph(self, operation: str, query: str, subscription_id: str) -> Iterator[dict[str, Any]]:
        """The rows of a query, from all of its pages."""
        token: str | None = None
        for _ in range(_MOST_GRAPH_PAGES):
            options: dict[str, object] = {"resultFormat": "objectArray", "$top": _GRAPH_PAGE}
            if token is not None:
                options["$skipToken"] = token
            response = self._arm.query_resource_graph(
                operation, {"query": query, "subscriptions": [subscription_id], "options": options}
            )
            body = _object(response.body)
            rows = body.get("data")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                self._garbled(operation, RESOURCE_GRAPH, "the answer is no list of resources")
            yield from rows
            following = body.get("$skipToken")
            if not following:
                if str(body.get("resultTruncated", "")).lower() == "true":
                    self._garbled(operation, RESOURCE_GRAPH, "the answer was cut, and there is no next page")
                return
            if not isinstance(following, str) or following == token:
                self._garbled(operation, RESOURCE_GRAPH, "the pages lead nowhere")
            token = following
        self._garbled(operation, RESOURCE_GRAPH, f"the list has more than {_MOST_GRAPH_PAGES} pages")

    def create_vault(
        self,
        vault: VaultId,
        *,
        location: str,
        redundancy: str,
        tags: Mapping[str, str],
        client_request_id: str,
    ) -> StartedOperation | Vault:
        """Create a vault: the vault where it is ready at once, else the operation to follow.

        `redundancy` is `GeoRedundant`, `LocallyRedundant` or `ZoneRedundant`; it cannot be changed once
        something is protected.
        """
        operation = "create the vault"
        response = self._arm.put(
            operation,
            vault.url_path,
            params=_version(VAULTS_API_VERSION),
            json=bodies.vault(location, redundancy, tags),
            client_request_id=client_request_id,
        )
        if response.status in (200, 201) and response.body is not None:
            created = self._read(Vault, response.body, operation, vault.url_path)
            if created.is_provisioned:
                return created
        return self._started(response)

    def get_resource_guard(self, vault: VaultId) -> ResourceGuardProxy | None:
        """The vault's link to a resource guard (multi-user authorization); None where it has none.

        See https://learn.microsoft.com/azure/backup/multi-user-authorization-concept.
        """
        proxies = self._list(
            ResourceGuardProxy,
            "get the vault's resource guard",
            f"{vault.url_path}/backupResourceGuardProxies",
            params=_version(),
        )
        return next(iter(proxies), None)

    # Policies

    def list_policies(self, vault: VaultId) -> list[Policy]:
        """The policies for SQL Server, with those that this app cannot use and the reasons."""
        policies = self._list(
            Policy,
            "list policies",
            f"{vault.url_path}/backupPolicies",
            params=_filtered(backupManagementType=WORKLOAD),
            otherwise=lambda name, why: Policy(id="", name=name, unreadable=why),
        )
        return [policy for policy in policies if policy.is_for_sql or policy.unreadable is not None]

    def create_policy(
        self, vault: VaultId, name: str, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation | Policy:
        """Create or change a policy: the policy where that is done at once, else the operation.

        `properties` are those of `bodies.policy`.
        """
        operation = "create the policy"
        path = f"{vault.url_path}/backupPolicies/{quote_segment(check_new_policy_name(name))}"
        response = self._arm.put(
            operation,
            path,
            params=_version(),
            json={"properties": properties},
            client_request_id=client_request_id,
        )
        if response.status in (200, 201) and response.body is not None:
            return self._read(Policy, response.body, operation, path)
        return self._started(response)

    # Containers

    def refresh_containers(self, vault: VaultId, *, client_request_id: str) -> StartedOperation:
        """Have the vault look for VMs that it does not know yet. Followed by `location_url`, ends in 204."""
        return self._post(
            "refresh containers",
            f"{vault.url_path}/backupFabrics/{_FABRIC}/refreshContainers",
            client_request_id,
            params=_filtered(backupManagementType=WORKLOAD),
        )

    def list_protectable_containers(self, vault: VaultId) -> list[ProtectableContainer]:
        """The VMs that can be registered: all unregistered ones of the vault's region, with SQL Server or without."""
        return list(
            self._list(
                ProtectableContainer,
                "list protectable containers",
                f"{vault.url_path}/backupFabrics/{_FABRIC}/protectableContainers",
                params=_filtered(backupManagementType=WORKLOAD),
            )
        )

    def list_registered_containers(self, vault: VaultId) -> Listing[Container]:
        """The VMs and availability groups that are registered, those of deleted VMs included."""
        return self._listing(
            Container,
            "list registered containers",
            f"{vault.url_path}/backupProtectionContainers",
            params=_filtered(backupManagementType=WORKLOAD, status="Registered"),
            refuse=_without_machine,
        )

    def get_container(self, container: ContainerId) -> Container | None:
        """A registered container with its last inquiry; None where none has that name."""
        return self._get(Container, "get the container", container.url_path)

    def register_container(
        self, vault: VaultId, protectable: ProtectableContainer, *, client_request_id: str
    ) -> StartedOperation:
        """Register a VM, with the name that the list of protectable containers gave it."""
        machine = protectable.virtual_machine_id
        if machine is None:
            raise ValueError(f"the container {printable(protectable.name)} is no virtual machine")
        return self._put(
            "register the VM",
            ContainerId(vault, _FABRIC, protectable.name),
            bodies.registration(
                machine,
                protectable.container_type or "VMAppContainer",
                protectable.friendly_name or machine.name,
            ),
            client_request_id,
        )

    def inquire_container(self, container: ContainerId, *, client_request_id: str) -> StartedOperation:
        """Have the VM's databases discovered. Followed by `location_url`."""
        return self._post(
            "inquire the VM",
            f"{container.url_path}/inquire",
            client_request_id,
            params=_filtered(backupManagementType=WORKLOAD, workloadType=SQL),
        )

    # Databases

    def list_protectable_items(self, vault: VaultId) -> Listing[ProtectableItem]:
        """Instances, availability groups, and the databases that are not protected yet."""
        return self._listing(
            ProtectableItem,
            "list protectable items",
            f"{vault.url_path}/backupProtectableItems",
            params=_filtered(backupManagementType=WORKLOAD, workloadType=SQL),
            refuse=_without_address,
        )

    def list_protection_intents(
        self, vault: VaultId, *, item_name: str, item_type: str, container: ContainerId
    ) -> list[ProtectionIntent]:
        """The auto-protection of an instance or availability group: one intent, or none."""
        return list(
            self._list(
                ProtectionIntent,
                "list protection intents",
                f"{vault.url_path}/backupProtectionIntents",
                params=_filtered(
                    backupManagementType=WORKLOAD,
                    itemName=item_name,
                    itemType=item_type,
                    parentName=container.name,
                ),
            )
        )

    def put_protection_intent(
        self, vault: VaultId, name: str, *, item_id: str, policy_id: str, client_request_id: str
    ) -> ProtectionIntent:
        """Auto-protect an instance by a policy, which takes effect at once and starts no job.

        `item_id` is that of the instance's protectable item.
        """
        operation = "auto-protect the instance"
        path = f"{vault.url_path}/backupFabrics/{_FABRIC}/backupProtectionIntent/{quote_segment(name)}"
        response = self._arm.put(
            operation,
            path,
            params=_version(),
            json={"properties": bodies.protection_intent(item_id, policy_id)},
            client_request_id=client_request_id,
        )
        return self._read(ProtectionIntent, response.body, operation, path)

    def list_workload_items(self, container: ContainerId, item_type: str) -> list[WorkloadItem]:
        """The items on a registered VM, protected or not; `item_type` is `SQLInstance` or `SQLDataBase`."""
        return list(
            self._list(
                WorkloadItem,
                "list workload items",
                f"{container.url_path}/items",
                params=_filtered(backupManagementType=WORKLOAD, workloadItemType=item_type),
            )
        )

    def list_protected_items(self, vault: VaultId) -> Listing[ProtectedItem]:
        """The databases that the vault protects or still keeps backups of."""
        return self._listing(
            ProtectedItem,
            "list protected items",
            f"{vault.url_path}/backupProtectedItems",
            params=_filtered(backupManagementType=WORKLOAD, itemType=SQL),
            refuse=_protected_otherwise,
        )

    def get_protected_item(self, item: ProtectedItemId) -> ProtectedItem | None:
        """A protected item with its recovery model; None where none has that name."""
        return self._get(ProtectedItem, "get the protected item", item.url_path)

    def enable_protection(
        self, item: ProtectedItemId, policy_id: str, *, client_request_id: str
    ) -> StartedOperation:
        """Protect a database by a policy; also resumes a stopped one and changes the policy."""
        return self._put("enable protection", item, bodies.protection(policy_id), client_request_id)

    def undelete(self, item: ProtectedItemId, *, client_request_id: str) -> StartedOperation:
        """Undelete a soft-deleted database; its protection is then stopped."""
        return self._put("undelete the protected item", item, bodies.undeletion(), client_request_id)

    # Backup and restore

    def trigger_backup(
        self,
        item: ProtectedItemId,
        *,
        backup_type: str,
        compression: bool | None,
        expiry: datetime | None,
        client_request_id: str,
    ) -> StartedOperation:
        """Back a database up now: `Full`, `Differential`, `Log` or `CopyOnlyFull`.

        `expiry` is when the recovery point may be deleted; without it the policy decides.
        """
        return self._post(
            "trigger the backup",
            f"{item.url_path}/backup",
            client_request_id,
            properties=bodies.backup(backup_type, compression=compression, expiry=expiry),
        )

    def list_recovery_points(
        self, item: ProtectedItemId, *, query_type: str | None = None, extended_info: bool = False
    ) -> list[RecoveryPoint]:
        """The recovery points, newest first; all log ranges together are one of them.

        A point that cannot be read is included, with what is wrong.

        `query_type` is `Full`, `Log`, `Differential`, `FullAndDifferential` or `All`; with `extended_info`
        the points list the database's files.
        """
        params = _filtered(extendedInfo="True" if extended_info else None, restorePointQueryType=query_type)
        return list(
            self._list(
                RecoveryPoint,
                "list recovery points",
                f"{item.url_path}/recoveryPoints",
                params=params,
                otherwise=RecoveryPoint.not_readable,
            )
        )

    def get_recovery_point(self, recovery_point: RecoveryPointId) -> RecoveryPoint | None:
        """A recovery point with the database's files; None where none has that name."""
        return self._get(RecoveryPoint, "get the recovery point", recovery_point.url_path)

    def trigger_restore(
        self, recovery_point: RecoveryPointId, properties: dict[str, Any], *, client_request_id: str
    ) -> StartedOperation:
        """Restore; `properties` are those of `bodies.restore`, with the target and its files."""
        return self._post(
            "trigger the restore",
            f"{recovery_point.url_path}/restore",
            client_request_id,
            properties=properties,
        )

    # Following what was started

    def get_operation_status(self, url: str, *, vault: VaultId) -> OperationStatus:
        """Ask an `Azure-AsyncOperation` URL."""
        operation = "get the operation's status"
        response = self._arm.get_url(operation, url, vault=vault)
        body = _object(response.body)
        status = body.get("status")
        if not isinstance(status, str) or not status.strip():
            if response.status != 202:
                self._garbled(operation, vault.url_path, "the answer has no status")
            status = "InProgress"
        word = status.strip().lower()
        succeeded = word in ("succeeded", "success")
        error = _object(body.get("error"))
        code, message = error.get("code"), error.get("message")
        return OperationStatus(
            status=printable(status.strip(), limit=60),
            finished=succeeded or word in ("failed", "canceled", "cancelled"),
            succeeded=succeeded,
            job_id=_job_id_in(_object(body.get("properties"))),
            error_code=None if code is None else printable(code, limit=200),
            error_message=None if message is None else redact(message, limit=2000),
            retry_after=self._retry_after(response),
        )

    def get_operation_result(self, url: str, *, vault: VaultId) -> OperationResult:
        """Ask a `Location` URL. An operation that failed raises its ArmStatusError."""
        response = self._arm.get_url("get the operation's result", url, vault=vault)
        if response.status == 202:
            return OperationResult(finished=False, retry_after=self._retry_after(response))
        return OperationResult(finished=True, body=response.body)

    def get_job(self, vault: VaultId, job_id: str) -> Job | None:
        """A job with its tasks and errors; None where none has that id (yet)."""
        operation = "get the job"
        path = _job_path(vault, job_id)
        job = self._get(Job, operation, path)
        if job is not None and not job.raw_status:
            self._garbled(operation, path, "the job has no status")
        return job

    def list_jobs(
        self,
        vault: VaultId,
        *,
        start: datetime,
        end: datetime | None = None,
        operation: str | None = None,
        status: str | None = None,
        counted: Callable[[int], None] | None = None,
        kept: Callable[[Job], bool] | None = None,
    ) -> list[Job]:
        """The jobs that started at `start` or later, except scheduled log backups, which Azure does not list.

        Without `end`, up to now: the service's examples give both limits, so both are always sent.
        `operation` is one of `Backup`, `Restore`, `ConfigureBackup`, ...; `status` one of `InProgress`,
        `Completed`, `Failed`, `CompletedWithWarnings`, `Cancelled`, `Cancelling`. `counted` is called with the number
        of pages. Only jobs that `kept` accepts are held in memory, for a caller that looks for a few of many.

        Fields of a job that cannot be read are left out. A job without an id is passed over, unless `kept` accepts it:
        then it may be the one that is looked for, and an ArmProtocolError says so.
        """
        if end is None:
            end = self._arm.service_clock.now() + _AHEAD
        params = _filtered(
            startTime=filter_time(start),
            endTime=filter_time(end, up=True),
            operation=operation,
            backupManagementType=WORKLOAD,
            status=status,
        )
        path = f"{vault.url_path}/backupJobs"
        jobs = []
        for job in self._list(Job, "list jobs", path, params=params, counted=counted, nameless=True):
            if kept is not None and not kept(job):
                continue
            if job.id:
                jobs.append(job)
            elif kept is not None:
                self._garbled("list jobs", path, "a job that may be the one looked for has no id")
        return jobs

    def cancel_job(self, vault: VaultId, job_id: str, *, client_request_id: str) -> StartedOperation:
        """Have a running backup or restore stopped; the service cancels no other kind of job.

        The operation ends while the job is still `Cancelling`; the job shows how it ended.
        Follows https://learn.microsoft.com/rest/api/backup/job-cancellations/trigger.
        """
        return self._post("cancel the job", f"{_job_path(vault, job_id)}/cancel", client_request_id)

    # What the methods share

    def _get(
        self, model: type[_M], operation: str, path: str, *, params: Mapping[str, str] | None = None
    ) -> _M | None:
        """A resource; None where it is missing, and its parents are there."""
        try:
            response = self._arm.get(operation, path, params=params or _version())
        except ArmStatusError as error:
            if _is_missing(error):
                return None
            raise
        return self._read(model, response.body, operation, path)

    def _put(
        self, operation: str, resource: ResourceId, properties: dict[str, Any], client_request_id: str
    ) -> StartedOperation:
        """Start what creates or changes a resource."""
        response = self._arm.put(
            operation,
            resource.url_path,
            params=_version(),
            json={"properties": properties},
            client_request_id=client_request_id,
        )
        return self._started(response)

    def _post(
        self,
        operation: str,
        path: str,
        client_request_id: str,
        *,
        params: Mapping[str, str] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> StartedOperation:
        """Start an action, which has a body only where it has properties."""
        response = self._arm.post(
            operation,
            path,
            params=params or _version(),
            json=None if properties is None else {"properties": properties},
            client_request_id=client_request_id,
        )
        return self._started(response)

    def _list(
        self,
        model: type[_M],
        operation: str,
        path: str,
        *,
        params: Mapping[str, str],
        counted: Callable[[int], None] | None = None,
        otherwise: Callable[[str, str], _M] | None = None,
        nameless: bool = False,
    ) -> Iterator[_M]:
        """The models of a listing whose entries are used by name only.

        One wrong entry does not end it. `otherwise` makes a replacement from the entry's name and what is wrong;
        without `otherwise`, the readable fields are given, and an entry without a name only where `nameless` is set.
        """
        for position, body in enumerate(self._arm.pages(operation, path, params=params, counted=counted), 1):
            try:
                yield self._validate(model, body)
                continue
            except (_UnreadableError, InvalidResourceIdError) as error:
                why = str(error)
            name = _name_of(body)
            _log.warning(
                "an entry of a listing cannot be read whole",
                extra={"action": operation, "entry": printable(name, limit=120), "reason": why},
            )
            if otherwise is not None:
                yield otherwise(name or f"(entry {position})", why)
            elif name or nameless:
                part = model.readable_part({**_object(body), "name": name})
                if part is not None:
                    yield part

    def _listing(
        self,
        model: type[_M],
        operation: str,
        path: str,
        *,
        params: Mapping[str, str],
        refuse: Callable[[_M], tuple[UnusableCode, str] | None] = lambda _: None,
    ) -> Listing[_M]:
        """A listing whose entries are used by their ids; `refuse` says why this app cannot use an entry."""
        usable: list[_M] = []
        unusable: list[Unusable] = []
        for position, body in enumerate(self._arm.pages(operation, path, params=params), 1):
            refused: tuple[UnusableCode, str] | None
            try:
                item = self._validate(model, body)
                refused = refuse(item)
            except InvalidResourceIdError as error:
                refused = "NotAddressable", _not_addressable(error)
            except _UnreadableError as error:
                refused = "NotReadable", f"{_UNREADABLE}: {error}"
            if refused is None:
                usable.append(item)
            else:
                unusable += unusable_entries(body, *refused, position=position)
        return Listing(usable, unusable)

    def _read(self, model: type[_M], body: object, operation: str, path: str) -> _M:
        """The model of a body. Raises ArmProtocolError, which names the wrong fields."""
        try:
            return self._validate(model, body)
        except (_UnreadableError, InvalidResourceIdError) as error:
            self._garbled(operation, path, f"the answer is no {model.__name__}: {error}")

    def _validate(self, model: type[_M], body: object) -> _M:
        """The model of a body. Raises _UnreadableError, which names the wrong fields, or InvalidResourceIdError."""
        try:
            return model.from_wire(body)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            for problem in problems:
                cause = problem.get("ctx", {}).get("error")
                if isinstance(cause, InvalidResourceIdError):
                    raise cause from None
            fields = {
                ".".join(str(part) for part in problem["loc"]) or "the body": problem["msg"]
                for problem in problems
            }
            described = "; ".join(f"{name}: {said}" for name, said in fields.items())
            raise _UnreadableError(redact(described, limit=400)) from None

    def _garbled(self, operation: str, path: str, problem: str) -> NoReturn:
        raise ArmProtocolError(problem, operation=operation, method="GET", path=path, client_request_id=None)

    def _started(self, response: ArmResponse) -> StartedOperation:
        return StartedOperation(
            status=response.status,
            async_operation_url=response.headers.get("azure-asyncoperation") or None,
            location_url=response.headers.get("location") or None,
            retry_after=self._retry_after(response),
        )

    def _retry_after(self, response: ArmResponse) -> timedelta | None:
        return response.retry_after(self._arm.service_clock.now())


def _not_addressable(error: InvalidResourceIdError) -> str:
    return f"cannot be addressed in the service's REST API: {error.problem}"


def _name_of(body: object) -> str:
    """The name of an entry that cannot be read: its own, else the one in its id, else empty."""
    name, of_id = _object(body).get("name"), _object(body).get("id")
    if isinstance(name, str) and name:
        return name
    return decoded_name(of_id.rpartition("/")[2]) if isinstance(of_id, str) else ""


def _without_machine(container: Container) -> tuple[UnusableCode, str] | None:
    """Why this app cannot use a VM's container: it does not name its VM."""
    of_machine = container.id.name.lower().startswith("vmappcontainer;compute;")
    if of_machine and container.virtual_machine_id is None:
        return (
            "NotReadable",
            f"{_UNREADABLE}: properties.sourceResourceId is not the id of its virtual machine",
        )
    return None


def _without_name(item: ProtectableItem | ProtectedItem) -> tuple[UnusableCode, str] | None:
    """Why a message could not name a database."""
    if not item.name:
        return "NotReadable", f"{_UNREADABLE}: properties.friendlyName is missing"
    for field, value in (("friendlyName", item.name), ("parentName", item.instance)):
        if len(value) > LONGEST_NAME:
            return (
                "NotReadable",
                f"{_UNREADABLE}: properties.{field} has {len(value):,} characters, over {LONGEST_NAME}",
            )
    return None


def _job_path(vault: VaultId, job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidResourceIdError(job_id, "the id of a job", "it is no name of a job")
    return f"{vault.url_path}/backupJobs/{quote_segment(job_id)}"


def _without_address(item: ProtectableItem) -> tuple[UnusableCode, str] | None:
    # Read only for the error that a missing one raises.
    assert item.protected_item_id is not None
    return _without_name(item)


def _protected_otherwise(item: ProtectedItem) -> tuple[UnusableCode, str] | None:
    """Why this app does not handle a protected item: it handles databases that are protected one by one."""
    kind = item.protected_item_type.lower()
    if kind == _PROTECTED_INSTANCE or item.protection_level.lower() == _UNDER_INSTANCE:
        return (
            "ProtectedAsInstance",
            "is protected with its whole instance; this app handles databases that are protected one by one",
        )
    if item.policy_type.lower().startswith("snapshot"):
        return "ProtectedBySnapshots", "is protected by snapshots of disks, which this app does not handle"
    if (nameless := _without_name(item)) is not None:
        return nameless
    if kind in ("", PROTECTED_SQL.lower()):
        return None
    shown = printable(item.protected_item_type, limit=60)
    return "KindNotSupported", f"is protected as {shown}, which this app does not handle"


def _version(version: str = BACKUP_API_VERSION) -> dict[str, str]:
    return {"api-version": version}


def _filtered(**fields: str | None) -> dict[str, str]:
    params = _version()
    if expression := odata_filter(**fields):
        params["$filter"] = expression
    return params


def _is_missing(error: ArmStatusError) -> bool:
    """Whether a 404 says that the resource itself is missing, and not one of its parents.

    Azure Backup has codes of its own besides ARM's `ResourceNotFound`, all with the same ending
    (`BMSUserErrorObjectNotFound`, `UserErrorJobNotFound`, ...). For a policy the body was `{}` (recorded 2024-04-22).
    """
    code = error.code.lower()
    return (
        error.status == 404
        and (code.endswith("notfound") or (not code and error.message == _NOTHING_SAID))
        and code not in PARENT_NOT_FOUND | CALL_NOT_FOUND
    )


def _object(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _job_id_in(properties: Mapping[str, Any]) -> str | None:
    """The job that an operation started: `jobId` for one item, `jobIds` for several."""
    job_id = properties.get("jobId")
    if not job_id and isinstance(job_ids := properties.get("jobIds"), list) and len(job_ids) == 1:
        job_id = job_ids[0]
    if not isinstance(job_id, str):
        return None
    job_id = uuid_text(job_id)
    return job_id if _JOB_ID.fullmatch(job_id) else None
