"""Runs the engine on a simulated service, storage and clock, through schedules made from seeds."""
