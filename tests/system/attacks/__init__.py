"""Attacks on the webhook, and odd but genuine requests: one case each, with the source of the idea."""
