"""The proofs. A package, so that `tests/infra` is never taken for `infra`."""
