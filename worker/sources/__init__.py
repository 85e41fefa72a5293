"""Recordings on their way in: from any audio or video file to the 16 kHz mono WAV that engines read."""
