"""The Functions app: registers the triggers of its trust zone, nothing else."""

import azure.functions as func

from triggers import http_api, queues, timers, worker, zones

settings = worker.settings()
worker.set_up_logging()

app = func.FunctionApp()
for blueprint in zones.blueprints_of(settings.zone):
    app.register_functions(blueprint)

__all__ = ["app", "http_api", "queues", "timers"]
