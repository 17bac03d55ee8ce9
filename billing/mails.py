"""What billing writes to people: that credits came, that few are left, that a top-up or a plan was not paid.

A mail is stored in the transaction whose news it tells, so it exists exactly if they are true, and once, by its key.
It leaves from the worker. A mail server that is away delays it and nothing else.
"""

import smtplib
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from billing import ledger
from billing.jobs import hand_over
from billing.models import Mail, Order, Subscription

log = structlog.get_logger(__name__)

GIVE_UP_AFTER = timedelta(days=3)
LONGEST_PAUSE = timedelta(hours=2)
BATCH = 100


def receipt(order: Order, *, link: str = "") -> None:
    """Owe the buyer of a paid order the news that its credits are there; `link` is Stripe's receipt or invoice."""
    if order.user is not None:
        available = ledger.wallet_of(order.user).available
        facts = {"link": link, "available": available}
        _owe(Mail.Kind.RECEIPT, order.user, key=f"receipt:{order.pk}", order=order, facts=facts)


def low_balance(user: User, *, balance: int, threshold: int, since: int) -> None:
    """Owe `user` the news that few credits are left; amounts in microcredits, `since` is the movement that did it."""
    facts = {"balance": balance, "threshold": threshold}
    _owe(Mail.Kind.LOW_BALANCE, user, key=f"low_balance:{user.pk}:{since}", facts=facts)


def topup_failed(user: User, order: Order, reason: str) -> None:
    """Owe `user` the news that an automatic top-up was not paid; `reason` is Stripe's word for why."""
    _owe(Mail.Kind.TOPUP_FAILED, user, key=f"topup_failed:{order.pk}", order=order, facts={"reason": reason})


def topup_stopped(user: User, *, card: str) -> None:
    """Owe `user` the news that Stripe does not keep their card for automatic top-ups any more; `card` is its id."""
    _owe(Mail.Kind.TOPUP_STOPPED, user, key=f"topup_stopped:{card}", facts={})


def plan_unpaid(subscription: Subscription, *, attempt: str) -> None:
    """Owe a subscriber the news that a period of their plan could not be paid; `attempt` names the try that failed."""
    if subscription.user is not None:
        plan = subscription.plan
        facts = {"plan": plan.name, "price_cents": plan.price_cents, "currency": plan.currency}
        _owe(Mail.Kind.PLAN_UNPAID, subscription.user, key=f"plan_unpaid:{attempt}", facts=facts)


def debt(user: User, order: Order, *, taken_by: str, balance: int) -> None:
    """Owe `user` the news that a payment was given back after its credits had been spent; `balance` is below zero.

    `taken_by` is the key of the refund or dispute that took them.
    """
    facts = {"balance": balance, "kind": taken_by.partition(":")[0]}
    _owe(Mail.Kind.DEBT, user, key=f"debt:{taken_by}", order=order, facts=facts)


def discrepancies(operator: User, *, run: int, still_open: int, mended: int, says: list[str]) -> None:
    """Owe an operator the news of what a comparison with Stripe has found; `says` are the first few of it."""
    facts = {"open": still_open, "mended": mended, "says": says}
    _owe(Mail.Kind.DISCREPANCIES, operator, key=f"discrepancies:{run}:{operator.pk}", facts=facts)


def deliver(mail_id: int) -> bool:
    """Send a mail unless it was sent, or is being sent elsewhere; whether it left now.

    The row stays locked meanwhile, so a mail leaves twice only if this process dies between the two.
    """
    with transaction.atomic():
        waiting = Mail.objects.waiting().select_related("user", "order__plan", "order__pack")
        mail = waiting.select_for_update(of=("self",), skip_locked=True).filter(pk=mail_id).first()
        if mail is None:
            return False
        try:
            _written(mail).send()
        except (smtplib.SMTPException, OSError) as error:
            _put_off(mail, error)
            return False
        Mail.objects.filter(pk=mail.pk).update(sent_at=Now())
        return True


def deliver_waiting() -> int:
    """Send what is due and has not left: the broker or the mail server was away. How many left."""
    due = list(Mail.objects.waiting().order_by("due_at").values_list("pk", flat=True)[:BATCH])
    return sum(deliver(mail_id) for mail_id in due)


def _owe(kind: Mail.Kind, user: User, *, key: str, facts: dict[str, Any], order: Order | None = None) -> None:
    with transaction.atomic():
        mail, made = Mail.objects.get_or_create(
            key=key, defaults={"kind": kind, "user": user, "order": order, "facts": facts}
        )
        if made:
            # By name: the tasks import this module.
            transaction.on_commit(lambda: hand_over("billing.tasks.send_mail", mail.pk), robust=True)


def _put_off(mail: Mail, error: Exception) -> None:
    """Try again later, ever more slowly; not for ever."""
    log.warning("mail did not leave", mail=mail.pk, kind=mail.kind, tries=mail.tries + 1, error=repr(error))
    if timezone.now() - mail.created_at > GIVE_UP_AFTER:
        log.error("mail given up", mail=mail.pk, kind=mail.kind)
        mail.given_up_at = Now()
    pause = min(timedelta(minutes=2 ** min(mail.tries, 10)), LONGEST_PAUSE)
    mail.due_at = Now() + pause
    mail.tries += 1
    mail.save(update_fields=["given_up_at", "due_at", "tries"])


def _written(mail: Mail) -> EmailMultiAlternatives:
    context = {
        "mail": mail,
        "order": mail.order,
        "facts": mail.facts,
        "site": settings.SITE_URL,
        "billing": f"{settings.SITE_URL}{reverse('billing')}",
        "discrepancies": f"{settings.SITE_URL}{reverse('admin:billing_discrepancy_changelist')}",
    }

    def render(name: str) -> str:
        return render_to_string(f"billing/email/{mail.kind}{name}", context)

    written = EmailMultiAlternatives(
        subject=" ".join(render("_subject.txt").split()), body=render(".txt"), to=[mail.user.email]
    )
    written.attach_alternative(render(".html"), "text/html")
    return written
