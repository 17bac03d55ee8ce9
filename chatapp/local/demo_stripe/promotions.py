"""Promotion codes that a buyer can type: HALF takes half of the price away, FREE all of it."""

from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal

PERCENT_OFF = {"HALF": 50, "FREE": 100}


def coupon(code: str) -> Json:
    return {
        "id": f"demo-{code.lower()}",
        "object": "coupon",
        "amount_off": None,
        "created": 1_700_000_000,
        "currency": None,
        "duration": "once",
        "duration_in_months": None,
        "livemode": False,
        "max_redemptions": None,
        "metadata": {},
        "name": code.capitalize(),
        "percent_off": float(PERCENT_OFF[code]),
        "redeem_by": None,
        "times_redeemed": 0,
        "valid": True,
    }


def promotion_code(code: str) -> Json:
    return {
        "id": f"promo_demo{code}",
        "object": "promotion_code",
        "active": True,
        "code": code,
        "created": 1_700_000_000,
        "customer": None,
        "expires_at": None,
        "livemode": False,
        "max_redemptions": None,
        "metadata": {},
        "promotion": {"coupon": coupon(code)["id"], "type": "coupon"},
        "restrictions": {
            "first_time_transaction": False,
            "minimum_amount": None,
            "minimum_amount_currency": None,
        },
        "times_redeemed": 0,
    }


PROMOTION_CODES = {made["id"]: made for made in map(promotion_code, PERCENT_OFF)}


def apply(session: Json, items: list[Json], typed: str) -> None:
    """Take the code's share off each line of a session; an empty code takes nothing off. Refusal if it is none."""
    code = typed.strip().upper()
    if not session["allow_promotion_codes"] or (code and code not in PERCENT_OFF):
        raise Refusal(400, "This code is invalid.", code="promotion_code_invalid", param="promotion_code")
    percent = PERCENT_OFF.get(code, 0)
    for item in items:
        item["amount_discount"] = item["amount_subtotal"] * percent // 100
        item["amount_total"] = item["amount_subtotal"] - item["amount_discount"]
    discount = sum(item["amount_discount"] for item in items)
    session["discounts"] = [{"coupon": None, "promotion_code": f"promo_demo{code}"}] if code else []
    session["total_details"]["amount_discount"] = discount
    session["amount_total"] = session["amount_subtotal"] - discount


def applied(session: Json) -> str | None:
    """The code that is in force."""
    for discount in session["discounts"]:
        return str(PROMOTION_CODES[discount["promotion_code"]]["code"])
    return None
