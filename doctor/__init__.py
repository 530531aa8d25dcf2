"""The doctor: checks the settings and every service that they name, and reports the cause of each problem with a fix.

The checks use `shared`, so that they send the same requests as the app. They change nothing.
Documented in docs/doctor.md.
"""
