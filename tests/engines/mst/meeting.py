"""A meeting of two minutes: what is said, by whom, and what the models would find in it."""

from __future__ import annotations

from worker.engines.protocol import Segment

EACH_S = 5.0
ROADS = (
    "Good morning, my name is Ann Miller.",
    "The road to Riverton has holes.",
    "Every road needs gravel before winter.",
    "Gravel for the road costs money.",
    "The bridge on the road is closed.",
    "Trucks leave the road at the bridge.",
    "No.",
    "No.",
)
SCHOOLS = (
    "Thank you, my name is Bob Stone.",
    "Our school has forty new children.",
    "The children need a second teacher.",
    "A teacher for the school starts in May.",
    "The school roof leaks over the children.",
    "Parents paint the school in summer.",
    "Children eat lunch at the school.",
    "The school closes at four.",
)
WATER = (
    "The pump brings water from the lake.",
    "Water from the lake is clean.",
    "A new pump gives more water.",
    "The lake is low in August.",
    "We test the water every week.",
    "Pipes carry water under O'Brien Street, then to Riverton.",
    "The pump stops when the lake freezes.",
    "That is all about water.",
)
SENTENCES = ROADS + SCHOOLS + WATER
LENGTH_S = EACH_S * len(SENTENCES)
SPEECH = tuple(Segment(at * EACH_S, at * EACH_S + 4.5, text) for at, text in enumerate(SENTENCES))
# As Whisper cuts it: one sentence over two segments, which plain mst glues together.
IN_PHRASES = (
    *SPEECH[:5],
    Segment(25.0, 27.0, "Trucks leave the road at"),
    Segment(27.0, 29.5, "the bridge."),
    *SPEECH[6:],
)
GLUED = "road atthe bridge."
NAMES = {
    "Ann Miller": "Person",
    "Bob Stone": "Person",
    "Riverton": "Locations",
    "May": "Date",
    "O'Brien Street": "Locations",
}
TURNS = ((0.0, 40.0, "SPEAKER_00"), (40.0, 80.0, "SPEAKER_01"), (80.0, 120.0, "SPEAKER_00"))
