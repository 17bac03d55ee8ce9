"""Subscriptions: from Stripe's page to credits for each period that is paid, changes between plans, and the end.

Stripe runs them; what stands here follows. Whatever an event says, the subscription and its invoice are retrieved
from Stripe, so events may come doubled, late and in any order. Credits come from our plan, once for each invoice that
is paid, found by the price of Stripe's that we stored with the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts.models import User
from billing import fulfilment, ledger, mails
from billing.away import each_by_itself
from billing.checkout import SAME_CLICK
from billing.customers import with_customer
from billing.errors import PaymentRefused, PaymentUnavailable, RequestRefused, SubscriptionRefused
from billing.models import Account, Customer, Order, Plan, PlanCheckout, Subscription
from billing.models.plans import CHECKOUT_LASTS
from billing.stripe_gateway import Session
from billing.stripe_gateway import subscriptions as at_stripe
from billing.stripe_gateway.checkout import close_session, create_plan_checkout
from billing.stripe_gateway.subscriptions import Invoice, Line, SubscriptionNow

log = structlog.get_logger(__name__)

# --- What a person does ----------------------------------------------------------------------------------


def of(user: User) -> Subscription | None:
    """The subscription that a person has now, if any."""
    return user.subscriptions.live().select_related("plan").first()


def subscribe(*, user: User, plan: Plan, success_url: str, cancel_url: str) -> str:
    """The URL at which `user` subscribes to `plan`; SubscriptionRefused if they have a subscription.

    Whatever page they had opened for it before is closed first, so that only one can be paid.
    """
    known_at_stripe(plan)
    return with_customer(
        user, lambda customer: _page_for(customer, user, plan, success_url=success_url, cancel_url=cancel_url)
    )


def _page_for(customer: Customer, user: User, plan: Plan, *, success_url: str, cancel_url: str) -> str:
    while True:
        if of(user):
            raise SubscriptionRefused("You have a subscription: change its plan instead.")
        visit, just_begun = _visit(customer, user, plan)
        session_id, url = _page(visit, customer, success_url=success_url, cancel_url=cancel_url)
        if just_begun:
            return url
        # If it was paid a moment ago, its subscription is known from then on.
        take(close_session(session_id))


def to_change(user: User, plan: Plan) -> Subscription:
    """The subscription whose plan can become `plan`; SubscriptionRefused with what stands against it."""
    subscription = going(user)
    if subscription.plan_id == plan.pk:
        raise SubscriptionRefused("This is your plan already.")
    return subscription


def change_plan(user: User, plan: Plan) -> Subscription:
    """Begin a period of another plan at once, charged at once; credits that were given stay until they expire.

    PaymentRefused if the bank says no: then the subscription is what it was.
    """
    subscription = to_change(user, plan)
    known_at_stripe(plan)
    try:
        at_stripe.change_price(subscription, plan)
    except PaymentRefused:
        # The next try asks Stripe anew instead of hearing this answer again.
        Subscription.objects.filter(pk=subscription.pk, refused_changes=subscription.refused_changes).update(
            refused_changes=F("refused_changes") + 1
        )
        raise
    return bring_up_to_date(subscription.stripe_id) or subscription


def going(user: User) -> Subscription:
    """A person's subscription if its plan can be changed or ended; SubscriptionRefused with what to do first."""
    subscription = of(user)
    if subscription is None:
        raise SubscriptionRefused("You have no subscription. Choose a plan to begin one.")
    if subscription.is_unpaid:
        raise SubscriptionRefused("A payment for your subscription is due. Pay that first.")
    if subscription.status == Subscription.Status.PAUSED:
        raise SubscriptionRefused(
            "Your subscription is paused. Write to whoever runs this site to resume it."
        )
    return subscription


def end_with_period(user: User) -> Subscription:
    """Let it run out with the period that is paid."""
    subscription = going(user)
    _run_out(subscription)
    subscription.refresh_from_db()
    return subscription


def go_on(user: User) -> Subscription:
    """Take back that it ends with the period."""
    subscription = of(user)
    if subscription is None:
        raise SubscriptionRefused("This subscription has ended. Choose a plan to begin anew.")
    at_stripe.go_on(subscription.stripe_id)
    return bring_up_to_date(subscription.stripe_id) or subscription


def end_at_once(subscription: Subscription) -> None:
    """Stop it for good, as for somebody who deletes their account; done twice it is the same as once.

    PaymentUnavailable if Stripe lets it go on, or cannot say.
    """
    try:
        at_stripe.cancel_subscription(subscription.stripe_id)
    except RequestRefused:
        # As it does with what had ended; but also when it does not take our key.
        now = bring_up_to_date(subscription.stripe_id)
        if now is None or now.status not in Subscription.ENDED:
            raise
    else:
        bring_up_to_date(subscription.stripe_id)


