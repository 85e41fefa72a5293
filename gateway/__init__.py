"""The HTTP side of the service: it checks, stores, enqueues and answers.

Uses the worker's light rooms (jobs, cache, delivery, the queue's client side) and never an engine.
"""
