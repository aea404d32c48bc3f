"""The contract between host and device: names, topics, messages, signatures' bytes.

Needs nothing but the standard library. ``PROTOCOL.md`` beside this file says the same in prose,
for agents that are not written in Python.
"""
