"""Advice for errors whose message does not say what to do: the service's and the app's own.

Codes and causes: https://learn.microsoft.com/azure/backup/backup-sql-server-azure-troubleshoot and
https://learn.microsoft.com/azure/backup/sql-support-matrix.
"""

from __future__ import annotations

import re
from typing import Final

from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo

#: The service's codes for "another operation is running on the item".
CONFLICT_CODES: Final = frozenset({"operationcancelledbecauseconflictingoperationrunningusererror", "510008"})

#: The service names no single code for this: https://learn.microsoft.com/azure/backup/sql-support-matrix
_CHANGE_DATA_CAPTURE: Final = re.compile(r"change data capture|cdc(?![a-z])", re.IGNORECASE)
#: The service documents no code for this: its text, and the id of a guard in one of Resource Manager's.
_RESOURCE_GUARD: Final = re.compile(
    r"resource ?guard ?operation ?request|protected (by|with|using) (a |the )?resource ?guard"
    r"|microsoft\.dataprotection/resourceguards/",
    re.IGNORECASE,
)
_AS_FILES: Final = (
    "A database with change data capture is restored as files only: ask for a target of kind files, and restore"
    " those by hand."
)

_REREGISTER: Final = (
    "Check that the VM runs and reaches the Azure Backup service, then register it to the vault again"
    " (re-register), which repairs the workload extension."
)

