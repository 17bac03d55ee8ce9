"""The demo Claude: a stand-in for Anthropic's Messages API, over real HTTP and without a model.

It answers whoever runs the app without a key, and it is what tests and benchmarks stream from. Its requests,
events, errors and numbers have today's shapes; its answers are written in advance (`answers.py`); and it can
be made to fail in every way a provider fails (`directives.py`).
"""

from .client import DemoClaude, LoggedRequest

__all__ = ["DemoClaude", "LoggedRequest"]
