"""What `make run` and the tests use when no server is configured: private PostgreSQL and Valkey, stand-ins for
Claude and Stripe, and the processes that hold them all together. Nothing here runs in production.
"""
