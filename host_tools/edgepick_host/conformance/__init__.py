"""A simulated host that attacks an agent over a real broker, and says whether it kept the protocol."""
