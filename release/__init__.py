"""Commands that build the package, prove it, deploy it, audit it, and compute what it costs."""
