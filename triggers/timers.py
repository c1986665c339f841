"""Timers. Each does everything due and not yet done, so that a missed or doubled tick does no harm."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import azure.functions as func  # noqa: TC002 - the worker reads the annotations

from shared.contracts.messages import INBOUND_QUEUES, Queue
from triggers import poison
from triggers.observed import measured, sweep
from triggers.worker import log, services
from triggers.zones import blueprint_of

_LEFT_LYING = timedelta(minutes=1)
_RECONCILING = timedelta(seconds=45)
_OF_REVOCATION = (Queue.REVOCATION_REQUESTS,)
_NOT_OF_REVOCATION = tuple(queue for queue in INBOUND_QUEUES if queue not in _OF_REVOCATION)
"""Queues that the zone of issuing may look into and delete from; the zone of revocation has its own."""


@blueprint_of("expiry_sweep").timer_trigger(arg_name="timer", schedule="0 10 3 * * *")
@sweep
async def expiry_sweep(timer: func.TimerRequest) -> None:
    """Report what is about to expire and what has expired; daily at 03:10 UTC."""
    reported = await services().lifetimes.expiry_sweep.run()
    log.info("expiry sweep (late: %s): %s", timer.past_due, {notice.value: count for notice, count in reported.items()})


@blueprint_of("crl_publication").timer_trigger(arg_name="timer", schedule="0 40 3 * * *")
@sweep
async def crl_publication(timer: func.TimerRequest) -> None:
    """Publish a new CRL of every CA; daily at 03:40 UTC."""
    published = await services().revocation_lists.publish_all()
    log.info("CRL publication (late: %s): %d lists", timer.past_due, published)


@blueprint_of("rollover_sweep").timer_trigger(arg_name="timer", schedule="0 */10 * * * *")
@sweep
async def rollover_sweep(timer: func.TimerRequest) -> None:
    """Carry on broken-off rollovers, and retire issuing CAs whose last certificate has ended; every ten minutes."""
    states = await services().groups.rollovers.sweep()
    log.info("rollover sweep (late: %s): %s", timer.past_due, {state.value: count for state, count in states.items()})


@blueprint_of("authority_sweep").timer_trigger(arg_name="timer", schedule="30 */10 * * * *")
@sweep
async def authority_sweep(timer: func.TimerRequest) -> None:
    """Finish CAs that are signed and not open yet, such as those that the DPS had no place for; every ten minutes."""
    await measured(services().measurements.authorities)
    finished = await services().authority_workflows.converger.sweep()
    log.info("CA sweep (late: %s): %d CAs", timer.past_due, finished)


@blueprint_of("request_sweep").timer_trigger(arg_name="timer", schedule="45 */10 * * * *")
@sweep
async def request_sweep(timer: func.TimerRequest) -> None:
    """See to requests and approvals that are open, and delete what was kept long enough; every ten minutes."""
    looked_at = await services().following.mend()
    expired = await services().approvals.sweep()
    deleted = await services().retention.sweep()
    late = timer.past_due
    log.info(
        "request sweep (late: %s): %d requests, %d approvals expired; deleted: %s", late, looked_at, expired, deleted
    )


@blueprint_of("directory_upkeep").timer_trigger(arg_name="timer", schedule="20 * * * * *")
@sweep
async def directory_upkeep(timer: func.TimerRequest) -> None:
    """Bring the directory of devices to what has changed, if no worker did so after its work; every minute."""
    devices = await services().directory_upkeep.run()
    log.info("directory upkeep (late: %s): %d devices", timer.past_due, devices)


@blueprint_of("order_sweep").timer_trigger(arg_name="timer", schedule="0 5,25,45 * * * *")
@sweep
async def order_sweep(timer: func.TimerRequest) -> None:
    """Have orders seen to again whose message was lost; every twenty minutes."""
    revived = await services().device_orders.revive()
    log.info("order sweep (late: %s): %d orders", timer.past_due, revived)


@blueprint_of("key_deletion").timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@sweep
async def key_deletion(timer: func.TimerRequest) -> None:
    """Delete the private keys in bundles that were handed out a while ago; every five minutes."""
    deleted = await services().lifetimes.expiry_sweep.delete_keys()
    log.info("key deletion (late: %s): %d keys", timer.past_due, deleted)


@blueprint_of("convergence_sweep").timer_trigger(arg_name="timer", schedule="0,30 * * * * *")
@sweep
async def convergence_sweep(timer: func.TimerRequest) -> None:
    """Go on with devices that the services do not follow since a minute; every half minute."""
    await measured(partial(services().measurements.waiting, _OF_REVOCATION))
    devices = await services().converger.sweep(older_than=_LEFT_LYING)
    log.info("convergence sweep (late: %s): %d devices", timer.past_due, devices)


@blueprint_of("group_sweep").timer_trigger(arg_name="timer", schedule="10,40 * * * * *")
@sweep
async def group_sweep(timer: func.TimerRequest) -> None:
    """Go on with groups that DPS does not follow since a minute; every half minute."""
    groups = await services().groups.converger.sweep(older_than=_LEFT_LYING)
    log.info("group sweep (late: %s): %d groups", timer.past_due, groups)


@blueprint_of("reconciliation").timer_trigger(arg_name="timer", schedule="25 * * * * *")
@sweep
async def reconciliation(timer: func.TimerRequest) -> None:
    """Compare the ledger with DPS, hubs and vaults, a share of their quotas at a time; every minute."""
    steps = await services().reconciler.run(until=services().clock() + _RECONCILING)
    log.info("reconciliation (late: %s): %d steps", timer.past_due, steps)


@blueprint_of("epoch_upkeep").timer_trigger(arg_name="timer", schedule="15,45 * * * * *")
@sweep
async def epoch_upkeep(timer: func.TimerRequest) -> None:
    """Raise the epochs of ledger and vault, by which a ledger that was put back is noticed; every half minute."""
    log.info("epoch upkeep (late: %s): %s", timer.past_due, await services().epochs.advance())


@blueprint_of("in_hand_sweep").timer_trigger(arg_name="timer", schedule="5,35 * * * * *")
@sweep
async def in_hand_sweep(timer: func.TimerRequest) -> None:
    """Take up what killed workers had in hand, but for revocations; every half minute."""
    sent = await services().in_hand.sweep(_NOT_OF_REVOCATION)
    log.info("in-hand sweep (late: %s): %d messages", timer.past_due, sent)


@blueprint_of("revocation_in_hand_sweep").timer_trigger(arg_name="timer", schedule="20,50 * * * * *")
@sweep
async def revocation_in_hand_sweep(timer: func.TimerRequest) -> None:
    """Take up the revocations that killed workers had in hand; every half minute."""
    sent = await services().in_hand.sweep(_OF_REVOCATION)
    log.info("in-hand sweep of revocations (late: %s): %d messages", timer.past_due, sent)


@blueprint_of("takeover_sweep").timer_trigger(arg_name="timer", schedule="15 2,17,32,47 * * * *")
@sweep
async def takeover_sweep(timer: func.TimerRequest) -> None:
    """Give devices back that a group which others can sign for has registered; every fifteen minutes."""
    given_back = await services().takeovers.sweep()
    log.info("takeover sweep (late: %s): %d devices", timer.past_due, given_back)


@blueprint_of("poison_sweep").timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
@sweep
async def poison_sweep(timer: func.TimerRequest) -> None:
    """Keep what the functions of the poison queues could not; every five minutes."""
    await measured(partial(services().measurements.waiting, _NOT_OF_REVOCATION))
    moved = await poison.sweep()
    log.info("poison sweep (late: %s): %d messages", timer.past_due, moved)


@blueprint_of("responder_upkeep").timer_trigger(arg_name="timer", schedule="50 * * * * *")
@sweep
async def responder_upkeep(timer: func.TimerRequest) -> None:
    """Have OCSP responders ready for the public zone, which can't make them; every minute."""
    made = await services().responder_upkeep.run()
    log.info("responder upkeep (late: %s): %d made", timer.past_due, made)


@blueprint_of("log_upkeep").timer_trigger(arg_name="timer", schedule="20 * * * * *")
@sweep
async def log_upkeep(timer: func.TimerRequest) -> None:
    """Put acts into the log, have its checkpoint signed, and witnesses cosign it; every minute."""
    upkeep = services().evidence.upkeep
    if upkeep is None:
        return
    logged, size, cosigned = await upkeep.run()
    log.info(
        "log upkeep (late: %s): %d acts, %d entries, %d witnesses have signed", timer.past_due, logged, size, cosigned
    )
