"""What is counted, what it costs and how it is bought."""

from billing.models.catalogue import LanguageModel, Price
from billing.models.ledger import Account, Hold, Lot, LotUse, Transfer, WelcomedAddress
from billing.models.notices import LowBalanceNotice, Mail
from billing.models.plans import AutoTopUp, Customer, Plan, PlanCheckout, Subscription
from billing.models.reconciliation import Discrepancy, Reconciliation
from billing.models.shop import MoneyBack, Order, Pack, StripeEvent

__all__ = [
    "Account",
    "AutoTopUp",
    "Customer",
    "Discrepancy",
    "Hold",
    "LanguageModel",
    "Lot",
    "LotUse",
    "LowBalanceNotice",
    "Mail",
    "MoneyBack",
    "Order",
    "Pack",
    "Plan",
    "PlanCheckout",
    "Price",
    "Reconciliation",
    "StripeEvent",
    "Subscription",
    "Transfer",
    "WelcomedAddress",
]
