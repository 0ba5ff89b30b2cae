"""IBM's service behind the protocol: submissions, searches, statuses and results by its client."""
