"""Our own agent, held against every case: real processes, a real broker."""

import sys

import pytest

from edgepick_host.conformance.catalogue import CASES

OURS = (sys.executable, "-m", "edgepick_agent.conformance")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_our_agent_keeps_the_protocol(kit):
    """The agent passes every case; none is skipped where a runtime is installed."""
    code, cases = kit.verdicts("--", *OURS, timeout="60")

    assert {name: case["observed"] for name, case in cases.items() if case["verdict"] != "passed"} == {}
    assert code == 0
    assert list(cases) == [case.name for case in CASES]
