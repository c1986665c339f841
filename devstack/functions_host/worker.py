"""Microsoft's worker library, in a thread of this process with an event loop of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as runtime

from devstack.functions_host.protocol import Message, ParameterBinding, Protos, StatusResult, TypedData

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

LOG = logging.getLogger("functions_host")


class AppError(Exception):
    """The app can't be indexed; the message has the worker's own traceback."""


class InvocationFailed(Exception):
    """A function raised, or its worker was lost; the message has the exception and its traceback, or says so."""


def log_failure(failure: InvocationFailed) -> None:
    """Write a traceback to the log, a record for each line: the app keeps each record to a line."""
    for line in str(failure).splitlines():
        LOG.warning("    %s", line)


@dataclass(frozen=True, slots=True)
class Function:
    """One function as the worker indexed it.

    Attributes:
        trigger: the trigger's binding, as the app declares it, in JSON; settings in it are not resolved.
    """

    name: str
    function_id: str
    trigger: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The trigger's type, such as ``queueTrigger``."""
        return str(self.trigger["type"])


@dataclass(slots=True)
class Worker:
    """Runs functions of one app.

    Attributes:
        app_directory: has function_app.py.
        timeout: ``functionTimeout`` of host.json in seconds. A function that takes longer costs the worker its process:
            the real host starts a new one, and whatever else the old one was doing fails as well
            (WebScriptHostExceptionHandler.OnTimeoutExceptionAsync of Azure/azure-functions-host).
    """

    app_directory: Path
    timeout: float
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    async def start(self) -> list[Function]:
        """Index the app.

        Raises:
            AppError: it can't be imported, or its functions contradict themselves.
        """
        sys.path.insert(0, str(self.app_directory))
        self._thread = threading.Thread(target=self._run, name="functions-worker", daemon=True)
        self._thread.start()
        runtime.start_threadpool_executor()
        init = Message(capabilities={}, function_app_directory=str(self.app_directory))
        answer = await self._call(runtime.worker_init_request(_request(worker_init_request=init)))
        if answer.result.status != StatusResult.Success:
            raise AppError(f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
        indexed = await self._call(runtime.functions_metadata_request(_request()))
        found = [_function(metadata) for metadata in indexed.function_metadata_results or []]
        for function in found:
            load = Message(function_id=function.function_id)
            await self._call(runtime.function_load_request(_request(function_load_request=load)))
        return found

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def invoke(
        self, function: Function, data: TypedData, metadata: Mapping[str, TypedData] | None = None
    ) -> TypedData | None:
        """Call a function.

        Args:
            function: which one.
            data: its trigger's value.
            metadata: its trigger's metadata by name.

        Returns:
            What it returned.

        Raises:
            InvocationFailed: it raised, or the worker was lost meanwhile.
        """
        invocation_id = str(uuid.uuid4())
        started = time.perf_counter()
        request = Message(
            invocation_id=invocation_id,
            function_id=function.function_id,
            input_data=[ParameterBinding(name=function.trigger["name"], data=data)],
            trigger_metadata=dict(metadata or {}),
            trace_context=Message(trace_parent="", trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        answer = await self._in_time(function.name, runtime.invocation_request(_request(invocation_request=request)))
        took = (time.perf_counter() - started) * 1000
        if answer.result.status != StatusResult.Success:
            error = answer.result.exception
            LOG.error("%s %s failed after %.0f ms: %s", function.name, invocation_id, took, error.message)
            raise InvocationFailed(f"{error.message}\n{error.stack_trace}")
        LOG.info("%s %s succeeded in %.0f ms", function.name, invocation_id, took)
        returned: TypedData | None = answer.return_value
        return returned

    async def _in_time(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Give the worker's answer, unless the worker is lost before."""
        answer, lost = asyncio.ensure_future(self._call(coroutine)), asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait((answer, lost), timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if not self._lost.is_set():
                LOG.error("%s took longer than functionTimeout, %.0f s: its worker is restarted", name, self.timeout)
                self._lost.set()
            raise InvocationFailed("the worker's process was restarted, because a function took too long")
        finally:
            for task in (answer, lost):
                task.cancel()

    async def lost(self) -> None:
        """Wait until the worker is lost."""
        await self._lost.wait()

    def stop(self) -> None:
        """End the loop's thread, as the platform does: without closing what the app has open."""
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(timeout=5)


def _request(**verbs: Any) -> Message:
    return Message(request=Message(**verbs), properties={"host": "127.0.0.1", "protos": Protos})


def _function(metadata: Any) -> Function:
    bindings = [json.loads(binding) for binding in metadata.raw_bindings]
    trigger = next(binding for binding in bindings if str(binding["type"]).lower().endswith("trigger"))
    return Function(metadata.name, metadata.function_id, trigger)
