"""Automatic top-ups: whoever runs low buys what they said, with the card that they let Stripe keep for it.

The order is decided and stored in one transaction, and only then is Stripe asked for the money, with the order as the
idempotency key. Whatever dies in between, `finish_left_behind` asks Stripe what became of it.
"""

import uuid
from datetime import UTC, timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Now, TruncMonth

from accounts.models import User
from billing import customers, fulfilment, ledger, mails
from billing.away import each_by_itself
from billing.checkout import Purchase
from billing.errors import CustomerForgotten, PaymentRefused, PaymentUnavailable, RequestRefused
from billing.models import AutoTopUp, Customer, Order
from billing.stripe_gateway import payments
from billing.stripe_gateway.payments import Payment

log = structlog.get_logger(__name__)

# Longer than any call of Stripe's takes with all its attempts: what is open for longer was left behind.
LEFT_BEHIND_AFTER = timedelta(minutes=2)
# By then the event has told of most of those that a bank answers late.
BANK_ANSWERS_WITHIN = timedelta(hours=1)
# Stripe remembers a key for a day. Asked with it later, it could take the money twice.
KEY_LASTS = timedelta(hours=23)
# Why an order failed that nobody could pay any more.
NO_CARD = "no_card"


def keep(
    *,
    user: User,
    enabled: bool,
    threshold_microcredits: int,
    purchase: Purchase,
    monthly_cap_cents: int,
) -> AutoTopUp:
    """Store what a person wants. It does not run before there is a card for it, and one that was not refused."""
    with transaction.atomic():
        ledger.locked_wallet_of(user)  # two tabs make one row
        rule = AutoTopUp.objects.filter(user=user).first() or AutoTopUp(user=user)
        rule.enabled = enabled
        rule.threshold_microcredits = threshold_microcredits
        rule.pack = purchase.pack
        rule.amount_cents = None if purchase.pack else purchase.amount_cents
        rule.monthly_cap_cents = monthly_cap_cents
        if not rule.payment_method:
            rule.paused_because = AutoTopUp.Pause.NO_CARD
        elif rule.paused_because == AutoTopUp.Pause.NOTHING_TO_BUY:
            rule.paused_because = ""
        rule.save()
    return rule


def consider_all() -> None:
    """Top up who is low without having spent just now: they were at their cap last month, or have nothing left."""
    low = AutoTopUp.objects.running().filter(
        user__wallet__balance__gte=0,
        user__wallet__balance__lt=F("threshold_microcredits") + F("user__wallet__held"),
    )
    each_by_itself(low.values_list("user_id", flat=True), consider)


def consider(user_id: uuid.UUID) -> Order | None:
    """Top a person up if their balance is below what they said: the order, or None if there is nothing to do.

    For whoever has just spent. However many ask at once, there is one payment at a time. Nothing is raised when Stripe
    is away or the bank says no: the order tells.
    """
    # Most people have no such rule: they are not made to wait for their wallet.
    if not AutoTopUp.objects.running().filter(user=user_id).exists():
        return None
    order = _decide(user_id)
    return _pay(order) if order else None


@transaction.atomic
def _decide(user_id: uuid.UUID) -> Order | None:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        return None
    wallet = ledger.locked_wallet_of(user)
    rules = AutoTopUp.objects.running().select_for_update(of=("self",)).select_related("pack")
    rule = rules.filter(user=user).first()
    if rule is None or wallet.available >= rule.threshold_microcredits:
        return None
    if wallet.balance < 0:
        # Their money went back after its credits were spent. Whether they want to pay for that, only they can say.
        return None
    purchase = what(rule)
    if purchase is None:
        _pause(rule, AutoTopUp.Pause.NOTHING_TO_BUY)
        return None
    ordered = user.orders.filter(source=Order.Source.AUTO_TOPUP)
    if ordered.filter(state__in=[Order.State.OPEN, Order.State.PENDING]).exists():
        return None
    if spent_this_month(user) + purchase.amount_cents > rule.monthly_cap_cents:
        log.info("automatic top-up at its cap", user=str(user_id))
        return None
    return Order.objects.create(
        user=user,
        source=Order.Source.AUTO_TOPUP,
        pack=purchase.pack,
        credits_microcredits=purchase.credits_microcredits,
        amount_cents=purchase.amount_cents,
        currency=purchase.currency,
        stripe_payment_method=rule.payment_method,
    )


def what(rule: AutoTopUp) -> Purchase | None:
    """What a rule buys; None if that is no longer sold."""
    if rule.amount_cents is not None:
        return Purchase.of_amount(rule.amount_cents)
    if rule.pack is None or not rule.pack.on_sale or rule.pack.currency != "usd":
        return None
    return Purchase.of_pack(rule.pack)


def spent_this_month(user: User) -> int:
    """US cents of this calendar month's automatic top-ups, those included that a bank has yet to answer."""
    counted = [Order.State.OPEN, Order.State.PENDING, Order.State.PAID]
    ordered = user.orders.filter(
        source=Order.Source.AUTO_TOPUP,
        state__in=counted,
        created_at__gte=TruncMonth(Now(), tzinfo=UTC),
    )
    return ordered.aggregate(sum=Sum("amount_cents"))["sum"] or 0


