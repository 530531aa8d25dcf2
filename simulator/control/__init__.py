"""The control API, by which a test or a person looks into the simulator and makes things happen."""