def end_those_of_nobody() -> None:
    """Stop what people who are gone, or may not sign in, would go on paying for.

    Who is let in again within the period that they paid for has the rest of it, and can have it go on.
    """
    live = Subscription.objects.live()
    each_by_itself(live.filter(user=None), partial(_stop, end_at_once))
    barred = live.filter(user__is_active=False)
    each_by_itself(
        barred.filter(status__in=Subscription.PAID_UP, cancel_at_period_end=False), partial(_stop, _run_out)
    )
    each_by_itself(barred.exclude(status__in=Subscription.PAID_UP), partial(_stop, end_at_once))


def _run_out(subscription: Subscription) -> None:
    at_stripe.end_with_period(subscription.stripe_id)
    bring_up_to_date(subscription.stripe_id)


def _stop(how: Callable[[Subscription], None], subscription: Subscription) -> None:
    try:
        how(subscription)
    except PaymentUnavailable as error:
        log.error("subscription of nobody goes on", subscription=subscription.stripe_id, error=str(error))


def known_at_stripe(plan: Plan) -> None:
    """Have Stripe know what a plan costs; from then on its terms are fixed."""
    if plan.stripe_price is None:
        price = at_stripe.price_of(plan)
        Plan.objects.filter(pk=plan.pk, stripe_price=None).update(stripe_price=price)
        plan.refresh_from_db()


@transaction.atomic
def _visit(customer: Customer, user: User, plan: Plan) -> tuple[PlanCheckout, bool]:
    """The one visit to Stripe's page that this person has open, and whether it was begun just now for this plan."""
    Customer.objects.select_for_update().get(pk=customer.pk)
    visits = PlanCheckout.objects.filter(user=user, state=PlanCheckout.State.OPEN)
    # What was never opened at Stripe cannot be paid any more.
    visits.filter(stripe_session=None, created_at__lte=Now() - CHECKOUT_LASTS).update(
        state=PlanCheckout.State.EXPIRED
    )
    found = visits.select_related("plan").first()
    if found is None:
        return PlanCheckout.objects.create(user=user, plan=plan), True
    return found, visits.filter(plan=plan, created_at__gt=Now() - SAME_CLICK).exists()


def _page(visit: PlanCheckout, customer: Customer, *, success_url: str, cancel_url: str) -> tuple[str, str]:
    """Stripe's id of the page of a visit, and its URL."""
    session_id, url = create_plan_checkout(
        visit, customer=customer, success_url=success_url, cancel_url=cancel_url
    )
    PlanCheckout.objects.filter(pk=visit.pk, stripe_session=None).update(stripe_session=session_id)
    return session_id, url


# --- What Stripe tells -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """A subscription and one of its invoices, for which Stripe was asked at `as_of`."""

    subscription: SubscriptionNow
    invoice: Invoice | None
    as_of: datetime


def ask(subscription_id: str) -> News:
    """A subscription and its latest invoice, as Stripe has them now."""
    as_of = _clock()
    subscription = at_stripe.retrieve_subscription(subscription_id)
    latest = subscription.latest_invoice
    return News(subscription, at_stripe.retrieve_invoice(latest) if latest else None, as_of)


def ask_of_invoice(invoice_id: str) -> News | None:
    """An invoice and its subscription; None if it is of none."""
    as_of = _clock()
    invoice = at_stripe.retrieve_invoice(invoice_id)
    if not invoice.subscription:
        return None
    return News(at_stripe.retrieve_subscription(invoice.subscription), invoice, as_of)


def bring_up_to_date(subscription_id: str) -> Subscription | None:
    """Do at once what Stripe's events will ask for."""
    news = ask(subscription_id)
    with transaction.atomic():
        return apply(news)


def take(session: Session) -> PlanCheckout | None:
    """Bring a visit to Stripe's page up to what Stripe says of it; None if it is none of ours."""
    news = ask(session.subscription) if session.subscription else None
    with transaction.atomic():
        return apply_session(session, news)


def apply_session(session: Session, news: News | None) -> PlanCheckout | None:
    """Do what the session of a visit asks for, inside the caller's transaction."""
    visits = PlanCheckout.objects.filter(stripe_session=session.id)
    if session.plan_checkout_id and not visits.exists():
        # The process died between opening the session and storing it.
        visits = PlanCheckout.objects.filter(pk=session.plan_checkout_id, stripe_session=None)
    visit = visits.first()
    if visit is None:
        log.warning("checkout session of no visit", session=session.id)
        return None
    if news:
        apply(news)
    ended = {"complete": PlanCheckout.State.COMPLETE, "expired": PlanCheckout.State.EXPIRED}
    PlanCheckout.objects.filter(pk=visit.pk, stripe_session=None).update(stripe_session=session.id)
    if session.status in ended:
        PlanCheckout.objects.filter(pk=visit.pk, state=PlanCheckout.State.OPEN).update(
            state=ended[session.status]
        )
    visit.refresh_from_db()
    return visit


