"""A small app for the functions host's own tests; what its functions see goes into the file that RESULTS names."""

import asyncio
import json
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()
RESULTS = Path(os.environ["RESULTS"])


def note(**fields: object) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


@app.route(route="items/{id}", methods=["GET", "POST"], auth_level=func.AuthLevel.FUNCTION)
async def item(req: func.HttpRequest) -> func.HttpResponse:
    seen = {"id": req.route_params["id"], "q": req.params.get("q"), "body": req.get_body().decode()}
    return func.HttpResponse(json.dumps(seen), status_code=201, headers={"x-seen": "yes"}, mimetype="application/json")


@app.route(route="open", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
def anyone(req: func.HttpRequest) -> str:
    return f"hello {req.method}"


@app.route(route="broken", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def broken(req: func.HttpRequest) -> str:
    raise RuntimeError(req.method)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection="DeviceFactoryStorage")
async def work(message: func.QueueMessage) -> None:
    body = message.get_body().decode()
    note(body=body, tries=message.dequeue_count, id=message.id)
    if body.startswith("fail"):
        raise RuntimeError(body)
    if body.startswith("hang") and message.dequeue_count == 1:
        await asyncio.Event().wait()
    if body.startswith("wait for "):
        gate = Path(body.removeprefix("wait for "))  # a named pipe: reading it waits for its writer
        await asyncio.to_thread(gate.read_text)
        note(body="waited")


@app.queue_trigger(arg_name="message", queue_name="%POISON_QUEUE%", connection="DeviceFactoryStorage")
async def set_aside(message: func.QueueMessage) -> None:
    body = message.get_body().decode()
    note(body=f"poison {body}", tries=message.dequeue_count, id=message.id)
    if body.startswith("fail always"):
        raise RuntimeError(body)


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
def tick(timer: func.TimerRequest) -> None:
    note(body="tick", late=timer.past_due)
