"""Which year's service is simulated: what answers look like changed over the years, whatever the api-version.

Each property says from when on recordings show it (Azure/azure-cli, 2019-06 to 2024-05; Azure/azure-powershell,
2020-12 and 2025-05). What an api-version changes is decided by the handlers, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

OLDEST = "2019-06"
DEFAULT = "2024-05"


@dataclass(frozen=True)
class ServiceVersion:
    """The service as it was in a month (`yyyy-mm`)."""

    month: str

    def _since(self, month: str) -> bool:
        return self.month >= month

    @property
    def restore_jobs_have_the_operations_id(self) -> bool:
        """So in all 70 recorded restores since then, and in none of five before."""
        return self._since("2021-05")

    @property
    def archive_flag(self) -> bool:
        """Items have isArchiveEnabled."""
        return self._since("2021-05")

    @property
    def recovery_model(self) -> bool:
        """An item's extendedInfo has its recovery model."""
        return self._since("2021-01")

    @property
    def health_of_items(self) -> bool:
        """Items have kpisHealths: in 2021 and 2022 only."""
        return self._since("2021-01") and not self._since("2023-01")

    @property
    def tiers(self) -> bool:
        """Recovery points have their tier, and whether they can be moved."""
        return self._since("2021-06")

    @property
    def type_of_nothing(self) -> bool:
        """The end of an unregistration, asked for at the container, has a content type and no content.

        Recorded in 2021, but no longer in 2023 and 2024.
        """
        return not self._since("2023-01")

    @property
    def named_tiers(self) -> bool:
        """Tiers and their states have names: numbers in 2021-06, names in 2022-05."""
        return self._since("2022-01")

    @property
    def vault_of_items(self) -> bool:
        """Items have vaultId and softDeleteRetentionPeriod."""
        return self._since("2023-01")

    @property
    def expiry_of_points(self) -> bool:
        """Recovery points in lists have their expiry, the rule that keeps them, and whether they are soft-deleted."""
        return self._since("2023-01")

    @property
    def snapshot_info(self) -> bool:
        """A recovery point's extendedInfo has snapshotRecoveryPointInfo."""
        return self._since("2024-01")

    @property
    def named_values(self) -> bool:
        """Jobs name their actions and the types of their tasks; actions were numbers before."""
        return self._since("2024-01")

    @property
    def container_of_jobs(self) -> bool:
        """Jobs that change protection name the container in their property bag."""
        return self._since("2024-01")

    @property
    def new_front_end(self) -> bool:
        """Answers name the caller and another server; URLs of operations are signed."""
        return self._since("2024-01")

    @property
    def charset(self) -> bool:
        """Answers name their charset: recorded in 2022-05 and 2024, not in 2021 or 2023-05."""
        return self.new_front_end or (self._since("2022-01") and not self._since("2023-01"))

    @property
    def counts_backup_reads(self) -> bool:
        """Reads under a vault are counted by action: in 2020-12, not in 2020-03, when they were the subscription's."""
        return self._since("2020-12")

    @property
    def state_of_vaults(self) -> bool:
        """Vaults have their state and that of their private endpoints: in 2020-12, not in 2020-02."""
        return self._since("2020-12")

    @property
    def reads_per_hour(self) -> tuple[int, int]:
        """How many reads of one action under a vault, and how many of jobs, are allowed in an hour.

        The last pair was recorded in one region, in 2025-10; in 2025-05 it was 300 still.
        """
        if self._since("2025-10"):
            return 1100, 250
        return 300 if self._since("2021-12") else 150, 450 if self._since("2024-01") else 150

    @property
    def requests_of_subscription(self) -> dict[str, int]:
        """How many requests of each kind a principal that has made none has left in a subscription."""
        if self._since("2025-05"):
            return {"reads": 1100, "writes": 800, "deletes": 800}
        return {"reads": 12000, "writes": 1200, "deletes": 15000}

    @property
    def throttling_version(self) -> bool:
        """Answers name the generation of limits that counted them: only in the PowerShell session of 2025."""
        return self._since("2025-05")

    @property
    def unregistration_of_stopped(self) -> bool:
        """A machine is unregistered once protection of its databases is stopped.

        Before, their backups had to be deleted (Azure/azure-powershell#10521, 2019); a public script of Microsoft's
        (priyansh17/MECRBROCTooling, RSV/SQL) does it after a stop. When this changed is not known.
        """
        return self._since("2024-01")

    @property
    def soft_delete_always_on(self) -> bool:
        """Soft delete cannot be switched off.

        So it was for new vaults in 2024; since 2025-11 it is for every vault, whatever the api-version
        (https://learn.microsoft.com/azure/backup/secure-by-default).
        """
        return self._since("2024-01")

    @property
    def vaults_in_the_background(self) -> bool:
        """Vaults are created and deleted asynchronously, and have more security settings.

        Recorded in 2026-07, not in 2024 or 2025-10.
        """
        return self._since("2026-01")

    @property
    def protectable_item_count(self) -> bool:
        """Inquiries count what they found by kind: not in 2024-05, in 2025-05."""
        return self._since("2025-05")
