"""What Chatapp does per second, beside a peer that does the same work, in one run: `make bench`.

Each family of figures is one module with a `measure` function; `__main__` runs them and `report` writes them down.
Nothing here is a test: a busy machine makes figures worse and breaks nothing. How to read them:
docs/benchmarks.md.
"""
