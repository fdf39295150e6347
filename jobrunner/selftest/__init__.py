"""The selftest: kills everything at random, and audits what is left against a journal of its own."""
