"""Judging the answers of a port: reading them, comparing each stage, and reporting what differs, where, and why."""
