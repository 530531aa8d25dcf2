"""The control API, with which a test or a person inspects the simulator and makes things happen."""
