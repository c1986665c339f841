"""Timers. Each does everything due and not yet done, so that a missed or doubled tick does no harm."""

from __future__ import annotations

import azure.functions as func

from triggers.worker import log, services

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="0 10 3 * * *")
async def expiry_sweep(timer: func.TimerRequest) -> None:
    """Report what is about to expire and what has expired; daily at 03:10 UTC."""
    reported = await services().expiry_sweep.run()
    log.info("expiry sweep (late: %s): %s", timer.past_due, {notice.value: count for notice, count in reported.items()})


@blueprint.timer_trigger(arg_name="timer", schedule="0 40 3 * * *")
async def crl_publication(timer: func.TimerRequest) -> None:
    """Publish a new CRL of every CA; daily at 03:40 UTC."""
    published = await services().revocation_lists.publish_all()
    log.info("CRL publication (late: %s): %d lists", timer.past_due, published)


@blueprint.timer_trigger(arg_name="timer", schedule="0 */10 * * * *")
async def rollover_sweep(timer: func.TimerRequest) -> None:
    """Carry on broken-off rollovers, and retire issuing CAs whose last certificate has ended; every ten minutes."""
    states = await services().rollovers.sweep()
    log.info("rollover sweep (late: %s): %s", timer.past_due, {state.value: count for state, count in states.items()})


@blueprint.timer_trigger(arg_name="timer", schedule="0 5,25,45 * * * *")
async def order_sweep(timer: func.TimerRequest) -> None:
    """Have orders seen to again whose message was lost; every twenty minutes."""
    revived = await services().device_orders.revive()
    log.info("order sweep (late: %s): %d orders", timer.past_due, revived)
