"""The library of the replication; `docs/architecture.md` draws its packages, lowest first."""
