"""The demo source: a portrait that moves, and things that hide a part of it."""
