"""The demo: its scenario, its printed story and its report."""
