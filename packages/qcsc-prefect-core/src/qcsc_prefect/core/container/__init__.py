"""Values in one file, read without running anything; `docs/result-format.md` specifies it."""
