"""Library of the replication of "Critical Tokens Matter" (Lin et al., arXiv 2411.19943): see docs/architecture.md."""
