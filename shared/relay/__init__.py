"""The relay: delivers Graph's notifications and our own events to bots."""
