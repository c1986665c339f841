"""The Functions app: registers the triggers, nothing else."""

import azure.functions as func

from triggers import http_api, queues, timers, worker

worker.settings()
worker.set_up_logging()

app = func.FunctionApp()
for module in (http_api, queues, timers):
    app.register_functions(module.blueprint)
