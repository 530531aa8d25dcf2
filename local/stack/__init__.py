"""The processes of the local stack: Azurite, the simulator, the host."""
