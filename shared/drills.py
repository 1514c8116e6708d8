"""Drill databases: what they are called, where they may be, and which name on a target a drill may replace.

A drill restores a database under a name that is made of its source, to a target of the setting `DRILL_TARGETS`.
Whatever a message says, nothing but such a name on such a target is ever overwritten, checked or dropped:
`drill_target` alone decides that, from the target, the name and the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from pydantic import Field

from shared.arm.ids import VirtualMachineId
from shared.messages import windows_paths
from shared.messages.identity import Database, drill_digest, fingerprint
from shared.messages.model import StrictModel, VirtualMachineIdField
from shared.messages.requests import InstanceName
from shared.messages.windows_paths import WindowsDirectory
from shared.names import name_key, same_name
from shared.setting_entries import read_entries, repeated

PREFIX: Final = "drill_"
#: The names of the app's managed run commands begin like this, followed by a hash of the drill database.
RUN_COMMAND_PREFIX: Final = "sqlvmbackup-drill-"
_MOST_CHARACTERS: Final = 90
_DRILL_DATABASE: Final = re.compile(rf"{PREFIX}.{{0,{_MOST_CHARACTERS}}}_[0-9a-f]{{8}}", re.DOTALL)
#: The longest database name that SQL Server takes, in UTF-16 code units.
_LONGEST_NAME: Final = 128


class DrillTarget(StrictModel):
    """An instance that drills may restore to, with where files go and how large a database may be."""

    vm_id: VirtualMachineIdField
    instance: InstanceName
    data_directory: WindowsDirectory | None = None
    log_directory: WindowsDirectory | None = None
    max_size_gb: Annotated[float, Field(gt=0, le=1_000_000, strict=False, alias="maxSizeGB")] = 100.0

    @property
    def key(self) -> str:
        """Equal for equal instances."""
        return f"{self.vm_id.key};{name_key(self.instance)}"

    def __str__(self) -> str:
        return f"instance {self.instance} of {self.vm_id}"


def drill_database_name(source: Database) -> str:
    """The name that a drill of a database is restored under.

    The first 90 characters of its name (fewer where they take two UTF-16 code units each), and 8 hexadecimal digits
    of its VM or availability group, its instance and its name.
    """
    digest = f"_{drill_digest(source.key)}"
    room = _LONGEST_NAME - len(PREFIX) - len(digest)
    kept = source.name[:_MOST_CHARACTERS]
    while windows_paths.length(kept) > room:
        kept = kept[:-1]
    return f"{PREFIX}{kept}{digest}"


def drill_target(
    targets: Sequence[DrillTarget],
    *,
    vm_id: VirtualMachineId,
    instance: str,
    name: str,
    source: Database,
) -> DrillTarget | None:
    """The target on which a database of this name may be overwritten, checked and dropped; None where it may not.

    The name must be exactly the drill name of the source, on a target in `DRILL_TARGETS`, and never on the source's
    own instance.
    """
    target = target_of(targets, vm_id=vm_id, instance=instance)
    if target is None or name != drill_database_name(source):
        return None
    if source.vm_id == vm_id and same_name(source.instance or "", instance):
        return None
    return target


def is_drill_database(database: Database, targets: Iterable[DrillTarget]) -> bool:
    """Whether a database was restored by a drill, judged by its place and name, whatever its source is."""
    return (
        _DRILL_DATABASE.fullmatch(database.name) is not None
        and database.vm_id is not None
        and database.instance is not None
        and target_of(targets, vm_id=database.vm_id, instance=database.instance) is not None
    )


def target_of(
    targets: Iterable[DrillTarget], *, vm_id: VirtualMachineId, instance: str
) -> DrillTarget | None:
    """The target for an instance; None where the settings do not name it."""
    for target in targets:
        if target.vm_id == vm_id and same_name(target.instance, instance):
            return target
    return None


def run_command_name(target: DrillTarget, name: str) -> str:
    """The name of the managed run command for a drill database."""
    return f"{RUN_COMMAND_PREFIX}{fingerprint('run command', target.key, name)[:24]}"


def read_drill_targets(text: str) -> tuple[DrillTarget, ...]:
    """The targets in the JSON list of `DRILL_TARGETS`. Raises EntriesError with every problem."""
    return read_entries(text, DrillTarget, of="targets", among=_listed_twice)


def _listed_twice(targets: Sequence[DrillTarget]) -> list[str]:
    return [
        f"{target} is listed {count} times; each instance is listed once."
        for target, count in repeated(targets, lambda target: target.key)
    ]
