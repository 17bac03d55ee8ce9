"""Anything, in any order, again, at once, and with the connection cut at any statement.

Hypothesis chooses the steps, the ledger on PostgreSQL takes them, and the model has foretold every reply and every
row. Steps that run at once must come out as they would one after another, in some order. A step whose connection is
cut is there wholly if its COMMIT had been done, and otherwise not at all; then it is repeated.

To look further than `make test` has time for, and to have what is found made small:

    HYPOTHESIS_PROFILE=long .venv/bin/python -m pytest -o faulthandler_timeout=0 tests/billing/test_ledger_machine.py
"""

import os
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy

from billing import audit
from billing.credits import MICROCREDITS_PER_CREDIT
from chatapp.streaming.audit import RULES
from tests.billing.books import at_once
from tests.billing.ledger_driver import Attempt, Driver, Lost, state_of
from tests.billing.ledger_model import (
    Adjust,
    Books,
    Close,
    Expire,
    GiveBack,
    Grant,
    Open,
    Order,
    Pay,
    Step,
    TakeBack,
    Transfer,
)

WELCOME = 100 * MICROCREDITS_PER_CREDIT
# Two wallets; orders of credits that stay and that expire, on some day.
ORDERS = {0: Order(0, 10, None), 1: Order(0, 8, 1.5), 2: Order(1, 10, None), 3: Order(1, 9, 0.5)}
NEVER_OPENED = 999

# What Hypothesis chooses from: mostly sensible, sometimes too late, too early, too much, or absurd. Its choices do not
# depend on what came of earlier ones, which several at once may decide either way; `Ledger.now` makes sense of them.
amounts = st.integers(min_value=1, max_value=12)
some = amounts | amounts | amounts | st.integers(min_value=-3, max_value=0)
keys = st.integers(min_value=0, max_value=7)
wallets = st.integers(min_value=0, max_value=1)
orders = st.sampled_from(sorted(ORDERS))
kinds = st.sampled_from(["refund", "dispute"])
# From now. At noon, when nothing else ever happens.
days = st.sampled_from([-1.5, -0.5, 0.5, 0.5, 1.5])
prices = st.integers(min_value=-1, max_value=15)
steps: SearchStrategy[Step] = st.one_of(
    st.builds(Open, wallets, st.sampled_from([0, 0, 0, 1, -1]), some),
    st.builds(Close, st.integers(min_value=0, max_value=99), prices),
    st.builds(Close, st.integers(min_value=0, max_value=99), prices),
    st.builds(Pay, orders, st.sampled_from([0] * 9 + [1])),
    st.builds(Grant, wallets, keys, some, st.none() | days),
    st.builds(Grant, wallets, keys, amounts, days),
    st.builds(Adjust, wallets, keys, st.integers(min_value=-12, max_value=12)),
    st.builds(TakeBack, orders, keys, kinds, some),
    st.builds(GiveBack, orders, keys, kinds, some),
    st.builds(Expire, wallets),
)


