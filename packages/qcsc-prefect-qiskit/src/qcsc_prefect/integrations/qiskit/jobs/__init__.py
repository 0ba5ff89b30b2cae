"""Jobs, wherever they run: one protocol, with the real service and the local one behind it.

`service` describes what the tasks need from whoever runs jobs; `runtime_service` answers it with
the native client, `qcsc_prefect.integrations.qiskit.local` with backends on this machine. The
modules above (submission, waiting, fetching) know the protocol only.
"""
