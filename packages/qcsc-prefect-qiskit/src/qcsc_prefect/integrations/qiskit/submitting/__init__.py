"""From the arguments of a call to core's engine; `submit` is where it begins."""