class Ledger(RuleBasedStateMachine):
    """The ledger and its model, side by side.

    Amounts are small and close to each other, so that many things are just possible, or just not.
    """

    books: Books
    driver: Driver

    @initialize()
    def two_people_with_ten_microcredits_each(self) -> None:
        welcome = [
            Transfer(f"signup:{wallet}", "signup", wallet, WELCOME, WELCOME, WELCOME) for wallet in (0, 1)
        ]
        self.books = Books(ORDERS, [WELCOME, WELCOME], transfers=welcome)
        self.driver = Driver.of(self.books)
        self.taken: list[Step] = []
        for wallet in (0, 1):
            self.take(Adjust(wallet, 100 + wallet, 10 - WELCOME))

    # --- What happens

    @rule(step=steps)
    def one(self, step: Step) -> None:
        self.take(self.now(step))

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(min_value=0, max_value=99))
    def one_again(self, which: int) -> None:
        self.take(self.taken[which % len(self.taken)])

    @rule(some=st.lists(steps, min_size=2, max_size=3))
    def some_at_once(self, some: list[Step]) -> None:
        self.take_at_once([Attempt(self.now(step)) for step in some])

    @rule(step=steps)
    def one_twice_at_once(self, step: Step) -> None:
        self.take_at_once([Attempt(self.now(step))] * 2)

    @rule(step=steps)
    def one_key_for_two_people_at_once(self, step: Step) -> None:
        first = self.now(step)
        if isinstance(first, Open | Grant | Adjust):
            self.take_at_once([Attempt(first), Attempt(replace(first, wallet=1 - first.wallet))])

    @rule(step=steps, cut_at=st.integers(min_value=0, max_value=16))
    def one_that_is_cut(self, step: Step, cut_at: int) -> None:
        step = self.now(step)
        self.take_at_once([Attempt(step, cut_at)])
        self.take(step)

    @rule(first=steps, second=steps, cut_at=st.integers(min_value=0, max_value=16))
    def two_at_once_and_one_is_cut(self, first: Step, second: Step, cut_at: int) -> None:
        first, second = self.now(first), self.now(second)
        self.take_at_once([Attempt(first, cut_at), Attempt(second)])
        self.take_at_once([Attempt(first), Attempt(second)])

    @rule()
    def a_day_passes(self) -> None:
        self.driver.let_a_day_pass()
        self.books.today += 1

    def now(self, step: Step) -> Step:
        """A step as it was chosen, of the holds, orders and days that there are."""
        match step:
            case Open(hold=offset):
                return replace(step, hold=max(len(self.books.holds) + offset, 0))
            case Close(hold=which):
                pending = [key for key, hold in self.books.holds.items() if hold.state == "pending"]
                holds = [*pending, *pending, *pending, *self.books.holds, NEVER_OPENED]
                return replace(step, hold=holds[which % len(holds)])
            case Pay(order, credits=extra):
                return replace(step, credits=ORDERS[order].credits + extra)
            case Grant(expires=float(days)):
                return replace(step, expires=self.books.today + days)
        return step

    # --- What must come of it

    def take(self, step: Step) -> None:
        foretold, following = self.books.after(step)
        assert self.driver.attempt(Attempt(step)) == foretold, step
        self.books = following
        self.taken.append(step)

    def take_at_once(self, attempts: list[Attempt]) -> None:
        replies = at_once([partial(self.driver.attempt, attempt) for attempt in attempts])
        self.taken += [attempt.step for attempt in attempts]
        state = self.driver.state()
        for order in permutations(zip(attempts, replies, strict=True)):
            books = self.books
            for attempt, reply in order:
                foretold, following = books.after(attempt.step)
                if reply == Lost(done=False):
                    continue
                if reply not in (foretold, Lost(done=True)):
                    break
                books = following
            else:
                if state_of(books) == state:
                    self.books = books
                    return
        raise AssertionError(f"in no order do these come of each other: {attempts}, {replies}, {state}")

    @invariant()
    def the_books_are_as_foretold(self) -> None:
        assert self.driver.state() == state_of(self.books)

    def teardown(self) -> None:
        """Everything comes to its end, and the auditor agrees."""
        if not hasattr(self, "driver"):
            return
        for number, hold in self.books.holds.items():
            if hold.state == "pending":
                self.take(Close(number, 1))
        for wallet in (0, 1):
            self.take(Expire(wallet))
        self.the_books_are_as_foretold()
        report = audit.prove(RULES)
        assert report.ok, [str(row) for rows in report.broken.values() for row in rows]


# The connection pool's threads, which use `random`, are not what this warning is about.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_every_answer_of_the_ledger_can_be_foretold(committed_db: None) -> None:
    short = settings(max_examples=20, stateful_step_count=30, derandomize=True, phases=[Phase.generate])
    long = settings(max_examples=1000, stateful_step_count=60)
    looks_far = os.environ.get("HYPOTHESIS_PROFILE") == "long"
    run_state_machine_as_test(Ledger, settings=long if looks_far else short)
