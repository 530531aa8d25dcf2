"""The demo: its scenario, its console output and its report."""
