"""The relay: it delivers Graph's notifications and events of Call Keeper to bots."""
