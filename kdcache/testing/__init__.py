"""Contract suites that any codec or store can run, and records to run them with."""
