"""Every case, in the order of the table."""

from edgepick_host.conformance.cases import chunks, life, manifests, orders, trust
from edgepick_host.conformance.verdict import Case

CASES: tuple[Case, ...] = (*life.CASES, *orders.CASES, *manifests.CASES, *chunks.CASES, *trust.CASES)
