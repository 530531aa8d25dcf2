"""The demo: what it runs, prints and reports."""
