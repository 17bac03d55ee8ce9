"""A stand-in for Stripe: its API as far as this product uses it, its pages for buyers, and signed webhooks.

It speaks HTTP and nothing else, so the real SDK drives it through its base address and the real webhook view
checks its signatures. No money moves. `/demo/…` makes it misbehave: see control.py.

    python -m chatapp.local.demo_stripe --port 9912 \
        --webhook-url http://127.0.0.1:8000/billing/webhook/ --webhook-secret whsec_demo
"""
