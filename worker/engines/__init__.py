"""Engines: what turns a 16 kHz mono recording into a transcript.

Importing this package, ``protocol`` or ``registry`` loads no engine library; constructing an engine does
not either. ``Engine.prepare`` does, and belongs into the worker's child. Engines know nothing of jobs,
queues or HTTP.
"""
