"""Who runs jobs: IBM's service (`ibm`, over `connections`) and this machine (`local`).

Both answer one protocol, `job_service`; `opening` chooses between them, and nobody above it knows
which of them it has.
"""
