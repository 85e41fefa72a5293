"""Recordings for load: silence, small to send for how long it lasts."""

from __future__ import annotations

import io
import wave

RATE_HZ = 8_000
BOUNDARY = "load-test-boundary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def silence(seconds: float) -> bytes:
    """A WAV of 8 kHz mono: small, and the worker has something to convert."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(RATE_HZ * seconds)))
    return buffer.getvalue()


def as_form(recording: bytes) -> bytes:
    """The body of a form (FORM_TYPE) with this one file."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    return head.encode() + recording + f"\r\n--{BOUNDARY}--\r\n".encode()
