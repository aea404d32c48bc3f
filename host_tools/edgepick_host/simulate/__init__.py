"""Virtual devices that speak the real protocol through a real broker: load for a host, and proof of its decisions.

``device`` is pure: ``(state, event) -> (state, actions)``; ``figures`` makes up what a device measures; ``hub`` is the
shell that carries many of them over one connection or one each. Everything they say is marked ``stand_in``.
"""
