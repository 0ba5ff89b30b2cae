"""One form for each value, from which digests are made; `docs/identity.md` specifies it."""
