"""Whether the packages that the app needs are there, for this version of Python: asked without importing one.

Everything heavy is imported on the first message. An app that lacks a package would be indexed all the same, and
fail for each message, ten times within a second, until all are dead letters. An app that is not indexed leaves its
messages in their queues.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from typing import Final

#: What requirements.txt installs, as modules.
MODULES: Final = (
    "_cffi_backend",
    "annotated_types",
    "azure.core",
    "azure.functions",
    "azure.identity",
    "azure.servicebus",
    "certifi",
    "charset_normalizer",
    "cronsim",
    "cryptography",
    "cryptography.hazmat.bindings._rust",
    "idna",
    "isodate",
    "jwt",
    "msal",
    "msal_extensions",
    "pydantic",
    "pydantic_core",
    "pydantic_core._pydantic_core",
    "requests",
    "typing_extensions",
    "typing_inspection",
    "tzdata",
    "urllib3",
    "websocket",
)


class MissingPackagesError(ImportError):
    """Packages of requirements.txt are not there, or were built for another version of Python.

    It is made of its text alone: the worker makes another one, with words of its own added.
    """


def require(modules: Iterable[str] = MODULES) -> None:
    """Look for modules. Raises MissingPackagesError that names all that are not there."""
    missing = [name for name in modules if not _is_there(name)]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise MissingPackagesError(
            f"the app is not indexed, since it could handle no message: for Python {version} there is no"
            f" {', '.join(missing)}. Deploy it with a remote build, or with the packages of requirements.txt for"
            f" Python {version} in .python_packages/lib/site-packages. Until then its messages stay in their queues."
        )


def _is_there(name: str) -> bool:
    """Whether a module could be found; unlike `importlib.util.find_spec`, without importing what it is in."""
    top, *rest = name.split(".")
    if top in sys.modules:
        # What is loaded knows best where its parts are: `azure` may be spread over the worker's packages and the app's.
        spec, path = sys.modules[top].__spec__, getattr(sys.modules[top], "__path__", None)
    else:
        spec = PathFinder.find_spec(top)
        path = None if spec is None else spec.submodule_search_locations
    for part in rest:
        spec = PathFinder.find_spec(part, path or [])
        path = None if spec is None else spec.submodule_search_locations
    # A directory without a module in it would do for a namespace.
    return spec is not None and spec.loader is not None
