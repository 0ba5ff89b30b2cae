"""Native service and backend objects, shared by all tasks of a process."""
