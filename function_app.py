"""The Functions app: registers the triggers of its trust zone, nothing else."""

from triggers import worker
from triggers.registration import app_of

settings = worker.settings()
worker.set_up_logging()
worker.set_up_telemetry()

app = app_of(settings.zone, entra=settings.entra_authentication)