def _pay(order: Order) -> Order:
    """Ask Stripe for the money of a stored order, and do what it answers. An order it does not answer stays open."""
    customer = Customer.objects.get(user=order.user)
    try:
        try:
            payment = payments.charge_off_session(order, customer)
        except PaymentRefused as refusal:
            if not refusal.payment:
                return _give_up(order, refusal.reason)
            payment = refusal.payment
        settle_at_once(payments.retrieve_payment(payment))
    except CustomerForgotten:
        return _without_customer(order, customer)
    except RequestRefused:
        # Such as a card that is no longer there.
        return _give_up(order, "request_refused")
    except PaymentUnavailable as error:
        log.warning("automatic top-up unanswered", order=str(order.pk), error=str(error))
    order.refresh_from_db()
    return order


def is_for_one(order_id: str) -> bool:
    """Whether an order, if it is one, is an automatic top-up."""
    return bool(order_id) and Order.objects.filter(pk=order_id, source=Order.Source.AUTO_TOPUP).exists()


@transaction.atomic
def settle_at_once(payment: Payment) -> Order | None:
    """`settle` in a transaction of its own."""
    return settle(payment)


def settle(payment: Payment) -> Order | None:
    """Do what became of a payment, inside the caller's transaction; None if it is for no automatic top-up.

    A payment that fails stops further ones until the person pays in person.
    """
    order, changed = fulfilment.apply_payment(payment)
    if order and changed and order.state == Order.State.FAILED:
        _stop_after(order)
    return order


@transaction.atomic
def _give_up(order: Order, failure: str) -> Order:
    """There is no payment and there will be none."""
    order, _ = fulfilment.locked(order)
    if order.state == Order.State.OPEN:
        order.state = Order.State.FAILED
        order.failure = failure[:60]
        order.save()
        _stop_after(order)
    return order


def _without_customer(order: Order, customer: Customer) -> Order:
    """Stripe has deleted who was to pay, and the card with them. That is what the person is told."""
    customers.forget(customer.stripe_id)
    return _give_up(order, NO_CARD)


def _stop_after(order: Order) -> None:
    """Stop the rule whose order has failed."""
    wants_its_person = order.failure == "authentication_required"
    pause = AutoTopUp.Pause.AUTHENTICATION_REQUIRED if wants_its_person else AutoTopUp.Pause.REFUSED
    rule = AutoTopUp.objects.select_for_update().filter(user=order.user_id).first()
    # A card that was put in its place meanwhile has refused nothing, and what went back counts for more.
    if (
        rule
        and rule.payment_method == order.stripe_payment_method
        and rule.paused_because != AutoTopUp.Pause.REVERSED
    ):
        _pause(rule, pause)
    if order.user is not None and order.failure != NO_CARD:
        mails.topup_failed(order.user, order, order.failure)


def stop_after_reversal(user: User) -> None:
    """Charge nobody while they are away whose money went back: not before they pay in person once more.

    Inside the caller's transaction, which has their wallet locked: no top-up is being decided meanwhile.
    """
    rule = AutoTopUp.objects.select_for_update().filter(user=user).first()
    if rule is not None:
        _pause(rule, AutoTopUp.Pause.REVERSED)


def _pause(rule: AutoTopUp, because: AutoTopUp.Pause) -> None:
    AutoTopUp.objects.filter(pk=rule.pk).update(paused_because=because)
    log.info("automatic top-up paused", user=str(rule.user_id), because=because)


def finish_left_behind() -> None:
    """Find out what became of top-ups whose answer was lost, or that nobody lived to ask for.

    Those that wait for the bank are asked about too: the event that tells of them can be lost.
    """
    stale = Order.objects.filter(
        Q(state=Order.State.OPEN, created_at__lt=Now() - LEFT_BEHIND_AFTER)
        | Q(state=Order.State.PENDING, created_at__lt=Now() - BANK_ANSWERS_WITHIN),
        source=Order.Source.AUTO_TOPUP,
    )
    each_by_itself(stale.select_related("user"), _finish_if_stripe_answers)


def _finish_if_stripe_answers(order: Order) -> None:
    try:
        _finish(order)
    except PaymentUnavailable as error:
        log.warning("automatic top-up still unanswered", order=str(order.pk), error=str(error))


def _finish(order: Order) -> None:
    customer = Customer.objects.filter(user=order.user_id).first() if order.user_id else None
    try:
        payment = _payment_of(order, customer)
    except CustomerForgotten:
        if customer:
            _without_customer(order, customer)
        return
    if payment:
        settle_at_once(payment)
    elif customer and _may_still_be_asked(order):
        _pay(order)
    else:
        _give_up(order, "abandoned")


def _payment_of(order: Order, customer: Customer | None) -> Payment | None:
    if order.stripe_payment_intent:
        return payments.retrieve_payment(order.stripe_payment_intent)
    return payments.payment_for(order, customer) if customer else None


def _may_still_be_asked(order: Order) -> bool:
    """Whether Stripe would still know the key, and the rule that the order follows still runs."""
    return (
        Order.objects.filter(pk=order.pk, created_at__gt=Now() - KEY_LASTS).exists()
        and AutoTopUp.objects.running().filter(user=order.user_id).exists()
    )
