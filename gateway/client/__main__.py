"""``python -m gateway.client``: as ``transcribe``."""

import sys

from gateway.client.command import main

sys.exit(main())
