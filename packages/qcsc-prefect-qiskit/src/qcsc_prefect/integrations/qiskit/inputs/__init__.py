"""What a job is: PUBs and options as they are handed in, their checks, and their digests.

`canonical` holds the forms from which digests are made.
"""
