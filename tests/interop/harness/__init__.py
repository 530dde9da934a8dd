"""The driver's parts: results, processes and waits, the systems under test, installers of the counterparts."""
