"""The state of one database, from what the listings say of it.

The meaning of the fields was learnt from recorded traffic (docs/coverage.md): `lastBackupTime` is the last attempt,
successful or not; `lastRecoveryPoint` and the recovery model are in no list; an item whose last backup is a year old
may be healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.azure_backup.models import ProtectedItem
from shared.clock import ServiceTime
from shared.coverage.ages import MARGIN, AgesByPolicy
from shared.coverage.inventory import Inventory
from shared.coverage.scope import Scope
from shared.coverage.states import CoverageCode, CoverageState, DatabaseCoverage
from shared.coverage.wording import ADVICE_ON_UNUSABLE, START_OR_REGISTER_VM, START_VM, explained, in_words
from shared.names import name_key, same_name
from shared.steps.candidates import Candidate, is_protected

#: Health of an item or a container that means no backup. Other words are ignored: recorded are `Healthy` and
#: `NotReachable` of items, `Healthy` and `Deleted` of containers.
_UNREACHABLE: Final = frozenset({"notreachable", "unhealthy", "actionrequired"})
_LOOK_AT_POLICY: Final = "Give a maximum age, or see that the policy can be read."


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The assessment of one database at `now`, the service's time."""

    candidate: Candidate
    inventory: Inventory
    ages: AgesByPolicy
    scope: Scope
    now: ServiceTime

    def result(self) -> DatabaseCoverage:
        """The state of the database."""
        candidate = self.candidate
        if candidate.unusable is not None:
            code = candidate.unusable.code
            advice = ADVICE_ON_UNUSABLE.get(code, "")
            return self._entry(CoverageState.UNKNOWN, code, f"It {candidate.unusable.why}.", advice)
        item = candidate.protected
        if item is None or (item.is_scheduled_for_deferred_delete and candidate.protectable is not None):
            return self._unprotected()
        if item.is_scheduled_for_deferred_delete:
            return self._entry(
                CoverageState.STOPPED,
                CoverageCode.SOFT_DELETED,
                "Its backups were deleted and are kept for some days more.",
                "Undelete and protect it again, or exclude it where it is gone for good.",
                since=self._last_job("DeleteBackupData"),
            )
        if not is_protected(item) or item.protection_state.lower() == "protectionpaused":
            return self._entry(
                CoverageState.STOPPED,
                CoverageCode.PROTECTION_STOPPED,
                f"Its protection was stopped ({item.protection_state}).",
                "Resume its protection, or exclude it where that is meant.",
                since=self._last_job("DisableBackup"),
            )
        return self._protected(item)

    def _unprotected(self) -> DatabaseCoverage:
        offered = self.candidate.protectable
        ended = (self._last_job("DisableBackup"), self._last_job("DeleteBackupData"))
        since = max((moment for moment in ended if moment is not None), default=None)
        if offered is not None and not offered.is_protectable:
            code, message, advice = explained(
                offered.prebackup_validation,
                CoverageCode.NOT_PROTECTABLE,
                "The service does not offer it for protection.",
            )
            return self._entry(CoverageState.UNPROTECTED, code, message, advice, since=since)
        message = "No policy protects it."
        advice = "Protect it with a policy, or exclude it."
        if self.candidate.protected is not None:
            message = "No policy protects it; its backups were deleted and are kept for some days more."
        if self.inventory.is_auto_protected(self.candidate):
            message += " Its instance is auto-protected, which looks for new databases every 8 hours."
            advice = (
                "Wait for auto-protection, then look at the instance's intent if it is still unprotected."
            )
        return self._entry(
            CoverageState.UNPROTECTED, CoverageCode.NOT_PROTECTED, message, advice, since=since
        )

    def _protected(self, item: ProtectedItem) -> DatabaseCoverage:
        """The state of a database whose backups go on; what is certain is checked first."""
        status = item.last_backup_status.lower()
        if status in ("unhealthy", "failed"):
            ages = self.ages.of(item.policy_name)
            code, message, advice = explained(
                item.last_backup_error, CoverageCode.BACKUP_FAILED, "Its last backup failed."
            )
            return self._entry(
                CoverageState.FAILING,
                code,
                message,
                advice,
                since=self.inventory.last_good_backup(self.candidate, item),
                allowed=self.scope.max_age or (ages.data if ages is not None else None),
            )
        # A single read may show a recovery point before the status does.
        pending = status == "irpending" and item.last_recovery_point is None
        if pending or item.last_backup_time is None:
            return self._entry(
                CoverageState.NEVER_BACKED_UP,
                CoverageCode.FIRST_BACKUP_PENDING,
                "It is protected, but no first backup of it has ended: nothing can be restored yet.",
                "Wait for the policy's next full, or take one now.",
                since=self._last_job("ConfigureBackup"),
            )
        by_age = self._by_age(item, item.last_backup_time)
        if by_age.state is CoverageState.STALE:
            return by_age
        return self._unhealthy(item) or self._other_policy(item) or by_age

    def _other_policy(self, item: ProtectedItem) -> DatabaseCoverage | None:
        """The state where another policy protects it than the scope names."""
        wanted = self.scope.policy_name
        if wanted is None or (item.policy_name and same_name(item.policy_name, wanted)):
            return None
        return self._entry(
            CoverageState.WRONG_POLICY,
            CoverageCode.OTHER_POLICY,
            f"Policy {item.policy_name or 'none'} protects it, not {wanted}.",
            f"Change its policy to {wanted}, or name {item.policy_name or 'another'} in the request.",
        )

    def _by_age(self, item: ProtectedItem, last_backup: ServiceTime) -> DatabaseCoverage:
        """Covered, stale or unknown, by the age of the last backup."""
        if item.last_backup_status.lower() not in ("healthy", "irpending"):
            return self._entry(
                CoverageState.UNKNOWN,
                CoverageCode.STATUS_UNKNOWN,
                f"The service gives the status '{item.last_backup_status}' for its last backup.",
                "Look at the database in the vault.",
            )
        age = self.now - last_backup
        if age < -MARGIN:
            return self._entry(
                CoverageState.UNKNOWN,
                CoverageCode.STATUS_UNKNOWN,
                f"Its last backup is dated {last_backup:%Y-%m-%d %H:%M} UTC, which is still to come: its age is not"
                " known.",
                "Look at the database in the vault, and at the clock of its VM.",
            )
        if (limit := self.scope.max_age) is not None:
            return self._within(limit, age, item, f"the maximum age is {in_words(limit)}")
        return self._by_policy(item, age)

    def _by_policy(self, item: ProtectedItem, age: timedelta) -> DatabaseCoverage:
        """Covered, stale or unknown, by the age that the policy's schedules allow."""
        name = item.policy_name or "none"
        ages = self.ages.of(item.policy_name)
        data, log = (ages.data, ages.log) if ages is not None else (None, None)
        if ages is not None and name_key(item.name) == "master" and not item.in_availability_group:
            # master allows only fulls.
            data, log = ages.full or data, None
        if data is None and log is None:
            return self._entry(
                CoverageState.UNKNOWN,
                CoverageCode.POLICY_UNREAD,
                f"The schedule of its policy ({name}) is not known, so neither is how old its backups may be.",
                _LOOK_AT_POLICY,
            )
        rule = f"by policy {name} none is older than"
        if data is not None and (log is None or data <= log or age > data):
            return self._within(data, age, item, f"{rule} {in_words(data)}")
        assert log is not None
        model = (item.recovery_model or "").lower()
        if age <= log or (model and model != "simple"):
            return self._within(log, age, item, f"{rule} {in_words(log)}")
        if model and data is not None:
            return self._within(data, age, item, f"{rule} {in_words(data)}")
        if model:
            return self._entry(
                CoverageState.UNKNOWN,
                CoverageCode.POLICY_UNREAD,
                f"The full schedule of its policy ({name}) is not known.",
                _LOOK_AT_POLICY,
            )
        return self._entry(
            CoverageState.UNKNOWN,
            CoverageCode.RECOVERY_MODEL_UNREAD,
            f"Its last backup is {in_words(age)} old: too old for one that takes log backups, not for one in the simple"
            " recovery model, and no listing tells which it is.",
            "Have it read singly.",
            allowed=log,
        )

    def _within(self, limit: timedelta, age: timedelta, item: ProtectedItem, rule: str) -> DatabaseCoverage:
        """Covered, or stale because the last backup is older than `limit`; `rule` says where that comes from."""
        if age <= limit:
            return self._entry(CoverageState.COVERED, allowed=limit)
        unreachable = item.health_status.lower() in _UNREACHABLE
        return self._entry(
            CoverageState.STALE,
            CoverageCode.BACKUP_TOO_OLD,
            f"Its last backup is {in_words(age)} old; {rule}."
            + (f" The service finds it {item.health_status}." if unreachable else ""),
            START_VM
            if unreachable
            else "Look at its policy and its jobs in the vault, then take a backup; if the database is gone, stop its"
            " protection.",
            since=item.last_backup_time,
            allowed=limit,
        )

    def _unhealthy(self, item: ProtectedItem) -> DatabaseCoverage | None:
        """The state where the service says why the next backup will probably fail."""
        container = self.inventory.containers.get(item.id.container)
        health = container.health_status if container is not None else ""
        if not item.in_availability_group and not self.inventory.is_registered(item.id.container):
            code, message = CoverageCode.CONTAINER_UNHEALTHY, "Its VM is no longer registered to the vault."
            advice = "Register the VM again with a protect request."
        elif health.lower() == "deleted":
            code, message = CoverageCode.VM_DELETED, "Its VM was deleted."
            advice = "Stop its protection and keep or delete its backups, or restore it to another VM."
        elif item.protection_state.lower() not in ("protected", "irpending", ""):
            code, message = CoverageCode.PROTECTION_ERROR, f"Its protection is {item.protection_state}."
            advice = "Look at the database in the vault, and configure its backup again."
        elif item.protection_status.lower() == "unhealthy" or item.health_status.lower() in _UNREACHABLE:
            unreachable = item.health_status.lower() in _UNREACHABLE
            found = item.health_status if unreachable else item.protection_status
            code = CoverageCode.NOT_REACHABLE
            message = f"The service finds it {found}: its next backup will hardly succeed."
            advice = START_VM
        elif health.lower() in _UNREACHABLE:
            code, message = CoverageCode.CONTAINER_UNHEALTHY, f"The service finds its VM {health}."
            advice = START_OR_REGISTER_VM
        else:
            return None
        return self._entry(CoverageState.UNHEALTHY, code, message, advice)

    def _last_job(self, operation: str) -> ServiceTime | None:
        return self.inventory.last_job(self.candidate, operation)

    def _entry(
        self,
        state: CoverageState,
        code: str = "",
        message: str = "",
        advice: str = "",
        *,
        since: ServiceTime | None = None,
        allowed: timedelta | None = None,
    ) -> DatabaseCoverage:
        item = self.candidate.protected
        return DatabaseCoverage(
            vault_id=self.inventory.listings.vault_id,
            database=self.candidate.database,
            state=state,
            code=str(code),
            message=message,
            advice=advice,
            since=since,
            last_backup_time=item.last_backup_time if item is not None else None,
            last_backup_status=item.last_backup_status if item is not None else "",
            policy_name=item.policy_name if item is not None else None,
            item_id=item.id if item is not None else None,
            recovery_model=item.recovery_model if item is not None else None,
            allowed_age=allowed,
            auto_protected=self.inventory.is_auto_protected(self.candidate),
            backup_running=self.inventory.is_backup_running(self.candidate),
            server_name=self.candidate.server_name,
        )
