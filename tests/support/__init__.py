"""Helpers that several test packages share: virtual time, event files, stores, and the rule on case ids."""
