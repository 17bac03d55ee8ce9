"""Transfers, holds, accounts, orders and events: to be read, and by nobody written."""

import json
import uuid

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from billing.models import Account, Hold, MoneyBack, Order, Plan, StripeEvent, Subscription, Transfer
from chatapp.conversations.models import Turn
from chatapp.streaming.models import GuardFinding, UsageRecord
from tests.admin.desk import ended_turn, page
from tests.billing.books import CREDIT, give, open_turn, order, pay, sql, wallet_of

READ_ONLY = [Account, Hold, Order, StripeEvent, Transfer, Turn, UsageRecord, GuardFinding]


def list_of(model: type) -> str:
    return reverse(f"admin:billing_{model.__name__.lower()}_changelist")


@pytest.mark.parametrize("model", READ_ONLY)
def test_not_even_a_superuser_can_write(model: type, desk: Client, operator: User) -> None:
    request = desk.get("/admin/").wsgi_request
    page_of = admin.site._registry[model]
    assert not page_of.has_add_permission(request)
    assert not page_of.has_change_permission(request)
    assert not page_of.has_delete_permission(request)
    assert page_of.has_view_permission(request)
    # To have an event handled again changes nothing of it but what became of it.
    assert set(page_of.get_actions(request)) == ({"replay_selected"} if model is StripeEvent else set())


def test_a_posted_change_is_refused(desk: Client, alice: User) -> None:
    give(alice, CREDIT)
    bought = order(alice, CREDIT)
    wallet = wallet_of(alice)
    turn = ended_turn(alice)
    rows = [wallet, bought, Hold.objects.get(pk=turn.pk), *Transfer.objects.filter(credit=wallet)]
    for row in rows:
        address = list_of(type(row))
        assert desk.get(f"{address}add/").status_code == 403
        for rest in ("change/", "delete/"):
            answer = desk.post(f"{address}{row.pk}/{rest}", {"post": "yes", "state": "paid", "user": ""})
            assert answer.status_code == 403, (row, rest)
    desk.post(
        list_of(Order), {"action": "delete_selected", "_selected_action": str(bought.pk), "post": "yes"}
    )
    bought.refresh_from_db()
    assert bought.state == Order.State.OPEN


def test_a_transfer_says_from_whom_to_whom_with_its_sign(desk: Client, alice: User, operator: User) -> None:
    give(alice, 7 * CREDIT)
    pay(order(alice, 500 * CREDIT))
    ended_turn(alice, held=CREDIT, price=2 * CREDIT)
    shown = page(desk, list_of(Transfer), q=alice.email)
    for line in (
        f"Welcome credits House: given at sign-up {alice.email} +100.000000 100.000000",
        f"Adjustment House: adjusted by the operator {alice.email} +7.000000 107.000000 for a test – {alice.email}",
        f"Credits bought House: bought through Stripe {alice.email} +500.000000 607.000000",
        f"Answer {alice.email} House: used for answers −1.000000 606.000000",
    ):
        assert line in shown
    overrun = page(desk, list_of(Transfer), kind__exact="overrun")
    assert "House: usage above holds, borne by the house House: used for answers 1.000000 –" in overrun


def test_transfers_are_found(desk: Client, alice: User, charlie: User) -> None:
    give(charlie, CREDIT)
    turn = ended_turn(alice)
    bought = order(alice, 5 * CREDIT)
    pay(bought)
    wallet = wallet_of(alice).pk

    def keys(**query: object) -> set[str]:
        shown = desk.get(list_of(Transfer), query).content.decode()
        ours = Transfer.objects.filter(debit=wallet_of(alice)) | Transfer.objects.filter(
            credit=wallet_of(alice)
        )
        theirs = Transfer.objects.filter(credit=wallet_of(charlie))
        return {transfer.key.partition(":")[0] for transfer in (*ours, *theirs) if transfer.key in shown}

    assert keys(q=alice.email) == {"signup", "charge", "purchase"}
    assert keys(q=f"charge:{turn.pk}") == {"charge"}
    assert keys(q=turn.pk) == {"charge"}
    assert keys(q=bought.pk) == {"purchase"}
    assert keys(wallet=wallet) == {"signup", "charge", "purchase"}
    assert keys(wallet=wallet, kind__exact="charge") == {"charge"}
    assert keys(wallet=wallet, created_at_to="2020-01-01") == set()
    assert keys(wallet="'; --", q=charlie.email) == {"signup", "adjustment"}


