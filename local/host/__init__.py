"""The local Functions host: runs the app's triggers as the Azure Functions host does."""

from local.host.host import Host, Invocation
from local.host.host_json import HostSettings, HostSettingsError, read_host_json
from local.host.indexing import FunctionDefinition, IndexingError, index, load
from local.host.receiver import InProcessReceiver, Receiver

__all__ = [
    "FunctionDefinition",
    "Host",
    "HostSettings",
    "HostSettingsError",
    "InProcessReceiver",
    "IndexingError",
    "Invocation",
    "Receiver",
    "index",
    "load",
    "read_host_json",
]