ADVICE: Final[dict[str, str]] = {
    "usererrorsqlpodoesnotsupportbackuptype": "Ask for a type that the database allows: master takes Full only, a"
    " database in the simple recovery model has no Log backups, a read-only one takes Full and CopyOnlyFull.",
    "usererrorparentfullbackupmissing": "Take a Full backup first: a differential or log backup builds on it.",
    "usererrorsqllsnvalidationfailure": "Another tool has backed the database up and broken its log chain: stop it,"
    " then take a Full backup.",
    "usererrorbackupfailedastransactionlogisfull": "Free or extend the database's transaction log, then try again.",
    "usererrorsqlpodoesnotexist": "The database was dropped or renamed: inquire the VM again by a protect request,"
    " or stop the protection of the old name.",
    "usererroropeningsqlconnection": "See that the SQL Server instance runs and that the backup service's account"
    " may log on to it.",
    "usererrorsqlnosysadminmembership": "Make NT SERVICE\\AzureWLBackupPluginSvc a member of sysadmin on the"
    " instance, then send the request again.",
    "usererrornosqlinstancesonmachine": "The VM has no SQL Server instance that can be backed up: check the VM's id.",
    "vmnotinrunningstateusererror": "Start the VM, then send the request again.",
    "guestagentstatusunavailableusererror": "Install or repair the Azure VM guest agent on the VM.",
    "usererrorvminternetconnectivityissue": "Let the VM reach Azure Backup, Azure Storage and Microsoft Entra ID.",
    "fabricsvcbackuppreferencecheckfailedusererror": "Register every node that the availability group's backup"
    " preference needs, or change the preference.",
    "usererrorcannotrestoreexistingdbwithoutforceoverwrite": "Name another target database, or set overwrite to"
    " true where the setting RESTORE_ALLOW_OVERWRITE allows it.",
    "usererrorrestorefaileddatabasecannotbeofflined": "End the connections that keep the target database in use.",
    "usererrorcannotfindservercertificatewiththumbprint": "The source uses transparent data encryption: import its"
    " server certificate on the target instance first.",
    "usererrorrestorenotpossiblebecauselogbackupcontainsbulkloggedchanges": "Choose another point in time: this log"
    " backup holds bulk-logged changes and can be restored only to its end.",
    "usererroroperationdeniedonimmutableitem": "The vault is immutable: choose a policy that keeps backups at least as"
    " long as the present one.",
    ErrorCode.PROTECTED_BY_RESOURCE_GUARD.lower(): "This app cannot ask a resource guard for its consent. Have"
    " the guard's owner approve the operation (role Backup MUA Operator on the guard) and do it in the portal or"
    " with az, or have the owner exclude the operation from the guard. A policy that keeps backups at least as"
    " long needs no consent.",
    "autoprotectioncancelledornotvalid": "Auto-protection of the instance was removed while it was at work: enable"
    " it again, or protect the database by a request.",
    "workloadextensionnotreachable": _REREGISTER,
    "usererrorworkloadextensionnotinstalled": _REREGISTER,
    "workloadextensionnotpresent": _REREGISTER,
    "workloadextensiondidntdequeuemsg": _REREGISTER,
    ErrorCode.QUOTA_EXHAUSTED.lower(): "The service takes no more of these operations for now; try"
    " again after 24 hours.",
    ErrorCode.NOT_AUTHORISED.lower(): "Grant the app's identity the role that the action needs"
    " (docs/operations.md lists them).",
    ErrorCode.MUTATIONS_OFF.lower(): "Set MUTATIONS to on where the app is to change anything, then send the request"
    " again under a new id.",
    "jobtimeout": "Look at the job in the vault: it may still complete. A longer jobTimeout follows it for longer.",
    "operationtimeout": "Look at the vault and its service health, then send the request again.",
    "conflictingoperation": "Look at that job in the vault, then send the request again.",
    "restorenotstarted": "Look at the service's health, then send the request again.",
    "otherjob": "Look at the vault's jobs before you ask again: the service may have done what was asked all"
    " the same.",
    "backupnotstarted": "Look at the service's health, then send the request again.",
    "nothingcame": "Look at the vault, then send the request again.",
    "operationfailed": "Look at the vault's jobs and alerts for the reason, then send the request again.",
    "messagetoolarge": "Ask with fewer or shorter selectors, or use a namespace of the Premium tier.",
    "armnotsent": "See that the app reaches Azure Resource Manager (network, DNS, TLS, proxies), then send the request"
    " again.",
    "armanswerlost": "See whether the network or a proxy cuts connections, and look at the vault's jobs before you ask"
    " again.",
    "armprotocol": "See whether a proxy answers in Azure's place, and look at the vault's jobs before you ask again.",
    "armpaced": "See what else uses this identity and subscription, or ask for fewer databases at a time.",
    "armuntrusted": "If the certificate is right, name its authority in REQUESTS_CA_BUNDLE; else treat it as a security"
    " event.",
    "armredirect": "Check ARM_ENDPOINT and proxies, and look at the vault's jobs before you ask again.",
    "armurlrefused": "Check ARM_ENDPOINT and proxies; if they are right, treat it as a security event.",
    ErrorCode.OUTCOME_UNKNOWN.lower(): "Look at the vault's jobs before you ask again: a second request may do"
    " the work twice.",
}


def is_quota(code: str) -> bool:
    """Whether the service refuses more of these operations for the rest of the day."""
    return code.lower().startswith("clouddos")


def is_guarded(error: ErrorInfo) -> bool:
    """Whether the service says, under whatever code, that a resource guard must consent first."""
    return error.code != ErrorCode.PROTECTED_BY_RESOURCE_GUARD and (
        "resourceguard" in error.code.lower() or _RESOURCE_GUARD.search(error.message) is not None
    )


def advised(error: ErrorInfo | None) -> ErrorInfo | None:
    """The error, with advice on what to do where the service gives none."""
    if error is None:
        return None
    if is_quota(error.code):
        text = error.message if error.code in error.message else f"{error.code}: {error.message}"
        error = error.changed(code=ErrorCode.QUOTA_EXHAUSTED, message=text)
    elif is_guarded(error):
        text = f"{error.code}: {error.message}"
        error = error.changed(code=ErrorCode.PROTECTED_BY_RESOURCE_GUARD, message=text)
    if any(text.strip() for text in error.recommendations):
        return error
    advice = ADVICE.get(error.code.lower())
    if advice is None and _CHANGE_DATA_CAPTURE.search(f"{error.code} {error.message}"):
        advice = _AS_FILES
    return error.changed(recommendations=(advice,)) if advice is not None else error