def test_house_accounts_are_summed_and_wallets_told_as_kept(desk: Client, alice: User) -> None:
    pay(order(alice, 500 * CREDIT))
    open_turn(alice, 40 * CREDIT)
    assert f"{alice.email} wallet 600.000000 40.000000 560.000000" in page(
        desk, list_of(Account), q=alice.email
    )
    shown = page(desk, list_of(Account))
    whole = 0
    for account in Account.objects.exclude(kind=Account.Kind.WALLET):
        ((balance,),) = sql(
            "SELECT coalesce(sum(CASE WHEN credit_id = %s THEN amount ELSE -amount END), 0)::bigint "
            "FROM billing_transfer WHERE %s IN (credit_id, debit_id)",
            *(account.pk, account.pk),
        )
        whole += balance
        text = f"{abs(balance) / CREDIT:,.6f}"
        assert f"The house {account.get_kind_display()} {'−' * (balance < 0)}{text} 0.000000 –" in shown
    ((wallets,),) = sql("SELECT sum(balance)::bigint FROM billing_account WHERE kind = 'wallet'")
    assert whole + wallets == 0


def test_a_hold_leads_to_what_became_of_it(desk: Client, alice: User) -> None:
    turn = ended_turn(alice, held=CREDIT, price=3 * CREDIT)
    shown = page(desk, f"{list_of(Hold)}{turn.pk}/change/")
    assert alice.email in shown
    assert "Answer 1.000000 Usage above a hold 2.000000" in shown


def test_an_order_tells_price_credits_and_state(desk: Client, alice: User) -> None:
    bought = order(alice, 500 * CREDIT)
    assert f"{alice.email} Own amount 500.000000 $1 Open" in page(desk, list_of(Order), q=str(bought.pk))
    transfer = pay(bought)
    shown = desk.get(f"{list_of(Order)}{bought.pk}/change/").content.decode()
    assert reverse("admin:billing_transfer_change", args=[transfer.pk]) in shown


def test_an_event_shows_what_stripe_sent(desk: Client) -> None:
    payload = {"id": "evt", "data": {"object": {"name": "Zoë </pre><script>alert(1)</script>"}}}
    event = StripeEvent.objects.create(
        id=f"evt_{uuid.uuid4().hex}",
        type="charge.refunded",
        payload=payload,
        outcome="failed",
        error="No such order",
    )
    assert f"charge.refunded failed No such order {event.pk}" in page(desk, list_of(StripeEvent), q=event.pk)
    answer = desk.get(f"{list_of(StripeEvent)}{quote(event.pk)}/change/")
    assert "<script>alert" not in answer.content.decode()
    shown = page(desk, f"{list_of(StripeEvent)}{quote(event.pk)}/change/")
    assert '"name": "Zoë </pre><script>alert(1)</script>"' in shown
    assert json.dumps(payload, indent=2, ensure_ascii=False).split("\n")[2].strip() in shown


@pytest.mark.parametrize(
    ("back", "state"),
    [
        ([], "Paid"),
        ([("refund:re_1", 40)], "Partly refunded"),
        ([("refund:re_1", 40), ("refund:re_2", 60)], "Refunded"),
        ([("refund:re_1", 40), ("refund:re_1", -40)], "Paid"),
        ([("refund:re_1", 40), ("dispute:dp_1", 60)], "Disputed"),
        ([("dispute:dp_1", 100), ("dispute:dp_1", -100)], "Paid"),
    ],
)
def test_an_order_says_which_plan_and_what_went_back(
    back: list[tuple[str, int]], state: str, desk: Client, alice: User
) -> None:
    plan = Plan.objects.get(name="Plus")
    now = timezone.now()
    subscription = Subscription.objects.create(
        user=alice, plan=plan, stripe_id="sub_1", status="active", current_period_end=now, as_of=now
    )
    bought = order(alice, CREDIT, source="subscription", plan=plan, subscription=subscription)
    pay(bought, stripe_invoice=f"in_{bought.pk}")
    for reversal, cents in back:
        MoneyBack.objects.create(order=bought, reversal=reversal, cents=cents)
    assert f"{alice.email} Plus 1.000000 $1 {state}" in page(desk, list_of(Order), q=str(bought.pk))
    assert f"State {state} " in page(desk, f"{list_of(Order)}{bought.pk}/change/")
