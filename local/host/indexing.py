"""Finds the functions of an app through the azure-functions library, as the platform's Python worker does.

Follows https://learn.microsoft.com/azure/azure-functions/functions-reference-python (programming model v2)
and https://learn.microsoft.com/azure/azure-functions/functions-bindings-expressions-patterns for `%NAME%`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import azure.functions as func
from azure.functions.servicebus import ServiceBusMessageInConverter
from azure.functions.timer import TimerRequestConverter

_SERVICE_BUS: Final = "serviceBusTrigger"
_TIMER: Final = "timerTrigger"
#: Whether the worker takes an annotation of the parameter that a trigger fills, by the trigger's type.
_ACCEPTS: Final[Mapping[str, Callable[[type], bool]]] = {
    _SERVICE_BUS: ServiceBusMessageInConverter.check_input_type_annotation,
    _TIMER: TimerRequestConverter.check_input_type_annotation,
}


class IndexingError(Exception):
    """The app cannot be loaded: none of its functions would run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"0 functions found: {reason}")


@dataclass(frozen=True, kw_only=True)
class FunctionDefinition:
    """One function and its trigger."""

    name: str
    #: the parameter that the trigger fills
    argument: str
    call: Callable[..., Any]
    #: queue, or `topic/subscriptions/name`; empty for a timer
    entity: str = ""
    #: it takes a list of messages
    batch: bool = False
    #: `dataType` of the binding is binary
    binary: bool = False
    #: NCRONTAB; empty for a message trigger
    schedule: str = ""
    run_on_startup: bool = False

    def invoke(self, value: Any) -> None:
        """Call it with the trigger's value; a coroutine function is run to its end."""
        result = self.call(**{self.argument: value})
        if inspect.iscoroutine(result):
            asyncio.run(result)


def load(
    module_name: str = "function_app", environment: Mapping[str, str] | None = None
) -> list[FunctionDefinition]:
    """Import the module that holds the app, and index it.

    Raises:
        IndexingError: it cannot be imported, holds no app, or its functions cannot be run.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise IndexingError(
            f"importing {module_name} failed with {type(error).__name__}: {error}. "
            "Correct what the traceback shows; until then nothing of the app runs."
        ) from error
    return index(_app_of(module), environment)


def _app_of(module: ModuleType) -> func.FunctionApp:
    apps = {id(value): value for value in vars(module).values() if isinstance(value, func.FunctionApp)}
    if len(apps) != 1:
        raise IndexingError(
            f"{module.__name__} holds {len(apps)} objects of azure.functions.FunctionApp. "
            "The platform expects exactly one, at the top of the module."
        )
    return next(iter(apps.values()))


def index(app: func.FunctionApp, environment: Mapping[str, str] | None = None) -> list[FunctionDefinition]:
    """The functions of an app, in the order they were registered.

    Args:
        app: the Function App.
        environment: app settings, for names written as `%NAME%`; the process's by default.

    Raises:
        IndexingError: there is none, or one cannot be run; every problem is named.
    """
    # The library remembers the names it has seen, and would take an app that is indexed again for duplicates.
    app.functions_bindings = {}
    try:
        with _without_http_advice():
            functions = app.get_functions()
    except ValueError as error:
        raise IndexingError(f"the app cannot be indexed: {error}") from error
    problems: list[str] = []
    found = []
    for function in functions:
        try:
            found.append(_definition(function, os.environ if environment is None else environment))
        except ValueError as error:
            problems.append(f"function {function.get_function_name()}: {error}")
    if problems:
        raise IndexingError("; ".join(problems))
    if not found:
        raise IndexingError("the app registers none. Register its blueprints in function_app.")
    return found


def _definition(function: Any, environment: Mapping[str, str]) -> FunctionDefinition:
    call = function.get_user_function()
    # As text, as the worker passes bindings to the platform: enumerations are upper-cased names.
    bindings = [json.loads(text) for text in function.get_raw_bindings()]
    triggers = [binding for binding in bindings if binding["type"] in _ACCEPTS]
    if len(bindings) != 1 or len(triggers) != 1:
        types = ", ".join(str(binding["type"]) for binding in bindings)
        raise ValueError(
            f"the local host runs functions with one Service Bus or timer trigger and no other binding,"
            f" not with {types}"
        )
    binding = triggers[0]
    _check_parameters(call, binding)

    def setting(key: str) -> str:
        return _resolved(str(binding[key]), environment)

    if binding["type"] == _TIMER:
        return FunctionDefinition(
            name=function.get_function_name(),
            argument=binding["name"],
            call=call,
            schedule=setting("schedule"),
            run_on_startup=bool(binding.get("runOnStartup", False)),
        )
    entity = (
        setting("queueName")
        if "queueName" in binding
        else f"{setting('topicName')}/subscriptions/{setting('subscriptionName')}"
    )
    return FunctionDefinition(
        name=function.get_function_name(),
        argument=binding["name"],
        call=call,
        entity=entity,
        batch=str(binding.get("cardinality", "one")).lower() == "many",
        binary=str(binding.get("dataType", "")).lower() == "binary",
    )


def _check_parameters(call: Callable[..., Any], binding: dict[str, Any]) -> None:
    parameters = set(inspect.signature(call).parameters)
    name = binding["name"]
    if parameters != {name}:
        raise ValueError(
            f"its trigger fills parameter {name}, but it takes {', '.join(sorted(parameters)) or 'none'}"
        )
    annotation = typing.get_type_hints(call).get(name)
    if annotation is not None and not _ACCEPTS[binding["type"]](annotation):
        raise ValueError(
            f"parameter {name} is annotated {annotation}, which the platform's worker refuses for a"
            f" {binding['type']}; for a batch it takes typing.List[func.ServiceBusMessage] only"
        )


def _resolved(text: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ValueError(f"setting {match[1]} is named by its trigger and not set")
        return environment[match[1]]

    return re.sub(r"%([^%]+)%", value, text)


@contextmanager
def _without_http_advice() -> Iterator[None]:
    """Silence the library's advice about HTTP keys: it logs to the root logger, and so configures it."""
    root = logging.getLogger()

    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Auth level is not applied")

    placeholder = logging.NullHandler()
    root.addFilter(other)
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeFilter(other)
        root.removeHandler(placeholder)
