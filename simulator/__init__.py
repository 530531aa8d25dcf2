"""A simulator of Microsoft Graph's cloud communications, to try any calling bot on a laptop.

The simulator is a second reading of Graph's documents. It imports nothing of the application, so that the two cannot
share a mistake.
"""
