"""All that is not a network: throughput of an identity, and memory against planes."""
