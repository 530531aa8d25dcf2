"""Triggers: parse the request, call `shared`, map the result. No logic."""
