"""Our books held against Stripe's, both ways: whatever events were lost, forged or wrong, it is seen here.

Everything is read from Stripe first, so when Stripe is away nothing has been looked at. What `comparison` then finds is
kept, once: as mended if that could be done, or else open until a person has looked into it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.db import connections, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import User
from billing import comparison, mails
from billing.comparison import Finding
from billing.errors import AlreadyReconciling, PaymentUnavailable
from billing.models import Discrepancy, Reconciliation

log = structlog.get_logger(__name__)

DAYS = 3
MOST_IN_A_MAIL = 10
# What happens while a comparison runs is looked at by the next.
OVERLAP = timedelta(days=1)
# PostgreSQL's advisory lock: any number that nothing else here uses.
LOCK = 7_205_117


def reconcile(days: int = DAYS) -> Reconciliation:
    """Compare the last `days`, and what the last complete comparison left out; AlreadyReconciling if one is going on.

    When Stripe cannot be asked the run says so in its `error`; whatever was mended and reported until then stays.
    """
    with _alone():
        run = _begin(days)
        try:
            theirs = comparison.ask(run.since)
            run.checked = {
                "sessions": len(theirs.sessions),
                "payments": len(theirs.payments),
                "invoices": len(theirs.invoices),
                "refunds and disputes": len(theirs.reversals),
                "orders": comparison.credited(run).count(),
            }
            for finding in comparison.findings(run, theirs):
                _report(run, finding)
        except PaymentUnavailable as error:
            run.error = str(error)
            log.error("reconciliation failed", run=run.pk, error=run.error)
        except Exception as error:
            run.error = f"{type(error).__name__}: {error}"[:1000]
            raise
        finally:
            run.ended_at = Now()
            run.save()
            _tell_operators(run)
        run.refresh_from_db()
    log.info("reconciliation ended", run=run.pk, since=run.since.isoformat(), checked=run.checked)
    return run


@contextmanager
def _alone() -> Iterator[None]:
    # A connection of its own: between two calls of Stripe's the usual one goes back to the pool. If this process is
    # killed, the lock goes with it.
    lock = connections["default"].copy()
    try:
        with lock.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone() != (True,):
                raise AlreadyReconciling("The books are being held against Stripe's at this moment.")
        try:
            yield
        finally:
            with lock.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    finally:
        lock.close()


def _begin(days: int) -> Reconciliation:
    now = timezone.now()
    # Nobody else compares now: what has not ended was killed.
    for run in Reconciliation.objects.filter(ended_at=None):
        Reconciliation.objects.filter(pk=run.pk).update(ended_at=Now(), error="It was cut off.")
        _tell_operators(run)
    since = now - timedelta(days=days)
    last = Reconciliation.objects.complete().order_by("-began_at").first()
    first = Reconciliation.objects.order_by("since").first()
    if last:
        since = min(since, last.began_at - OVERLAP)
    elif first:
        since = min(since, first.since)
    return Reconciliation.objects.create(began_at=now, since=since)


@transaction.atomic
def _tell_operators(run: Reconciliation) -> None:
    """Mail what a run has found to those who may look into it, once."""
    found = list(run.discrepancies.order_by("mended", "pk"))
    if not found:
        return
    staff = User.objects.filter(
        is_staff=True, is_active=True, emailaddress__email=F("email"), emailaddress__verified=True
    )
    for operator in staff:
        if operator.has_perm("billing.view_discrepancy"):
            mails.discrepancies(
                operator,
                run=run.pk,
                still_open=sum(not one.mended for one in found),
                mended=sum(one.mended for one in found),
                says=[one.says for one in found[:MOST_IN_A_MAIL]],
            )


@transaction.atomic
def _report(run: Reconciliation, finding: Finding) -> None:
    """Keep a finding, unless it is known: once is enough to be told."""
    same = Discrepancy.objects.filter(
        kind=finding.kind,
        stripe_id=finding.stripe_id,
        order=finding.order,
        expected=finding.expected,
        found=finding.found,
        mended=False,
    )
    if finding.mended:
        if not same.open().update(mended=True):
            _keep(run, finding)
        log.warning("books mended", kind=finding.kind, stripe=finding.stripe_id, says=finding.says)
    elif not same.exists():
        _keep(run, finding)
        log.error(
            "books differ from Stripe's", kind=finding.kind, stripe=finding.stripe_id, says=finding.says
        )


def _keep(run: Reconciliation, finding: Finding) -> None:
    Discrepancy.objects.create(
        run=run,
        kind=finding.kind,
        stripe_id=finding.stripe_id,
        order=finding.order,
        says=finding.says[:300],
        expected=finding.expected[:200],
        found=finding.found[:200],
        mended=finding.mended,
    )
