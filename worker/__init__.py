"""The worker: takes a job from the stream and finishes it.

Importing this package, or any of its rooms but ``engines``' models, reads no environment, opens no
connection and loads no engine: the gateway and the operator's tools import it too.
"""

__version__ = "0.1.0"
