"""Microsoft Graph's cloud communications, imitated: any calling bot can be tried against it on a laptop.

It has its own reading of Graph's documents and imports nothing of the application, so that it cannot agree with the
application's mistakes.
"""
