"""Processes are killed with -9 while people chat and pay, and then every credit is counted.

    .venv/bin/python -m tests.crash --kills 300     # or: make crash

Web, worker, beat, PostgreSQL (one of its backends, or all of it) and Valkey die at any moment, several at a time, and
start again (killing.py). Meanwhile people ask, stop, leave, send the same turn again, buy through the demo Stripe,
whose webhooks come twice or not at all, subscribe to plans whose periods are over within seconds and their credits
with them, are refunded by an operator and from Stripe's dashboard, and are given credits, some of which expire soon
(people.py). In the end, when the dead processes' turns have been swept and the books held against Stripe's, the audit
and a sum of our own must find everything in its place: what people were told, over HTTP, and what Stripe took and gave
back, is what they have (reckoning.py).
"""
