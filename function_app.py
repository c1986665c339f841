"""The Functions app: registers the triggers of its trust zone, nothing else."""

import gc

gc.disable()  # next to nothing of what is imported is garbage, and to look for it takes a fifth of the start
try:
    from triggers import worker
    from triggers.registration import app_of
finally:
    gc.enable()
gc.freeze()  # it stays, and no later look for garbage goes through it

settings = worker.settings()
worker.set_up_logging()
worker.set_up_telemetry()

app = app_of(settings.zone, entra=settings.entra_authentication)
