"""A model that follows a script: the Messages API on loopback, for tests and for the tour.

It runs on the host and never in a bottle. `script` is pure (what is said next), `server` is I/O.
"""
