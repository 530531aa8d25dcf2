"""Settings from environment variables, the bots they name, and Graph's clouds."""
