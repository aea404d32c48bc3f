"""The host side of edgepick: compresses, publishes, selects and rolls out variants."""
