"""Processes are killed with -9 while people chat and pay, and then every credit is counted.

    .venv/bin/python -m tests.crash --kills 300     # or: make crash

Web, worker, PostgreSQL (one of its backends, or all of it) and Valkey die at any moment, several at a time, and
start again (killing.py). Meanwhile people ask, stop, leave, send the same turn again, buy through the demo Stripe,
whose webhooks come twice or not at all, and are given credits (people.py). In the end, when the dead processes' turns
have been swept, the audit and a sum of our own must find everything in its place: what people were told, over HTTP,
is what they have (reckoning.py).
"""
