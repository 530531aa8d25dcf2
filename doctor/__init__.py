"""The doctor: reads the settings, asks everything that they name, and says the true cause of what goes wrong.

It asks as the app would ask, so it uses `shared`; it changes nothing anywhere. Documented in docs/doctor.md.
"""
