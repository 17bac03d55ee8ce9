"""What is counted, what it costs and how it is bought."""

from billing.models.catalogue import LanguageModel, Price
from billing.models.ledger import Account, Hold, Transfer
from billing.models.shop import Order, Pack, StripeEvent

__all__ = ["Account", "Hold", "LanguageModel", "Order", "Pack", "Price", "StripeEvent", "Transfer"]
