"""The service in a scenario: how long things take, and what is throttled."""

from __future__ import annotations

from typing import Final

from pydantic import Field, field_validator

from local.simulator.scenario.parts import Part

Length = float | tuple[float, float]


class DurationsScenario(Part):
    """Seconds that operations and jobs take, or [median, sigma] of a lognormal.

    `accept` is how long the operation of a backup or restore runs until it names its job, `young` how long that job
    reports less. None: for some jobs and not for most, as recorded.
    """

    refresh: Length = 20
    register_: Length = Field(240, alias="register")
    inquire: Length = 60
    protect: Length = 75
    stop: Length = 31
    delete: Length = 33
    backup: Length = 120
    restore: Length = 272
    run_command: Length = 15
    script: Length = 5
    check: Length = 60
    cancel: Length = 30
    accept: Length | None = None
    young: Length | None = None

    @field_validator("*")
    @classmethod
    def _not_negative(cls, value: Length | None) -> Length | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 0:
            raise ValueError("a duration is not negative")
        return value


class BucketScenario(Part):
    """A token bucket: how many requests at once, and how many per second after that."""

    bucket: int = Field(ge=1)
    per_second: float = Field(gt=0)


class BackupReadsScenario(Part):
    """How many reads of each action under a vault are allowed in a rolling hour: as recorded in 2024.

    In 2021 both were 150; in 2022 and 2023 it was 300, and 150 for jobs.
    """

    per_hour: int = Field(300, ge=1)
    jobs_per_hour: int = Field(450, ge=1)


class ThrottlingScenario(Part):
    """ARM's token buckets, and the hourly limits of backup reads; what is left out is not limited."""

    reads: BucketScenario | None = None
    writes: BucketScenario | None = None
    deletes: BucketScenario | None = None
    backup_reads: BackupReadsScenario | None = None


#: The limits of the service, as documented (the buckets) and recorded (the reads).
SERVICE_LIMITS: Final[dict[str, dict[str, int]]] = {
    "reads": {"bucket": 250, "perSecond": 25},
    "writes": {"bucket": 200, "perSecond": 10},
    "backupReads": BackupReadsScenario().model_dump(by_alias=True),
}
