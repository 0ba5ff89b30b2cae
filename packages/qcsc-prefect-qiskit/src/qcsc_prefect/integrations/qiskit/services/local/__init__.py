"""Jobs on this machine: the embedded default that needs no account.

`store` keeps jobs as folders of plain JSON files, `runner` runs them on a local backend, and
`job_service` puts both behind the protocol that the tasks know. A job survives the process that
submitted it: whoever asks for its result runs it again, under the same id, from its stored inputs.
"""
