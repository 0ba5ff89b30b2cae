"""Pays once for a job, whoever runs it: pure asyncio, no vendor, no Prefect.

A vendor's package states how its service is asked (`JobService`) and where records lie (`Ledger`);
the engine does the rest: it submits once, finds again, waits.
"""
