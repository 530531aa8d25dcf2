"""Commands that build, prove, deploy and audit the package."""
