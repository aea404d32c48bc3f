"""The device side of edgepick: fetches, verifies, tries, runs and measures variants."""