def apply(news: News) -> Subscription | None:
    """Store what Stripe says and credit what is paid, inside the caller's transaction; None if it is not ours."""
    now = news.subscription
    known = Subscription.objects.filter(stripe_id=now.id).select_related("user").first()
    ours, user = (True, known.user) if known else _who(now)
    if not ours:
        return None
    # The wallet before anything that hangs on it, like everybody who takes both.
    try:
        wallet = ledger.locked_wallet_of(user) if user else None
    except User.DoesNotExist:  # deleted while this waited
        user = wallet = None
    subscription = _stored(news, user)
    if subscription and news.invoice and news.invoice.is_paid and news.invoice.subscription == now.id:
        _credit_period(subscription, wallet, news.invoice, news.as_of)
    return subscription


def apply_failure(news: News) -> Subscription | None:
    """`apply` for a payment that did not go through: the person is told, once for each try."""
    subscription, invoice = apply(news), news.invoice
    if subscription is None or invoice is None or invoice.is_paid or subscription.user_id is None:
        return subscription
    attempt = f"{invoice.id}:{invoice.attempts}"
    if subscription.told_of != attempt:
        Subscription.objects.filter(pk=subscription.pk).update(told_of=attempt)
        mails.plan_unpaid(subscription, attempt=attempt)
    return subscription


def _who(now: SubscriptionNow) -> tuple[bool, User | None]:
    """Whether a subscription was begun here, and by whom; they may be gone since."""
    if now.plan_checkout_id:
        visit = PlanCheckout.objects.filter(pk=now.plan_checkout_id).select_related("user").first()
        if visit:
            return True, visit.user
    customer = Customer.objects.filter(stripe_id=now.customer).select_related("user").first()
    return customer is not None, customer.user if customer else None


def _stored(news: News, user: User | None) -> Subscription | None:
    """The row, locked, with what is new to it; None if it is of no plan of ours.

    Two who ask Stripe at once may come here in the other order. Who asked later wins: every change at Stripe is
    followed by an event, whose handler asks after it.
    """
    now = news.subscription
    plan = Plan.objects.filter(stripe_price=now.price).first()
    facts = {
        "status": now.status,
        "stripe_item": now.item,
        "current_period_end": now.current_period_end,
        "cancel_at_period_end": now.ends_with_period,
        "as_of": news.as_of,
    }
    if plan is not None:
        made = Subscription(stripe_id=now.id, user=user, plan=plan, **facts)
        Subscription.objects.bulk_create([made], ignore_conflicts=True)
    else:
        log.error("subscription to no plan of ours", subscription=now.id, price=now.price)
    row = Subscription.objects.select_for_update().filter(stripe_id=now.id).first()
    if row and row.as_of < news.as_of:
        for name, value in facts.items():
            setattr(row, name, value)
        row.plan = plan or row.plan
        row.save()
    return row


def _credit_period(
    subscription: Subscription, wallet: Account | None, invoice: Invoice, as_of: datetime
) -> None:
    """Credit what a paid invoice is for, once however often it is told of."""
    if Order.objects.filter(stripe_invoice=invoice.id).exists():
        return
    plans = {plan.stripe_price: plan for plan in Plan.objects.exclude(stripe_price=None)}
    line = next((line for line in invoice.lines if line.price in plans and line.amount > 0), None)
    if line is None:
        # Such as a trial, which is free, or a correction made in Stripe's dashboard.
        log.error("paid invoice for no period of a plan", invoice=invoice.id, paid=invoice.amount_paid)
        return
    plan = plans[line.price]
    order = Order.objects.create(
        user_id=subscription.user_id,
        source=Order.Source.SUBSCRIPTION,
        plan=plan,
        subscription=subscription,
        credits_microcredits=plan.credits_microcredits,
        credits_expire_at=_expiry(plan, line, as_of),
        amount_cents=plan.price_cents,
        currency=plan.currency,
        stripe_invoice=invoice.id,
        stripe_payment_intent=invoice.payment_intent,
    )
    fulfilment.credit(order, wallet, asked=line.amount, paid=invoice.amount_paid, currency=invoice.currency)
    order.save()


def _expiry(plan: Plan, line: Line, as_of: datetime) -> datetime | None:
    """When the credits of a period expire. Paid after its end, they last as long as it would have."""
    if plan.credits_last == Plan.Last.FOREVER:
        return None
    return line.ends if line.ends > as_of else as_of + (line.ends - line.begins)


def _clock() -> datetime:
    """The database's, which is one for all hosts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    at: datetime = now
    return at
